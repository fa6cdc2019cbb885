// SPDX-License-Identifier: GPL-2.0

//! Reads.
//!
//! A bio whose blocks lie side by side on the storage is sent there as it is. Of others, each run
//! is read straight into the caller's memory, all at once. Compressed blocks, and blocks of which
//! less is wanted than the storage reads at once, are read into a buffer of ours, the former once
//! for all their neighbours.
//!
//! The blocks stay claimed until the storage has delivered them, so that nobody reuses them.

use crate::block_map::BlockMap;
use crate::data_path::counters::Counters;
use crate::data_path::fragment;
use crate::data_path::locks::Access;
use crate::data_path::locks::LbnLocks;
use crate::data_path::packer::Packer;
use crate::data_path::shown::Shown;
use crate::data_path::shown::ViewOf;
use crate::depot::Depot;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::block_map;
use crate::format::tree;
use crate::format::DepotLayout;
use crate::format::Lbn;
use crate::format::Mapping;
use crate::format::Page;
use crate::format::Pbn;
use crate::format::SECTOR_SIZE;
use crate::health::Health;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::storage::BLOCK_SECTORS;
use crate::world::ReadBio;
use crate::world::Repeated;
use crate::world::World;
use core::ops::Range;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::View;
use runtime::disk::PAGE_SIZE;
use runtime::pool::Pool;
use runtime::sync::Arc;

/// Blocks that follow each other, and where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    mapping: Mapping,
    blocks: u64,
}

/// What a read takes from a pool that cannot read all straight into the caller's memory.
pub(crate) struct Fragments<B> {
    /// A block of the storage; away while it is read.
    stored: Option<B>,
    /// Which one it is, if it is one.
    holds: Option<Pbn>,
    /// One of the blocks that were in it, if it is compressed.
    block: B,
}

impl<B> Fragments<B> {
    /// Makes one of two buffers of a page.
    pub(crate) fn new([stored, block]: [B; 2]) -> Self {
        Self {
            stored: Some(stored),
            holds: None,
            block,
        }
    }
}

type BufferOf<W> = <<W as World>::Disk as Disk>::Buffer;

/// Serves reads.
pub(crate) struct Reader<W: World> {
    pub(crate) world: Arc<W>,
    pub(crate) health: Arc<Health>,
    pub(crate) storage: Arc<Storage<W::Disk>>,
    pub(crate) map: Arc<BlockMap<W>>,
    pub(crate) depot: Arc<Depot<W>>,
    pub(crate) locks: Arc<LbnLocks>,
    pub(crate) shown: Arc<Shown<ViewOf<W>>>,
    pub(crate) packer: Arc<Packer>,
    pub(crate) fragments: Pool<Fragments<BufferOf<W>>>,
    pub(crate) counters: Arc<Counters>,
}

impl<W: World> Reader<W> {
    /// Serves a bio that reads.
    ///
    /// # Errors
    ///
    /// What the bio is to be completed with.
    pub(crate) async fn read<R: ReadBio>(&self, bio: &mut R) -> Result<(), kernel::error::Error> {
        self.counters.read_came(bio.sector(), bio.sectors());
        let start = bio.sector();
        let end = start.saturating_add(bio.sectors().into());
        let lbns = start / BLOCK_SECTORS..end.div_ceil(BLOCK_SECTORS);
        let result = match self.locks.try_claim(lbns.clone(), Access::Shared) {
            Some(_claim) => self.read_claimed(bio, lbns).await,
            None if self.read_shown(bio, &lbns) => Ok(()),
            None if self.read_parked(bio, &lbns).await => Ok(()),
            None => {
                self.packer.hurry(&lbns);
                let _claim = self.locks.claim(lbns.clone(), Access::Shared).await;
                self.read_claimed(bio, lbns).await
            }
        };
        self.counters.read_done(bio.sector(), bio.sectors());
        result.map_err(Error::errno)
    }

    /// Takes the data from a write that is still under way, if all of it is there.
    fn read_shown<R: ReadBio>(&self, bio: &mut R, lbns: &Range<Lbn>) -> bool {
        let Some((view, first)) = self.shown.find(lbns) else {
            return false;
        };
        for (at, lbn) in lbns.clone().enumerate() {
            let wanted = bytes_of(bio, lbn, 1);
            let page = view.page(first.saturating_add(at));
            let part = page.and_then(|page| page.get(wanted.skip..wanted.skip + wanted.bytes));
            bio.copy_in(wanted.offset, part.unwrap_or_default());
        }
        true
    }

    /// Takes the data of a block from a fragment of it that is parked.
    async fn read_parked<R: ReadBio>(&self, bio: &mut R, lbns: &Range<Lbn>) -> bool {
        if lbns.end.saturating_sub(lbns.start) != 1 || self.packer.is_empty() {
            return false;
        }
        let mut own = self.fragments.take().await;
        own.holds = None;
        let packed = own.stored.as_mut().and_then(|stored| stored.page_mut(0));
        let size = packed.and_then(|page| self.packer.fragment(lbns.start, page));
        let is_found = size.is_some_and(|size| {
            let from = own.stored.as_ref().and_then(|stored| stored.page(0));
            let fragment = from.and_then(|page| page.get(..size)).unwrap_or_default();
            let unpacked = own
                .block
                .page_mut(0)
                .map(|page| self.world.decompress(fragment, page));
            unpacked.is_some_and(|unpacked| unpacked.is_ok())
        });
        if is_found {
            let wanted = bytes_of(bio, lbns.start, 1);
            let page = own.block.page(0);
            let part = page.and_then(|page| page.get(wanted.skip..wanted.skip + wanted.bytes));
            bio.copy_in(wanted.offset, part.unwrap_or_default());
        }
        self.fragments.give(own);
        is_found
    }

    async fn read_claimed<R: ReadBio>(&self, bio: &mut R, lbns: Range<Lbn>) -> Result {
        let straight = self.storage.can_read(bio.sector(), bio.sectors().into());
        let mut next = lbns.start;
        let mut fragments = None;
        let mut result = Ok(());
        while next < lbns.end && result.is_ok() {
            let (slots, first) = (tree::leaf(next), next);
            let mut limit = u64::from(block_map::ENTRIES - slots.1).min(lbns.end - next);
            if !straight {
                limit = limit.min(whole_or_part(bio, next, lbns.end));
            }
            let run = match self.run(bio, slots, limit).await {
                Ok(run) => run,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            next += run.blocks;
            if straight && first == lbns.start && next == lbns.end && self.is_plain(run.mapping) {
                // Everything in one place: a sector of the bio is the same number of sectors
                // behind the start of its block.
                let skip = bio.sector() % BLOCK_SECTORS;
                self.storage.count_data_read(run.blocks);
                let sector = self.storage.sector(run.mapping.pbn)?.saturating_add(skip);
                let forwarded = bio.forward(sector).await.map_err(Error::from);
                return self.log_failed_read(first, forwarded);
            }
            result = self.read_run(bio, first, run, &mut fragments).await;
        }
        let finished = bio.finish_parts().await.map_err(Error::from);
        if let Some(mut own) = fragments {
            // From here on nobody keeps the block from being freed, and written anew.
            own.holds = None;
            self.fragments.give(own);
        }
        self.log_failed_read(lbns.start, result.and(finished))
    }

    /// Returns the run that begins at a slot of a leaf page, of at most `limit` blocks.
    async fn run<R: ReadBio>(
        &self,
        bio: &mut R,
        (page_number, slot): (u64, u16),
        limit: u64,
    ) -> Result<Run> {
        let nothing = Run {
            mapping: Mapping::UNMAPPED,
            blocks: limit,
        };
        let leaf = match self.map.try_leaf(page_number) {
            Some(leaf) => leaf,
            None => {
                bio.leave_map().await;
                self.map.leaf(page_number).await
            }
        };
        let Some(pbn) = self.health.watch_look_up(leaf)? else {
            return Ok(nothing);
        };
        let depot = self.depot.layout();
        let find = |page: &Page| run_in(page, slot, limit, &depot);
        let run = match self.map.try_read(pbn, find) {
            Some(run) => run,
            None => {
                bio.leave_map().await;
                self.map.pin_leaf(pbn).await?.read(find)
            }
        };
        self.map.count_requests(run.blocks, 0);
        Ok(run)
    }

    async fn read_run<R: ReadBio>(
        &self,
        bio: &mut R,
        first: Lbn,
        run: Run,
        fragments: &mut Option<Fragments<BufferOf<W>>>,
    ) -> Result {
        let Mapping { pbn, state } = run.mapping;
        let wanted = bytes_of(bio, first, run.blocks);
        if pbn == 0 && !state.is_compressed() {
            bio.zero(wanted.offset, wanted.bytes);
            return Ok(());
        }
        if !self.depot.layout().is_data_block(pbn) || !run.mapping.is_valid_location() {
            self.world.log_repeated(
                Repeated::BadMapping,
                fmt!(
                    "PBN {pbn} with state {} read from the block map was invalid",
                    state.bits()
                ),
            );
            return Err(Status::BadMapping.into());
        }
        let skip = (wanted.skip / SECTOR_SIZE) as u64;
        let sectors = (wanted.bytes / SECTOR_SIZE) as u32;
        let slot = state.slot();
        if slot.is_some() || !self.storage.can_read(skip, sectors.into()) {
            return self
                .read_block_of(bio, (pbn, slot), wanted, fragments)
                .await;
        }
        self.storage.count_data_read(run.blocks);
        let sector = self.storage.sector(pbn)?;
        Ok(bio
            .start_part(wanted.offset, sector.saturating_add(skip), sectors)
            .await?)
    }

    /// Reads a part of a plain block, or of a block that is in fragment `slot` of one, through a
    /// buffer.
    async fn read_block_of<R: ReadBio>(
        &self,
        bio: &mut R,
        (pbn, slot): (Pbn, Option<u8>),
        wanted: Wanted,
        fragments: &mut Option<Fragments<BufferOf<W>>>,
    ) -> Result {
        let mut own = match fragments.take() {
            Some(own) => own,
            None => {
                bio.leave_map().await;
                self.fragments.take().await
            }
        };
        let mut result = Ok(());
        if own.holds.replace(pbn) != Some(pbn) {
            result = self.read_block(pbn, &mut own.stored).await;
        }
        let mut block = own.stored.as_ref();
        if let (Ok(()), Some(slot)) = (result, slot) {
            let stored = own.stored.as_ref().and_then(|stored| stored.page(0));
            result = fragment::decompress(&*self.world, stored, slot, own.block.page_mut(0));
            block = Some(&own.block);
        }
        if result.is_err() {
            own.holds = None;
        } else if let Some(page) = block.and_then(|block| block.page(0)) {
            let part = page.get(wanted.skip..wanted.skip + wanted.bytes);
            bio.copy_in(wanted.offset, part.unwrap_or_default());
        }
        *fragments = Some(own);
        result
    }

    fn is_plain(&self, mapping: Mapping) -> bool {
        mapping == Mapping::plain(mapping.pbn)
            && mapping.pbn != 0
            && self.depot.layout().is_data_block(mapping.pbn)
    }

    fn log_failed_read(&self, lbn: Lbn, result: Result) -> Result {
        if let Err(error) = result {
            self.world.log_repeated(
                Repeated::Read,
                fmt!("Completing read vio for LBN {lbn} with error after read_data_vio: {error}"),
            );
        }
        result
    }
}

/// The bytes of a bio that a run of blocks holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    /// Where in the bio.
    offset: usize,
    /// Bytes of the first block that are before the bio's start.
    skip: usize,
    bytes: usize,
}

/// Returns the bytes of `bio` in `blocks` blocks from `first` on.
fn bytes_of(bio: &impl ReadBio, first: Lbn, blocks: u64) -> Wanted {
    let start = first.saturating_mul(BLOCK_SECTORS);
    let end = start.saturating_add(blocks.saturating_mul(BLOCK_SECTORS));
    let bio_start = bio.sector();
    let bio_end = bio_start.saturating_add(bio.sectors().into());
    let (from, to) = (start.max(bio_start), end.min(bio_end));
    let bytes = |sectors: u64| sectors as usize * SECTOR_SIZE;
    Wanted {
        offset: bytes(from.saturating_sub(bio_start)),
        skip: bytes(from.saturating_sub(start)),
        bytes: bytes(to.saturating_sub(from)),
    }
}

/// Returns how many blocks of `bio` from `first` on are read in the same way: one of which only a
/// part is wanted, or all up to the next such one.
fn whole_or_part(bio: &impl ReadBio, first: Lbn, end: Lbn) -> u64 {
    let blocks = end.saturating_sub(first);
    let whole = |lbn| bytes_of(bio, lbn, 1).bytes == PAGE_SIZE;
    match blocks {
        0 | 1 => blocks,
        _ if !whole(first) => 1,
        _ if !whole(end.saturating_sub(1)) => blocks.saturating_sub(1),
        _ => blocks,
    }
}

/// Returns the run that begins at `slot`: blocks of nothing, or side by side. If the first is a data
/// block of a slab, so are all.
fn run_in(page: &Page, slot: u16, limit: u64, depot: &DepotLayout) -> Run {
    let first = block_map::entry(page, slot);
    let limit = match first.pbn {
        0 => limit,
        pbn => limit.min(depot.data_blocks_from(pbn)),
    };
    let mut blocks = 1;
    while blocks < limit {
        let next = block_map::entry(page, slot.saturating_add(blocks as u16));
        let follows = if first.pbn == 0 {
            next.pbn == 0 && !next.state.is_compressed() && !first.state.is_compressed()
        } else {
            !first.state.is_compressed()
                && next.state == first.state
                && next.pbn == first.pbn.saturating_add(blocks)
        };
        if !follows {
            break;
        }
        blocks += 1;
    }
    Run {
        mapping: first,
        blocks,
    }
}

impl<W: World> Reader<W> {
    /// Reads block `pbn` of data into the first page of `buffer`.
    async fn read_block(&self, pbn: Pbn, buffer: &mut Option<BufferOf<W>>) -> Result {
        let own = buffer.take().ok_or(Error::Errno(EIO))?;
        let (own, result) = self.storage.read(Purpose::Data, pbn, 1, own, 0).await;
        *buffer = Some(own);
        result
    }
}

#[cfg(test)]
mod tests;
