// SPDX-License-Identifier: GPL-2.0

//! The start of a depot.
//!
//! First [`Depot::load`], then the replay of the recovery journal or the rebuild if there is one,
//! then [`Depot::start`]. The tasks of the depot run by then.

use super::fits;
use super::scrubber::Tools;
use super::slab::Slab;
use super::slab::State;
use super::slab_journal::SlabJournal;
use super::summary::BLOCKS;
use super::BufferOf;
use super::Depot;
use super::IMPOSSIBLE;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::slab_journal::Header;
use crate::format::summary;
use crate::format::summary::SummaryEntry;
use crate::format::summary::COPIES;
use crate::format::JournalPoint;
use crate::format::Page;
use crate::format::Sequence;
use crate::format::SlabConfig;
use crate::format::SlabNumber;
use crate::format::MAX_SEQUENCE;
use crate::storage::Purpose;
use crate::world::World;
use core::ops::Range;
use kernel::prelude::KVec;
use kernel::prelude::GFP_KERNEL;
use runtime::disk::Buffer;
use runtime::disk::Durability;

/// What a depot starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// A new volume: nothing on disk means anything.
    New,
    /// A volume that was saved.
    Clean,
    /// One that was saved before all slabs were scrubbed.
    Recovering,
    /// One that was not saved: the recovery journal is replayed.
    Crashed,
    /// One whose counts are counted anew.
    Rebuild,
    /// One that is read-only: nothing is read or written.
    ReadOnly,
}

impl Load {
    /// Returns true if there may be slabs to scrub that a crash has left.
    pub(super) fn is_after_crash(self) -> bool {
        matches!(self, Self::Recovering | Self::Crashed)
    }
}

/// A slab that is not ready, as [`Depot::start`] sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// It is awaited before the volume is used.
    is_background: bool,
    is_dirty: bool,
    /// The more is free, the lower.
    used: u8,
    number: SlabNumber,
}

impl<W: World> Depot<W> {
    /// Reads the summary and the ends of the slab journals, or makes them anew; see [`Load`].
    pub async fn load(&self, load: Load) -> Result {
        self.load.with(|own| *own = load);
        if load == Load::ReadOnly {
            return Ok(());
        }
        let mut tools = self.scrubber.take().await;
        let result = self.load_with(load, &mut tools).await;
        self.scrubber.give(tools);
        result
    }

    async fn load_with(&self, load: Load, tools: &mut Tools<BufferOf<W>>) -> Result {
        self.summary.reset(&self.slab_config);
        if matches!(load, Load::New | Load::Rebuild) {
            self.write_copies(tools).await?;
            if load == Load::Rebuild {
                self.erase_journals(tools).await?;
            }
            return Ok(());
        }
        self.read_summary(tools).await?;
        self.write_copies(tools).await?;
        let mut slabs = 0..self.layout().slab_count;
        while let Some(some) = tools.next_slabs(&mut slabs) {
            self.read_journal_ends(some.clone(), tools).await?;
            for (page, number) in some.enumerate() {
                self.load_slab(number, page, tools)?;
            }
        }
        Ok(())
    }

    /// Returns the latest recovery point that a slab journal has on disk, as far as they can be
    /// read. For a volume that is read-only, and so is not loaded. Writes nothing.
    pub async fn latest_point_on_disk(&self) -> JournalPoint {
        let mut tools = self.scrubber.take().await;
        let mut latest = JournalPoint::NONE;
        if self.read_summary(&mut tools).await.is_ok() {
            let mut slabs = 0..self.layout().slab_count;
            while let Some(some) = tools.next_slabs(&mut slabs) {
                if self
                    .read_journal_ends(some.clone(), &mut tools)
                    .await
                    .is_err()
                {
                    break;
                }
                for page in 0..some.len() {
                    let entry = self.summary.get(some.start.saturating_add(page as u32));
                    let end = entry.map(|entry| self.journal_end(entry, page, &tools));
                    if let Some(Ok(Some((_, _, point)))) = end {
                        latest = latest.max(point);
                    }
                }
            }
        }
        self.scrubber.give(tools);
        latest
    }

    /// Reads the summary: each slab's entry from the copy of its zone.
    async fn read_summary(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        let slabs = self.layout().slab_count;
        for zone in 0..self.zone_count.min(COPIES) {
            self.read(tools, self.summary.pbn(zone, 0), BLOCKS).await?;
            let buffer = tools.buffer.as_ref().ok_or(IMPOSSIBLE)?;
            for number in (zone..slabs).step_by(self.zone_count as usize) {
                let (block, index) = summary::place(number);
                let page = buffer.page(block as usize);
                let page = page.ok_or(IMPOSSIBLE)?;
                self.summary.set(number, summary::entry(page, index));
            }
        }
        Ok(())
    }

    /// Writes all copies of the summary. From now on, the first one counts.
    async fn write_copies(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        let mut buffer = tools.buffer.take().ok_or(IMPOSSIBLE)?;
        let at_once = (tools.pages / BLOCKS).clamp(1, COPIES);
        for index in 0..at_once * BLOCKS {
            if let Some(page) = buffer.page_mut(index as usize) {
                self.summary.copy_block(index % BLOCKS, page);
            }
        }
        let mut result = Ok(());
        let mut copy = 0;
        while copy < COPIES && result.is_ok() {
            let count = at_once.min(COPIES - copy);
            let (pbn, blocks) = (self.summary.pbn(copy, 0), count * BLOCKS);
            (buffer, result) = self
                .storage
                .write(
                    Purpose::Metadata,
                    pbn,
                    blocks,
                    buffer,
                    0,
                    Durability::Volatile,
                )
                .await;
            copy += count;
        }
        tools.buffer = Some(buffer);
        result
    }

    /// Begins with a slab whose journal has got as far as page `page` says.
    fn load_slab(&self, number: SlabNumber, page: usize, tools: &Tools<BufferOf<W>>) -> Result {
        let entry = self.summary.get(number).ok_or(IMPOSSIBLE)?;
        if entry == SummaryEntry::unused(&self.slab_config) {
            return Ok(());
        }
        let journal = self.journal_end(entry, page, tools)?;
        let (head, tail, point) = journal.unwrap_or((1, 1, JournalPoint::NONE));
        let mut journal = SlabJournal::new(head, tail, point, self.nonce);
        let mut slab;
        if entry.load_ref_counts || entry.is_dirty {
            journal.set_page(self.storage.buffer(1)?);
            slab = Slab::used(entry, journal);
            self.allocator.with(|allocator| {
                let free = estimate(entry.fullness_hint, &self.slab_config);
                allocator.set_free(number, free);
            });
        } else {
            slab = Slab::unused(&self.slab_config, self.nonce);
            slab.entry = entry;
            slab.journal = journal;
        }
        let old = self.slab(number, |own| core::mem::replace(own, slab))?;
        drop(old);
        Ok(())
    }

    /// Reads the blocks of slab journals that were written last, all at once: that of each slab into
    /// a page of its own.
    async fn read_journal_ends(
        &self,
        slabs: Range<SlabNumber>,
        tools: &mut Tools<BufferOf<W>>,
    ) -> Result {
        let layout = self.layout();
        tools.parts.clear();
        for (page, number) in slabs.enumerate() {
            let entry = self.summary.get(number).ok_or(IMPOSSIBLE)?;
            if let Ok(Some(offset)) = self.last_offset(entry) {
                let part = self
                    .storage
                    .part(layout.journal_block(number, offset), 1, page);
                fits(tools.parts.push_within_capacity(part))?;
            }
        }
        let buffer = tools.buffer.take().ok_or(IMPOSSIBLE)?;
        let parts = &mut tools.parts;
        let read = self.storage.read_parts(Purpose::Metadata, buffer, parts);
        tools.buffer = Some(read.await);
        Ok(())
    }

    /// Returns where in its slab journal the block is that was written last; `None` if there is none.
    fn last_offset(&self, entry: SummaryEntry) -> Result<Option<u32>> {
        if entry.tail_block_offset == 0 && !entry.load_ref_counts {
            return Ok(None);
        }
        let size = self.slab_config.journal_blocks;
        match u32::from(entry.tail_block_offset) {
            0 => Ok(Some(size - 1)),
            offset if offset < size => Ok(Some(offset - 1)),
            _ => Err(Error::Status(Status::CorruptJournal)),
        }
    }

    /// Looks at the block of a slab journal that was written last, which was read into page `page`;
    /// returns where the journal begins and goes on, and where the last entry came from; `None` if
    /// there is no such block.
    fn journal_end(
        &self,
        entry: SummaryEntry,
        page: usize,
        tools: &Tools<BufferOf<W>>,
    ) -> Result<Option<(Sequence, Sequence, JournalPoint)>> {
        let Some(offset) = self.last_offset(entry)? else {
            return Ok(None);
        };
        let size = self.slab_config.journal_blocks;
        let part = tools.parts.binary_search_by_key(&page, |part| part.page);
        let part = part.ok().and_then(|part| tools.parts.get(part));
        part.ok_or(IMPOSSIBLE)?.result?;
        let page: Option<&Page> = tools.buffer.as_ref().and_then(|buffer| buffer.page(page));
        let header = Header::decode(page.ok_or(IMPOSSIBLE)?);
        if !header.is_valid(self.nonce) {
            return Ok(None);
        }
        let tail = header.sequence.saturating_add(1);
        let head = if entry.is_dirty { header.head } else { tail };
        let is_sound = tail < MAX_SEQUENCE
            && head <= tail
            && head > 0
            && tail - head <= size.into()
            && header.sequence.checked_rem(size.into()) == Some(offset.into());
        if !is_sound {
            return Err(Error::Status(Status::CorruptJournal));
        }
        Ok(Some((head, tail, header.recovery_point)))
    }

    /// Begins to get the counts of all slabs into memory, and waits for those that are needed
    /// before the volume is used: after a save those that are clean, always those whose journal
    /// is nearly full, and one, so that there is something to allocate from. Returns whether there
    /// were slabs to be scrubbed after a crash; they may all be done by now.
    pub async fn start(&self) -> Result<bool> {
        let load = self.load.with(|load| *load);
        if load == Load::ReadOnly {
            return Ok(false);
        }
        let slabs = self.layout().slab_count;
        let mut waiting = KVec::with_capacity(slabs as usize, GFP_KERNEL)?;
        let mut is_usable = false;
        for number in 0..slabs {
            match self.enlist(number, load)? {
                Some(slab) => waiting.push(slab, GFP_KERNEL)?,
                None => is_usable = true,
            }
        }
        waiting.sort_unstable();
        let awaited = waiting.iter().filter(|slab| !slab.is_background).count();
        let awaited = awaited.max((!is_usable).into());
        let mut queue = KVec::with_capacity(slabs as usize, GFP_KERNEL)?;
        for slab in &waiting {
            queue.push(slab.number, GFP_KERNEL)?;
        }
        self.desk.tell(|work| {
            let scrubbing = &mut work.scrubbing;
            scrubbing.left = queue.len() as u32;
            core::mem::swap(&mut scrubbing.queue, &mut queue);
            scrubbing.next = 0;
            scrubbing.is_paused = false;
        });
        loop {
            let (seen, done) = self.desk.with(|work| (work.progress, work.scrubbing.next));
            if done >= awaited.min(waiting.len()) {
                return Ok(load.is_after_crash() && !waiting.is_empty());
            }
            self.desk.progress_since(seen, &self.health).await?;
        }
    }

    /// Makes a slab usable, or returns how soon it is to be read.
    fn enlist(&self, number: SlabNumber, load: Load) -> Result<Option<Waiting>> {
        let scrubbing = u64::from(self.slab_config.scrubbing);
        let (waiting, is_blank) = self.slab(number, |slab| {
            let is_blank = slab.journal.is_blank();
            if !matches!(slab.state, State::Unscrubbed) {
                return (None, is_blank);
            }
            let is_clean = load == Load::Clean && !slab.entry.is_dirty;
            let waiting = Waiting {
                is_background: !is_clean && slab.journal.len() < scrubbing,
                is_dirty: slab.entry.is_dirty,
                used: u8::MAX - slab.entry.fullness_hint,
                number,
            };
            (Some(waiting), is_blank)
        })?;
        self.allocator.with(|allocator| {
            allocator.opened += u64::from(!is_blank);
            if waiting.is_none() {
                allocator.add(number, is_blank);
            }
        });
        Ok(waiting)
    }

    /// Waits until the counts of all slabs are in memory.
    pub async fn scrubbed(&self) -> Result {
        loop {
            let (seen, left) = self.desk.with(|work| (work.progress, work.scrubbing.left));
            if left == 0 {
                return Ok(());
            }
            self.desk.progress_since(seen, &self.health).await?;
        }
    }
}

/// Returns how many blocks of a slab with this hint are free, at least.
fn estimate(hint: u8, slab: &SlabConfig) -> u32 {
    // The inverse of `summary::hint`: what one more would be, found by halving.
    let (mut low, mut high) = (0, slab.data_blocks);
    while low < high {
        let middle = low + (high - low) / 2;
        if summary::hint(middle, slab) < hint {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests;
