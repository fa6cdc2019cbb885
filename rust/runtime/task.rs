// SPDX-License-Identifier: GPL-2.0

//! The life of a task, as one atomic word.
//!
//! An executor queues a task, polls it, and learns from wakers that it should be polled again.
//! Wakes come from any CPU, also while the task is being polled. [`TaskState`] makes sure that a
//! task is queued at most once, never polled twice at once, and never misses a wake. [`Turn`] says
//! when a task that has not waited for anything is to let others run.

use crate::sync::AtomicU32;
use core::future::poll_fn;
use core::future::Future;
use core::task::Poll;

/// Nobody has anything to do.
const IDLE: u32 = 0;
/// The task is on a queue, or its first poll is due.
const QUEUED: u32 = 1;
/// The task is being polled.
const POLLING: u32 = 2;
/// The task is being polled and was woken meanwhile.
const WOKEN: u32 = 3;
/// The future has returned; wakes do nothing.
const DONE: u32 = 4;

/// Where a task stands.
pub struct TaskState(AtomicU32);

/// What the executor does after a poll that returned `Pending`.
#[derive(Debug, PartialEq, Eq)]
pub enum AfterPoll {
    /// Nothing: a waker will queue the task.
    Wait,
    /// Queue the task: it was woken while it was polled.
    Requeue,
}

impl TaskState {
    /// Returns the state of a task whose first poll is due.
    pub fn new_queued() -> Self {
        Self(AtomicU32::new(QUEUED))
    }

    /// A waker was called. Returns true if the caller has to queue the task.
    pub fn wake(&self) -> bool {
        let mut seen = self.0.load_relaxed();
        loop {
            let (next, queue) = match seen {
                IDLE => (QUEUED, true),
                POLLING => (WOKEN, false),
                // Also a wake that changes nothing must order what the waker wrote before the
                // poll that is to see it, so it is a write all the same.
                other => (other, false),
            };
            match self.0.compare_exchange(seen, next) {
                Ok(_) => return queue,
                Err(found) => seen = found,
            }
        }
    }

    /// The executor is about to poll the task, which it had queued.
    pub fn start_poll(&self) {
        self.0.swap(POLLING);
    }

    /// The poll returned `Pending`.
    pub fn end_poll(&self) -> AfterPoll {
        if self.0.compare_exchange(POLLING, IDLE).is_ok() {
            AfterPoll::Wait
        } else {
            self.0.swap(QUEUED);
            AfterPoll::Requeue
        }
    }

    /// The poll returned `Ready`.
    pub fn finish(&self) {
        self.0.swap(DONE);
    }
}

/// I/O of a task, in sectors, after which others are let run; an I/O more if it is large.
const TURN_SECTORS: u32 = (2 << 20) / 512;

/// What an I/O costs beside its sectors.
const IO_SECTORS: u32 = 8;

/// How much I/O a task has done in a poll.
///
/// I/O that has to be waited for ends the poll. But memory, and what is on it, completes I/O at once:
/// a task that goes from one I/O to the next, as a commit or a load does, would never return to its
/// executor, and whoever is to run on the same CPU would wait.
pub struct Turn(AtomicU32);

impl Turn {
    /// Returns the turn of a task that was not polled yet.
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// A poll begins.
    pub fn begin(&self) {
        self.0.store_relaxed(0);
    }

    /// Returns true if the task may begin an I/O of `sectors`. If not, it is to let others run first.
    pub fn spend(&self, sectors: u32) -> bool {
        // Only the task itself comes here.
        let spent = self.0.load_relaxed();
        if spent >= TURN_SECTORS {
            return false;
        }
        let more = sectors.saturating_add(IO_SECTORS);
        self.0.store_relaxed(spent.saturating_add(more));
        true
    }
}

impl Default for Turn {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a future that lets others run once before it goes on.
pub fn yield_now() -> impl Future<Output = ()> + Send {
    let mut yielded = false;
    poll_fn(move |context| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

#[cfg(test)]
mod tests;
