// SPDX-License-Identifier: GPL-2.0

//! The end of a task: whoever holds its last reference finishes it, once, and nobody touches its
//! memory after that.
//!
//! This is the protocol of `rust/platform/task.rs` and `bio_task.rs`, with loom's threads in the
//! place of interrupts and of the work queue.

#![cfg(loom)]

use interleavings::explore;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::Notify;
use loom::thread;
use runtime::sync::AtomicU32;
use runtime::task::AfterPoll;
use runtime::task::TaskState;

/// A task that ends when both its events have come.
struct Task {
    state: TaskState,
    references: AtomicU32,
    events: [AtomicU32; 2],
    /// Stands for the task's memory: whoever touches the task looks at it, who finishes the task
    /// changes it. Loom fails the test if the two are not ordered.
    memory: UnsafeCell<bool>,
    finished: Notify,
}

impl Task {
    fn new() -> Self {
        Self {
            state: TaskState::new_queued(),
            references: AtomicU32::new(1),
            events: [AtomicU32::new(0), AtomicU32::new(0)],
            memory: UnsafeCell::new(false),
            finished: Notify::new(),
        }
    }

    fn touch(&self) {
        // SAFETY: That nobody changes it at the same time is what is being tested.
        assert!(
            !self.memory.with(|finished| unsafe { *finished }),
            "used after its end"
        );
    }

    fn finish(&self) {
        // SAFETY: As above.
        let twice = self
            .memory
            .with_mut(|finished| unsafe { std::mem::replace(&mut *finished, true) });
        assert!(!twice, "finished twice");
        self.finished.notify();
    }

    /// The work item: polls or finishes the task.
    fn run(&self) {
        self.touch();
        if self.references.load_acquire() == 0 || self.step() {
            self.finish();
        }
    }

    /// Polls the task; returns true if the caller has to finish it.
    fn step(&self) -> bool {
        self.touch();
        self.state.start_poll();
        if self.events.iter().all(|event| event.load_relaxed() == 1) {
            self.touch();
            self.state.finish();
            return self.references.fetch_sub(1) == 1;
        }
        if self.state.end_poll() == AfterPoll::Requeue {
            self.run();
        }
        false
    }

    fn clone_waker(&self) {
        self.references.fetch_add(1);
    }

    /// A completion: leaves what it has done to be seen, and gives its waker up.
    fn complete(&self, event: usize) {
        self.touch();
        self.events[event].store_relaxed(1);
        if self.state.wake() {
            self.touch();
            self.run();
        }
        self.release();
    }

    fn release(&self) {
        self.touch();
        if self.references.fetch_sub(1) == 1 {
            self.run();
        }
    }
}

#[test]
fn the_last_reference_finishes_a_task_once() {
    explore(2, || {
        let task = Arc::new(Task::new());
        let completions = [0, 1].map(|event| {
            task.clone_waker();
            let task = task.clone();
            thread::spawn(move || task.complete(event))
        });
        // The first poll, in the submitter's own context.
        if task.step() {
            task.finish();
        }
        task.finished.wait();
        completions
            .into_iter()
            .for_each(|completion| completion.join().unwrap());
    });
}
