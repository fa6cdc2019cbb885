// SPDX-License-Identifier: GPL-2.0

//! A slab in memory.

use super::allocate::Runs;
use super::counts::Counts;
use super::counts::Found;
use super::holds::Hold;
use super::slab_journal::Blocked;
use super::slab_journal::Closed;
use super::slab_journal::OpenBlock;
use super::slab_journal::SlabJournal;
use super::IMPOSSIBLE;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::reference;
use crate::format::slab_journal::recovery_point;
use crate::format::slab_journal::Change;
use crate::format::slab_journal::Shape;
use crate::format::slab_journal::SlabEntry;
use crate::format::summary;
use crate::format::summary::SummaryEntry;
use crate::format::DepotLayout;
use crate::format::JournalPoint;
use crate::format::Operation;
use crate::format::Pbn;
use crate::format::References;
use crate::format::Sbn;
use crate::format::Sequence;
use crate::format::SlabConfig;
use crate::format::SlabNumber;
use crate::format::MAX_SEQUENCE;
use runtime::disk::Buffer;

/// How many changes are made before a slab's lock is let go.
const CHANGES_AT_ONCE: u32 = 256;

/// How many blocks before the blocking threshold all counts are written.
const DEADLINE: u32 = 5;

/// A slab in memory.
pub(super) struct Slab<B> {
    pub(super) journal: SlabJournal<B>,
    pub(super) state: State,
    /// What the summary on disk says.
    pub(super) entry: SummaryEntry,
    /// When this block of the slab journal is not needed any more, all reference blocks on disk
    /// mean something. `None` if they do not, and none is dirty.
    initialised_by: Option<Sequence>,
    /// How many dirty reference blocks are to be written now.
    to_write: u32,
}

/// What is known of the counts of a slab.
pub(super) enum State {
    /// All are 0; they have no memory yet.
    Unused,
    /// They are on disk, less what is in the slab journal. Changes are only journaled.
    Unscrubbed,
    /// They are being read. There are no changes meanwhile.
    Scrubbing,
    /// They are in memory.
    Ready(Counts),
}

/// What is the same for all slabs.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) layout: DepotLayout,
    pub(super) shape: Shape,
    /// Changes that are in the journal already are skipped, and nothing waits for counts.
    pub(super) is_replay: bool,
    /// Blocks of the slab journal that a recovery would read are not overwritten.
    pub(super) is_ring_kept: bool,
}

/// What changes of a slab mean to others.
pub(super) struct Effects<B> {
    /// How many changes were made.
    pub(super) made: u32,
    /// How many blocks became free (or used).
    pub(super) freed: i64,
    /// The block of the slab journal that was begun, with what it holds of the recovery journal.
    pub(super) begun: Option<Hold>,
    /// A block of the slab journal that was closed.
    pub(super) closed: Option<Closed<B>>,
    /// Reference blocks are to be written.
    pub(super) write: bool,
    /// Blocks that were begun above the flushing threshold.
    pub(super) flushed: u32,
}

impl<B> Effects<B> {
    pub(super) fn new() -> Self {
        Self {
            made: 0,
            freed: 0,
            begun: None,
            closed: None,
            write: false,
            flushed: 0,
        }
    }
}

/// How far the changes of a slab went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of this slab that stand together, or as many as are made at once.
    Made,
    /// The next one has to wait.
    Blocked(Blocked),
}

/// Entries of the recovery journal as changes of counts, one after the other.
pub(super) struct Changes<'a, E> {
    entries: &'a [(JournalPoint, E)],
    /// The increment of the first entry has been dealt with.
    is_half: bool,
}

/// A change of a count.
#[derive(Clone, Copy)]
pub(super) struct PbnChange {
    pub(super) pbn: Pbn,
    change: Change,
    point: JournalPoint,
}

impl<'a, E: References> Changes<'a, E> {
    pub(super) fn new(entries: &'a [(JournalPoint, E)]) -> Self {
        Self {
            entries,
            is_half: false,
        }
    }

    /// Returns the next change.
    pub(super) fn next(&mut self) -> Option<PbnChange> {
        loop {
            let (point, entry) = self.entries.first()?;
            let (pbn, change) = match (self.is_half, entry.operation()) {
                (true, _) => (entry.loses(), Change::Decrement),
                (false, Operation::Data) => (entry.gains(), Change::Increment),
                (false, Operation::BlockMap) => (entry.gains(), Change::BlockMapIncrement),
            };
            if pbn != 0 {
                let point = recovery_point(point.sequence, point.entry, !self.is_half);
                return Some(PbnChange { pbn, change, point });
            }
            self.advance();
        }
    }

    /// Goes on to the one behind the next change.
    fn advance(&mut self) {
        if self.is_half {
            self.entries = self.entries.get(1..).unwrap_or_default();
        }
        self.is_half = !self.is_half;
    }
}

/// Changes of data blocks of one slab, which have room in one block of its journal.
struct Stretch<'a> {
    /// The first block of the slab.
    origin: Pbn,
    blocks: u64,
    block: OpenBlock<'a>,
    counts: Option<&'a mut Counts>,
    made: u32,
}

impl Stretch<'_> {
    /// Makes the next changes, up to one that is not of this kind.
    fn make<E: References>(&mut self, changes: &mut Changes<'_, E>) -> Result {
        while let [(point, entry), rest @ ..] = changes.entries {
            let half = |increment| recovery_point(point.sequence, point.entry, increment);
            if !changes.is_half {
                let is_data = entry.operation() == Operation::Data;
                if !is_data || !self.change(entry.gains(), Change::Increment, half(true))? {
                    break;
                }
                changes.is_half = true;
            }
            if !self.change(entry.loses(), Change::Decrement, half(false))? {
                break;
            }
            changes.is_half = false;
            changes.entries = rest;
        }
        Ok(())
    }

    /// Makes a change, unless there is no block. Returns false if it is not of this kind.
    #[inline(always)]
    fn change(&mut self, pbn: Pbn, change: Change, point: JournalPoint) -> Result<bool> {
        if pbn == 0 {
            return Ok(true);
        }
        let sbn = pbn.wrapping_sub(self.origin);
        let (true, Some(place)) = (sbn < self.blocks, self.block.place(point)) else {
            return Ok(false);
        };
        let sbn = sbn as Sbn;
        if let Some(counts) = &mut self.counts {
            counts.change(sbn, change, place)?;
        }
        self.block.push(SlabEntry { sbn, change }, point)?;
        self.made += 1;
        Ok(true)
    }
}

impl<B: Buffer> Slab<B> {
    /// A slab that was never used.
    pub(super) fn unused(slab: &SlabConfig, nonce: u64) -> Self {
        Self {
            journal: SlabJournal::new(1, 1, JournalPoint::NONE, nonce),
            state: State::Unused,
            entry: SummaryEntry::unused(slab),
            initialised_by: None,
            to_write: 0,
        }
    }

    /// A slab of which the summary says `entry`.
    pub(super) fn used(entry: SummaryEntry, journal: SlabJournal<B>) -> Self {
        Self {
            journal,
            state: State::Unscrubbed,
            entry,
            initialised_by: None,
            to_write: 0,
        }
    }

    /// Returns the counts, if they are in memory.
    pub(super) fn counts(&mut self) -> Option<&mut Counts> {
        match &mut self.state {
            State::Ready(counts) => Some(counts),
            _ => None,
        }
    }

    /// Looks for free blocks; `None` if the counts are not in memory.
    pub(super) fn find_runs(&mut self, wanted: u32, runs: &mut Runs) -> Option<Found> {
        Some(self.counts()?.find_runs(wanted, runs))
    }

    /// Makes the next changes, as long as they are of this slab, the one with `number`.
    pub(super) fn apply<E: References>(
        &mut self,
        rules: &Rules,
        number: SlabNumber,
        changes: &mut Changes<'_, E>,
        spare: &mut Option<B>,
        effects: &mut Effects<B>,
    ) -> Result<Progress> {
        while effects.made < CHANGES_AT_ONCE {
            let Some(next) = changes.next() else {
                break;
            };
            let sbn = match rules.layout.slab_of(next.pbn) {
                Some((slab, sbn)) if slab == number => sbn,
                _ => break,
            };
            if effects.begun.is_some() && self.journal.must_close(rules.shape, next.change) {
                // Others are to know first what it holds.
                break;
            }
            if next.point > self.journal.recovery_point {
                let blocked = self.make(rules, number, (sbn, next), spare, effects)?;
                if let Some(blocked) = blocked {
                    return Ok(Progress::Blocked(blocked));
                }
                changes.advance();
                self.make_more(rules, number, changes, effects)?;
                if self.journal.is_full(rules.shape) && effects.begun.is_none() {
                    if let Some(page) = spare.take() {
                        effects.closed = Some(self.journal.close(number, page)?);
                    }
                }
            } else if rules.is_replay {
                changes.advance();
            } else {
                return Err(IMPOSSIBLE);
            }
        }
        Ok(Progress::Made)
    }

    /// Makes a change, unless it has to wait.
    fn make(
        &mut self,
        rules: &Rules,
        number: SlabNumber,
        (sbn, next): (Sbn, PbnChange),
        spare: &mut Option<B>,
        effects: &mut Effects<B>,
    ) -> Result<Option<Blocked>> {
        match self.state {
            State::Scrubbing => return Ok(Some(Blocked::Scrubbing)),
            State::Unused if rules.is_replay => self.state = State::Unscrubbed,
            // Nothing refers to it, and it was not allocated.
            State::Unused => return Err(Error::Status(Status::RefCountInvalid)),
            _ => {}
        }
        if self.journal.must_close(rules.shape, next.change) {
            match spare.take() {
                Some(page) => effects.closed = Some(self.journal.close(number, page)?),
                None => return Ok(Some(Blocked::NoPage)),
            }
        }
        let config = &rules.layout.slab;
        if self.would_seem_unused(config) {
            return Ok(Some(Blocked::RingFull));
        }
        match self.journal.blocked(config, rules.is_replay) {
            Some(Blocked::RingFull) if !rules.is_ring_kept => {}
            None => {}
            blocked => return Ok(blocked),
        }
        if self.journal.entries() == 0 {
            if self.journal.tail() >= MAX_SEQUENCE {
                return Err(Error::Status(Status::JournalOverflow));
            }
            effects.begun = Some(Hold {
                sequence: next.point.sequence,
                slab: number,
                block: self.journal.tail(),
            });
            self.begin(config, effects)?;
        }
        let entry = JournalPoint::new(self.journal.tail(), self.journal.entries());
        if let State::Ready(counts) = &mut self.state {
            let free = counts.free();
            counts.change(sbn, next.change, entry)?;
            effects.freed += i64::from(counts.free()) - i64::from(free);
        }
        let pushed = self.journal.push(rules.shape, sbn, next.change, next.point);
        if pushed != Some(entry) {
            return Err(IMPOSSIBLE);
        }
        effects.made += 1;
        Ok(None)
    }

    /// Makes the next changes, as far as they have room in the block under construction, where one
    /// was made just now. Of what [`make`](Self::make) looks at, nothing is new for them.
    fn make_more<E: References>(
        &mut self,
        rules: &Rules,
        number: SlabNumber,
        changes: &mut Changes<'_, E>,
        effects: &mut Effects<B>,
    ) -> Result {
        let most = CHANGES_AT_ONCE.saturating_sub(effects.made) as u16;
        let Some(block) = self.journal.open(rules.shape, most) else {
            return Ok(());
        };
        let counts = match &mut self.state {
            State::Ready(counts) => Some(counts),
            _ => None,
        };
        let free = counts.as_ref().map_or(0, |counts| counts.free());
        let mut stretch = Stretch {
            origin: rules.layout.origin(number),
            blocks: rules.layout.slab.data_blocks.into(),
            block,
            counts,
            made: 0,
        };
        let result = stretch.make(changes);
        let now_free = stretch.counts.map_or(0, |counts| counts.free());
        effects.freed += i64::from(now_free) - i64::from(free);
        effects.made += stretch.made;
        result
    }

    /// Returns whether the summary would say of a slab whose counts were never written that the
    /// next block of its journal is the first of the ring, if one more were written now. That is
    /// what it says of slabs that were never used.
    fn would_seem_unused(&self, config: &SlabConfig) -> bool {
        let next = self.journal.tail().saturating_add(1);
        self.journal.entries() == 0
            && next.checked_rem(config.journal_blocks.into()) == Some(0)
            && !self.has_counts_on_disk()
    }

    /// Returns whether the reference blocks on disk mean something.
    fn has_counts_on_disk(&self) -> bool {
        // Only when the first block is not needed any more was every count written once.
        let first = self.initialised_by;
        self.entry.load_ref_counts || first.is_some_and(|first| self.journal.head > first)
    }

    /// A block of the slab journal is begun: decides which counts to write now.
    fn begin(&mut self, config: &SlabConfig, effects: &mut Effects<B>) -> Result {
        let State::Ready(counts) = &mut self.state else {
            return Ok(());
        };
        if self.initialised_by.is_none() {
            self.initialised_by = Some(self.journal.tail());
            counts.touch_all(self.journal.tail())?;
        }
        let length = self.journal.len();
        if length < config.flushing.into() {
            return Ok(());
        }
        effects.flushed += 1;
        let deadline = match config.blocking.checked_sub(DEADLINE) {
            Some(deadline) if deadline > config.flushing => deadline,
            _ => config.flushing,
        };
        let blocks_left = u64::from(deadline).saturating_sub(length) as u32;
        let dirty = counts.dirty();
        let share = match blocks_left {
            0 => dirty,
            left => dirty.checked_div(left).unwrap_or(dirty) + 1,
        };
        self.to_write = self.to_write.saturating_add(share);
        effects.write = dirty > 0;
        Ok(())
    }

    /// Makes all reference blocks dirty, if none was ever: the next block of the slab journal waits
    /// for their first write, see [`would_seem_unused`](Self::would_seem_unused). Only damage gets a
    /// journal there before a count has changed.
    ///
    /// # Errors
    ///
    /// What cannot be.
    pub(super) fn touch_first(&mut self) -> Result {
        let tail = self.journal.tail();
        let is_first = self.initialised_by.is_none();
        if let (true, State::Ready(counts)) = (is_first, &mut self.state) {
            counts.touch_all(tail)?;
            self.initialised_by = Some(tail);
        }
        Ok(())
    }

    /// Asks for all dirty reference blocks to be written; returns whether there is one.
    pub(super) fn write_all(&mut self) -> bool {
        let dirty = self.counts().map_or(0, |counts| counts.dirty());
        self.to_write = dirty;
        dirty > 0
    }

    /// Takes a reference block that is to be written now, with these counts and commit point.
    pub(super) fn pick(&mut self, to: &mut reference::Counts) -> Option<(u32, JournalPoint)> {
        self.to_write = self.to_write.checked_sub(1)?;
        let counts = self.counts()?;
        let block = counts.pick(to);
        let applied = counts.applied;
        match block {
            Some(block) => Some((block, applied)),
            None => {
                self.to_write = 0;
                None
            }
        }
    }

    /// What was picked is written. Returns whether the summary may say that the slab is
    /// clean.
    pub(super) fn references_written(&mut self) -> bool {
        if let Some(counts) = self.counts() {
            counts.written();
        }
        self.reap();
        self.can_be_clean()
    }

    /// Returns whether the summary says that the slab is dirty, and need not.
    pub(super) fn can_be_clean(&mut self) -> bool {
        let is_clean = self.counts().is_some_and(|counts| counts.is_clean());
        is_clean
            && self.initialised_by.is_some()
            && (self.entry.is_dirty || !self.entry.load_ref_counts)
    }

    /// Advances the head of the slab journal, as far as the counts on stable storage allow.
    pub(super) fn reap(&mut self) {
        let tail = self.journal.tail();
        if let State::Ready(counts) = &self.state {
            let needed = counts.oldest_hold().unwrap_or(tail);
            self.journal.reap(needed);
        }
    }

    /// Returns what the summary is to say when it counts block `sequence` of the slab journal.
    pub(super) fn entry_after(&mut self, sequence: Sequence, slab: &SlabConfig) -> SummaryEntry {
        let next = (sequence + 1).checked_rem(slab.journal_blocks.into());
        SummaryEntry {
            tail_block_offset: next.unwrap_or(0) as u8,
            fullness_hint: self.hint(slab),
            load_ref_counts: self.has_counts_on_disk(),
            is_dirty: true,
        }
    }

    /// Returns what the summary, which says `entry`, is to say of a slab that can be clean.
    pub(super) fn clean_entry(&mut self, entry: SummaryEntry, slab: &SlabConfig) -> SummaryEntry {
        SummaryEntry {
            fullness_hint: self.hint(slab),
            load_ref_counts: true,
            is_dirty: false,
            ..entry
        }
    }

    fn hint(&mut self, slab: &SlabConfig) -> u8 {
        let old = self.entry.fullness_hint;
        self.counts()
            .map_or(old, |counts| summary::hint(counts.free(), slab))
    }

    /// The summary on stable storage says `entry`.
    pub(super) fn summary_written(&mut self, entry: SummaryEntry) {
        self.entry = entry;
        if !entry.is_dirty {
            self.journal.cleaned();
        }
        self.reap();
    }

    /// The counts are in memory now; `first` is the block of the slab journal behind which the
    /// reference blocks on disk mean something.
    pub(super) fn set_ready(&mut self, counts: Counts, first: Option<Sequence>) {
        self.state = State::Ready(counts);
        self.initialised_by = first;
        self.reap();
    }

    /// Has the reference blocks written for the first time, if a count is not 0.
    pub(super) fn initialise(&mut self, slab: &SlabConfig) -> Result {
        let tail = self.journal.tail();
        let Some(counts) = self.counts() else {
            return Ok(());
        };
        if counts.free() < slab.data_blocks {
            counts.touch_all(tail)?;
            self.initialised_by = Some(tail);
        }
        Ok(())
    }

    /// Fails if what every slab has to be does not hold.
    #[cfg(test)]
    pub(super) fn check(&mut self, slab: &SlabConfig) {
        self.journal.check(slab);
        if let Some(counts) = self.counts() {
            counts.check();
            let needed = counts.oldest_hold();
            let applied = counts.applied;
            assert!(needed.is_none_or(|needed| needed >= self.journal.head));
            assert!(applied.sequence <= self.journal.tail());
        }
    }
}

#[cfg(test)]
mod tests;
