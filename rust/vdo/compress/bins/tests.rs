// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::format::compressed::fragment;
use crate::format::compressed::FRAGMENTS_SIZE;
use crate::format::BLOCK_SIZE;
use std::vec;
use std::vec::Vec;

struct Pages(Vec<Page>);

impl Pages {
    fn new(count: usize) -> Self {
        Self(vec![[0xee; BLOCK_SIZE]; count])
    }

    fn add(&mut self, bins: &mut Bins, size: usize, content: u8) -> Option<(usize, u8)> {
        bins.add(&vec![content; size], |number| self.0.get_mut(number))
    }
}

#[test]
fn a_fragment_goes_where_it_leaves_the_least_room() {
    let (mut bins, mut pages) = (Bins::new(4).unwrap(), Pages::new(4));
    assert_eq!(pages.add(&mut bins, 2500, 1), Some((0, 0)));
    assert_eq!(pages.add(&mut bins, 3000, 2), Some((1, 0)));
    assert_eq!(pages.add(&mut bins, 1000, 3), Some((1, 1)));
    assert_eq!(pages.add(&mut bins, 1200, 4), Some((0, 1)));
    assert_eq!(pages.add(&mut bins, 400, 5), Some((2, 0)));
    assert_eq!(bins.fragments(0), 2);
    assert_eq!(fragment(&pages.0[1], 1).unwrap(), [3; 1000]);
    assert_eq!(fragment(&pages.0[0], 1).unwrap(), [4; 1200]);
    // Nothing of what was in the memory before is stored.
    assert_eq!(pages.0[0][BLOCK_SIZE - 1], 0);
}

#[test]
fn fourteen_fill_a_block() {
    let (mut bins, mut pages) = (Bins::new(3).unwrap(), Pages::new(3));
    for slot in 0..14 {
        assert_eq!(pages.add(&mut bins, 26, slot), Some((0, slot)));
    }
    assert_eq!(pages.add(&mut bins, 26, 14), Some((1, 0)));
    // Exactly full.
    let (mut bins, mut pages) = (Bins::new(3).unwrap(), Pages::new(3));
    assert_eq!(pages.add(&mut bins, FRAGMENTS_SIZE / 2, 0), Some((0, 0)));
    assert_eq!(pages.add(&mut bins, FRAGMENTS_SIZE / 2, 0), Some((0, 1)));
    assert_eq!(pages.add(&mut bins, 1, 0), Some((1, 0)));
}

#[test]
fn without_another_block_there_is_no_room() {
    let (mut bins, mut pages) = (Bins::new(2).unwrap(), Pages::new(2));
    assert!(pages.add(&mut bins, 3000, 0).is_some());
    assert!(pages.add(&mut bins, 3000, 0).is_some());
    assert_eq!(pages.add(&mut bins, 3000, 0), None);
    assert_eq!(pages.add(&mut bins, 1000, 0), Some((0, 1)));
}

#[test]
fn of_too_many_the_fullest_is_closed() {
    let (mut bins, mut pages) = (Bins::new(40).unwrap(), Pages::new(40));
    for number in 0..OPEN {
        let size = if number == 5 { 3500 } else { 3000 };
        assert_eq!(pages.add(&mut bins, size, 0), Some((number, 0)));
    }
    assert_eq!(pages.add(&mut bins, 2000, 0), Some((OPEN, 0)));
    // It would have fitted best into number 5.
    assert_eq!(pages.add(&mut bins, 500, 0), Some((0, 1)));
}

#[test]
fn who_is_claimed_can_be_referred_to() {
    let (mut bins, mut pages) = (Bins::new(2).unwrap(), Pages::new(2));
    pages.add(&mut bins, 100, 0);
    pages.add(&mut bins, 100, 0);
    assert_eq!(bins.refer(0), None);
    bins.place(0, 77, 1);
    assert_eq!(bins.places().collect::<Vec<_>>(), [77]);
    assert_eq!(bins.refer(0), Some(77));
    assert_eq!(bins.refer(0), None);
    bins.clear();
    assert!(bins.is_empty());
    assert_eq!(bins.refer(0), None);
}

#[test]
fn pairs_find_room_whatever_comes_between() {
    // As many blocks as a batch has: all that can share do.
    for blocks in [4, 64, 256] {
        let most = Bins::needed(blocks);
        let (mut bins, mut pages) = (Bins::new(most).unwrap(), Pages::new(most));
        let placed = (0..blocks).filter(|_| pages.add(&mut bins, 2030, 0).is_some());
        assert_eq!(placed.count(), blocks);
        assert!((0..blocks / 2).all(|number| bins.fragments(number) == 2));
    }
}
