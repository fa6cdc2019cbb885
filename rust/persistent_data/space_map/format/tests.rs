// SPDX-License-Identifier: GPL-2.0

//! Mainline's index and bitmap blocks, rebuilt from what they say.

use super::*;
use pd_testing::vectors;
use std::vec::Vec;

fn rebuilt(kind: &BlockKind, rebuild: fn(&Block) -> Block) -> usize {
    let mut blocks = 0;
    for name in vectors::CLONE_IMAGES {
        let image = vectors::image(name);
        let live = vectors::expected(name).live.into_iter();
        for (number, _, _) in live.filter(|(_, name, _)| name == kind.name) {
            let block: &Block = image[number as usize * BLOCK_SIZE..].first_chunk().unwrap();
            assert_eq!((kind.verify)(block, number), Ok(()));
            let mut copy = rebuild(block);
            (kind.seal)(&mut copy, number);
            assert!(copy == *block, "{name}: block {number}");
            blocks += 1;
        }
    }
    blocks
}

#[test]
fn index_blocks() {
    let rebuild = |block: &Block| {
        let mut copy = [0; BLOCK_SIZE];
        put_index_entries(&mut copy, index_entries(block));
        copy
    };
    assert_eq!(rebuilt(&INDEX, rebuild), 10);
}

#[test]
fn bitmap_blocks() {
    let rebuild = |block: &Block| {
        let mut copy = [0; BLOCK_SIZE];
        put_bitmap_words(&mut copy, &bitmap_words(block).collect::<Vec<_>>());
        copy
    };
    assert_eq!(rebuilt(&BITMAP, rebuild), 11);
}

#[test]
fn roots() {
    let root = Root {
        nr_blocks: 1,
        nr_allocated: 2 << 40,
        index: 3,
        overflow: u64::MAX,
    };
    assert_eq!(Root::decode(&root.encode()), root);
    let image = vectors::image("fresh-r8");
    let bytes: &[u8; ROOT_SIZE] = image[44..].first_chunk().unwrap();
    let root = Root {
        nr_blocks: 1024,
        nr_allocated: 6,
        index: 1,
        overflow: 2,
    };
    assert_eq!(Root::decode(bytes), root);
    assert_eq!(root.encode(), *bytes);
}
