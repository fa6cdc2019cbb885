// SPDX-License-Identifier: GPL-2.0

use super::*;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

fn map(regions: Regions) -> RegionMap {
    RegionMap::new(regions).expect("memory")
}

#[test]
fn an_empty_range_is_hydrated() {
    assert_eq!(
        map(64).run(&(5..5)),
        Run {
            hydrated: true,
            end: 5
        }
    );
}

#[test]
fn runs_cross_words() {
    let map = map(200);
    map.set_hydrated(&(60..130));
    assert_eq!(
        map.run(&(0..200)),
        Run {
            hydrated: false,
            end: 60
        }
    );
    assert_eq!(
        map.run(&(60..200)),
        Run {
            hydrated: true,
            end: 130
        }
    );
    assert_eq!(
        map.run(&(61..100)),
        Run {
            hydrated: true,
            end: 100
        }
    );
    assert_eq!(
        map.run(&(130..200)),
        Run {
            hydrated: false,
            end: 200
        }
    );
    assert_eq!(map.first_unhydrated(&(60..200)), Some(130));
    assert_eq!(map.first_unhydrated(&(60..130)), None);
}

#[test]
fn setting_twice_counts_and_announces_once() {
    let map = map(100);
    map.set_hydrated(&(10..20));
    assert!(map.take_changed());
    assert_eq!(map.take_dirty_block(0), Some(0));
    map.set_hydrated(&(12..18));
    assert_eq!(map.hydrated(), 10);
    assert!(!map.is_changed());
    assert_eq!(map.take_dirty_block(0), None);
}

#[test]
fn dirty_blocks_are_those_that_were_touched() {
    let map = map(BLOCK_REGIONS * 130);
    assert_eq!(map.blocks(), 130);
    map.set_hydrated(&(BLOCK_REGIONS * 3 - 1..BLOCK_REGIONS * 3 + 1));
    map.set_hydrated(&(BLOCK_REGIONS * 129..BLOCK_REGIONS * 130));
    assert_eq!(map.take_dirty_block(0), Some(2));
    assert_eq!(map.take_dirty_block(3), Some(3));
    assert_eq!(map.take_dirty_block(0), Some(129));
    assert_eq!(map.take_dirty_block(0), None);
}

#[test]
fn all_dirty_is_all_and_no_more() {
    let map = map(BLOCK_REGIONS * 65);
    map.set_all_dirty();
    let mut taken = Vec::new();
    while let Some(block) = map.take_dirty_block(0) {
        taken.push(block);
    }
    assert_eq!(taken, (0..65).collect::<Vec<_>>());
}

#[test]
fn bits_behind_the_end_are_dropped() {
    let map = map(100);
    map.load_words(0, &[0, u64::MAX]);
    assert_eq!(map.hydrated(), 36);
    map.load_words(1, &[1, u64::MAX]);
    assert_eq!(map.hydrated(), 1);
    map.load_words(7, &[u64::MAX]);
    assert_eq!(map.hydrated(), 1);
    let mut words = [0; 3];
    map.copy_words(0, &mut words);
    assert_eq!(words, [0, 1, 0]);
}

#[test]
fn a_complete_map_needs_no_bits() {
    let map = map(100);
    map.set_hydrated(&(0..99));
    map.shrink();
    assert!(!map.is_shrunk());
    assert!(!map.is_hydrated(99));
    map.set_hydrated(&(99..100));
    let (mut before, mut after) = ([0; 3], [0; 3]);
    map.copy_words(0, &mut before);
    map.shrink();
    map.copy_words(0, &mut after);
    assert!(map.is_shrunk());
    assert_eq!(after, before);
    assert!(map.is_range_hydrated(&(0..100)));
    assert_eq!(map.hydrated(), 100);
}

proptest! {
    #[test]
    fn agrees_with_a_vector(
        sets in proptest::collection::vec((0u64..300, 0u64..80), 0..20),
        asks in proptest::collection::vec((0u64..300, 0u64..300), 1..20),
    ) {
        let map = map(300);
        let mut model = vec![false; 300];
        for (start, count) in sets {
            let end = (start + count).min(300);
            map.set_hydrated(&(start..end));
            model[start as usize..end as usize].fill(true);
        }
        prop_assert_eq!(map.hydrated(), model.iter().filter(|set| **set).count() as u64);
        for (a, b) in asks {
            let (start, end) = (a.min(b), a.max(b) + 1);
            let state = model[start as usize];
            let same = model[start as usize..end.min(300) as usize].iter().take_while(|set| **set == state);
            let expected = Run { hydrated: state, end: start + same.count() as u64 };
            prop_assert_eq!(map.run(&(start..end.min(300))), expected);
        }
    }
}
