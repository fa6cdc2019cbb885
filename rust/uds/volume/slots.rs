// SPDX-License-Identifier: GPL-2.0

//! Where the cache has the blocks of chapters from. It knows them by chapter, and only reads.

use crate::error::Error;
use crate::error::Result;
use crate::format::fault::check;
use crate::format::index_page::Header;
use crate::format::Block;
use crate::format::Chapter;
use crate::format::Geometry;
use kernel::prelude::*;
use persistent_data::shared_cache::Origin;
use persistent_data::shared_cache::Residence;
use persistent_data::shared_cache::Store;
use runtime::disk::Disk;
use runtime::disk::Part;
use runtime::disk::PAGE_SECTORS;
use runtime::sync::Arc;

/// The slots of a volume.
pub(super) struct Slots<D: Disk> {
    disk: Arc<D>,
    geometry: Geometry,
    first: u64,
    nonce: u64,
}

impl<D: Disk> Slots<D> {
    pub(super) fn new(disk: Arc<D>, geometry: &Geometry, first: u64, nonce: u64) -> Self {
        Self {
            disk,
            geometry: *geometry,
            first,
            nonce,
        }
    }

    pub(super) fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Returns what the cache knows a block of a chapter by.
    pub(super) fn key(&self, chapter: Chapter, block: u64) -> u64 {
        let blocks = self.geometry.chapter_blocks();
        chapter.saturating_mul(blocks).saturating_add(block)
    }

    /// Returns chapter and block of a key.
    fn parts(&self, key: u64) -> (Chapter, u64) {
        let blocks = self.geometry.chapter_blocks().max(1);
        (key / blocks, key % blocks)
    }

    pub(super) fn block_of(&self, chapter: Chapter) -> u64 {
        let slot = self.geometry.slot_of(chapter);
        self.first.saturating_add(self.geometry.slot_block(slot))
    }

    fn sector(&self, key: u64) -> u64 {
        let (chapter, block) = self.parts(key);
        let block = self.block_of(chapter).saturating_add(block);
        block.saturating_mul(PAGE_SECTORS)
    }
}

impl<D: Disk> Store for Slots<D> {
    type Buffer = D::Buffer;
    type Error = Error;

    fn buffer(&self, pages: usize) -> Result<D::Buffer> {
        Ok(self.disk.buffer_of_parts(pages, pages)?)
    }

    async fn read(&self, block: u64, _: Residence, buffer: D::Buffer) -> (D::Buffer, Result) {
        let sectors = PAGE_SECTORS as u32;
        let (buffer, result) = self.disk.read(self.sector(block), sectors, buffer).await;
        (buffer, result.map_err(Error::from))
    }

    fn buffer_now(&self, pages: usize) -> Result<D::Buffer> {
        Ok(self.disk.buffer_now(pages, pages)?)
    }

    fn part(&self, block: u64, blocks: u32, page: usize) -> Part {
        Part::new(self.sector(block), blocks * PAGE_SECTORS as u32, page)
    }

    async fn read_parts(&self, _: Residence, buffer: D::Buffer, parts: &mut [Part]) -> D::Buffer {
        self.disk.read_parts(buffer, parts).await
    }

    async fn write_parts(&self, _: Residence, buffer: D::Buffer, parts: &mut [Part]) -> D::Buffer {
        for part in parts {
            part.result = Err(EROFS);
        }
        buffer
    }

    async fn flush(&self, buffer: D::Buffer) -> (D::Buffer, Result) {
        (buffer, Ok(()))
    }

    /// Index pages say which chapter they are of; pages of records say nothing.
    fn loaded(&self, key: u64, _: Residence, page: &mut Block) -> Result<Origin> {
        let (chapter, block) = self.parts(key);
        let (number, rest) = (
            block / self.geometry.page_blocks(),
            block % self.geometry.page_blocks(),
        );
        if rest == 0 && number < self.geometry.index_pages.into() {
            let page_size = self.geometry.shape.page_size;
            let header = Header::decode(page, page_size, self.nonce)?;
            let found = header.chapter;
            check(found == chapter, "chapter of an index page", found)?;
        }
        Ok(Origin::Written)
    }

    fn set_valid(&self, _: &mut Block, _: bool) {}

    fn check(&self) -> Result {
        Ok(())
    }

    fn failed(&self, _: Error) {}
}
