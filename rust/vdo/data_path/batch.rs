// SPDX-License-Identifier: GPL-2.0

//! What one worker has in its hands: the bios of a batch, block by block.
//!
//! All memory is taken when the worker is made.

mod block;
mod request;

pub(crate) use block::Block;
pub(crate) use block::Fate;
pub(crate) use block::Leaf;
pub(crate) use block::Partial;
pub(crate) use block::Stored;
pub(crate) use request::lbns_of;
pub(crate) use request::Request;

use crate::block_map::Prefetch;
use crate::compress::bins::Bins;
use crate::data_path::inbox::Kind;
use crate::data_path::inbox::Write;
use crate::data_path::join::Aboard;
use crate::data_path::locks::Access;
use crate::data_path::locks::Token;
use crate::data_path::packer::TOGETHER_BLOCKS;
use crate::data_path::park::Waiting;
use crate::data_path::share::Names;
use crate::data_path::write::BioOf;
use crate::data_path::write::Writer;
use crate::error::Error;
use crate::error::Result;
use crate::format;
use crate::format::block_map;
use crate::format::tree;
use crate::format::DepotLayout;
use crate::format::Lbn;
use crate::format::Mapping;
use crate::format::Page;
use crate::format::Pbn;
use crate::format::RecoveryEntry;
use crate::format::BLOCK_SIZE;
use crate::format::SECTOR_SIZE;
use crate::tuning::Tuning;
use crate::world::Bio;
use crate::world::Operation;
use crate::world::World;
use block::first_page;
use core::ops::Range;
use kernel::prelude::*;
use request::blocks_of;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Part;

/// The most bios in a batch.
pub(crate) const MAX_BIOS: usize = 256;

/// In so many places is data tried, beside the first, that the storage does not take.
pub(crate) const TRIES: u32 = 3;

/// Pages for reading a compressed block and what is in it.
const SCRATCH_PAGES: usize = 1;

/// What one worker has in its hands.
pub struct Batch<W: World> {
    /// The number of the worker.
    pub(crate) worker: usize,
    /// What the worker takes.
    pub(crate) kind: Kind,
    /// The data, a page a block.
    pub(crate) buffer: Option<<W::Disk as Disk>::Buffer>,
    /// The compressed blocks into which some of the data goes: nobody looks at these while the data
    /// is shown. Their pages are counted behind those of the data.
    pub(crate) packed: Option<<W::Disk as Disk>::Buffer>,
    /// For compressed blocks.
    pub(crate) scratch: Option<<W::Disk as Disk>::Buffer>,
    /// Pages of the buffer that are in use.
    pub(crate) pages: usize,
    /// Scratch: bios that were taken, by ascending sector, and their claims.
    bios: KVec<(BioOf<W>, Token)>,
    /// By ascending LBN; they do not overlap.
    pub(crate) requests: KVec<Request<BioOf<W>>>,
    /// By ascending LBN.
    pub(crate) blocks: KVec<Block>,
    /// By ascending number.
    pub(crate) leaves: KVec<Leaf>,
    /// Runs of the buffer that are to be written.
    pub(crate) runs: KVec<Stored>,
    /// Scratch: those that the storage has not taken, and where they are tried next.
    pub(crate) moved: KVec<Stored>,
    /// Scratch: parts of the buffer that are read or written, all at once.
    pub(crate) parts: KVec<Part>,
    /// Blocks that are written in part, and what they were.
    pub(crate) partial: KVec<Partial>,
    /// For leaf pages that are not in memory.
    pub(crate) prefetch: Prefetch,
    /// Scratch: entries for the journal.
    pub(crate) entries: KVec<RecoveryEntry>,
    /// Why blocks have no place, if some have none.
    without_place: Option<Error>,
    /// For finding duplicates.
    pub(crate) names: Names,
    /// Its names among those in flight.
    pub(crate) aboard: Aboard,
    /// What is in the compressed blocks.
    pub(crate) bins: Bins,
    /// For blocks that are written from the bins that all batches share, what is known of each.
    pub(super) waiting: KVec<Waiting>,
    pub(super) max_blocks: usize,
}

impl<W: World> Batch<W> {
    /// Takes the memory of worker number `worker`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline(never)]
    pub(crate) fn new(writer: &Writer<W>, tuning: &Tuning, worker: usize) -> Result<KBox<Self>> {
        let kind = Self::kind_of(tuning, worker);
        let max_blocks = match kind {
            Kind::Small(_) => tuning.small_blocks,
            _ => tuning.batch_blocks,
        };
        let batch = Self::make(writer, kind, max_blocks, worker)?;
        Ok(KBox::new(batch, GFP_KERNEL)?)
    }

    /// Takes the memory of a task that writes bins that all batches share; it has the number of no worker.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline(never)]
    pub(crate) fn of_packer(writer: &Writer<W>) -> Result<KBox<Self>> {
        let blocks = TOGETHER_BLOCKS;
        let mut batch = Self::make(writer, Kind::Small(blocks as u64), blocks, usize::MAX)?;
        batch.waiting.reserve(blocks, GFP_KERNEL)?;
        Ok(KBox::new(batch, GFP_KERNEL)?)
    }

    fn kind_of(tuning: &Tuning, worker: usize) -> Kind {
        // Discards can take long, and they wait for blocks of which the claim may have been left with
        // a write that waits for a worker: they never have all of these. (Who has one worker only,
        // in a test, does not have both at once.)
        match worker {
            small if small >= tuning.workers => Kind::Small(tuning.small_blocks as u64),
            large if large >= (tuning.workers / 4).max(1) || tuning.workers == 1 => Kind::All,
            _ => Kind::Writer,
        }
    }

    fn make(writer: &Writer<W>, kind: Kind, max_blocks: usize, worker: usize) -> Result<Self> {
        let max_bios = max_blocks.min(MAX_BIOS);
        let bins = Bins::needed(max_blocks);
        Ok(Self {
            worker,
            kind,
            buffer: Some(writer.storage.buffer_of_parts(max_blocks, max_blocks)?),
            packed: Some(writer.storage.buffer_of_parts(bins, bins)?),
            scratch: Some(writer.storage.buffer(SCRATCH_PAGES)?),
            pages: 0,
            bios: KVec::with_capacity(max_bios, GFP_KERNEL)?,
            requests: KVec::with_capacity(max_bios, GFP_KERNEL)?,
            blocks: KVec::with_capacity(max_blocks, GFP_KERNEL)?,
            // A bio touches two leaf pages at most.
            leaves: KVec::with_capacity(2 * max_bios, GFP_KERNEL)?,
            // Its first block and its last.
            partial: KVec::with_capacity(2 * max_bios, GFP_KERNEL)?,
            prefetch: writer.map.prefetcher(2 * max_bios)?,
            runs: KVec::with_capacity(max_blocks, GFP_KERNEL)?,
            moved: KVec::with_capacity(max_blocks, GFP_KERNEL)?,
            parts: KVec::with_capacity(max_blocks, GFP_KERNEL)?,
            entries: KVec::with_capacity(max_blocks, GFP_KERNEL)?,
            without_place: None,
            names: Names::new(max_blocks)?,
            aboard: Aboard::new(max_blocks)?,
            bins: Bins::new(bins)?,
            waiting: KVec::new(),
            max_blocks,
        })
    }

    /// Takes `first`, and of what waits behind it as much as fits, with the claims of their blocks.
    /// What somebody else has is held up, and nobody else with it.
    pub(crate) fn collect(&mut self, first: Write<BioOf<W>>, writer: &Writer<W>) {
        self.clear();
        let mut left = self.max_blocks;
        let mut next = Some(first);
        while let Some(Write { bio, is_claimed }) = next {
            let lbns = lbns_of(&bio);
            let claim = match is_claimed {
                true => writer.locks.token_of(&lbns),
                false => writer.locks.try_token(lbns, Access::Exclusive),
            };
            match claim {
                Some(claim) => {
                    left = left.saturating_sub(blocks_of(&bio));
                    self.take(bio, claim);
                }
                None => writer.held_up.push(bio),
            }
            let is_full = self.bios.len() == self.bios.capacity();
            let fits = |bio: &BioOf<W>| !is_full && blocks_of(bio) <= left;
            next = writer.inbox.next_write(fits);
        }
        writer.inbox.leave();
        self.bios.reverse();
        while let Some((bio, claim)) = self.bios.pop() {
            self.add_bio(bio, claim);
        }
    }

    /// Puts a bio where it belongs among those that were taken: what is claimed does not overlap.
    fn take(&mut self, bio: BioOf<W>, claim: Token) {
        let sector = bio.sector();
        let place = self
            .bios
            .partition_point(|(other, _)| other.sector() < sector);
        // There is room for all of them.
        let _ = self.bios.push_within_capacity((bio, claim));
        if let Some(behind) = self.bios.get_mut(place..) {
            behind.rotate_right(1);
        }
    }

    /// Takes a part of a discard: zeroes for the bytes `part` of block `lbn`, which is claimed.
    pub(crate) fn collect_zeroes(&mut self, lbn: Lbn, part: Range<usize>, claim: Token) {
        self.clear();
        let lbns = lbn..lbn.saturating_add(1);
        let bytes = lbn.saturating_mul(BLOCK_SIZE as u64);
        let bytes = bytes.saturating_add(part.start as u64)..bytes.saturating_add(part.end as u64);
        self.add(None, claim, lbns, &bytes, false);
    }

    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.blocks.clear();
        self.leaves.clear();
        self.partial.clear();
        self.runs.clear();
        self.moved.clear();
        self.parts.clear();
        self.names.clear();
        self.bins.clear();
        self.waiting.clear();
        self.pages = 0;
        self.without_place = None;
    }

    fn add_bio(&mut self, bio: BioOf<W>, claim: Token) {
        let start = bio.sector().saturating_mul(SECTOR_SIZE as u64);
        let length = u64::from(bio.sectors()).saturating_mul(SECTOR_SIZE as u64);
        let lbns = lbns_of(&bio);
        let brings_data = bio.operation() == Operation::Write;
        let bytes = start..start.saturating_add(length);
        self.add(Some(bio), claim, lbns, &bytes, brings_data);
    }

    /// Adds a request behind all others. One that does not fit as a whole fails, and changes nothing:
    /// device-mapper was told to cut such bios.
    pub(super) fn add(
        &mut self,
        bio: Option<BioOf<W>>,
        claim: Token,
        lbns: Range<Lbn>,
        bytes: &Range<u64>,
        brings_data: bool,
    ) {
        let before = self.blocks.len();
        let room = self.max_blocks.saturating_sub(before) as u64;
        let fits = lbns.end.saturating_sub(lbns.start) <= room;
        let request = Request {
            fua: bio.as_ref().is_some_and(Bio::is_fua),
            bio,
            lbns: lbns.clone(),
            blocks: before..before,
            claim: Some(claim),
            brings_data,
            acknowledged: false,
            error: (!fits).then_some(Error::Errno(EIO)),
        };
        // Without room for the request its bio is dropped, and fails.
        if self.requests.push_within_capacity(request).is_err() || !fits {
            return;
        }
        for lbn in lbns {
            let start = lbn.saturating_mul(BLOCK_SIZE as u64);
            let within = |at: u64| (at.saturating_sub(start)).min(BLOCK_SIZE as u64) as usize;
            let (_, slot) = tree::leaf(lbn);
            // There is room for all of them.
            let _ = self.blocks.push_within_capacity(Block {
                lbn,
                slot,
                leaf: 0,
                part: within(bytes.start)..within(bytes.end),
                fate: Fate::Open,
            });
        }
        if let Some(request) = self.requests.last_mut() {
            request.blocks.end = self.blocks.len();
        }
    }

    /// Groups the blocks by leaf page. Fails the requests with blocks for which there is no room.
    pub(crate) fn collect_leaves(&mut self) {
        let mut grouped = 0;
        for (at, block) in self.blocks.iter_mut().enumerate() {
            let (page_number, _) = tree::leaf(block.lbn);
            match self.leaves.last_mut() {
                Some(leaf) if leaf.page_number == page_number => leaf.blocks.end = at + 1,
                _ => {
                    let leaf = Leaf {
                        page_number,
                        pbn: None,
                        blocks: at..at + 1,
                    };
                    if self.leaves.push_within_capacity(leaf).is_err() {
                        break;
                    }
                }
            }
            block.leaf = self.leaves.len().saturating_sub(1);
            grouped = at + 1;
        }
        // None, with bios of at most a chunk.
        self.fail_blocks(&(grouped..self.blocks.len()), Error::Errno(EIO));
    }

    pub(crate) fn set_leaf(&mut self, at: usize, pbn: Pbn) {
        if let Some(leaf) = self.leaves.get_mut(at) {
            leaf.pbn = Some(pbn);
        }
    }

    /// The leaf page cannot be had: its requests fail.
    pub(crate) fn fail_leaf(&mut self, at: usize, error: Error) {
        if let Some(leaf) = self.leaves.get(at) {
            self.fail_blocks(&leaf.blocks.clone(), error);
        }
    }

    /// The requests of these blocks, which have no place yet, fail.
    fn fail_blocks(&mut self, blocks: &Range<usize>, error: Error) {
        for request in self.requests.iter_mut() {
            if overlap(&request.blocks, blocks) {
                request.error.get_or_insert(error);
            }
        }
    }

    /// Finds the blocks that are written in part, of requests that have not failed.
    pub(crate) fn collect_partial(&mut self) {
        let requests = self.requests.iter().enumerate();
        for (request, own) in requests.filter(|(_, request)| request.error.is_none()) {
            let (first, last) = (own.blocks.start, own.blocks.end.saturating_sub(1));
            let ends = [Some(first), (first != last).then_some(last)];
            for at in ends.into_iter().flatten() {
                let block = self.blocks.get(at);
                if block.is_some_and(|block| !block.is_whole()) {
                    // There is room for all of them.
                    let _ = self.partial.push_within_capacity(Partial {
                        request,
                        block: at,
                        old: Mapping::UNMAPPED,
                    });
                }
            }
        }
    }

    /// The request cannot be served: none of its blocks is recorded.
    pub(crate) fn fail(&mut self, request: usize, error: Error) {
        if let Some(request) = self.requests.get_mut(request) {
            request.error.get_or_insert(error);
            for block in self
                .blocks
                .get_mut(request.blocks.clone())
                .unwrap_or_default()
            {
                block.fate = Fate::Failed;
            }
        }
    }

    /// Tells every block in which run its page is. Those that are in none have to be duplicates, or
    /// fail with `error`; nobody is told that they are written before that is known.
    pub(crate) fn place(&mut self, error: Error) {
        let mut runs = self.runs.iter();
        let mut run = runs.next();
        for block in self.blocks.iter_mut() {
            let Fate::Data(page) = block.fate else {
                continue;
            };
            while run.is_some_and(|run| page >= run.page + run.blocks as usize) {
                run = runs.next();
            }
            match run {
                Some(run) => {
                    block.fate = Fate::Placed(page, run.start + (page - run.page) as u64);
                }
                None => self.without_place = Some(error),
            }
        }
    }

    /// Requests with a block that has no place, and is no duplicate, fail.
    pub(crate) fn fail_without_place(&mut self) {
        if let Some(error) = self.without_place {
            self.find_failed(error);
        }
    }

    /// Returns run `at` if the storage has not taken it, and why.
    pub(crate) fn failed_run(&self, at: usize) -> Option<(Stored, Error)> {
        let (run, part) = (self.runs.get(at)?, self.parts.get(at));
        let error = part.map_or(Err(EIO), |part| part.result).err()?;
        Some((*run, error.into()))
    }

    /// Blocks were moved to another run.
    pub(crate) fn move_to(&mut self, run: &Stored) {
        let pages = run.page..run.page + run.blocks as usize;
        for block in self.blocks.iter_mut() {
            if let Some(page) = block.page().filter(|page| pages.contains(page)) {
                block.fate = Fate::Placed(page, run.start + (page - run.page) as u64);
            }
        }
    }

    /// The storage takes these pages nowhere. Returns the first block of a request that fails
    /// because of that, and whether that was acknowledged, which is worse.
    pub(crate) fn fail_pages(&mut self, pages: Range<usize>, error: Error) -> Option<(Lbn, bool)> {
        for block in self.blocks.iter_mut() {
            if block.page().is_some_and(|page| pages.contains(&page)) {
                block.fate = Fate::Failed;
            }
        }
        self.find_failed(error)
    }

    /// Marks every request with a block that has no place. Returns the first such block, rather
    /// one that was acknowledged, and whether it was.
    fn find_failed(&mut self, error: Error) -> Option<(Lbn, bool)> {
        let mut worst: Option<(Lbn, bool)> = None;
        for request in self.requests.iter_mut() {
            let blocks = self.blocks.get(request.blocks.clone()).unwrap_or_default();
            let Some(failed) = blocks.iter().find(|block| block.has_failed()) else {
                continue;
            };
            if request.error.is_none() {
                request.error = Some(error);
                let is_worse = worst.is_none_or(|(_, acknowledged)| !acknowledged);
                if is_worse && (request.acknowledged || worst.is_none()) {
                    worst = Some((failed.lbn, request.acknowledged));
                }
            }
        }
        worst
    }

    /// Completes every request that need not wait for anything any more.
    pub(crate) fn acknowledge(&mut self, writer: &Writer<W>) {
        let Self {
            requests, blocks, ..
        } = self;
        let of = |request: &Request<_>| blocks.get(request.blocks.clone()).unwrap_or_default();
        let has_places = self.without_place.is_none();
        let is_due = |request: &Request<_>| {
            let may = request.error.is_none() && !request.fua && request.bio.is_some();
            may && (has_places || of(request).iter().all(|block| block.mapping().is_some()))
        };
        if let Some(buffer) = &self.buffer {
            let due = requests.iter().filter(|request| is_due(request));
            let pieces =
                due.filter_map(|request| Some((request.lbns.clone(), first_page(of(request))?)));
            writer.shown.show(self.worker, buffer.view(), pieces);
        }
        for request in requests.iter_mut().filter(|request| is_due(request)) {
            request.acknowledged = true;
            request.complete(Ok(()), &writer.counters);
        }
    }

    /// Returns the blocks of some leaf pages.
    pub(crate) fn blocks_of(&self, leaves: Range<usize>) -> Range<usize> {
        let leaves = self.leaves.get(leaves).unwrap_or_default();
        match (leaves.first(), leaves.last()) {
            (Some(first), Some(last)) => first.blocks.start..last.blocks.end,
            _ => 0..0,
        }
    }

    /// Gives blocks of one leaf page their new mappings, and notes up to `most` entries for that.
    /// Returns the block to go on with.
    pub(crate) fn map_blocks(
        &mut self,
        blocks: Range<usize>,
        most: usize,
        page: &mut Page,
        depot: &DepotLayout,
    ) -> usize {
        let (mut next, most) = (blocks.start, self.entries.len() + most);
        for block in self.blocks.get(blocks).unwrap_or_default() {
            if self.entries.len() == most {
                break;
            }
            next += 1;
            let pbn = self.leaves.get(block.leaf).and_then(|leaf| leaf.pbn);
            let (Some(new), Some(pbn)) = (block.mapping(), pbn) else {
                continue;
            };
            let old = block_map::entry(page, block.slot);
            block_map::set_entry(page, block.slot, new);
            let _ = self.entries.push_within_capacity(RecoveryEntry {
                operation: format::Operation::Data,
                page: pbn,
                slot: block.slot,
                new,
                old: depot.sound(old),
            });
        }
        next
    }

    /// Returns how many of these blocks can be recorded.
    pub(crate) fn recordable(&self, blocks: Range<usize>) -> usize {
        let blocks = self.blocks.get(blocks).unwrap_or_default();
        blocks
            .iter()
            .filter(|block| block.mapping().is_some())
            .count()
    }

    /// Returns how many look-ups and changes of mappings these blocks take: a block that is written
    /// in part is looked up once more.
    pub(crate) fn lookups(&self, blocks: Range<usize>) -> (u64, u64) {
        let blocks = self.blocks.get(blocks).unwrap_or_default();
        let recordable = || blocks.iter().filter(|block| block.mapping().is_some());
        let partial = recordable().filter(|block| !block.is_whole()).count() as u64;
        let all = recordable().count() as u64;
        (all.saturating_add(partial), all)
    }

    /// Gives up all claims.
    pub(crate) fn release_claims(&mut self, writer: &Writer<W>) {
        writer.shown.hide(self.worker);
        for request in self.requests.iter_mut() {
            if let Some(claim) = request.claim.take() {
                writer.locks.release(claim);
            }
        }
    }

    /// Returns true if a request wants its data on stable storage.
    pub(crate) fn wants_commit(&self) -> bool {
        let mut requests = self.requests.iter();
        requests.any(|request| request.fua && request.error.is_none())
    }

    /// All requests fail that have not failed. Returns the first block of one that was
    /// acknowledged.
    pub(crate) fn fail_all(&mut self, error: Error) -> Option<Lbn> {
        let mut lost = None;
        for request in self.requests.iter_mut() {
            if request.error.is_none() && request.acknowledged && lost.is_none() {
                lost = Some(request.lbns.start);
            }
            request.error.get_or_insert(error);
        }
        lost
    }

    /// Returns the error of the first request.
    pub(crate) fn result(&self) -> Result {
        match self.requests.first().and_then(|request| request.error) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Completes what is left.
    pub(crate) fn finish(&mut self, writer: &Writer<W>) {
        for request in self.requests.iter_mut() {
            let result = request.error.map_or(Ok(()), Err);
            if result.is_err() {
                let blocks = self.blocks.get(request.blocks.clone()).unwrap_or_default();
                let failed = blocks.iter().filter(|block| block.has_failed()).count();
                writer.counters.failed(&result, failed as u64);
            }
            request.complete(result, &writer.counters);
        }
        self.clear();
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}
