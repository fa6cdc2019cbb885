// SPDX-License-Identifier: GPL-2.0

//! One thread; what several do at once is for loom.

use super::AfterPoll;
use super::TaskState;

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
