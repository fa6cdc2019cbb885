// SPDX-License-Identifier: GPL-2.0

//! The fuzz targets, with random input and with damaged sound input: for who has no fuzzer.

use fuzz_decoders::metadata;
use fuzz_decoders::metadata::sound;
use proptest::prelude::*;
use proptest::sample::Index;

type Target = fn(&[u8]) -> persistent_data::Result;

/// A damage to a block: new values at some places; most of them where headers are.
#[derive(Clone, Debug)]
struct Damage(Vec<(Index, Value)>);

#[derive(Clone, Debug)]
enum Value {
    Byte(u8),
    Word(u32),
    Long(u64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let value = prop_oneof![
        any::<u8>().prop_map(Value::Byte),
        prop_oneof![0..4_u32, 250..512_u32, any::<u32>()].prop_map(Value::Word),
        prop_oneof![0..40_u64, Just(u64::MAX), any::<u64>()].prop_map(Value::Long),
    ];
    prop::collection::vec((any::<Index>(), value), 1..8).prop_map(Damage)
}

impl Damage {
    fn apply(&self, block: &mut [u8], focus: usize) {
        for (at, value) in &self.0 {
            let at = at.index(if at.index(2) == 0 {
                focus
            } else {
                block.len() - 8
            });
            match value {
                Value::Byte(value) => block[at] = *value,
                Value::Word(value) => block[at & !3..][..4].copy_from_slice(&value.to_le_bytes()),
                Value::Long(value) => block[at & !7..][..8].copy_from_slice(&value.to_le_bytes()),
            }
        }
    }
}

/// A block of a sound image, damaged; `focus` is where it is interesting.
fn damaged(number: usize, focus: usize, damage: &Damage) -> Vec<u8> {
    let mut block = sound()[number * 4096..][..4096].to_vec();
    damage.apply(&mut block, focus);
    block
}

#[test]
fn sound_metadata_is_usable() {
    assert_eq!(metadata::use_image(sound()), Ok(()));
    for (target, number) in [
        (metadata::superblock as Target, 0),
        (metadata::index, 1),
        (metadata::bitmap, 3),
        (metadata::node, 4),
        (metadata::array, 5),
    ] {
        // The mended seals are the ones that were there.
        assert_eq!(
            target(&sound()[number * 4096..][..4096]),
            Ok(()),
            "block {number}"
        );
    }
    assert_eq!(metadata::image(&sound()), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_superblocks(damage in damage()) {
        let _ = metadata::superblock(&damaged(0, 200, &damage));
    }

    #[test]
    fn damaged_index_blocks(damage in damage()) {
        let _ = metadata::index(&damaged(1, 48, &damage));
    }

    #[test]
    fn damaged_bitmaps(damage in damage()) {
        let _ = metadata::bitmap(&damaged(3, 30, &damage));
    }

    #[test]
    fn damaged_nodes(damage in damage()) {
        let _ = metadata::node(&damaged(4, 64, &damage));
        let mut tree = sound()[4 * 4096..5 * 4096].to_vec();
        damage.apply(&mut tree, 64);
        // Children that are nodes again, and so on: circles, shared nodes, deep ones.
        let _ = metadata::tree(&tree.repeat(6));
        tree[4] = 1;
        let _ = metadata::tree(&tree.repeat(6));
    }

    #[test]
    fn damaged_array_blocks(damage in damage()) {
        let _ = metadata::array(&damaged(5, 40, &damage));
    }

    #[test]
    fn damaged_overflow_trees(counts in damage(), tree in damage()) {
        let mut data = damaged(3, 30, &counts);
        data.extend(damaged(2, 64, &tree));
        let _ = metadata::overflow(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn random_blocks(data in prop::collection::vec(any::<u8>(), 0..8200)) {
        for target in [
            metadata::superblock as Target,
            metadata::index,
            metadata::bitmap,
            metadata::node,
            metadata::tree,
            metadata::array,
            metadata::overflow,
            metadata::image,
        ] {
            let _ = target(&data);
        }
    }

    #[test]
    fn damaged_images(damages in prop::collection::vec((0..7_usize, damage()), 1..4)) {
        let mut image = sound();
        for (number, damage) in damages {
            damage.apply(&mut image[number * 4096..][..4096], 200);
        }
        let _ = metadata::image(&image);
        let _ = metadata::use_image(image);
    }
}
