// SPDX-License-Identifier: GPL-2.0

//! Writing a chapter that is full.
//!
//! What it takes is allocated when the index is opened, and is there once: who writes a chapter, or
//! a save, has the [`Bench`].

use crate::error::Result;
use crate::format::Block;
use crate::format::Chapter;
use crate::format::Geometry;
use crate::format::Record;
use crate::open_chapter::Chapters;
use crate::seal::Press;
use crate::stream::Sink;
use crate::stream::Source;
use crate::stream::PIECE_PAGES;
use crate::volume::Volume;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::PAGE_SECTORS;

/// What it takes to write a chapter, or a save.
pub struct Bench<D: Disk> {
    buffer: Option<D::Buffer>,
    press: Press,
    page: KVVec<u8>,
    records: KVVec<Record>,
}

impl<D: Disk> Bench<D> {
    /// Allocates it.
    pub fn new(disk: &D, geometry: &Geometry) -> Result<Self> {
        let shape = &geometry.shape;
        let records = shape.page_records as usize;
        Ok(Self {
            buffer: Some(disk.buffer(PIECE_PAGES)?),
            press: Press::new(geometry)?,
            page: KVVec::from_elem(0, shape.page_size as usize, GFP_KERNEL)?,
            records: KVVec::from_elem(Record::default(), records, GFP_KERNEL)?,
        })
    }

    /// Returns memory of the size of a page.
    pub fn page_mut(&mut self) -> &mut [u8] {
        &mut self.page
    }

    /// Returns memory for the records of a page.
    pub fn records_mut(&mut self) -> &mut [Record] {
        &mut self.records
    }

    fn take_buffer(&mut self) -> Result<D::Buffer> {
        Ok(self.buffer.take().ok_or(EIO)?)
    }

    /// Runs `put` with a region to be written, and finishes that.
    pub async fn write<'d>(
        &mut self,
        disk: &'d D,
        block: u64,
        blocks: u64,
        put: impl AsyncFnOnce(&mut Self, &mut Sink<'d, D>) -> Result,
    ) -> Result {
        let mut sink = Sink::new(disk, block, blocks, self.take_buffer()?);
        let mut result = put(self, &mut sink).await;
        if result.is_ok() {
            result = sink.finish().await;
        }
        self.buffer = sink.into_buffer();
        result
    }

    /// Runs `take` with a region to be read.
    pub async fn read<'d, T>(
        &mut self,
        disk: &'d D,
        block: u64,
        blocks: u64,
        take: impl AsyncFnOnce(&mut Self, &mut Source<'d, D>) -> Result<T>,
    ) -> Result<T> {
        let mut source = Source::new(disk, block, blocks, self.take_buffer()?);
        let result = take(self, &mut source).await;
        self.buffer = source.into_buffer();
        result
    }

    /// Writes one block, to be stable when this returns.
    pub async fn write_block(
        &mut self,
        disk: &D,
        block: u64,
        encode: impl FnOnce(&mut Block),
    ) -> Result {
        let mut buffer = self.take_buffer()?;
        if let Some(page) = buffer.page_mut(0) {
            encode(page);
        }
        let sector = block.saturating_mul(PAGE_SECTORS);
        let write = disk.write(sector, PAGE_SECTORS as u32, buffer, Durability::Ordered);
        let (buffer, result) = write.await;
        self.buffer = Some(buffer);
        Ok(result?)
    }

    /// Reads one block.
    pub async fn read_block<T>(
        &mut self,
        disk: &D,
        block: u64,
        decode: impl FnOnce(&Block) -> T,
    ) -> Result<T> {
        let buffer = self.take_buffer()?;
        let sector = block.saturating_mul(PAGE_SECTORS);
        let (buffer, result) = disk.read(sector, PAGE_SECTORS as u32, buffer).await;
        let decoded = result.and_then(|()| buffer.page(0).map(decode).ok_or(EIO));
        self.buffer = Some(buffer);
        Ok(decoded?)
    }

    /// Puts all that was written on stable storage.
    pub async fn flush(&mut self, disk: &D) -> Result {
        let (buffer, result) = disk.flush(self.take_buffer()?).await;
        self.buffer = Some(buffer);
        Ok(result?)
    }

    /// Writes a chapter from memory, and returns how many names will not be found there.
    ///
    /// # Errors
    ///
    /// Those of the device.
    pub async fn write_chapter(
        &mut self,
        disk: &D,
        volume: &Volume<D>,
        geometry: &Geometry,
        chapters: &Chapters,
        chapter: Chapter,
    ) -> Result<usize> {
        self.sort(chapters, chapter);
        let block = volume.block_of(chapter);
        let blocks = geometry.chapter_blocks();
        let mut sink = Sink::new(disk, block, blocks, self.take_buffer()?);
        let written = self.put_chapter(&mut sink, volume, geometry, chapters, chapter);
        let result = written.await;
        self.buffer = sink.into_buffer();
        result?;
        self.flush(disk).await?;
        Ok(self.press.dropped())
    }

    async fn put_chapter(
        &mut self,
        sink: &mut Sink<'_, D>,
        volume: &Volume<D>,
        geometry: &Geometry,
        chapters: &Chapters,
        chapter: Chapter,
    ) -> Result {
        self.put_index(sink, volume, geometry, chapters, chapter)
            .await?;
        self.put_records(sink, geometry, chapters, chapter).await?;
        sink.finish().await
    }

    fn sort(&mut self, chapters: &Chapters, chapter: Chapter) {
        self.press.begin();
        let mut first = 0;
        loop {
            let count = chapters.copy(chapter, first, &mut self.records);
            if count == 0 {
                break;
            }
            for record in self.records.iter().take(count) {
                self.press.add(&record.name);
            }
            first += count;
        }
        self.press.sort();
    }

    async fn put_index(
        &mut self,
        sink: &mut Sink<'_, D>,
        volume: &Volume<D>,
        geometry: &Geometry,
        chapters: &Chapters,
        chapter: Chapter,
    ) -> Result {
        let slot = geometry.slot_of(chapter);
        let name_of = |number| {
            let mut record = [Record::default()];
            chapters.copy(chapter, number, &mut record);
            record[0].name
        };
        for number in 0..geometry.index_pages {
            let is_last = number + 1 == geometry.index_pages;
            let page = &mut self.page;
            let made = self
                .press
                .index_page(volume.nonce(), chapter, is_last, page, name_of);
            let last_list = (made.first_list + made.lists).saturating_sub(1);
            volume.with_page_map(|map| map.set(slot, number, last_list as u16));
            sink.put(&self.page).await?;
        }
        volume.with_page_map(|map| map.updated = chapter);
        Ok(())
    }

    async fn put_records(
        &mut self,
        sink: &mut Sink<'_, D>,
        geometry: &Geometry,
        chapters: &Chapters,
        chapter: Chapter,
    ) -> Result {
        let page_records = geometry.shape.page_records as usize;
        for number in 0..geometry.shape.record_pages as usize {
            let count = chapters.copy(chapter, number * page_records, &mut self.records);
            // A chapter is full. If it is not, copies fill it, which its index does not know.
            if let Some(last) = count.checked_sub(1).and_then(|at| self.records.get(at)) {
                let last = *last;
                self.records.iter_mut().skip(count).for_each(|r| *r = last);
            }
            self.press.record_page(&self.records, &mut self.page);
            sink.put(&self.page).await?;
        }
        Ok(())
    }
}
