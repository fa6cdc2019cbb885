// SPDX-License-Identifier: GPL-2.0

//! Saving an index, and making a save void.
//!
//! A save has what is in memory only: open chapter, volume index, page map. It goes where the older
//! one is: first that one's header says that there is none; when everything is on stable storage, the
//! new header makes it one. So a crash leaves the other save, or this one, whole.
//!
//! A save is true only as long as no chapter is written after it. Before one is, the first block of the
//! save's open chapter is overwritten: whoever loads it then finds none, and rebuilds.

use super::Index;
use crate::bench::Bench;
use crate::error::Error;
use crate::error::Result;
use crate::format::open_chapter;
use crate::format::save;
use crate::format::save::Places;
use crate::format::save::Save;
use crate::format::Block;
use crate::stream::Sink;
use crate::volume_index::Saver;
use crate::world::World;
use kernel::prelude::*;

impl<W: World> Index<W> {
    /// Saves the index, if it has changed.
    ///
    /// # Errors
    ///
    /// Those of the device. The save before this one is still there then.
    pub async fn save(&self) -> Result {
        self.freeze().await?;
        let result = self.save_alone().await;
        self.thaw();
        result
    }

    /// As [`save`](Self::save), while others are kept out.
    pub(super) async fn save_alone(&self) -> Result {
        if !self.is_dirty() {
            return Ok(());
        }
        let mut bench = self.bench.take().await;
        let result = self.save_with(&mut bench).await;
        self.bench.give(bench);
        result
    }

    async fn save_with(&self, bench: &mut Bench<W::Disk>) -> Result {
        let now = self.world.time_of_day_ms();
        let (slot, timestamp) = self.saves.with(|saves| save::next(&saves.headers, now));
        let header = Save {
            timestamp,
            zones: 1,
            newest: self.newest(),
            oldest: self.oldest(),
        };
        let start = self.super_block.save_block(slot);
        // What is left of this place if anything fails is no save.
        self.saves.with(|saves| saves.forget(slot));
        let encode = |page: &mut Block| save::encode_unsaved(page, &self.super_block, slot);
        bench.write_block(&self.disk, start, encode).await?;

        let places = Places::new(&self.super_block, header.zones);
        self.save_open_chapter(bench, start + places.open_chapter)
            .await?;
        self.save_volume_index(bench, start + places.volume_index, places.zone_blocks)
            .await?;
        self.save_page_map(bench, start + places.page_map).await?;

        let encode = |page: &mut Block| header.encode(page, &self.super_block, slot);
        bench.write_block(&self.disk, start, encode).await?;
        self.saves.with(|saves| {
            if let Some(place) = saves.headers.get_mut(usize::from(slot)) {
                *place = Some(header);
            }
            saves.valid = Some(slot);
        });
        self.dirty.store_relaxed(0);
        Ok(())
    }

    async fn save_open_chapter(&self, bench: &mut Bench<W::Disk>, block: u64) -> Result {
        let blocks = self.super_block.open_chapter_blocks;
        let chapter = self.newest();
        // Mainline wants room for one more.
        let room = self.geometry.records.saturating_sub(1);
        let count = (self.chapters.len(chapter) as u32).min(room);
        let put = async |bench: &mut Bench<W::Disk>, sink: &mut Sink<'_, W::Disk>| {
            sink.put(&open_chapter::encode(count)).await?;
            let mut first = 0;
            while first < count as usize {
                let records = bench.records_mut();
                let copied = self.chapters.copy(chapter, first, records);
                if copied == 0 {
                    return Err(Error::Errno(EIO));
                }
                for record in records.iter().take(copied.min(count as usize - first)) {
                    sink.put(&record.encode()).await?;
                }
                first += copied;
            }
            Ok(())
        };
        bench.write(&self.disk, block, blocks, put).await
    }

    async fn save_volume_index(
        &self,
        bench: &mut Bench<W::Disk>,
        block: u64,
        blocks: u64,
    ) -> Result {
        let put = async |bench: &mut Bench<W::Disk>, sink: &mut Sink<'_, W::Disk>| {
            let mut saver = Saver::new(&self.volume_index, self.volume.nonce());
            loop {
                let page = bench.page_mut();
                let filled = saver.fill(&self.volume_index, page).map_err(|_| EAGAIN)?;
                sink.put(page.get(..filled).unwrap_or_default()).await?;
                if filled < page.len() {
                    return Ok(());
                }
            }
        };
        bench.write(&self.disk, block, blocks, put).await
    }

    async fn save_page_map(&self, bench: &mut Bench<W::Disk>, block: u64) -> Result {
        let blocks = self.super_block.page_map_blocks;
        let put = async |bench: &mut Bench<W::Disk>, sink: &mut Sink<'_, W::Disk>| {
            let header = self.volume.with_page_map(|map| map.encode_header());
            sink.put(&header).await?;
            let mut first = 0;
            loop {
                let page = bench.page_mut();
                let count = self.volume.with_page_map(|map| map.encode(first, page));
                if count == 0 {
                    return Ok(());
                }
                sink.put(page.get(..2 * count).unwrap_or_default()).await?;
                first += count;
            }
        };
        bench.write(&self.disk, block, blocks, put).await
    }

    /// Sees that no save is loaded any more: a chapter is about to be written.
    pub(super) async fn void_save(&self, bench: &mut Bench<W::Disk>) -> Result {
        let valid = self.saves.with(|saves| {
            let slot = saves.valid?;
            let save = saves.headers.get(usize::from(slot)).copied()??;
            Some((slot, save.zones))
        });
        if let Some((slot, zones)) = valid {
            let places = Places::new(&self.super_block, zones);
            let block = self.super_block.save_block(slot) + places.open_chapter;
            let encode = |page: &mut Block| page.fill(0);
            bench.write_block(&self.disk, block, encode).await?;
            self.saves.with(|saves| saves.valid = None);
        }
        Ok(())
    }
}

impl super::Saves {
    /// A place has no save any more.
    fn forget(&mut self, slot: u16) {
        if let Some(place) = self.headers.get_mut(usize::from(slot)) {
            *place = None;
        }
        if self.valid == Some(slot) {
            self.valid = None;
        }
    }
}
