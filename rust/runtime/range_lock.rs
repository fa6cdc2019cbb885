// SPDX-License-Identifier: GPL-2.0

//! Exclusive claims on ranges of numbers, first come, first served.
//!
//! A claim waits for every earlier claim that overlaps it, whether that one is held or waits
//! itself, so nobody starves. A task holds at most one claim of a lock: there is no order to get
//! wrong. The end of a held claim may be given up early, piece by piece, from the front.

use crate::monitor::Entries;
use crate::monitor::Entry;
use crate::monitor::Monitor;
use crate::monitor::Rules;
use core::ops::Range;
use core::pin::Pin;

/// The rules of a [`RangeLock`]; only the type of a [`Claim`] needs the name.
pub struct Ranges;

impl Rules for Ranges {
    type Key = Range<u64>;

    fn left(&mut self, range: &Range<u64>, rest: &mut Entries<'_, Range<u64>>) {
        rest.wake_where(|other| overlap(other, range));
    }
}

/// Returns true if the ranges have a number in common; an empty range has none with any other.
fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

/// A lock on ranges of numbers.
pub struct RangeLock {
    monitor: Monitor<Ranges>,
}

/// A claim on a range; dropping it gives the range up.
pub type Claim<'l> = Entry<'l, Ranges>;

impl RangeLock {
    /// Creates a lock on which nothing is claimed.
    pub fn new() -> Self {
        Self {
            monitor: Monitor::new(Ranges),
        }
    }

    /// Returns true if nobody holds a claim, or waits for one.
    pub fn is_idle(&self) -> bool {
        self.monitor
            .with(|_, claims| claims.iter().next().is_none())
    }

    /// Returns a claim that is not yet made: pin it, then [`acquire`] or
    /// [`try_acquire`] it.
    pub fn claim(&self, range: Range<u64>) -> Claim<'_> {
        self.monitor.entry(range)
    }
}

impl Default for RangeLock {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until the claim's range is free of earlier claims, then holds it.
pub async fn acquire(claim: Pin<&Claim<'_>>) {
    claim
        .wait(|turn| {
            let range: &Range<u64> = turn.key;
            (!turn.others.before().any(|earlier| overlap(earlier, range))).then_some(())
        })
        .await;
}

/// Holds the claim's range if nobody holds or waits for a part of it; else returns false, and the
/// claim is to be dropped.
pub fn try_acquire(claim: Pin<&Claim<'_>>) -> bool {
    claim.with(|turn| {
        let range: &Range<u64> = turn.key;
        let free = !turn.others.before().any(|earlier| overlap(earlier, range));
        if !free {
            // Until it is dropped it must stand in nobody's way.
            *turn.key = 0..0;
        }
        free
    })
}

#[cfg(test)]
mod tests;
