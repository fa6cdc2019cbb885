// SPDX-License-Identifier: GPL-2.0

//! A value that one side delivers once and the other waits for.

use crate::monitor::Entries;
use crate::monitor::Monitor;
use crate::monitor::Rules;
use core::pin::pin;

struct Slot<T>(Option<T>);

impl<T> Rules for Slot<T> {
    type Key = ();

    fn left(&mut self, (): &(), _: &mut Entries<'_, ()>) {}
}

/// A value that one side delivers and the other waits for.
pub struct Oneshot<T>(Monitor<Slot<T>>);

impl<T> Oneshot<T> {
    /// Creates an empty one.
    pub fn new() -> Self {
        Self(Monitor::new(Slot(None)))
    }

    /// Delivers `value`.
    pub fn send(&self, value: T) {
        self.0.with(|slot, waiting| {
            slot.0 = Some(value);
            waiting.wake_all();
        });
    }

    /// Waits for the value and takes it.
    pub async fn recv(&self) -> T {
        let entry = pin!(self.0.entry(()));
        entry.as_ref().wait(|turn| turn.state.0.take()).await
    }
}

impl<T> Default for Oneshot<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
