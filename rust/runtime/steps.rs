// SPDX-License-Identifier: GPL-2.0

//! How long locks are held: counted in steps on the host, not at all in the kernel.
//!
//! Whatever walks from one entry to the next under a lock says so with [`step`]. A test asks with
//! [`take`] how many steps its thread has made, and how many at most while it held a lock once: what
//! must not grow with the number of those who wait.

#[cfg(MODULE)]
mod imp {
    /// One more entry was looked at.
    #[inline(always)]
    pub fn step() {}
}

#[cfg(not(MODULE))]
mod imp {
    use core::cell::Cell;

    /// Steps that a thread has made.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Steps {
        /// All of them.
        pub all: u64,
        /// The most while a lock was held once.
        pub longest: u64,
    }

    std::thread_local! {
        static STEPS: Cell<Steps> = const { Cell::new(Steps { all: 0, longest: 0 }) };
    }

    /// One more entry was looked at.
    pub fn step() {
        STEPS.with(|steps| {
            let now = steps.get();
            steps.set(Steps {
                all: now.all + 1,
                ..now
            });
        });
    }

    /// Returns what this thread has counted since the last call.
    pub fn take() -> Steps {
        STEPS.with(Cell::take)
    }

    /// Runs `f`, which holds a lock.
    pub(crate) fn hold<R>(f: impl FnOnce() -> R) -> R {
        let before = STEPS.with(Cell::get).all;
        let result = f();
        STEPS.with(|steps| {
            let now = steps.get();
            let held = now.all.saturating_sub(before);
            steps.set(Steps {
                longest: now.longest.max(held),
                ..now
            });
        });
        result
    }
}

pub use imp::*;
