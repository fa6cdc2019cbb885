// SPDX-License-Identifier: GPL-2.0

//! Pages of the block map, read and written directly.

use super::log_unreadable;
use crate::block_map::Kind;
use crate::error::Error;
use crate::error::Result;
use crate::format::block_map;
use crate::format::block_map::Validity;
use crate::format::Page;
use crate::format::Pbn;
use crate::recovery::lanes::LANES;
use crate::recovery::replay::Pages;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::world::World;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::pool::Pool;

/// Pages of the block map, which are written as soon as they are changed. One that is of another
/// place is empty.
pub(super) struct PlainPages<'s, W: World> {
    world: &'s W,
    pub(super) storage: &'s Storage<W::Disk>,
    nonce: u64,
    pub(super) buffers: Pool<BufferOf<W>>,
}

type BufferOf<W> = <<W as World>::Disk as Disk>::Buffer;

impl<'s, W: World> PlainPages<'s, W> {
    pub(super) fn new(world: &'s W, storage: &'s Storage<W::Disk>, nonce: u64) -> Result<Self> {
        let mut buffers = KVec::with_capacity(LANES, GFP_KERNEL)?;
        for _ in 0..LANES {
            buffers.push(storage.buffer(1)?, GFP_KERNEL)?;
        }
        Ok(Self {
            world,
            storage,
            nonce,
            buffers: Pool::new(buffers),
        })
    }

    async fn change(
        &self,
        pbn: Pbn,
        buffer: BufferOf<W>,
        mut change: impl FnMut(&mut Page) + Send,
    ) -> (BufferOf<W>, Result) {
        let (mut buffer, result) = self
            .storage
            .read(Purpose::Metadata, pbn, 1, buffer, 0)
            .await;
        let result = log_unreadable(self.world, pbn, result);
        if result.is_err() {
            return (buffer, result);
        }
        let Some(page) = buffer.page_mut(0) else {
            return (buffer, Err(Error::Errno(EIO)));
        };
        let is_valid = block_map::validate(page, self.nonce, pbn) == Validity::Valid;
        if !is_valid {
            block_map::format_page(page, self.nonce, pbn);
        }
        change(page);
        let mut durability = Durability::Volatile;
        if !is_valid {
            let result;
            (buffer, result) = self.write(pbn, buffer, durability).await;
            if result.is_err() {
                return (buffer, result);
            }
            // What was torn is empty until a whole page has been there.
            durability = Durability::Ordered;
            if let Some(page) = buffer.page_mut(0) {
                block_map::set_initialized(page, true);
            }
        }
        self.write(pbn, buffer, durability).await
    }

    async fn write(
        &self,
        pbn: Pbn,
        buffer: BufferOf<W>,
        durability: Durability,
    ) -> (BufferOf<W>, Result) {
        self.storage
            .write(Purpose::Metadata, pbn, 1, buffer, 0, durability)
            .await
    }
}

impl<W: World> Pages for PlainPages<'_, W> {
    async fn create(&self, pbn: Pbn) -> Result {
        let mut buffer = self.buffers.take().await;
        if let Some(page) = buffer.page_mut(0) {
            block_map::format_page(page, self.nonce, pbn);
        }
        let (buffer, result) = self.write(pbn, buffer, Durability::Volatile).await;
        self.buffers.give(buffer);
        result
    }

    async fn update(&self, pbn: Pbn, _: Kind, change: impl FnMut(&mut Page) + Send) -> Result {
        let buffer = self.buffers.take().await;
        let (buffer, result) = self.change(pbn, buffer, change).await;
        self.buffers.give(buffer);
        result
    }

    async fn write_all(&self) -> Result {
        self.flush().await
    }
}
