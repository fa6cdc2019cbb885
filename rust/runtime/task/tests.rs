// SPDX-License-Identifier: GPL-2.0

//! One thread; what several do at once is for loom.

use super::AfterPoll;
use super::TaskState;
use super::Turn;
use super::TURN_SECTORS;

#[test]
fn a_new_task_is_queued_already() {
    let task = TaskState::new_queued();
    assert!(!task.wake());
    task.start_poll();
    assert_eq!(task.end_poll(), AfterPoll::Wait);
}

#[test]
fn only_the_first_wake_of_an_idle_task_queues_it() {
    let task = TaskState::new_queued();
    task.start_poll();
    assert_eq!(task.end_poll(), AfterPoll::Wait);
    assert!(task.wake());
    assert!(!task.wake());
    task.start_poll();
    assert_eq!(task.end_poll(), AfterPoll::Wait);
}

#[test]
fn wakes_while_polling_requeue_once() {
    let task = TaskState::new_queued();
    task.start_poll();
    assert!(!task.wake());
    assert!(!task.wake());
    assert_eq!(task.end_poll(), AfterPoll::Requeue);
    assert!(!task.wake());
    task.start_poll();
    assert_eq!(task.end_poll(), AfterPoll::Wait);
}

#[test]
fn a_finished_task_is_never_queued() {
    let task = TaskState::new_queued();
    task.start_poll();
    assert!(!task.wake());
    task.finish();
    assert!(!task.wake());
}

/// Returns the I/Os of `sectors` that a turn has room for.
fn ios(turn: &Turn, sectors: u32) -> u32 {
    (0..).take_while(|_| turn.spend(sectors)).count() as u32
}

#[test]
fn a_turn_ends_after_much_io_and_begins_anew_with_the_next_poll() {
    let turn = Turn::new();
    for _ in 0..3 {
        turn.begin();
        assert_eq!(ios(&turn, 1024), 4);
        assert!(!turn.spend(1));
    }
}

#[test]
fn small_ios_and_flushes_end_a_turn_too() {
    let turn = Turn::new();
    assert_eq!(ios(&turn, 8), TURN_SECTORS / 16);
    turn.begin();
    assert_eq!(ios(&turn, 0), TURN_SECTORS / 8);
}

#[test]
fn an_io_of_any_size_has_its_turn() {
    let turn = Turn::new();
    assert!(turn.spend(u32::MAX));
    assert!(!turn.spend(u32::MAX));
    turn.begin();
    assert!(turn.spend(u32::MAX));
}
