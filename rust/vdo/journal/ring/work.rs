// SPDX-License-Identifier: GPL-2.0

//! What the journal's tasks do with its state: the writer, the timer and the applier.

use super::super::MAX_BLOCKS_IN_FLIGHT;
use super::Ring;
use super::Seat;
use super::APPLIES;
use super::COMMITS;
use super::OTHERS;
use crate::format::recovery_journal;
use crate::format::JournalPoint;
use crate::format::Page;
use crate::format::Sequence;
use crate::format::StoredEntry;
use kernel::prelude::*;
use runtime::monitor::Entries;

/// A write that is to be made: some blocks that lie side by side, and how far they are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) first: Sequence,
    pub(crate) blocks: u64,
    /// The place behind the last entry.
    pub(crate) end: u64,
    /// The heads may not go beyond this block: it is on stable storage already, so recovery finds
    /// the tail there or later.
    pub(crate) cap: Sequence,
    /// The first block that has entries which are not applied.
    pub(crate) applied: Sequence,
}

impl Batch {
    /// Returns the sequence of the last block.
    pub(crate) fn last(&self) -> Sequence {
        (self.first + self.blocks).saturating_sub(1)
    }
}

/// What the writer is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Write(Batch),
    /// The ring is short: look whether the heads have moved. This write would tell.
    Look(Option<Batch>),
}

/// The heads of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) block_map: Sequence,
    pub(crate) slab_journal: Sequence,
}

impl Heads {
    pub(crate) fn oldest(self) -> Sequence {
        self.block_map.min(self.slab_journal)
    }
}

impl Ring {
    /// Returns true if the timer is to run.
    pub(crate) fn needs_timer(&mut self) -> bool {
        let needed = self.short || self.filled > self.due.max(self.committed);
        self.timer_idle = !needed;
        needed
    }

    /// What is filled has waited long enough.
    pub(crate) fn tick(&mut self) {
        self.due = self.filled;
        self.look = self.short;
    }

    /// Returns what the writer has to do.
    pub(crate) fn next_work(&mut self) -> Option<Work> {
        let mut work = None;
        if self.filled > self.committed {
            if self.wanted.max(self.due) > self.committed || self.is_half_full() {
                work = Some(Work::Write(self.batch()));
            }
        } else if self.look {
            let last = self.sequence_of(self.committed.saturating_sub(1));
            let again = (last >= self.start).then(|| self.batch_of(last, 1, self.committed));
            work = Some(Work::Look(again));
        }
        self.look = false;
        self.writer_idle = work.is_none();
        self.writing = work.is_some();
        work
    }

    /// Returns true if so many blocks are full that they had better be written: half of those that
    /// there is memory for, so that there is room still while that goes on, or a whole I/O.
    ///
    /// A single full block is no reason: each write costs a flush, and nobody may want it yet.
    pub(super) fn is_half_full(&self) -> bool {
        let io = self.config.io_pages.clamp(1, MAX_BLOCKS_IN_FLIGHT);
        let enough = (self.memory.blocks() / 2).min(io);
        let full = self.sequence_of(self.filled);
        full.saturating_sub(self.sequence_of(self.committed)) >= enough
    }

    /// Returns what can be written at once.
    fn batch(&mut self) -> Batch {
        let first = self.sequence_of(self.committed);
        let to_wrap = self.config.size - recovery_journal::position(first, self.config.size);
        let filled = self.filled.div_ceil(self.per_block.get());
        let pages = self.config.io_pages.clamp(1, MAX_BLOCKS_IN_FLIGHT);
        let blocks = (filled - first).min(to_wrap).min(pages);
        let end = self.place_of(first + blocks).min(self.filled);
        for sequence in first..first + blocks {
            // All blocks before are full, and the last of them is still in memory.
            if self.place_of(sequence) >= self.committed && sequence > self.start {
                self.memory.continue_from_previous(sequence);
            }
        }
        self.statistics.entries.written += end - self.committed;
        self.statistics.blocks.started += blocks;
        self.batch_of(first, blocks, end)
    }

    fn batch_of(&self, first: Sequence, blocks: u64, end: u64) -> Batch {
        let stable = self.sequence_of(self.committed.saturating_sub(1));
        Batch {
            first,
            blocks,
            end,
            cap: stable.max(self.start),
            applied: self.sequence_of(self.applied),
        }
    }

    /// Makes the block with this sequence, as far as `batch` goes.
    pub(crate) fn build(&self, batch: &Batch, sequence: Sequence, heads: Heads, page: &mut Page) {
        self.memory
            .build(&self.config, batch, sequence, heads, page);
    }

    /// The blocks of `batch` are on stable storage, with these heads.
    pub(crate) fn commit(&mut self, batch: &Batch, heads: Heads, tasks: &mut Entries<'_, Seat>) {
        self.statistics.entries.committed += batch.end.saturating_sub(self.committed);
        self.statistics.blocks.committed += batch.blocks;
        self.committed = self.committed.max(batch.end);
        self.head = self.head.max(heads.oldest());
        self.set_limit();
        if core::mem::take(&mut self.applier_idle) {
            tasks.wake_where_in(OTHERS, |seat| matches!(seat, Seat::Applier));
        }
        self.wake_for_places(COMMITS, tasks);
        self.wake_for_room(tasks);
    }

    /// The write has ended; well or not.
    pub(crate) fn end_write(&mut self, tasks: &mut Entries<'_, Seat>) {
        self.writing = false;
        tasks.wake_where_in(OTHERS, |seat| matches!(seat, Seat::Drain));
    }

    /// A test's flaw: does not care what the heads on storage say.
    #[cfg(test)]
    pub(crate) fn forget_head(&mut self, heads: Heads, tasks: &mut Entries<'_, Seat>) {
        self.head = self.head.max(heads.oldest());
        self.set_limit();
        self.wake_for_room(tasks);
    }

    /// If more than two thirds of the ring are in use, returns up to where that should end.
    pub(crate) fn hurry_before(&mut self) -> Option<Sequence> {
        let used = self.tail().saturating_sub(self.head);
        if used <= self.config.size / 3 * 2 && used < self.usable {
            return None;
        }
        self.statistics.slab_journal_commits_requested += 1;
        Some(self.tail().saturating_sub(self.usable / 2))
    }

    /// Puts the next committed entries into `batch`, which is empty.
    pub(crate) fn take_committed(&mut self, batch: &mut KVec<(JournalPoint, StoredEntry)>) {
        let sequence = self.sequence_of(self.applied);
        let index = self.applied - self.place_of(sequence);
        let point = JournalPoint::new(sequence, index as u16);
        let count = self.committed.saturating_sub(self.applied);
        let room = batch.capacity() as u64;
        let entries = self
            .memory
            .entries(point)
            .iter()
            .take(count.min(room) as usize);
        for (index, entry) in (point.entry..).zip(entries) {
            let point = JournalPoint::new(sequence, index);
            if batch
                .push_within_capacity((point, StoredEntry(*entry)))
                .is_err()
            {
                // It comes with the next batch.
                break;
            }
        }
        self.applier_idle = batch.is_empty();
    }

    /// So many more entries have been applied.
    pub(crate) fn add_applied(&mut self, count: u64, tasks: &mut Entries<'_, Seat>) {
        self.applied += count;
        self.set_limit();
        self.wake_for_places(APPLIES, tasks);
        self.wake_for_room(tasks);
    }
}
