// SPDX-License-Identifier: GPL-2.0

use super::entry;
use super::hint;
use super::place;
use super::set_entry;
use super::SummaryEntry;
use super::BLOCKS;
use crate::format::vectors::vector;
use crate::format::SlabConfig;
use proptest::prelude::*;

#[test]
fn real_entries() {
    let page = vector!("clean/summary-zone0-blk0");
    let used = SummaryEntry {
        tail_block_offset: 3,
        fullness_hint: 54,
        load_ref_counts: true,
        is_dirty: false,
    };
    assert_eq!(entry(page, 0), used);
    let slab = SlabConfig::new(8192, 224).unwrap();
    assert_eq!(entry(page, 1), SummaryEntry::unused(&slab));
    assert_eq!(SummaryEntry::unused(&slab).encode(), [0x00, 0x3e]);

    let page = vector!("crash/summary-zone0-blk0");
    assert_eq!(entry(page, 1).encode(), [8, 0x98]);
    assert!(entry(page, 1).is_dirty && !entry(page, 1).load_ref_counts);
}

#[test]
fn hints() {
    let slab = SlabConfig::new(8192, 224).unwrap();
    assert_eq!(hint(0, &slab), 0);
    assert_eq!(hint(1, &slab), 1);
    assert_eq!(hint(255, &slab), 1);
    assert_eq!(hint(256, &slab), 2);
    assert_eq!(hint(4362, &slab), 34);
    let toy = SlabConfig::new(32, 4).unwrap();
    assert_eq!(hint(27, &toy), 27);
}

#[test]
fn the_partition() {
    assert_eq!(BLOCKS, 64);
    assert_eq!(place(0), (0, 0));
    assert_eq!(place(2047), (0, 2047));
    assert_eq!(place(8191), (3, 2047));
}

proptest! {
    #[test]
    fn entries_come_back(bytes: [u8; 2], index in 0usize..3000) {
        let found = SummaryEntry::decode(bytes);
        prop_assert_eq!(found.encode(), bytes);
        let mut page = [0; 4096];
        set_entry(&mut page, index, found);
        if index < 2048 {
            prop_assert_eq!(entry(&page, index), found);
        } else {
            prop_assert_eq!(page, [0; 4096]);
        }
    }

    #[test]
    fn hints_fit(blocks in 3u32..=23, free: u32) {
        let slab = SlabConfig::new(1 << blocks, 4).unwrap();
        prop_assert!(hint(free, &slab) < 64);
        prop_assert_eq!(hint(free, &slab) == 0, free == 0);
    }
}
