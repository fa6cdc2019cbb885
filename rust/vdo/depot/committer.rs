// SPDX-License-Identifier: GPL-2.0

//! The committer: writes blocks of slab journals, then the summary that counts them.
//!
//! It is the only one who writes the summary. Such a write is preceded by a flush, so that it is
//! on disk only if the blocks it counts are, and the counts of the slabs that it calls clean. Only
//! after it do the blocks let go of the recovery journal.

use super::desk::Seat;
use super::fits;
use super::ring::Ring;
use super::slab_journal::Closed;
use super::slab_journal::Sealing;
use super::summary::BLOCKS;
use super::BufferOf;
use super::Depot;
use super::Flaw;
use super::IMPOSSIBLE;
use crate::error::Result;
use crate::format::summary::place;
use crate::format::summary::SummaryEntry;
use crate::format::SlabNumber;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::world::World;
use kernel::prelude::KVec;
use kernel::prelude::GFP_KERNEL;
use runtime::disk::result_of;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::Part;
use runtime::sync::Arc;

/// How many slabs one write of the summary may call clean.
const CLEAN_AT_ONCE: usize = 64;

/// What the committer needs.
pub(super) struct Tools<B> {
    /// One page, for the summary.
    buffer: Option<B>,
    /// A page for each block of this round.
    copies: Option<B>,
    parts: KVec<Part>,
    /// The blocks of this round.
    blocks: Ring<Closed<B>>,
    /// What the summary is to say from this round on.
    entries: KVec<(SlabNumber, SummaryEntry)>,
}

impl<B: Buffer> Tools<B> {
    pub(super) fn new<D: Disk<Buffer = B>>(storage: &Storage<D>, blocks: usize) -> Result<Self> {
        let blocks = blocks.max(1);
        Ok(Self {
            buffer: Some(storage.buffer(1)?),
            copies: Some(storage.buffer_of_parts(blocks, blocks)?),
            parts: KVec::with_capacity(blocks, GFP_KERNEL)?,
            blocks: Ring::new(blocks)?,
            entries: KVec::with_capacity(blocks + CLEAN_AT_ONCE, GFP_KERNEL)?,
        })
    }
}

impl<W: World> Depot<W> {
    /// The committer: works until [`stop`](Self::stop), or until the volume is read-only.
    pub async fn run_committer(depot: Arc<Self>) {
        let mut tools = depot.committer.take().await;
        loop {
            let more = depot.desk.wait_to_write(Seat::Committer, |work| {
                if !work.has_commits() {
                    return None;
                }
                tools.blocks.append(&mut work.closed);
                Some(())
            });
            if more.await.is_none() {
                break;
            }
            let result = depot.commit(&mut tools).await;
            depot.desk.done();
            if depot.health.watch(result).is_err() {
                depot.wake_all();
                break;
            }
        }
        depot.committer.give(tools);
    }

    /// Makes one round.
    async fn commit(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        self.health.check()?;
        tools.entries.clear();
        self.collect(tools)?;
        self.write_blocks(tools).await?;
        self.compose(tools)?;
        self.write_summary(tools).await?;
        self.finish(tools)
    }

    /// Takes the blocks that are to be sealed to those that are closed already.
    fn collect(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        for index in 0..tools.blocks.len() {
            if let Some(closed) = tools.blocks.get_mut(index) {
                let number = closed.slab;
                if self.slab(number, |slab| slab.journal.take(closed))? {
                    self.desk.with(|work| work.seal.insert(number));
                }
            }
        }
        while !tools.blocks.is_full() {
            let Some(number) = self.desk.with(|work| work.seal.pop()) else {
                break;
            };
            match self.slab(number, |slab| slab.journal.seal(number))? {
                Sealing::Sealed(closed) => fits(tools.blocks.push(closed))?,
                Sealing::Nothing | Sealing::NotYet => {}
            }
        }
        Ok(())
    }

    /// Writes the blocks of this round, all at once.
    async fn write_blocks(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        self.copy_blocks(tools)?;
        let copies = tools.copies.take().ok_or(IMPOSSIBLE)?;
        let written = self
            .storage
            .write_parts(Purpose::Metadata, copies, &mut tools.parts);
        tools.copies = Some(written.await);
        result_of(&tools.parts)?;
        for index in 0..tools.blocks.len() {
            let Some(closed) = tools.blocks.get_mut(index) else {
                break;
            };
            if self.breaks(Flaw::SealedIsFollowed) && closed.is_sealed {
                self.slab(closed.slab, |slab| slab.journal.unseal(closed))?;
                self.desk.tell(|_| ());
            }
            if self.breaks(Flaw::HoldIsReleased) {
                self.let_go(closed)?;
            }
            self.counters.journal_written.fetch_add(1);
        }
        Ok(())
    }

    /// Copies the blocks of this round to where they are written from together.
    fn copy_blocks(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        let layout = self.layout();
        tools.parts.clear();
        for index in 0..tools.blocks.len() {
            let closed = tools.blocks.get(index).ok_or(IMPOSSIBLE)?;
            let content = closed.page.as_ref().and_then(|page| page.page(0));
            let copies = tools.copies.as_mut();
            let copy = copies.and_then(|copies| copies.page_mut(index));
            let (Some(content), Some(copy)) = (content, copy) else {
                return Err(IMPOSSIBLE);
            };
            copy.copy_from_slice(content);
            let offset = closed
                .sequence
                .checked_rem(layout.slab.journal_blocks.into())
                .unwrap_or(0);
            let pbn = layout.journal_block(closed.slab, offset as u32);
            let part = self.storage.part(pbn, 1, index);
            fits(tools.parts.push_within_capacity(part))?;
        }
        Ok(())
    }

    /// Lets go of the recovery journal.
    fn let_go(&self, closed: &mut Closed<BufferOf<W>>) -> Result {
        match closed.held.take() {
            Some(held) => self.desk.with(|work| work.holds.release(held)),
            None if self.breaks(Flaw::HoldIsReleased) => Ok(()),
            None => Err(IMPOSSIBLE),
        }
    }

    /// Puts into the summary what it may say now.
    fn compose(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        for index in 0..tools.blocks.len() {
            let Some(closed) = tools.blocks.get(index) else {
                break;
            };
            let (number, sequence) = (closed.slab, closed.sequence);
            let entry = self.slab(number, |slab| slab.entry_after(sequence, &self.slab_config))?;
            self.put(tools, number, entry)?;
        }
        for _ in 0..CLEAN_AT_ONCE {
            let Some(number) = self.desk.with(|work| work.clean.pop()) else {
                break;
            };
            let entry = self.summary.get(number).ok_or(IMPOSSIBLE)?;
            let clean = self.slab(number, |slab| {
                let can_be = slab.can_be_clean();
                can_be.then(|| slab.clean_entry(entry, &self.slab_config))
            })?;
            if let Some(entry) = clean {
                self.put(tools, number, entry)?;
            }
        }
        Ok(())
    }

    fn put(
        &self,
        tools: &mut Tools<BufferOf<W>>,
        number: SlabNumber,
        entry: SummaryEntry,
    ) -> Result {
        self.summary.set(number, entry);
        tools.entries.push((number, entry), GFP_KERNEL)?;
        Ok(())
    }

    /// Writes the blocks of the summary that have changed.
    async fn write_summary(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        let mut durability = match self.breaks(Flaw::SummaryFirst) {
            false => Durability::Ordered,
            true => Durability::Stable,
        };
        for block in 0..BLOCKS {
            let is_in = |(number, _): &(SlabNumber, _)| place(*number).0 == block;
            if !tools.entries.iter().any(is_in) {
                continue;
            }
            let mut buffer = tools.buffer.take().ok_or(IMPOSSIBLE)?;
            if let Some(page) = buffer.page_mut(0) {
                self.summary.copy_block(block, page);
            }
            let pbn = self.summary.pbn(0, block);
            let (buffer, result) = self
                .storage
                .write(Purpose::Metadata, pbn, 1, buffer, 0, durability)
                .await;
            tools.buffer = Some(buffer);
            result?;
            self.counters.summary_written.fetch_add(1);
            // One flush before the first of them is enough.
            durability = Durability::Stable;
        }
        Ok(())
    }

    /// All of this round is on stable storage.
    fn finish(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        while let Some(mut closed) = tools.blocks.pop() {
            let number = closed.slab;
            // First this: as soon as there may be another block, that takes a hold, too.
            self.let_go(&mut closed)?;
            self.slab(number, |slab| slab.journal.summarised(&mut closed))?;
            self.give_page(closed.page)?;
        }
        for (number, entry) in &tools.entries {
            let can_be_clean = self.slab(*number, |slab| {
                slab.summary_written(*entry);
                slab.can_be_clean()
            })?;
            if can_be_clean {
                self.desk.with(|work| work.clean.insert(*number));
            }
        }
        self.desk.tell(|_| ());
        Ok(())
    }
}
