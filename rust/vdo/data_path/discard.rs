// SPDX-License-Identifier: GPL-2.0

//! Discards: mappings that are taken away.
//!
//! A discard is served chunk by chunk, so that it holds few blocks at a time and others get their
//! turn. A chunk costs one look at its leaf page, and journal entries only for what is mapped.
//! What is discarded in part is overwritten with zeroes, as a write would.

use crate::block_map::BlockMap;
use crate::data_path::batch::Batch;
use crate::data_path::counters::Counters;
use crate::data_path::locks::Access;
use crate::data_path::locks::LbnLocks;
use crate::data_path::locks::CHUNK;
use crate::data_path::write::change_of;
use crate::data_path::write::BioOf;
use crate::data_path::write::Writer;
use crate::depot::Depot;
use crate::error::Error;
use crate::error::Result;
use crate::format::block_map;
use crate::format::tree;
use crate::format::DepotLayout;
use crate::format::Lbn;
use crate::format::Mapping;
use crate::format::Operation;
use crate::format::Page;
use crate::format::Pbn;
use crate::format::RecoveryEntry;
use crate::format::BLOCK_SIZE;
use crate::format::SECTOR_SIZE;
use crate::health::Health;
use crate::journal::Journal;
use crate::storage::BLOCK_SECTORS;
use crate::world::Bio;
use crate::world::World;
use core::ops::Range;
use kernel::prelude::*;
use runtime::sync::Arc;

/// Serves discards.
pub(crate) struct Discarder<W: World> {
    pub(crate) health: Arc<Health>,
    pub(crate) journal: Arc<Journal<W>>,
    pub(crate) depot: Arc<Depot<W>>,
    pub(crate) map: Arc<BlockMap<W>>,
    pub(crate) locks: Arc<LbnLocks>,
    pub(crate) counters: Arc<Counters>,
    /// What is discarded in part is written.
    pub(crate) writer: Arc<Writer<W>>,
}

impl<W: World> Discarder<W> {
    /// Serves a discard.
    pub(crate) async fn serve_discard(&self, bio: BioOf<W>, batch: &mut Batch<W>) {
        let sectors = bio.sector()..bio.sector().saturating_add(bio.sectors().into());
        let mut result = self.discard(sectors, batch).await;
        if let (Ok(()), true) = (result, bio.is_fua()) {
            // Where nothing was mapped any more, others may have entries for that to commit.
            result = self.journal.commit(self.journal.end()).await;
        }
        self.counters.failed(&result, 1);
        self.counters.done(&bio);
        bio.complete(result.map_err(Error::errno));
    }

    /// Discards sectors.
    async fn discard(&self, sectors: Range<u64>, batch: &mut Batch<W>) -> Result {
        self.health.check()?;
        let whole = sectors.start.div_ceil(BLOCK_SECTORS)..sectors.end / BLOCK_SECTORS;
        if whole.start > whole.end {
            // All inside one block.
            return self.zero_part(&sectors, batch).await;
        }
        let (head, tail) = (
            sectors.start..whole.start * BLOCK_SECTORS,
            whole.end * BLOCK_SECTORS..sectors.end,
        );
        if !head.is_empty() {
            self.zero_part(&head, batch).await?;
        }
        self.unmap(whole, batch).await?;
        if !tail.is_empty() {
            self.zero_part(&tail, batch).await?;
        }
        Ok(())
    }

    /// Zeroes some sectors of one block, if it has a leaf page.
    async fn zero_part(&self, sectors: &Range<u64>, batch: &mut Batch<W>) -> Result {
        let lbn = sectors.start / BLOCK_SECTORS;
        let (page_number, _) = tree::leaf(lbn);
        if self
            .health
            .watch_look_up(self.map.leaf(page_number).await)?
            .is_none()
        {
            return Ok(());
        }
        let byte = |sector: u64| {
            let sector = sector.saturating_sub(lbn * BLOCK_SECTORS);
            (sector as usize * SECTOR_SIZE).min(BLOCK_SIZE)
        };
        let bytes = byte(sectors.start)..byte(sectors.end);
        let claim = self.locks.token(lbn..lbn + 1, Access::Exclusive).await;
        batch.collect_zeroes(lbn, bytes, claim);
        self.writer.write(batch).await;
        batch.result()
    }

    /// Takes the mappings of whole blocks away.
    async fn unmap(&self, lbns: Range<Lbn>, batch: &mut Batch<W>) -> Result {
        let mut next = lbns.start;
        while next < lbns.end {
            let (page_number, _) = tree::leaf(next);
            let page_end = tree::first_lbn(page_number + 1).min(lbns.end);
            match self
                .health
                .watch_look_up(self.map.leaf(page_number).await)?
            {
                None => next = page_end,
                Some(pbn) => {
                    let chunk_end = (next / CHUNK + 1) * CHUNK;
                    let most = next.saturating_add(batch.entries.capacity() as u64);
                    let chunk = next..chunk_end.min(page_end).min(most);
                    next = chunk.end;
                    self.unmap_chunk(pbn, chunk, batch).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes the mappings of blocks of one chunk and one leaf page away.
    async fn unmap_chunk(&self, pbn: Pbn, lbns: Range<Lbn>, batch: &mut Batch<W>) -> Result {
        let claim = match self.locks.try_claim(lbns.clone(), Access::Exclusive) {
            Some(claim) => claim,
            None => {
                self.writer.packer.hurry(&lbns);
                self.locks.claim(lbns.clone(), Access::Exclusive).await
            }
        };
        let (_, first) = tree::leaf(lbns.start);
        let count = lbns.end.saturating_sub(lbns.start) as u16;
        let slots = first..first.saturating_add(count);
        self.map.count_requests(count.into(), count.into());
        let page = self.map.pin_leaf(pbn).await?;
        page.read(|page| batch.collect_mapped(page, pbn, slots, self.depot.layout()))?;
        // What is claimed nobody else changes: the page is still as it was.
        let mut left: &[RecoveryEntry] = &batch.entries;
        while let (Some(first), Some(last)) = (left.first(), left.last()) {
            let places = self.journal.reserve(left.len()).await?;
            let (now, later) = left.split_at(places.len().min(left.len()));
            let after = later.first().unwrap_or(last).slot + u16::from(later.is_empty());
            page.update(change_of(&places), |page| {
                block_map::unmap(page, first.slot..after);
            });
            self.journal.fill(places, now);
            left = later;
        }
        drop(claim);
        Ok(())
    }
}

impl<W: World> Batch<W> {
    /// Notes entries that take away what is mapped in these slots of a leaf page.
    fn collect_mapped(
        &mut self,
        page: &Page,
        pbn: Pbn,
        slots: Range<u16>,
        depot: DepotLayout,
    ) -> Result {
        self.entries.clear();
        for (slot, old) in block_map::entries_of(page, slots) {
            if old != Mapping::UNMAPPED {
                let entry = RecoveryEntry {
                    operation: Operation::Data,
                    page: pbn,
                    slot,
                    new: Mapping::UNMAPPED,
                    old: depot.sound(old),
                };
                // There is room for all of them.
                let pushed = self.entries.push_within_capacity(entry);
                pushed.map_err(|_| Error::Errno(EIO))?;
            }
        }
        Ok(())
    }
}
