// SPDX-License-Identifier: GPL-2.0

//! Counts against a map of counts, and the rule of the allocator.

use super::*;
use crate::fixture::*;
use crate::space_map::ENTRIES_PER_BITMAP;
use pd_testing::check::Checker;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

#[test]
fn a_format_takes_the_first_blocks() {
    for (blocks, own) in [
        (4, 4),
        (1024, 4),
        (ENTRIES_PER_BITMAP, 4),
        (ENTRIES_PER_BITMAP + 1, 5),
    ] {
        let map = SpaceMap::format(blocks).unwrap();
        assert_eq!((map.root().index, map.root().overflow), (1, 2));
        assert_eq!(map.root().nr_allocated, own);
        assert_eq!(map.blocks_left(), blocks - own);
    }
    assert!(matches!(SpaceMap::format(3), Err(Error::NoSpace)));
    assert!(matches!(SpaceMap::format(0), Err(Error::Invalid(_))));
    assert!(matches!(
        SpaceMap::format(MAX_BLOCKS + 1),
        Err(Error::Invalid(_))
    ));
}

#[test]
fn blocks_are_handed_out_upwards_and_wrap() {
    let (_, mut tm) = format(20, LARGE);
    let first: Vec<_> = (0..6).map(|_| now(tm.allocate()).unwrap()).collect();
    assert_eq!(first, [4, 5, 6, 7, 8, 9]);
    commit(&mut tm, User::of(2, 0)).unwrap();
    for block in first {
        assert_eq!(now(tm.dec(block)), Ok(true));
    }
    // What was in use at the last commit stays out of reach until the next one.
    let rest: Vec<_> = (0..10).map(|_| now(tm.allocate()).unwrap()).collect();
    assert_eq!(rest, [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    assert_eq!(now(tm.allocate()), Err(Error::NoSpace));
    for block in rest {
        now(tm.dec(block)).unwrap();
    }
    commit(&mut tm, User::of(2, 0)).unwrap();
    assert_eq!(now(tm.allocate()), Ok(12));
}

#[test]
fn a_block_without_references_has_none_to_give_up() {
    let (_, mut tm) = format(64, LARGE);
    assert_eq!(now(tm.dec(40)).unwrap_err().errno().to_errno(), -84);
    for beyond in [64, ENTRIES_PER_BITMAP, u64::MAX] {
        assert_eq!(now(tm.inc(beyond)).unwrap_err().errno().to_errno(), -84);
    }
}

#[test]
fn several_bitmaps_move_each_other() {
    let blocks = 3 * ENTRIES_PER_BITMAP + 100;
    let (disk, mut tm) = format(blocks, SMALL);
    // Blocks in every bitmap, so that the bitmaps themselves get placed in the third and fourth.
    let mut taken = vec![];
    while taken
        .last()
        .is_none_or(|&block| block < 3 * ENTRIES_PER_BITMAP + 50)
    {
        taken.push(now(tm.allocate()).unwrap());
    }
    commit(&mut tm, User::of(2, 0)).unwrap();
    for round in 0..8 {
        for &block in taken.iter().skip(round).step_by(8) {
            now(tm.dec(block)).unwrap();
        }
        commit(&mut tm, User::of(2, 0)).unwrap();
        (tm, _) = open(&disk, SMALL).unwrap();
    }
    assert_eq!(tm.nr_used(), 7);
    judge(&disk.image());
}

/// Tests all that can be said about a space map without knowing who refers to what.
fn judge(image: &[u8]) -> pd_testing::check::SpaceMap {
    let mut checker = Checker::new(image);
    let block = checker.superblock(257_649_492);
    let map = checker.metadata_space_map(&block[44..76]);
    assert!(checker.errors.is_empty(), "{:?}", checker.errors);
    map
}

#[derive(Clone, Debug)]
enum Action {
    Allocate(u8),
    Inc(prop::sample::Index, u8),
    Dec(prop::sample::Index, u8),
    Commit,
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (1..40_u8).prop_map(Action::Allocate),
        4 => (any::<prop::sample::Index>(), 1..6_u8).prop_map(|(at, by)| Action::Inc(at, by)),
        5 => (any::<prop::sample::Index>(), 1..6_u8).prop_map(|(at, by)| Action::Dec(at, by)),
        2 => Just(Action::Commit),
        1 => Just(Action::Reopen),
    ];
    prop::collection::vec(action, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_map_of_counts(actions in actions()) {
        let (disk, mut tm) = format(600, SMALL);
        let mut model = BTreeMap::<u64, u32>::new();
        let mut committed = BTreeSet::new();
        for action in actions {
            let pick = |at: prop::sample::Index, model: &BTreeMap<u64, u32>| {
                (!model.is_empty()).then(|| *model.keys().nth(at.index(model.len())).unwrap())
            };
            match action {
                Action::Allocate(count) => {
                    for _ in 0..count {
                        match now(tm.allocate()) {
                            Ok(block) => {
                                prop_assert_eq!(model.insert(block, 1), None);
                                prop_assert!(!committed.contains(&block));
                                prop_assert!(tm.is_new(block));
                            }
                            Err(error) => prop_assert_eq!(error, Error::NoSpace),
                        }
                        if tm.blocks_left() == 0 {
                            break;
                        }
                    }
                }
                Action::Inc(at, by) => {
                    let Some(block) = pick(at, &model) else { continue };
                    for _ in 0..by {
                        now(tm.inc(block)).unwrap();
                        *model.get_mut(&block).unwrap() += 1;
                    }
                }
                Action::Dec(at, by) => {
                    let Some(block) = pick(at, &model) else { continue };
                    for _ in 0..by {
                        let Some(count) = model.get_mut(&block) else { break };
                        *count -= 1;
                        let last = *count == 0;
                        prop_assert_eq!(now(tm.dec(block)), Ok(last));
                        if last {
                            model.remove(&block);
                        }
                    }
                }
                Action::Commit | Action::Reopen => {
                    // The overflow tree may need what `blocks_left` does not count.
                    if tm.blocks_left() < 8 {
                        continue;
                    }
                    commit(&mut tm, User::of(2, 0)).unwrap();
                    committed = model.keys().copied().collect();
                    let judged = judge(&disk.image());
                    for block in 0..600 {
                        let count = model.get(&block).copied();
                        prop_assert!(count.is_none_or(|c| judged.counts.get(block) == c));
                    }
                    prop_assert_eq!(tm.nr_used(), judged.nr_allocated);
                    if matches!(action, Action::Reopen) {
                        (tm, _) = open(&disk, SMALL).unwrap();
                    }
                }
            }
            for (&block, &count) in &model {
                prop_assert_eq!(now(tm.count(block)), Ok(count));
            }
        }
    }
}
