// SPDX-License-Identifier: GPL-2.0

//! A table behaves as a map, and its hand comes by everywhere.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Action {
    Insert(u64, u32),
    Remove(u64),
    Change(u64, u32),
    Add,
}

fn actions() -> impl Strategy<Value = Action> {
    let block = 0..80_u64;
    prop_oneof![
        4 => (block.clone(), any::<u32>()).prop_map(|(block, value)| Action::Insert(block, value)),
        2 => block.clone().prop_map(Action::Remove),
        1 => (block, any::<u32>()).prop_map(|(block, value)| Action::Change(block, value)),
        1 => Just(Action::Add),
    ]
}

/// Adds a chunk, with a new list of chunks where one is needed.
fn grow(table: &mut Table<u32>) {
    let list = table
        .wants_list()
        .map(|room| KVVec::with_capacity(room, GFP_KERNEL).unwrap());
    assert!(table
        .add(Chunk::new(CHUNK, GFP_KERNEL).unwrap(), list)
        .is_ok());
}

proptest! {
    #[test]
    fn a_table_is_a_map(
        expected in 0..40_usize,
        actions in prop::collection::vec(actions(), 0..300),
    ) {
        let mut table = Table::new(expected).unwrap();
        let mut model = BTreeMap::new();
        let mut slots = 0;
        for action in actions {
            match action {
                Action::Insert(block, value) if !model.contains_key(&block) => {
                    let inserted = table.insert(block, value);
                    prop_assert_eq!(inserted.is_ok(), model.len() < slots);
                    if inserted.is_ok() {
                        model.insert(block, value);
                    }
                }
                Action::Remove(block) => {
                    let at = table.find(block);
                    prop_assert_eq!(at.and_then(|at| table.remove(at)), model.remove(&block));
                }
                Action::Insert(block, value) | Action::Change(block, value) => {
                    if let Some(at) = table.find(block) {
                        *table.get_mut(at).unwrap() = value;
                        model.insert(block, value);
                    }
                }
                Action::Add => {
                    grow(&mut table);
                    slots += CHUNK;
                }
            }
            prop_assert_eq!(table.has_room(), model.len() < slots);
            for block in 0..80 {
                let at = table.find(block);
                prop_assert_eq!(at.and_then(|at| table.get(at)), model.get(&block));
                prop_assert_eq!(at.and_then(|at| table.block(at)), at.map(|_| block));
            }
        }
        let all: BTreeMap<u64, u32> = table.iter().map(|(_, block, value)| (block, *value)).collect();
        prop_assert_eq!(all, model);
    }
}

#[test]
fn the_hand_comes_by_every_value() {
    let mut table = Table::with_slots(70).unwrap();
    for block in 0..70 {
        table.insert(block, block as u32).unwrap();
    }
    assert_eq!(table.insert(70, 70), Err(70), "there are 70 slots");
    let mut seen = BTreeSet::new();
    for _ in 0..70 {
        let at = table.sweep(|_| true).unwrap();
        seen.insert(*table.get(at).unwrap());
    }
    assert_eq!(seen.len(), 70);
    let mut visits = 0;
    let none = table.sweep(|_| {
        visits += 1;
        false
    });
    assert_eq!((none, visits), (None, 140));
}

#[test]
fn a_short_chunk_is_the_last() {
    let mut table: Table<u32> = Table::with_slots(CHUNK + 1).unwrap();
    let list = KVVec::with_capacity(8, GFP_KERNEL).unwrap();
    assert!(table
        .add(Chunk::new(CHUNK, GFP_KERNEL).unwrap(), Some(list))
        .is_err());
}
