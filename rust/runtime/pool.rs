// SPDX-License-Identifier: GPL-2.0

//! A fixed set of things that tasks borrow, first come, first served.
//!
//! A pool of one is a mutex: who has taken the thing owns it until it gives it back.

use crate::monitor::Entries;
use crate::monitor::Monitor;
use crate::monitor::Rules;
use core::pin::pin;
use kernel::prelude::*;

struct Shelf<T> {
    things: KVec<T>,
}

impl<T> Rules for Shelf<T> {
    type Key = ();

    fn left(&mut self, (): &(), rest: &mut Entries<'_, ()>) {
        // Who was behind the one that left may be first now.
        if !self.things.is_empty() {
            rest.wake_first();
        }
    }
}

/// A fixed set of things that tasks borrow, first come, first served.
pub struct Pool<T> {
    monitor: Monitor<Shelf<T>>,
    size: usize,
}

impl<T> Pool<T> {
    /// Creates a pool of `things`; nothing is allocated later.
    pub fn new(things: KVec<T>) -> Self {
        Self {
            size: things.len(),
            monitor: Monitor::new(Shelf { things }),
        }
    }

    /// Returns true if nothing is lent.
    pub fn is_full(&self) -> bool {
        self.monitor
            .with(|shelf, _| shelf.things.len() == self.size)
    }

    /// Takes a thing, if there is one and nobody waits. Waits for nothing.
    pub fn try_take(&self) -> Option<T> {
        self.monitor
            .with(|shelf, waiting| match waiting.first_of(0) {
                Some(()) => None,
                None => shelf.things.pop(),
            })
    }

    /// Waits for a thing and takes it.
    pub async fn take(&self) -> T {
        let entry = pin!(self.monitor.entry(()));
        entry
            .as_ref()
            .wait(|turn| {
                if turn.others.before().next().is_some() {
                    return None;
                }
                turn.state.things.pop()
            })
            .await
    }

    /// Gives a thing back. A pool holds what it was created with: a thing that does not fit is
    /// one that never came from here, and is dropped.
    pub fn give(&self, thing: T) {
        let misfit = self.monitor.with(|shelf, waiting| {
            let misfit = shelf.things.push_within_capacity(thing).err();
            waiting.wake_first();
            misfit
        });
        drop(misfit);
    }
}

#[cfg(test)]
mod tests;
