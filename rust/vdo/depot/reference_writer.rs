// SPDX-License-Identifier: GPL-2.0

//! The reference writer: writes counts, so that slab journals can be overwritten.
//!
//! A round takes dirty reference blocks of the slabs that ask for it, as they are in memory now,
//! and writes them, all at once, after a flush of what is written already: the journals are ahead of
//! the counts on stable storage. The last one need not be flushed here. A block of a slab journal is
//! overwritten only after another that no longer needs it is in the summary, and a slab is clean
//! only when the summary says so: each write of the summary flushes these counts before.

use super::desk::Seat;
use super::fits;
use super::BufferOf;
use super::Depot;
use super::IMPOSSIBLE;
use crate::error::Error;
use crate::error::Result;
use crate::format::reference;
use crate::format::reference::Counts;
use crate::format::reference::COUNTS_PER_BLOCK;
use crate::format::SlabNumber;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::world::World;
use kernel::prelude::KVVec;
use kernel::prelude::KVec;
use kernel::prelude::GFP_KERNEL;
use runtime::disk::result_of;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Part;
use runtime::sync::Arc;

/// What the reference writer needs.
pub(super) struct Tools<B> {
    buffer: Option<B>,
    /// The reference blocks of this round, by page of the buffer.
    items: KVec<Item>,
    parts: KVec<Part>,
    /// The counts of one block.
    counts: KVVec<u8>,
}

/// A reference block of a slab.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Item {
    slab: SlabNumber,
    block: u32,
}

impl<B: Buffer> Tools<B> {
    pub(super) fn new<D: Disk<Buffer = B>>(storage: &Storage<D>, pages: usize) -> Result<Self> {
        Ok(Self {
            buffer: Some(storage.buffer_of_parts(pages, pages)?),
            items: KVec::with_capacity(pages, GFP_KERNEL)?,
            parts: KVec::with_capacity(pages, GFP_KERNEL)?,
            counts: KVVec::from_elem(0, COUNTS_PER_BLOCK as usize, GFP_KERNEL)?,
        })
    }
}

impl<W: World> Depot<W> {
    /// The reference writer: works until [`stop`](Self::stop), or until the volume is read-only.
    pub async fn run_reference_writer(depot: Arc<Self>) {
        let mut tools = depot.reference_writer.take().await;
        loop {
            let more = depot.desk.wait_to_write(Seat::ReferenceWriter, |work| {
                (!work.write.is_empty()).then_some(())
            });
            if more.await.is_none() {
                break;
            }
            let result = depot.write_references(&mut tools).await;
            depot.desk.done();
            if depot.health.watch(result).is_err() {
                depot.wake_all();
                break;
            }
        }
        depot.reference_writer.give(tools);
    }

    /// Makes one round.
    async fn write_references(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        self.health.check()?;
        let mut buffer = tools.buffer.take().ok_or(IMPOSSIBLE)?;
        let picked = self.pick_references(tools, &mut buffer);
        tools.buffer = Some(buffer);
        picked?;
        if tools.items.is_empty() {
            return Ok(());
        }
        self.write_picked(tools).await?;
        self.references_written(tools)
    }

    /// Fills the buffer.
    fn pick_references(&self, tools: &mut Tools<BufferOf<W>>, buffer: &mut BufferOf<W>) -> Result {
        tools.items.clear();
        let Some(counts): Option<&mut Counts> = tools.counts.first_chunk_mut() else {
            return Err(IMPOSSIBLE);
        };
        while let Some(number) = self.desk.with(|work| work.write.pop()) {
            loop {
                if tools.items.len() >= buffer.pages() {
                    // The rest is for the next round.
                    self.desk.with(|work| work.write.insert(number));
                    return Ok(());
                }
                let Some((block, point)) = self.slab(number, |slab| slab.pick(counts))? else {
                    break;
                };
                let item = Item {
                    slab: number,
                    block,
                };
                // A block may have changed again since it was picked. It is written once: of two
                // writes on their way to one place either may be the last.
                let picked = tools.items.iter().position(|own| *own == item);
                let index = picked.unwrap_or(tools.items.len());
                let page = buffer.page_mut(index).ok_or(IMPOSSIBLE)?;
                reference::encode(page, counts, point);
                if picked.is_none() {
                    tools.items.push(item, GFP_KERNEL)?;
                }
            }
        }
        Ok(())
    }

    /// Writes what is in the buffer, neighbours in one I/O.
    async fn write_picked(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        let layout = self.layout();
        tools.parts.clear();
        let mut start = 0;
        while let Some(first) = tools.items.get(start).copied() {
            let mut count = 1;
            while tools.items.get(start + count as usize) == Some(&first.plus(count)) {
                count += 1;
            }
            let pbn = layout.reference_block(first.slab, first.block);
            let part = self.storage.part(pbn, count, start);
            fits(tools.parts.push_within_capacity(part))?;
            start += count as usize;
        }
        let (storage, purpose) = (&self.storage, Purpose::Metadata);
        let buffer = tools.buffer.take().ok_or(IMPOSSIBLE)?;
        let (mut buffer, mut result) = storage.flush(purpose, buffer).await;
        if result.is_ok() {
            buffer = storage.write_parts(purpose, buffer, &mut tools.parts).await;
            result = result_of(&tools.parts).map_err(Error::from);
        }
        tools.buffer = Some(buffer);
        result?;
        let written = tools.items.len() as u64;
        self.counters.references_written.fetch_add(written);
        Ok(())
    }

    /// The blocks of this round are written.
    fn references_written(&self, tools: &Tools<BufferOf<W>>) -> Result {
        let mut last = None;
        for item in &tools.items {
            if last == Some(item.slab) {
                continue;
            }
            last = Some(item.slab);
            let can_be_clean = self.slab(item.slab, |slab| slab.references_written())?;
            if can_be_clean {
                self.desk.with(|work| work.clean.insert(item.slab));
            }
        }
        self.desk.tell(|_| ());
        Ok(())
    }
}

impl Item {
    /// Returns the reference block so many behind.
    fn plus(self, blocks: u32) -> Self {
        Self {
            slab: self.slab,
            block: self.block.saturating_add(blocks),
        }
    }
}
