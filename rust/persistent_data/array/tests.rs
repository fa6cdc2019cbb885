// SPDX-License-Identifier: GPL-2.0

//! Arrays against `Vec`.

use super::*;
use crate::fixture::*;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

fn all(tm: &mut Tm, array: &Array<u32>) -> Vec<u32> {
    let mut values = vec![None; array.len() as usize];
    now(array.load(tm, |at, value| {
        assert_eq!(values[at as usize].replace(value), None)
    }))
    .unwrap();
    values.into_iter().map(Option::unwrap).collect()
}

#[test]
fn an_index_behind_the_end_is_no_data() {
    let (_, mut tm) = format(64, LARGE);
    let mut array = now(Array::create(&mut tm, 2000, 7_u32)).unwrap();
    assert_eq!(now(array.get(&mut tm, 1999)), Ok(7));
    assert_eq!(now(array.get(&mut tm, 2000)), Err(Error::NoData));
    assert_eq!(now(array.set(&mut tm, 2000, 1)), Err(Error::NoData));
    assert_eq!(now(array.stage(&mut tm, 2, |_| 1)), Err(Error::NoData));
    // None of these has changed anything, so the commit is not refused.
    commit(&mut tm, User::of(array.root(), 0)).unwrap();
}

#[test]
fn a_short_array_is_no_data() {
    let (_, mut tm) = format(64, LARGE);
    let array = now(Array::create(&mut tm, 2000, 7_u32)).unwrap();
    for longer in [2001, 1018 * 2, 1018 * 2 + 1, 1 << 40] {
        let longer = Array::<u32>::open(array.root(), longer);
        assert_eq!(now(longer.load(&mut tm, |_, _| ())), Err(Error::NoData));
    }
    let shorter = Array::<u32>::open(array.root(), 1018);
    let mut loaded = 0;
    now(shorter.load(&mut tm, |_, _| loaded += 1)).unwrap();
    assert_eq!(loaded, 1018);
}

#[test]
fn another_value_size_is_refused() {
    let (_, mut tm) = format(64, LARGE);
    let array = now(Array::create(&mut tm, 10, 7_u32)).unwrap();
    let other = Array::<u64>::open(array.root(), 10);
    assert_eq!(
        now(other.get(&mut tm, 0)).unwrap_err().errno().to_errno(),
        -84
    );
}

#[derive(Clone, Debug)]
enum Action {
    Set(u64, u32),
    Stage(u64, u32),
    Resize(u64, u32),
    Commit,
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let len = prop_oneof![0..5000_u64, (0..5_u64).prop_map(|blocks| blocks * 1018)];
    let action = prop_oneof![
        6 => any::<(u64, u32)>().prop_map(|(at, value)| Action::Set(at, value)),
        2 => any::<(u64, u32)>().prop_map(|(at, value)| Action::Stage(at, value)),
        2 => (len, any::<u32>()).prop_map(|(len, value)| Action::Resize(len, value)),
        1 => Just(Action::Commit),
        1 => Just(Action::Reopen),
    ];
    prop::collection::vec(action, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_vector(actions in actions()) {
        let (disk, mut tm) = format(200, SMALL);
        let mut array = now(Array::create(&mut tm, 0, 0_u32)).unwrap();
        let mut model = Vec::<u32>::new();
        for action in actions {
            match action {
                Action::Set(at, value) if !model.is_empty() => {
                    let at = at % model.len() as u64;
                    now(array.set(&mut tm, at, value)).unwrap();
                    model[at as usize] = value;
                }
                Action::Stage(index, value) if array.blocks() > 0 => {
                    let index = index % array.blocks();
                    let value = |at: u64| value.wrapping_add(at as u32);
                    now(array.stage(&mut tm, index, value)).unwrap();
                    let block = (0..).zip(&mut model).skip(index as usize * 1018).take(1018);
                    block.for_each(|(at, slot)| *slot = value(at));
                }
                Action::Resize(len, value) => {
                    now(array.resize(&mut tm, len, value)).unwrap();
                    model.resize(len as usize, value);
                }
                Action::Commit => commit(&mut tm, User::of(array.root(), 0)).unwrap(),
                Action::Reopen => {
                    commit(&mut tm, User::of(array.root(), 0)).unwrap();
                    let user;
                    (tm, user) = open(&disk, SMALL).unwrap();
                    array = Array::open(user.root, model.len() as u64);
                }
                _ => {}
            }
            for at in [0, model.len() / 2, model.len().saturating_sub(1)] {
                let found = now(array.get(&mut tm, at as u64)).ok();
                prop_assert_eq!(found, model.get(at).copied());
            }
        }
        prop_assert_eq!(&all(&mut tm, &array), &model);
        commit(&mut tm, User::of(array.root(), 0)).unwrap();
        prop_assert_eq!(judge_array(&disk.image(), 4).len(), model.len());
    }
}
