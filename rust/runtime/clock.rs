// SPDX-License-Identifier: GPL-2.0

//! Time, as far as a core may know it.

use core::future::Future;
use kernel::prelude::*;

/// Milliseconds since some moment in the past; never goes back.
pub type Millis = u64;

/// A source of time.
pub trait Clock: Send + Sync {
    /// A timer that belongs to one task.
    type Timer: Timer;

    /// Returns the time now.
    fn now_ms(&self) -> Millis;

    /// Returns a new timer. Allocates, so it is called when a table is loaded, not later.
    fn timer(&self) -> Result<Self::Timer>;
}

/// A timer that belongs to one task.
pub trait Timer: Send {
    /// Waits for at least `duration_ms` milliseconds.
    fn sleep(&mut self, duration_ms: Millis) -> impl Future<Output = ()> + Send;
}
