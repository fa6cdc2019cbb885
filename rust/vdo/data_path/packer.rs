// SPDX-License-Identifier: GPL-2.0

//! Fragments that wait for those of later batches, to share a block with them.
//!
//! What a batch could not fill a compressed block with is *parked*: the fragment is copied into a bin that all
//! batches share, so that the batch can end. Its block was acknowledged, stays claimed, and has its entries
//! still to come: who reads it gets it from here, who wants to change it waits, and a flush waits.
//!
//! A bin is *due*, and written by a task of its own, when it is full, when somebody waits for one of its
//! blocks or for all (a flush, a suspend, a lack of room), when nothing is to be compressed any more,
//! and [`DELAY_MS`] after its first fragment. So nobody waits longer than a write takes. Each fragment has
//! the place on the storage that its block was promised: nothing can run short afterwards.
//!
//! There are so many bins and no more. Who finds none that has room stores without.

use crate::data_path::locks::Token;
use crate::dedupe::name::Name;
use crate::error::Result;
use crate::format::compressed;
use crate::format::compressed::Builder;
use crate::format::mapping::MAX_FRAGMENTS;
use crate::format::Lbn;
use crate::format::Page;
use crate::format::Pbn;
use crate::format::BLOCK_SIZE;
use core::ops::Range;
use core::pin::pin;
use kernel::prelude::*;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;

/// Bins that are filled at once.
const OPEN: usize = 16;

/// Bins that one task writes at once.
pub(crate) const TOGETHER: usize = 2;

/// Blocks in them.
pub(crate) const TOGETHER_BLOCKS: usize = TOGETHER * MAX_FRAGMENTS as usize;

/// So long a fragment waits for others, in milliseconds.
const DELAY_MS: u64 = 5;

/// A bin with less room is due: hardly a fragment is so small.
const LEAST_ROOM: usize = 24;

/// The list of those who wait for bins to be written.
const FLUSHES: usize = 1;

/// The list of the timer.
const TIMER: usize = 2;

/// The bins that all batches share.
pub(crate) struct Packer {
    monitor: Monitor<Bins>,
}

/// A block whose fragment is parked.
pub(crate) struct Parked {
    pub(crate) lbn: Lbn,
    /// The claim on it.
    pub(crate) claim: Token,
    /// The place that it was promised.
    pub(crate) place: Pbn,
    /// What the index is told, if there is one.
    pub(crate) name: Option<Name>,
}

/// A compressed block that is being filled.
pub(crate) struct Bin {
    page: KVec<u8>,
    block: Builder,
    /// By slot.
    pub(crate) parked: KVec<Parked>,
    /// When it got its first fragment.
    since_ms: u64,
    /// Rises along the bins that are due.
    number: u64,
}

struct Bins {
    unused: KVec<KBox<Bin>>,
    open: KVec<KBox<Bin>>,
    /// By ascending number.
    due: KVec<KBox<Bin>>,
    /// The numbers of those that are being written.
    writing: KVec<u64>,
    /// The number of the next one that is due.
    next: u64,
    stopping: bool,
}

impl Rules for Bins {
    /// Who waits for bins to be written: the number of the first that he does not wait for.
    type Key = Option<u64>;

    fn left(&mut self, _: &Option<u64>, rest: &mut Entries<'_, Option<u64>>) {
        self.wake_writers(rest);
    }
}

impl Bin {
    fn new() -> Result<KBox<Self>> {
        let bin = Self {
            page: KVec::from_elem(0, BLOCK_SIZE, GFP_KERNEL)?,
            block: Builder::EMPTY,
            parked: KVec::with_capacity(MAX_FRAGMENTS.into(), GFP_KERNEL)?,
            since_ms: 0,
            number: 0,
        };
        Ok(KBox::new(bin, GFP_KERNEL)?)
    }

    /// Returns the compressed block, which is there.
    pub(crate) fn page(&self) -> Option<&Page> {
        self.page.get(..)?.try_into().ok()
    }

    /// Returns how many fragments it has.
    pub(crate) fn fragments(&self) -> u8 {
        self.block.fragments()
    }

    /// Adds a fragment; `None` if there is no room.
    fn add(&mut self, fragment: &[u8]) -> Option<u8> {
        let page = self.page.get_mut(..)?.try_into().ok()?;
        self.block.add(page, fragment)
    }

    /// Empties it.
    fn begin(&mut self, now_ms: u64) -> Option<()> {
        let page = self.page.get_mut(..)?.try_into().ok()?;
        self.block = Builder::new(page);
        self.since_ms = now_ms;
        Some(())
    }

    /// Returns the slot of a block.
    fn slot_of(&self, lbn: Lbn) -> Option<u8> {
        let slot = self.parked.iter().position(|own| own.lbn == lbn)?;
        u8::try_from(slot).ok()
    }

    fn has_any_of(&self, lbns: &Range<Lbn>) -> bool {
        self.parked.iter().any(|own| lbns.contains(&own.lbn))
    }
}

impl Bins {
    /// Returns which of the open bins a fragment leaves the least room in.
    fn best(&self, size: usize) -> Option<usize> {
        let open = self.open.iter().enumerate();
        let fitting = open.filter(|(_, bin)| bin.block.room() >= size.max(1));
        let best = fitting.min_by_key(|(_, bin)| bin.block.room())?;
        Some(best.0)
    }

    /// Opens another bin; if there are too many, the fullest is due.
    fn open(&mut self, now_ms: u64) -> Option<usize> {
        let mut bin = self.unused.pop()?;
        bin.begin(now_ms)?;
        if self.open.len() == OPEN {
            let bins = self.open.iter().enumerate();
            let fullest = bins.min_by_key(|(_, bin)| bin.block.room());
            let fullest = fullest.map_or(0, |(at, _)| at);
            self.make_due(fullest);
        }
        // There is room for all bins.
        self.open.push_within_capacity(bin).ok()?;
        self.open.len().checked_sub(1)
    }

    /// Open bin `at` is to be written.
    fn make_due(&mut self, at: usize) {
        let last = self.open.len().saturating_sub(1);
        self.open.swap(at, last);
        if let Some(mut bin) = self.open.pop() {
            bin.number = self.next;
            self.next = self.next.wrapping_add(1);
            // There is room for all bins.
            let _ = self.due.push_within_capacity(bin);
        }
    }

    /// Open bins of which that is true are to be written.
    fn make_due_where(&mut self, is_due: impl Fn(&Bin) -> bool) {
        for at in (0..self.open.len()).rev() {
            if self.open.get(at).is_some_and(|bin| is_due(bin)) {
                self.make_due(at);
            }
        }
    }

    fn wake_writers(&self, waiting: &mut Entries<'_, Option<u64>>) {
        if !self.due.is_empty() || self.stopping {
            waiting.wake_first();
        }
    }

    /// Returns whether every bin with a smaller number is written.
    fn is_written(&self, number: u64) -> bool {
        let is_due = self.due.iter().any(|bin| bin.number < number);
        !is_due && self.writing.iter().all(|own| *own >= number)
    }

    /// Returns the bins with what is parked.
    fn parked(&self) -> impl Iterator<Item = &KBox<Bin>> {
        [&self.open, &self.due].into_iter().flatten()
    }

    fn fragments(&self) -> usize {
        self.parked().map(|bin| bin.parked.len()).sum()
    }
}

impl Packer {
    /// With bins for `tasks` tasks that write them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(tasks: usize) -> Result<Self> {
        let bins = OPEN.saturating_add(2 * TOGETHER * tasks);
        let mut unused = KVec::with_capacity(bins, GFP_KERNEL)?;
        for _ in 0..bins {
            unused.push(Bin::new()?, GFP_KERNEL)?;
        }
        let state = Bins {
            unused,
            open: KVec::with_capacity(bins, GFP_KERNEL)?,
            due: KVec::with_capacity(bins, GFP_KERNEL)?,
            writing: KVec::with_capacity(bins, GFP_KERNEL)?,
            next: 0,
            stopping: false,
        };
        Ok(Self {
            monitor: Monitor::with_lists(state, TIMER + 1)?,
        })
    }

    /// Parks a fragment. Gives back what was to be parked if there is no room.
    pub(crate) fn park(&self, fragment: &[u8], parked: Parked, now_ms: u64) -> Result<(), Parked> {
        self.monitor.with(|bins, waiting| {
            let best = bins.best(fragment.len()).or_else(|| {
                waiting.wake_where_in(TIMER, |_| true);
                bins.open(now_ms)
            });
            let Some(bin) = best.and_then(|at| bins.open.get_mut(at)) else {
                return Err(parked);
            };
            if bin.add(fragment).is_none() {
                return Err(parked);
            }
            // There is room for as many as a block can have.
            let _ = bin.parked.push_within_capacity(parked);
            if bin.block.room() < LEAST_ROOM {
                if let Some(at) = best {
                    bins.make_due(at);
                }
            }
            bins.wake_writers(waiting);
            Ok(())
        })
    }

    /// Copies the fragment of a block, if it is parked; returns its size.
    pub(crate) fn fragment(&self, lbn: Lbn, into: &mut [u8]) -> Option<usize> {
        self.monitor.with(|bins, _| {
            let mut all = bins.parked();
            let (bin, slot) = all.find_map(|bin| Some((bin, bin.slot_of(lbn)?)))?;
            let fragment = compressed::fragment(bin.page()?, slot).ok()?;
            into.get_mut(..fragment.len())?.copy_from_slice(fragment);
            Some(fragment.len())
        })
    }

    /// Somebody waits for these blocks: those of them that are parked are written now.
    pub(crate) fn hurry(&self, lbns: &Range<Lbn>) {
        self.monitor.with(|bins, waiting| {
            bins.make_due_where(|bin| bin.has_any_of(lbns));
            bins.wake_writers(waiting);
        });
    }

    /// Has everything written that is parked.
    pub(crate) fn hurry_all(&self) {
        self.monitor.with(|bins, waiting| {
            bins.make_due_where(|_| true);
            bins.wake_writers(waiting);
        });
    }

    /// As [`hurry_all`](Self::hurry_all), and waits until that is recorded, or has failed.
    pub(crate) async fn write_all(&self) {
        let entry = pin!(self.monitor.entry_in(FLUSHES, None));
        entry
            .as_ref()
            .wait(|turn| {
                if turn.key.is_none() {
                    turn.state.make_due_where(|_| true);
                    *turn.key = Some(turn.state.next);
                    turn.state.wake_writers(&mut turn.others);
                }
                let number = turn.key.unwrap_or(0);
                turn.state.is_written(number).then_some(())
            })
            .await;
    }

    /// Waits for bins that are due; returns none when the volume goes.
    pub(crate) async fn next(&self) -> Option<[Option<KBox<Bin>>; TOGETHER]> {
        let entry = pin!(self.monitor.entry(None));
        entry
            .as_ref()
            .wait(|turn| {
                let bins = &mut *turn.state;
                if bins.due.is_empty() {
                    return bins.stopping.then_some(None);
                }
                let taken = core::array::from_fn(|_| {
                    // The oldest, so that nobody waits for ever.
                    if !bins.due.is_empty() {
                        bins.due.rotate_left(1);
                    }
                    let bin = bins.due.pop()?;
                    // There is room for all bins.
                    let _ = bins.writing.push_within_capacity(bin.number);
                    Some(bin)
                });
                Some(Some(taken))
            })
            .await
    }

    /// Gives back bins that were written.
    pub(crate) fn written(&self, bins: [Option<KBox<Bin>>; TOGETHER]) {
        self.monitor.with(|own, waiting| {
            for mut bin in bins.into_iter().flatten() {
                bin.parked.clear();
                let mut writing = own.writing.iter();
                if let Some(at) = writing.position(|number| *number == bin.number) {
                    let last = own.writing.len().saturating_sub(1);
                    own.writing.swap(at, last);
                    own.writing.pop();
                }
                // There is room for all bins.
                let _ = own.unused.push_within_capacity(bin);
            }
            waiting.wake_where_in(FLUSHES, |number| {
                number.is_none_or(|number| own.is_written(number))
            });
        });
    }

    /// Waits until something is parked; returns when the first bin is to be written at the latest, or
    /// none when the volume goes.
    pub(crate) async fn deadline_ms(&self) -> Option<u64> {
        let entry = pin!(self.monitor.entry_in(TIMER, None));
        entry
            .as_ref()
            .wait(|turn| {
                if turn.state.stopping {
                    return Some(None);
                }
                let first = turn.state.open.iter().map(|bin| bin.since_ms).min()?;
                Some(Some(first.saturating_add(DELAY_MS)))
            })
            .await
    }

    /// Has bins written whose time has come.
    pub(crate) fn tick(&self, now_ms: u64) {
        self.monitor.with(|bins, waiting| {
            bins.make_due_where(|bin| bin.since_ms.saturating_add(DELAY_MS) <= now_ms);
            bins.wake_writers(waiting);
        });
    }

    /// Returns how many fragments are parked.
    pub(crate) fn fragments(&self) -> usize {
        self.monitor.with(|bins, _| bins.fragments())
    }

    /// Returns true if nothing is parked, or being written.
    pub(crate) fn is_empty(&self) -> bool {
        self.monitor
            .with(|bins, _| bins.fragments() == 0 && bins.writing.is_empty())
    }

    /// Lets the tasks end when nothing is parked.
    pub(crate) fn stop(&self) {
        self.monitor.with(|bins, waiting| {
            bins.stopping = true;
            bins.make_due_where(|_| true);
            waiting.wake_all();
            waiting.wake_where_in(TIMER, |_| true);
        });
    }
}

#[cfg(test)]
mod tests;
