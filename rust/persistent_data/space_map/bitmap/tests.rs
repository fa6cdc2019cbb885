// SPDX-License-Identifier: GPL-2.0

//! Two-bit counts against a plain list of numbers.

use super::*;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

fn bitmap(entries: usize) -> Bitmap {
    let entry = IndexEntry {
        block: 0,
        nr_free: ENTRIES as u32,
        none_free_before: 0,
    };
    let mut bitmap = Bitmap::new(entry, entries).unwrap();
    assert_eq!(bitmap.available, entries as u32);
    bitmap.load([].into_iter());
    bitmap
}

#[test]
fn the_high_bit_comes_first() {
    let mut bitmap = bitmap(ENTRIES);
    for (entry, count) in [(0, 1), (1, 2), (2, 3), (3, 0), (32, 1)] {
        bitmap.set(entry, count);
    }
    assert_eq!(bitmap.words()[..2], [0b00_11_01_10, 0b10]);
}

#[test]
fn entries_behind_the_end_are_free_but_not_available() {
    let mut bitmap = bitmap(320);
    assert_eq!(
        (bitmap.available, bitmap.nr_free(), bitmap.first_free()),
        (320, 16_320, 0)
    );
    for entry in 0..320 {
        bitmap.set(entry, 1);
    }
    assert_eq!(
        (bitmap.available, bitmap.nr_free(), bitmap.first_free()),
        (0, 16_000, 320)
    );
    assert_eq!(bitmap.find_available(0, ENTRIES), None);
}

proptest! {
    #[test]
    fn behaves_like_a_list(
        entries in 1..=ENTRIES,
        before in prop::collection::vec((0..ENTRIES, 0..=MANY), 0..200),
        after in prop::collection::vec((0..ENTRIES, 0..=MANY), 0..200),
        from in 0..ENTRIES,
        to in 0..=ENTRIES,
    ) {
        let mut bitmap = bitmap(entries);
        let mut model = vec![0; ENTRIES];
        for (entry, count) in before {
            bitmap.set(entry % entries, count);
            model[entry % entries] = count;
        }
        bitmap.settle();
        let committed = model.clone();
        for (entry, count) in after {
            bitmap.set(entry % entries, count);
            model[entry % entries] = count;
        }
        let free: Vec<_> = (0..entries).filter(|&e| model[e] == 0 && committed[e] == 0).collect();
        prop_assert!((0..ENTRIES).all(|entry| bitmap.count(entry) == model[entry]));
        prop_assert!((0..ENTRIES).all(|entry| bitmap.was_used(entry) == (committed[entry] != 0)));
        prop_assert_eq!(bitmap.available as usize, free.len());
        prop_assert_eq!(bitmap.nr_free() as usize, model.iter().filter(|&&c| c == 0).count());
        let first = model.iter().position(|&count| count == 0).unwrap_or(ENTRIES);
        prop_assert_eq!(bitmap.first_free() as usize, first);
        let found = free.iter().copied().find(|entry| (from..to).contains(entry));
        prop_assert_eq!(bitmap.find_available(from, to), found);
    }
}
