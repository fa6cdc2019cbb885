// SPDX-License-Identifier: GPL-2.0

//! Trees against `BTreeMap`, and against the shapes of trees that mainline grew.

use super::*;
use crate::fixture::*;
use pd_testing::vectors;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

fn all<V: Value>(tm: &mut Tm, root: u64) -> Vec<(u64, V)> {
    let mut entries = vec![];
    now(Cursor::<V>::new(root).for_each(tm.cache(), |key, value| {
        entries.push((key, value));
        Ok(())
    }))
    .unwrap();
    entries
}

#[test]
fn an_empty_tree() {
    let (disk, mut tm) = format(100, LARGE);
    let root = now(create::<u64, _>(&mut tm)).unwrap();
    assert_eq!(now(lookup::<u64, _>(tm.cache(), root, 0)), Ok(None));
    assert_eq!(all::<u64>(&mut tm, root), []);
    let removed = now(remove::<u64, _>(&mut tm, root, 7)).unwrap();
    assert_eq!(removed, Removed { root, old: None });
    commit(&mut tm, User::of(root, 0)).unwrap();
    assert_eq!(judge_tree(&disk.image(), 8).1, [(0, 0)]);
}

#[test]
fn overwriting_returns_the_old_value() {
    let (_, mut tm) = format(100, LARGE);
    let root = now(create::<u64, _>(&mut tm)).unwrap();
    let first = now(insert(&mut tm, root, 5, &50_u64)).unwrap();
    assert_eq!(first.old, None);
    let second = now(insert(&mut tm, first.root, 5, &51_u64)).unwrap();
    assert_eq!(second.old, Some(50));
    assert_eq!(all::<u64>(&mut tm, second.root), [(5, 51)]);
}

#[test]
fn grows_and_shrinks_to_the_shapes_of_mainline() {
    let (inserted, removed) = vectors::thin_keys();
    let (disk, mut tm) = format(1000, SMALL);
    let mut root = now(create::<u64, _>(&mut tm)).unwrap();
    for (at, &key) in inserted.iter().enumerate() {
        root = now(insert(&mut tm, root, key, &(key * 3))).unwrap().root;
        if at % 500 == 499 {
            commit(&mut tm, User::of(root, 0)).unwrap();
        }
    }
    commit(&mut tm, User::of(root, 0)).unwrap();
    let (entries, shape) = judge_tree(&disk.image(), 8);
    assert_eq!(entries.len(), 4000);
    assert_eq!(shape, vectors::thin_shape("thin-a"));
    for (at, &key) in removed.iter().enumerate() {
        let step = now(remove::<u64, _>(&mut tm, root, key)).unwrap();
        assert_eq!(step.old, Some(key * 3));
        // Mainline removes a range of one: it goes down once more and finds nothing to remove.
        root = now(shadow_node::<u64, _>(&mut tm, step.root)).unwrap();
        now(super::remove::descend::<u64, _>(&mut tm, root, key + 1)).unwrap();
        if at % 500 == 499 {
            commit(&mut tm, User::of(root, 0)).unwrap();
        }
    }
    commit(&mut tm, User::of(root, 0)).unwrap();
    let (entries, shape) = judge_tree(&disk.image(), 8);
    assert_eq!(entries.len(), 800);
    assert_eq!(shape, vectors::thin_shape("thin-b"));
}

#[test]
fn ascending_keys_give_the_known_number_of_nodes() {
    for (entries, nodes) in [
        (252, 1),
        (253, 3),
        (277, 3),
        (516, 4),
        (8241, 35),
        (65_923, 269),
    ] {
        let (disk, mut tm) = format(nodes + 40, LARGE);
        let mut root = now(create::<u64, _>(&mut tm)).unwrap();
        for key in 0..entries {
            root = now(insert(&mut tm, root, key, &key)).unwrap().root;
        }
        commit(&mut tm, User::of(root, 0)).unwrap();
        assert_eq!(
            judge_tree(&disk.image(), 8).1.len() as u64,
            nodes,
            "{entries} entries"
        );
    }
}

#[test]
fn snapshots_share_nodes_until_they_are_changed() {
    let (_, mut tm) = format(1000, LARGE);
    let mut root = now(create::<u64, _>(&mut tm)).unwrap();
    for key in 0..2000_u64 {
        root = now(insert(&mut tm, root, key * 2, &key)).unwrap().root;
    }
    let before = all::<u64>(&mut tm, root);
    let used = tm.nr_used();
    // The snapshot holds the same root.
    now(tm.inc(root)).unwrap();
    let mut changed = root;
    for key in 0..500_u64 {
        changed = now(insert(&mut tm, changed, key * 7, &(key + 1_000_000)))
            .unwrap()
            .root;
        changed = now(remove::<u64, _>(&mut tm, changed, key * 11 + 1))
            .unwrap()
            .root;
    }
    assert_ne!(changed, root);
    assert_eq!(all::<u64>(&mut tm, root), before);
    now(delete::<u64, _>(&mut tm, changed)).unwrap();
    assert_eq!(all::<u64>(&mut tm, root), before);
    now(delete::<u64, _>(&mut tm, root)).unwrap();
    // Nothing leaks: what is left was in use before the first tree.
    assert!(used > 10);
    for block in 4..1000 {
        assert_eq!(now(tm.count(block)), Ok(0), "block {block}");
    }
}

#[test]
fn deleting_gives_up_references_of_values() {
    let (_, mut tm) = format(1000, LARGE);
    let mut root = now(create::<BlockRef, _>(&mut tm)).unwrap();
    let mut blocks = vec![];
    for key in 0..300 {
        let block = now(tm.allocate()).unwrap();
        now(tm.rewrite(block, &crate::array::ARRAY)).unwrap();
        blocks.push(block);
        root = now(insert(&mut tm, root, key, &BlockRef(block)))
            .unwrap()
            .root;
    }
    now(tm.inc(root)).unwrap();
    // Copying a shared leaf adds references to what it refers to.
    let other = now(remove::<BlockRef, _>(&mut tm, root, 0)).unwrap();
    assert_eq!(other.old, Some(BlockRef(blocks[0])));
    now(tm.dec(blocks[0])).unwrap();
    assert_eq!(now(tm.count(blocks[0])), Ok(1));
    assert_eq!(now(tm.count(blocks[1])), Ok(2));
    now(delete::<BlockRef, _>(&mut tm, root)).unwrap();
    assert_eq!(now(tm.count(blocks[0])), Ok(0));
    assert_eq!(now(tm.count(blocks[1])), Ok(1));
    now(delete::<BlockRef, _>(&mut tm, other.root)).unwrap();
    assert_eq!(now(tm.count(blocks[299])), Ok(0));
}

#[derive(Clone, Debug)]
enum Action {
    Insert(u64, u32),
    InsertRun(u64, u16),
    Remove(u64),
    RemoveRun(u64, u16),
    Lookup(u64),
    Commit,
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let key = || prop_oneof![0..2000_u64, any::<u64>()];
    let action = prop_oneof![
        4 => (key(), any::<u32>()).prop_map(|(key, value)| Action::Insert(key, value)),
        4 => (0..6000_u64, 1..800_u16).prop_map(|(key, count)| Action::InsertRun(key, count)),
        4 => key().prop_map(Action::Remove),
        3 => (0..6000_u64, 1..800_u16).prop_map(|(key, count)| Action::RemoveRun(key, count)),
        2 => key().prop_map(Action::Lookup),
        1 => Just(Action::Commit),
        1 => Just(Action::Reopen),
    ];
    prop::collection::vec(action, 1..40)
}

fn run(actions: Vec<Action>) {
    let (disk, mut tm) = format(2000, SMALL);
    let mut root = now(create::<u32, _>(&mut tm)).unwrap();
    let mut model = BTreeMap::new();
    let put = |tm: &mut Tm, model: &mut BTreeMap<u64, u32>, root: &mut u64, key, value| {
        let inserted = now(insert(tm, *root, key, &value)).unwrap();
        assert_eq!(inserted.old, model.insert(key, value));
        *root = inserted.root;
    };
    let take = |tm: &mut Tm, model: &mut BTreeMap<u64, u32>, root: &mut u64, key| {
        let removed = now(remove::<u32, _>(tm, *root, key)).unwrap();
        assert_eq!(removed.old, model.remove(&key));
        *root = removed.root;
    };
    for action in actions {
        match action {
            Action::Insert(key, value) => put(&mut tm, &mut model, &mut root, key, value),
            Action::InsertRun(key, count) => {
                for key in key..key + u64::from(count) {
                    put(&mut tm, &mut model, &mut root, key, key as u32);
                }
            }
            Action::Remove(key) => take(&mut tm, &mut model, &mut root, key),
            Action::RemoveRun(key, count) => {
                for key in key..key + u64::from(count) {
                    take(&mut tm, &mut model, &mut root, key);
                }
            }
            Action::Lookup(key) => {
                let found = now(lookup::<u32, _>(tm.cache(), root, key)).unwrap();
                assert_eq!(found, model.get(&key).copied());
            }
            Action::Commit => commit(&mut tm, User::of(root, 0)).unwrap(),
            Action::Reopen => {
                commit(&mut tm, User::of(root, 0)).unwrap();
                let user;
                (tm, user) = open(&disk, SMALL).unwrap();
                assert_eq!(user.root, root);
            }
        }
    }
    assert!(all::<u32>(&mut tm, root).into_iter().eq(model.clone()));
    commit(&mut tm, User::of(root, 0)).unwrap();
    let found = judge_tree(&disk.image(), 4).0;
    assert!(found.into_iter().eq(model
        .into_iter()
        .map(|(k, v)| (k, v.to_le_bytes().to_vec()))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn behaves_like_a_btree_map(actions in actions()) {
        run(actions);
    }
}
