// SPDX-License-Identifier: GPL-2.0

//! What is counted of duplicates.

use runtime::sync::AtomicU64;

/// What is counted of duplicates.
#[derive(Default)]
pub(crate) struct Found {
    /// Advice that was right.
    pub(crate) valid: Count,
    /// Advice that was not.
    pub(crate) stale: Count,
    /// Blocks that were written at once with one of the same data.
    pub(crate) matches: Count,
    /// Blocks that were written at once with one of the same name, and other data.
    pub(crate) collisions: Count,
    /// Advice that made no sense.
    pub(crate) invalid: Count,
}

/// Counts from 0 on.
pub(crate) struct Count(AtomicU64);

impl Default for Count {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Count {
    pub(crate) fn add(&self, more: usize) {
        if more > 0 {
            self.0.fetch_add(more as u64);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load_relaxed()
    }
}
