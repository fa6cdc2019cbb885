// SPDX-License-Identifier: GPL-2.0

//! What slab journals still need of the recovery journal.
//!
//! Each block of a slab journal that is under construction, or written but not yet in the summary,
//! holds the block of the recovery journal that its first entry comes from. Holds are taken in
//! the order of the recovery journal and released in any order. What is released was taken: there
//! is nothing but a [`Held`] to release.

use super::fits;
use super::ring::Ring;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::Sequence;
use crate::format::SlabNumber;

/// A hold that one block of a slab journal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    /// What is held: a sequence of the recovery journal.
    pub(super) sequence: Sequence,
    pub(super) slab: SlabNumber,
    /// The block of the slab journal.
    pub(super) block: Sequence,
}

/// A hold that was taken. Nothing but [`Holds::release`] ends it.
#[must_use = "what is never released stops the recovery journal for ever"]
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held(Hold);

/// All holds, oldest first.
pub(super) struct Holds {
    line: Ring<Place>,
    /// How many are not released.
    live: usize,
    /// Holds before this one were looked at by [`Self::ask`].
    asked: Sequence,
}

/// A place in the line. A hold that was released behind one that was not still has its place.
#[derive(Clone, Copy)]
struct Place {
    hold: Hold,
    is_live: bool,
}

impl Holds {
    /// Creates the line for at most `holds` holds at once.
    pub(super) fn new(holds: usize) -> Result<Self> {
        Ok(Self {
            // As much again for those that were released out of order.
            line: Ring::new(holds.saturating_mul(2).saturating_add(1))?,
            live: 0,
            asked: 0,
        })
    }

    /// Returns the oldest sequence that is held.
    pub(super) fn oldest(&self) -> Option<Sequence> {
        Some(self.line.first()?.hold.sequence)
    }

    /// Returns true if nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.live == 0 && self.line.is_empty()
    }

    /// Takes a hold; none may be older than those that were taken before.
    ///
    /// # Errors
    ///
    /// `LockError` if there are more than there can be.
    pub(super) fn take(&mut self, hold: Hold) -> Result<Held> {
        if self.live * 2 < self.line.len() {
            self.compact()?;
        }
        let place = Place {
            hold,
            is_live: true,
        };
        let pushed = self.line.push(place);
        pushed.map_err(|_| Error::Status(Status::LockError))?;
        self.live += 1;
        // The recovery journal may be asked for more than has been applied: this one is new.
        self.asked = self.asked.min(hold.sequence);
        Ok(Held(hold))
    }

    /// Squeezes out those that were released.
    fn compact(&mut self) -> Result {
        for _ in 0..self.line.len() {
            if let Some(place) = self.line.pop().filter(|place| place.is_live) {
                fits(self.line.push(place))?;
            }
        }
        Ok(())
    }

    /// Releases a hold.
    ///
    /// # Errors
    ///
    /// `LockError` if it is not there.
    pub(super) fn release(&mut self, Held(hold): Held) -> Result {
        let mut index = self.first_from(hold.sequence);
        loop {
            match self.line.get_mut(index) {
                Some(place) if place.hold == hold && place.is_live => {
                    place.is_live = false;
                    break;
                }
                Some(place) if place.hold.sequence == hold.sequence => index += 1,
                _ => return Err(Error::Status(Status::LockError)),
            }
        }
        self.live = self.live.saturating_sub(1);
        while self.line.first().is_some_and(|place| !place.is_live) {
            self.line.pop();
        }
        Ok(())
    }

    /// Returns the index of the first hold on `sequence` or a later one.
    fn first_from(&self, sequence: Sequence) -> usize {
        let (mut start, mut end) = (0, self.line.len());
        while start < end {
            let middle = start + (end - start) / 2;
            match self.line.get(middle) {
                Some(place) if place.hold.sequence < sequence => start = middle + 1,
                _ => end = middle,
            }
        }
        start
    }

    /// Calls `ask` for the slab of each hold on a sequence before `before`, as a rule once per hold.
    pub(super) fn ask(&mut self, before: Sequence, mut ask: impl FnMut(SlabNumber)) {
        let mut index = self.first_from(self.asked);
        while let Some(place) = self.line.get(index) {
            if place.hold.sequence >= before {
                break;
            }
            if place.is_live {
                ask(place.hold.slab);
            }
            index += 1;
        }
        self.asked = self.asked.max(before);
    }

    /// Takes over the holds of `other`, a line for fewer.
    pub(super) fn take_over(&mut self, other: &mut Self) {
        self.line.append(&mut other.line);
        self.live = core::mem::take(&mut other.live);
        self.asked = other.asked;
    }
}

#[cfg(test)]
mod tests;
