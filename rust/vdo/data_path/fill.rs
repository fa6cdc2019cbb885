// SPDX-License-Identifier: GPL-2.0

//! Filling the buffer of a batch: from here on the data is ours.
//!
//! What has to be read before is read at once: the leaf pages that are not in memory, then what
//! blocks hold so far that are written in part. The latter comes into the last pages that the batch
//! can need, in order, so that no block before is in the way.

use crate::data_path::batch::Batch;
use crate::data_path::batch::Fate;
use crate::data_path::fragment;
use crate::data_path::write::Writer;
use crate::error::Error;
use crate::error::Result;
use crate::format::Lbn;
use crate::format::Mapping;
use crate::format::Pbn;
use crate::format::BLOCK_SIZE;
use crate::storage::Purpose;
use crate::world::Data;
use crate::world::Repeated;
use crate::world::World;
use core::pin::pin;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Part;
use runtime::stack::apart;
use runtime::task::yield_now;

impl<W: World> Writer<W> {
    /// Reads the leaf pages of a batch that are not in memory, unless it is only one: that is read
    /// when it is needed.
    async fn read_leaves(&self, batch: &mut Batch<W>) {
        let is_missing = |pbn: &u64| !self.map.has(*pbn);
        let pbns = batch.leaves.iter().filter_map(|leaf| leaf.pbn);
        if batch.leaves.len() < 2 || pbns.filter(is_missing).nth(1).is_none() {
            return;
        }
        batch.unviewed().await;
        if let Some(buffer) = batch.buffer.take() {
            let missing = batch.leaves.iter().filter_map(|leaf| leaf.pbn);
            let read = self.map.prefetch(missing, &mut batch.prefetch, buffer);
            batch.buffer = Some(read.await);
        }
    }

    /// Copies the data into our buffer; of blocks of zeroes nothing, and of blocks that are
    /// written in part, what they hold so far as well.
    pub(crate) async fn fill(&self, batch: &mut Batch<W>) {
        apart(pin!(self.read_leaves(batch))).await;
        batch.unviewed().await;
        batch.collect_partial();
        if !batch.partial.is_empty() {
            apart(pin!(self.read_partial(batch))).await;
        }
        let mut page = 0;
        for request in 0..batch.requests.len() {
            let before = page;
            if let Err(error) = batch.fill_request(request, &mut page) {
                batch.fail(request, error);
                page = before;
            }
        }
        batch.pages = page;
    }

    /// Reads what blocks hold so far that are written in part.
    async fn read_partial(&self, batch: &mut Batch<W>) {
        batch.parts.clear();
        for at in 0..batch.partial.len() {
            match self.old_mapping(batch.place_of_partial(at)).await {
                Ok(old) => {
                    batch.expect_partial(at, old, |pbn, page| self.storage.part(pbn, 1, page))
                }
                Err(error) => batch.fail_partial(at, error),
            }
        }
        if let Some(buffer) = batch.buffer.take() {
            let parts = &mut batch.parts;
            let read = self.storage.read_parts(Purpose::Data, buffer, parts);
            batch.buffer = Some(read.await);
        }
        let mut read = 0;
        for at in 0..batch.partial.len() {
            let old = batch
                .partial
                .get(at)
                .map_or(Mapping::UNMAPPED, |own| own.old);
            if old.pbn == 0 {
                continue;
            }
            let part = batch.parts.get(read).map_or(Err(EIO), |part| part.result);
            read += 1;
            let result = part.map_err(Error::from);
            if let Err(error) = result.and_then(|()| self.unpack_partial(batch, at, old)) {
                self.log_failed_partial(batch, at);
                batch.fail_partial(at, error);
            }
        }
    }

    /// Returns where a block is so far that is written in part.
    async fn old_mapping(&self, place: Option<(Option<Pbn>, Lbn)>) -> Result<Mapping> {
        let (leaf, lbn) = place.ok_or(Error::Errno(EIO))?;
        let old = self.map.mapping(leaf, lbn).await?;
        Ok(self.depot.layout().sound(old))
    }

    /// Makes a block of what was read, if that is compressed.
    fn unpack_partial(&self, batch: &mut Batch<W>, at: usize, old: Mapping) -> Result {
        let Some(slot) = old.state.slot() else {
            return Ok(());
        };
        let page = batch.page_of_partial(at);
        let Batch {
            buffer, scratch, ..
        } = batch;
        let (Some(buffer), Some(scratch)) = (buffer, scratch) else {
            return Err(Error::Errno(EIO));
        };
        fragment::decompress(&*self.world, buffer.page(page), slot, scratch.page_mut(0))?;
        if let (Some(to), Some(block)) = (buffer.page_mut(page), scratch.page(0)) {
            to.copy_from_slice(block);
        }
        Ok(())
    }

    fn log_failed_partial(&self, batch: &Batch<W>, at: usize) {
        let partial = batch.partial.get(at);
        let block = partial.and_then(|partial| batch.blocks.get(partial.block));
        if let Some(block) = block {
            self.world.log_repeated(
                Repeated::ReadModifyWrite,
                fmt!(
                    "Completing read-modify-write vio for LBN {} with error after read_data_vio",
                    block.lbn
                ),
            );
        }
    }
}

impl<W: World> Batch<W> {
    /// Waits until nobody looks at the buffer: readers of the batch before copy what they look at,
    /// and are gone soon.
    async fn unviewed(&mut self) {
        while self.buffer.as_ref().is_some_and(Buffer::is_viewed) {
            yield_now().await;
        }
    }

    /// Returns the leaf page and the number of the block that is the `at`-th written in part.
    fn place_of_partial(&self, at: usize) -> Option<(Option<Pbn>, Lbn)> {
        let block = self.blocks.get(self.partial.get(at)?.block)?;
        Some((self.leaves.get(block.leaf)?.pbn, block.lbn))
    }

    /// Returns the page into which the block is read that is the `at`-th written in part.
    ///
    /// No block before it has that page, nor one behind it: of all pages that the batch can need,
    /// there are left behind it at least those of the blocks in part that follow.
    fn page_of_partial(&self, at: usize) -> usize {
        let before = self.blocks.len().saturating_sub(self.partial.len());
        before.saturating_add(at)
    }

    /// The `at`-th block that is written in part is at `old` so far: notes that it is to be read, if
    /// it is to.
    fn expect_partial(&mut self, at: usize, old: Mapping, part: impl FnOnce(u64, usize) -> Part) {
        let page = self.page_of_partial(at);
        if let Some(partial) = self.partial.get_mut(at) {
            partial.old = old;
        }
        if old.pbn != 0 {
            // There is room for all of them.
            let _ = self.parts.push_within_capacity(part(old.pbn, page));
        } else if let Some(page) = self.buffer.as_mut().and_then(|own| own.page_mut(page)) {
            page.fill(0);
        }
    }

    fn fail_partial(&mut self, at: usize, error: Error) {
        if let Some(request) = self.partial.get(at).map(|partial| partial.request) {
            self.fail(request, error);
        }
    }

    /// Fills pages from `page` on with the data of a request, and moves `page` behind them.
    fn fill_request(&mut self, request: usize, page: &mut usize) -> Result {
        let first_partial = self.page_of_partial(0);
        let Batch {
            requests,
            blocks,
            partial,
            buffer,
            ..
        } = self;
        let request = requests.get(request).ok_or(Error::Errno(EIO))?;
        if request.error.is_some() {
            return Ok(());
        }
        let buffer = buffer.as_mut().ok_or(Error::Errno(EIO))?;
        let mut data = request.data();
        let own = blocks.get_mut(request.blocks.clone()).unwrap_or_default();
        for (at, block) in (request.blocks.start..).zip(own) {
            if block.is_whole() && data.is_zero(BLOCK_SIZE) {
                block.fate = Fate::Zero;
                data.skip(BLOCK_SIZE);
                continue;
            }
            if !block.is_whole() {
                let number = partial.binary_search_by_key(&at, |partial| partial.block);
                let number = number.map_err(|_| Error::Errno(EIO))?;
                buffer.copy_page(first_partial.saturating_add(number), *page);
            }
            let own = buffer.page_mut(*page).ok_or(Error::Errno(EIO))?;
            let part = own.get_mut(block.part.clone()).ok_or(Error::Errno(EIO))?;
            data.copy(part);
            if !block.is_whole() && own.iter().all(|&byte| byte == 0) {
                block.fate = Fate::Zero;
                continue;
            }
            block.fate = Fate::Data(*page);
            *page += 1;
        }
        Ok(())
    }
}
