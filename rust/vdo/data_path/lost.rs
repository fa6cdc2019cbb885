// SPDX-License-Identifier: GPL-2.0

//! Whether a write that was acknowledged is lost: no flush succeeds after that.

use runtime::sync::AtomicU32;

/// Whether one is.
pub(crate) struct Lost(AtomicU32);

impl Lost {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// One is.
    pub(crate) fn set(&self) {
        self.0.store_release(1);
    }

    pub(crate) fn get(&self) -> bool {
        self.0.load_acquire() != 0
    }
}
