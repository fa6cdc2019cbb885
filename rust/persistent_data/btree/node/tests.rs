// SPDX-License-Identifier: GPL-2.0

//! Mainline's nodes rebuilt, and nodes against a list of entries.

use super::*;
use pd_testing::vectors;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

#[test]
fn nodes_of_mainline_are_rebuilt_from_their_entries() {
    let mut nodes = 0;
    for name in vectors::CLONE_IMAGES {
        let image = vectors::image(name);
        for (number, kind, _) in vectors::expected(name).live {
            // A root that was split keeps old entries behind the new ones.
            if kind != NODE.name || (name, number) == ("twolevel-r8", 715) {
                continue;
            }
            let block: &Block = image[number as usize * BLOCK_SIZE..].first_chunk().unwrap();
            assert_eq!(verify(block, number), Ok(()));
            let node = Node::parse(block).unwrap();
            let mut copy = [0; BLOCK_SIZE];
            let mut rebuilt = NodeMut::init(&mut copy, node.internal, node.value_size).unwrap();
            rebuilt.set_entries(node.keys, node.values()).unwrap();
            (NODE.seal)(&mut copy, number);
            assert!(copy == *block, "{name}: block {number}");
            nodes += 1;
        }
    }
    assert_eq!(nodes, 21);
}

#[test]
fn capacities_are_multiples_of_three() {
    for (value_size, entries) in [(4, 336), (8, 252), (12, 201), (16, 168), (24, 126)] {
        assert_eq!(max_entries(value_size), entries);
    }
    assert_eq!(max_entries(4064), 0);
    assert_eq!(max_entries(usize::MAX), 0);
}

#[derive(Clone, Debug)]
enum Action {
    Insert(u64, u32),
    SetValue(prop::sample::Index, u32),
    Remove(prop::sample::Index),
}

proptest! {
    #[test]
    fn behaves_like_a_list(actions in prop::collection::vec(prop_oneof![
        5 => (0..1000_u64, any::<u32>()).prop_map(|(key, value)| Action::Insert(key, value)),
        1 => any::<(prop::sample::Index, u32)>().prop_map(|(at, v)| Action::SetValue(at, v)),
        2 => any::<prop::sample::Index>().prop_map(Action::Remove),
    ], 0..600)) {
        let mut block = [0xa5; BLOCK_SIZE];
        NodeMut::init(&mut block, false, 4).unwrap();
        let mut model: Vec<(u64, u32)> = vec![];
        for action in actions {
            let position = |key| model.partition_point(|entry| entry.0 < key);
            match action {
                Action::Insert(key, value) => {
                    let at = position(key);
                    prop_assert_eq!(
                        Node::parse(&block).unwrap().find(key),
                        model.get(at).is_some_and(|entry| entry.0 == key).then_some(at)
                    );
                    if model.get(at).is_some_and(|entry| entry.0 == key) {
                        continue;
                    }
                    let result = NodeMut::parse(&mut block).unwrap().insert(at, key, &value);
                    prop_assert_eq!(result.is_ok(), model.len() < 336);
                    if result.is_ok() {
                        model.insert(at, (key, value));
                    }
                }
                Action::SetValue(at, value) if !model.is_empty() => {
                    let at = at.index(model.len());
                    NodeMut::parse(&mut block).unwrap().set_value(at, &value).unwrap();
                    model[at].1 = value;
                }
                Action::Remove(at) if !model.is_empty() => {
                    let at = at.index(model.len());
                    NodeMut::parse(&mut block).unwrap().remove(at).unwrap();
                    model.remove(at);
                }
                _ => {}
            }
        }
        (NODE.seal)(&mut block, 9);
        prop_assert_eq!(verify(&block, 9), Ok(()));
        let node = Node::parse(&block).unwrap();
        let entries: Vec<_> = (0..node.len())
            .map(|at| (node.key(at).unwrap(), node.value::<u32>(at).unwrap()))
            .collect();
        prop_assert_eq!(entries, model.clone());
        prop_assert_eq!(node.key(model.len()), None);
        prop_assert_eq!(node.value::<u32>(model.len()), None);
        prop_assert_eq!(node.value::<u64>(0), None);
        // Nothing is left behind the entries.
        let used = 32 + 8 * model.len();
        prop_assert!(block[used..32 + 8 * 336].iter().all(|&byte| byte == 0));
        prop_assert!(block[32 + 8 * 336 + 4 * model.len()..].iter().all(|&byte| byte == 0));
    }
}
