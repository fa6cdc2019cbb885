// SPDX-License-Identifier: GPL-2.0

//! Counting anew: what a rebuild finds in the block map becomes the counts.
//!
//! After `load(Load::Rebuild)` all counts are 0. The rebuild refers to each page of the block map,
//! then to each data block that is mapped, and ends with [`Depot::finish_rebuild`].

use super::scrubber::Tools;
use super::slab::State;
use super::BufferOf;
use super::Depot;
use super::IMPOSSIBLE;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::reference::MAX_COUNT;
use crate::format::Pbn;
use crate::storage::Purpose;
use crate::world::World;
use runtime::disk::Buffer;
use runtime::disk::Durability;

impl<W: World> Depot<W> {
    /// A page of the block map is there. Returns false if it cannot be: it is no data block, or
    /// something else is there.
    pub fn refer_to_page(&self, pbn: Pbn) -> Result<bool> {
        self.refer(pbn, |count| (count == 0).then_some(MAX_COUNT))
    }

    /// A logical block is stored there. Returns false if it cannot be: it is no data block, or one
    /// with so many references that it takes no more.
    pub fn refer_to_data(&self, pbn: Pbn) -> Result<bool> {
        self.refer(pbn, |count| (count < MAX_COUNT).then_some(count + 1))
    }

    fn refer(&self, pbn: Pbn, change: impl Fn(u8) -> Option<u8>) -> Result<bool> {
        let Some((number, sbn)) = self.layout().slab_of(pbn) else {
            return Ok(false);
        };
        if !self.slab(number, |slab| matches!(slab.state, State::Ready(_)))? {
            self.prepare(number, true)?;
        }
        let (is_done, freed) = self.slab(number, |slab| -> Result<_> {
            let counts = slab.counts().ok_or(IMPOSSIBLE)?;
            let count = counts.get(sbn).ok_or(Error::Status(Status::OutOfRange))?;
            let Some(count) = change(count) else {
                return Ok((false, 0));
            };
            let free = counts.free();
            counts.set(sbn, count);
            Ok((true, i64::from(counts.free()) - i64::from(free)))
        })??;
        if freed != 0 {
            self.allocator
                .with(|allocator| allocator.adjust(number, freed));
        }
        Ok(is_done)
    }

    /// Writes the counts of all slabs that have any, and what the summary is to say of them.
    pub async fn finish_rebuild(&self) -> Result {
        for number in 0..self.layout().slab_count {
            self.slab(number, |slab| slab.initialise(&self.slab_config))??;
        }
        self.save().await
    }

    /// Overwrites all slab journals with zeroes.
    pub(super) async fn erase_journals(&self, tools: &mut Tools<BufferOf<W>>) -> Result {
        let layout = self.layout();
        let mut buffer = tools.buffer.take().ok_or(IMPOSSIBLE)?;
        for index in 0..tools.pages {
            if let Some(page) = buffer.page_mut(index as usize) {
                page.fill(0);
            }
        }
        let mut result = Ok(());
        'slabs: for number in 0..layout.slab_count {
            let mut start = 0;
            while start < layout.slab.journal_blocks {
                let count = tools.pages.min(layout.slab.journal_blocks - start);
                let pbn = layout.journal_block(number, start);
                (buffer, result) = self
                    .storage
                    .write(
                        Purpose::Metadata,
                        pbn,
                        count,
                        buffer,
                        0,
                        Durability::Volatile,
                    )
                    .await;
                if result.is_err() {
                    break 'slabs;
                }
                start += count;
            }
        }
        tools.buffer = Some(buffer);
        result
    }
}
