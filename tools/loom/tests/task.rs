// SPDX-License-Identifier: GPL-2.0

//! A task's state: no wake is lost, and no task is polled twice at once.

#![cfg(loom)]

use interleavings::explore;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use runtime::sync::AtomicU32;
use runtime::task::AfterPoll;
use runtime::task::TaskState;

/// A task that waits for as many events as there are threads beside its own.
struct Task<const EVENTS: usize> {
    state: TaskState,
    /// Written and read without any order of their own.
    events: [AtomicU32; EVENTS],
    /// The future: loom fails the test if two touch it at once.
    polls: UnsafeCell<u32>,
    finished: AtomicU32,
}

impl<const EVENTS: usize> Task<EVENTS> {
    fn new() -> Self {
        Self {
            state: TaskState::new_queued(),
            events: [(); EVENTS].map(|()| AtomicU32::new(0)),
            polls: UnsafeCell::new(0),
            finished: AtomicU32::new(0),
        }
    }

    /// Runs the task from a queue, on whatever CPU that is.
    fn run(&self) {
        loop {
            self.state.start_poll();
            // SAFETY: That nobody else polls is what is being tested.
            self.polls.with_mut(|polls| unsafe { *polls += 1 });
            if self.events.iter().all(|event| event.load_relaxed() == 1) {
                self.state.finish();
                self.finished.fetch_add(1);
                return;
            }
            if self.state.end_poll() == AfterPoll::Wait {
                return;
            }
        }
    }

    fn complete(&self, event: usize) {
        self.events[event].store_relaxed(1);
        if self.state.wake() {
            self.run();
        }
    }
}

fn events_finish_a_task<const EVENTS: usize>() {
    explore(3, || {
        let task = Arc::new(Task::<EVENTS>::new());
        let threads = [(); EVENTS].map(|()| task.clone()).into_iter().enumerate();
        let threads: Vec<_> = threads
            .map(|(event, task)| thread::spawn(move || task.complete(event)))
            .collect();
        task.run();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(task.finished.load_acquire(), 1);
    });
}

#[test]
fn one_event() {
    events_finish_a_task::<1>();
}

#[test]
fn two_events() {
    events_finish_a_task::<2>();
}
