// SPDX-License-Identifier: GPL-2.0

use super::recovery_point;
use super::Change;
use super::Header;
use super::Shape;
use super::SlabEntry;
use crate::format::vectors::vector;
use crate::format::vectors::NONCE;
use crate::format::JournalPoint;
use proptest::prelude::*;
use std::vec::Vec;

const SHAPE: Shape = Shape::STANDARD;

fn change(sbn: u32, change: Change) -> SlabEntry {
    SlabEntry { sbn, change }
}

#[test]
fn real_blocks() {
    let page = vector!("clean/sj-slab0-seq1");
    let header = Header::decode(page);
    assert_eq!((header.head, header.sequence), (1, 1));
    assert_eq!(header.recovery_point, JournalPoint::new(7, 93));
    assert!(header.is_valid(NONCE) && !header.is_valid(5));
    assert!(header.has_block_map_increments);
    assert_eq!(header.entry_count, 1299);
    assert!(header.is_full(SHAPE) && header.is_count_valid(SHAPE));
    let entries: Vec<_> = header.entries(page, SHAPE).collect();
    for (sbn, &entry) in (0..4).zip(&entries) {
        assert_eq!(entry, change(sbn, Change::BlockMapIncrement));
    }
    assert_eq!(entries[4].change, Change::Increment);
    assert_eq!(entries.last(), Some(&change(852, Change::Decrement)));

    let page = vector!("clean/sj-slab0-seq2");
    let header = Header::decode(page);
    assert_eq!(header.entry(page, SHAPE, 0), change(852, Change::Decrement));
    assert_eq!(header.entries(page, SHAPE).count(), 577);
    assert_eq!(header.recovery_point, recovery_point(9, 189, true));
}

#[test]
fn a_real_block_built_anew_is_the_same() {
    let page = vector!("clean/sj-slab0-seq1");
    let real = Header::decode(page);
    let mut again = [0xaa; 4096];
    let mut header = Header::new(1, 1, NONCE);
    for entry in real.entries(page, SHAPE) {
        header.push(&mut again, SHAPE, entry, JournalPoint::new(7, 93));
    }
    header.encode(&mut again);
    assert_eq!(header, real);
    assert_eq!(&again, page);
}

#[test]
fn a_block_is_closed_before_a_page_that_has_no_room() {
    let shape = Shape { full: 3, data: 5 };
    let mut page = [0xaa; 4096];
    let mut header = Header::new(1, 1, NONCE);
    let point = recovery_point(5, 7, false);
    let mut push = |header: &mut Header, what| {
        let entry = change(header.entry_count.into(), what);
        header.push(&mut page, shape, entry, point)
    };
    for index in 0..3 {
        assert_eq!(push(&mut header, Change::Increment), Some(index));
    }
    assert_eq!(push(&mut header, Change::BlockMapIncrement), None);
    assert!(!header.is_full(shape), "but for pages");
    assert_eq!(push(&mut header, Change::Decrement), Some(3));
    assert_eq!(push(&mut header, Change::Increment), Some(4));
    assert!(header.is_full(shape));
    assert_eq!(push(&mut header, Change::Increment), None);

    let mut header = Header::new(1, 2, NONCE);
    assert_eq!(push(&mut header, Change::Increment), Some(0));
    assert_eq!(push(&mut header, Change::BlockMapIncrement), Some(1));
    assert_eq!(push(&mut header, Change::Decrement), Some(2));
    assert!(header.is_full(shape), "for the bits take room");
    let changes: Vec<_> = header
        .entries(&page, shape)
        .map(|entry| entry.change)
        .collect();
    assert_eq!(
        changes,
        [
            Change::Increment,
            Change::BlockMapIncrement,
            Change::Decrement
        ]
    );
    assert_eq!(header.recovery_point, JournalPoint::new(5, 15));
}

proptest! {
    #[test]
    fn entries_come_back(
        kinds in proptest::collection::vec(0u8..9, 1..2000), sbn in 0u32..1 << 23, full in 1u16..1300,
    ) {
        let shape = Shape { full, data: full.max(1353.min(full + full / 20)) };
        let mut page = [0xaa; 4096];
        let mut header = Header::new(3, 4, NONCE);
        let mut pushed = Vec::new();
        for (index, kind) in (0..).zip(kinds) {
            let entry = change(sbn ^ index, match kind {
                0 => Change::BlockMapIncrement,
                1..=4 => Change::Increment,
                _ => Change::Decrement,
            });
            if header.push(&mut page, shape, entry, JournalPoint::new(9, 9)).is_none() {
                break;
            }
            pushed.push(entry);
        }
        header.encode(&mut page);
        let header = Header::decode(&page);
        prop_assert!(header.is_count_valid(shape));
        prop_assert_eq!(header.entries(&page, shape).collect::<Vec<_>>(), pushed);
    }

    #[test]
    fn nonsense_never_panics(bytes: [u8; 36], full: u16, data: u16, index: u16) {
        let mut page = [0x5a; 4096];
        page[..36].copy_from_slice(&bytes);
        let shape = Shape { full, data };
        let mut header = Header::decode(&page);
        let _ = header.entries(&page, shape).count();
        let _ = header.entry(&page, shape, index);
        let _ = header.push(&mut page, shape, change(5, Change::BlockMapIncrement), JournalPoint::NONE);
    }
}
