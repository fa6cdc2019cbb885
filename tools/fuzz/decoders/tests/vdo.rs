// SPDX-License-Identifier: GPL-2.0

//! The fuzz targets for vdo, with random input and with damaged sound input.

use fuzz_decoders::vdo;
use proptest::prelude::*;
use proptest::sample::Index;

/// New bytes at some places, most of them in the first 512.
fn damage() -> impl Strategy<Value = Vec<(Index, bool, u8)>> {
    prop::collection::vec((any::<Index>(), any::<bool>(), any::<u8>()), 1..12)
}

fn apply(damage: &[(Index, bool, u8)], block: &mut [u8]) {
    for (at, anywhere, value) in damage {
        let size = if *anywhere { block.len() } else { 512 };
        block[at.index(size)] = *value;
    }
}

/// The blocks of the stopped volume from `start` on.
fn blocks(start: u64, count: u64) -> Vec<u8> {
    let sample = vdo::stopped();
    let blocks = (start..start + count).map(|number| vdo::block(sample, number));
    blocks.collect::<Vec<_>>().concat()
}

#[test]
fn sound_input_is_sound() {
    let super_block = &vdo::stopped().super_block;
    assert!(vdo::geometry(&blocks(0, 1)));
    assert!(vdo::super_block(&blocks(2, 1)));
    assert!(vdo::compressed(&blocks(vdo::PACKED, 1)));
    assert!(vdo::journal(&blocks(
        super_block.partitions.journal.start,
        8
    )));
    assert!(vdo::image(&blocks(0, 60)));
    let pages: Vec<_> = [3, 6, 7, 8, 9].map(|number| blocks(number, 1)).concat();
    assert!(vdo::pages(&pages));
    let first = super_block.depot.reference_block(0, 0);
    let summary = super_block.partitions.summary.start;
    assert!(vdo::slab(&[blocks(first, 9), blocks(summary, 1)].concat()));
    // What a target is for: it looks at its input.
    let mut wrong = blocks(vdo::PACKED, 1);
    wrong[8] = 0xff;
    assert!(!vdo::compressed(&wrong));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_geometry_and_super_blocks(damage in damage()) {
        let mut data = blocks(0, 1);
        apply(&damage, &mut data);
        let _ = vdo::geometry(&data);
        let mut data = blocks(2, 1);
        apply(&damage, &mut data);
        let _ = vdo::super_block(&data);
    }

    #[test]
    fn damaged_pages(damage in damage(), page in 0usize..5) {
        let mut data = [3, 6, 7, 8, 9].map(|number| blocks(number, 1)).concat();
        apply(&damage, &mut data[page * 4096..][..4096]);
        let _ = vdo::pages(&data);
    }

    #[test]
    fn damaged_journals(damage in damage(), block in 1usize..4) {
        let mut data = blocks(vdo::stopped().super_block.partitions.journal.start, 8);
        apply(&damage, &mut data[block * 4096..][..4096]);
        let _ = vdo::journal(&data);
    }

    #[test]
    fn damaged_slabs(damage in damage(), block in 0usize..10) {
        let super_block = &vdo::stopped().super_block;
        let first = super_block.depot.reference_block(0, 0);
        let summary = super_block.partitions.summary.start;
        let mut data = [blocks(first, 9), blocks(summary, 1)].concat();
        apply(&damage, &mut data[block * 4096..][..4096]);
        let _ = vdo::slab(&data);
    }

    #[test]
    fn damaged_compressed_blocks(damage in damage()) {
        let mut data = blocks(vdo::PACKED, 1);
        apply(&damage, &mut data);
        let _ = vdo::compressed(&data);
    }

    #[test]
    fn damaged_images(damage in prop::collection::vec((0usize..60, damage()), 1..10)) {
        let mut data = blocks(0, 60);
        for (block, damage) in damage {
            apply(&damage, &mut data[block * 4096..][..4096]);
        }
        let _ = vdo::image(&data);
    }

    #[test]
    fn noise(data in prop::collection::vec(any::<u8>(), 0..9000)) {
        for target in [
            vdo::geometry as fn(&[u8]) -> bool, vdo::super_block, vdo::pages, vdo::journal,
            vdo::slab, vdo::compressed, vdo::image,
        ] {
            let _ = target(&data);
        }
    }
}
