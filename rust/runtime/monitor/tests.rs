// SPDX-License-Identifier: GPL-2.0

use super::Entries;
use super::Monitor;
use super::Rules;
use crate::tests::Hand;
use core::pin::pin;
use std::vec;
use std::vec::Vec;

/// A gate with a number, and the keys of who has left.
#[derive(Default)]
struct Gate {
    open: u32,
    left: Vec<u32>,
}

impl Rules for Gate {
    type Key = u32;

    fn left(&mut self, key: &u32, rest: &mut Entries<'_, u32>) {
        self.left.push(*key);
        rest.wake_where(|other| *other == *key);
    }
}

/// Waits until the gate is open for `key`, and returns who arrived before and who else is there.
async fn pass(gate: &Monitor<Gate>, key: u32) -> (Vec<u32>, Vec<u32>) {
    let entry = pin!(gate.entry(key));
    let ready = entry.as_ref().wait(|turn| {
        (turn.state.open >= *turn.key).then(|| {
            let before = turn.others.before().copied().collect();
            (before, turn.others.iter().copied().collect())
        })
    });
    ready.await
}

fn open(gate: &Monitor<Gate>, number: u32) {
    gate.with(|state, waiting| {
        state.open = number;
        waiting.wake_where(|key| *key <= number);
    });
}

#[test]
fn entries_are_seen_in_order_of_arrival_without_ones_own() {
    let gate = Monitor::new(Gate::default());
    let _first = Hand::waiting(pass(&gate, 5));
    let mut middle = Hand::waiting(pass(&gate, 1));
    let _last = Hand::waiting(pass(&gate, 7));
    open(&gate, 1);
    assert_eq!(middle.poll(), Some((vec![5], vec![5, 7])));
    let (all, before) = gate.with(|_, entries| {
        (
            entries.iter().copied().collect::<Vec<_>>(),
            entries.before().copied().collect::<Vec<_>>(),
        )
    });
    assert_eq!(all, [5, 7]);
    assert_eq!(before, [5, 7]);
}

#[test]
fn leaving_unlinks_at_the_head_in_the_middle_and_at_the_tail() {
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let gate = Monitor::new(Gate::default());
        let mut tasks = [1, 2, 3].map(|key| Some(Hand::waiting(pass(&gate, key))));
        let mut there = vec![1, 2, 3];
        for index in order {
            drop(tasks[index].take());
            there.retain(|key| *key != index as u32 + 1);
            let seen: Vec<u32> = gate.with(|_, entries| entries.iter().copied().collect());
            assert_eq!(seen, there);
        }
        let left = gate.with(|state, _| state.left.clone());
        assert_eq!(left, order.map(|index| index as u32 + 1));
    }
}

#[test]
fn an_entry_that_was_never_polled_leaves_no_trace() {
    let gate = Monitor::new(Gate::default());
    drop(gate.entry(1));
    assert!(gate.with(|state, _| state.left.is_empty()));
}

#[test]
fn only_the_chosen_are_woken_and_each_wake_is_one() {
    let gate = Monitor::new(Gate::default());
    let mut one = Hand::waiting(pass(&gate, 1));
    let two = Hand::waiting(pass(&gate, 2));
    open(&gate, 1);
    open(&gate, 1);
    assert_eq!((one.wakes(), two.wakes()), (1, 0));
    assert!(one.poll().is_some());
}

#[test]
fn who_is_woken_too_early_waits_again() {
    let gate = Monitor::new(Gate::default());
    let mut task = Hand::waiting(pass(&gate, 1));
    gate.with(|_, waiting| waiting.wake_all());
    assert_eq!(task.wakes(), 1);
    assert!(task.poll().is_none());
    open(&gate, 1);
    assert_eq!(task.wakes(), 1);
    assert!(task.poll().is_some());
}

#[test]
fn wake_first_wakes_the_first_only() {
    let gate = Monitor::new(Gate::default());
    let tasks = [1, 2, 3].map(|key| Hand::waiting(pass(&gate, key)));
    gate.with(|_, waiting| waiting.wake_first());
    assert_eq!(tasks.map(|task| task.wakes()), [1, 0, 0]);
}

#[test]
fn others_are_woken_from_a_turn_and_by_leaving() {
    let gate = Monitor::new(Gate::default());
    let twin = Hand::waiting(pass(&gate, 4));
    {
        let entry = pin!(gate.entry(4));
        entry.as_ref().with(|turn| {
            *turn.key += 1;
            turn.others.wake_where(|key| {
                *key += 1;
                true
            });
        });
        assert_eq!(twin.wakes(), 1);
    }
    // `left` wakes who has the same key, which both have changed; the twin was woken already and
    // has not been polled since.
    assert_eq!(twin.wakes(), 0);
    assert_eq!(gate.with(|state, _| state.left.clone()), [5]);
}

#[test]
fn an_entry_serves_several_waits_in_its_place() {
    let gate = Monitor::new(Gate::default());
    let mut both = Hand::waiting(async {
        let entry = pin!(gate.entry(1));
        entry
            .as_ref()
            .wait(|turn| (turn.state.open >= 1).then_some(()))
            .await;
        entry
            .as_ref()
            .wait(|turn| (turn.state.open >= 2).then_some(()))
            .await;
    });
    let _later = Hand::waiting(pass(&gate, 9));
    open(&gate, 1);
    assert!(both.poll().is_none());
    let seen: Vec<u32> = gate.with(|_, entries| entries.iter().copied().collect());
    assert_eq!(seen, [1, 9]);
    open(&gate, 2);
    assert_eq!(both.wakes(), 2);
    assert!(both.poll().is_some());
}

/// Returns the keys in list `list`.
fn keys_in(gate: &Monitor<Gate>, list: usize) -> Vec<u32> {
    let mut keys = Vec::new();
    gate.with(|_, entries| {
        entries.wake_where_in(list, |key| {
            keys.push(*key);
            false
        });
    });
    keys
}

/// Waits in `list` until the gate is open for `key`.
async fn pass_in(gate: &Monitor<Gate>, list: usize, key: u32) {
    let entry = pin!(gate.entry_in(list, key));
    entry
        .as_ref()
        .wait(|turn| (turn.state.open >= *turn.key).then_some(()))
        .await;
}

#[test]
fn each_list_has_its_own_entries_and_they_move() {
    let gate = Monitor::with_lists(Gate::default(), 3).expect("memory");
    let tasks = [(0, 1), (1, 2), (1, 3), (2, 4)];
    let mut tasks = tasks.map(|(list, key)| Some(Hand::waiting(pass_in(&gate, list, key))));
    assert_eq!(
        [0, 1, 2].map(|list| keys_in(&gate, list)),
        [vec![1], vec![2, 3], vec![4]]
    );
    assert_eq!(
        gate.with(|_, entries| entries.first_of(1).copied()),
        Some(2)
    );
    assert!(gate.with(|_, entries| entries.wake_first_of(1, 2)));
    assert_eq!(
        [1, 2].map(|list| keys_in(&gate, list)),
        [vec![3], vec![4, 2]]
    );
    gate.with(|_, entries| entries.move_first_of(2, 0));
    assert_eq!(
        [0, 2].map(|list| keys_in(&gate, list)),
        [vec![1, 4], vec![2]]
    );
    let wakes = |task: &Option<Hand<'_, ()>>| task.as_ref().map_or(0, Hand::wakes);
    assert_eq!(tasks.each_ref().map(wakes), [0, 1, 0, 0]);
    // They leave the list that they are in.
    drop(tasks[3].take());
    drop(tasks[1].take());
    assert_eq!(
        [0, 1, 2].map(|list| keys_in(&gate, list)),
        [vec![1], vec![3], vec![]]
    );
    gate.with(|_, entries| {
        assert!(!entries.wake_first_of(2, 1));
        assert_eq!(entries.first_of(2), None);
    });
}

#[test]
fn an_entry_moves_itself_and_does_not_find_itself() {
    let gate = Monitor::with_lists(Gate::default(), 2).expect("memory");
    let entry = pin!(gate.entry(1));
    let entry = entry.as_ref();
    entry.with(|turn| {
        assert_eq!(turn.others.first_of(0), None);
        turn.move_to(1);
        assert_eq!(turn.others.first_of(1), None);
        assert!(!turn.others.wake_first_of(1, 0));
    });
    assert_eq!([0, 1].map(|list| keys_in(&gate, list)), [vec![], vec![1]]);
    let _other = Hand::waiting(pass_in(&gate, 1, 2));
    entry.with(|turn| assert_eq!(turn.others.first_of(1), Some(&mut 2)));
}

/// Waits in a list until the gate is open for `key`.
async fn pass_by(gate: &Monitor<Gate>, list: usize, key: u32) {
    let entry = pin!(gate.entry(key));
    let ready = entry.as_ref().wait(|turn| {
        if turn.state.open < *turn.key {
            turn.move_to(list);
            return None;
        }
        turn.leave();
        Some(())
    });
    ready.await;
}

#[test]
fn the_first_of_a_list_is_woken_without_a_look_at_the_rest() {
    let gate = Monitor::with_lists(Gate::default(), 3).unwrap();
    let _crowd: Vec<_> = (0..1000)
        .map(|_| Hand::waiting(pass_by(&gate, 0, 9)))
        .collect();
    let mut waiting = [5, 6].map(|key| Hand::waiting(pass_by(&gate, 2, key)));
    crate::steps::take();
    gate.with(|state, entries| {
        state.open = 5;
        assert!(!entries.wake_first_if(1, |_| true), "nobody is there");
        assert!(entries.wake_first_if(2, |key| *key == 5));
    });
    assert!(crate::steps::take().all <= 2);
    assert_eq!(waiting[0].poll(), Some(()));
    // It has left its list before it was dropped.
    assert_eq!(gate.with(|state, _| state.left.clone()), []);
    gate.with(|_, entries| assert!(entries.wake_first_if(2, |key| *key == 6)));
    assert!(waiting[1].poll().is_none());
    drop(waiting);
    assert_eq!(gate.with(|state, _| state.left.clone()), [6]);
}
