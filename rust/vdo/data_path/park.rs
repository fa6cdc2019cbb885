// SPDX-License-Identifier: GPL-2.0

//! Fragments on their way from a batch to the [bins](crate::data_path::packer) that all share, and from
//! there to the storage.
//!
//! What is written from bins is a batch of its own: its blocks were acknowledged, are claimed, and have
//! their places.

use crate::compress::bins::Bins;
use crate::data_path::batch::Batch;
use crate::data_path::batch::Fate;
use crate::data_path::fragment;
use crate::data_path::locks::Token;
use crate::data_path::packer::Bin;
use crate::data_path::packer::Parked;
use crate::data_path::packer::TOGETHER;
use crate::data_path::settle::add_to;
use crate::data_path::settle::Places;
use crate::data_path::write::Writer;
use crate::dedupe::advice;
use crate::dedupe::index::Listener;
use crate::dedupe::name::Name;
use crate::depot::Run;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::compressed;
use crate::format::compressed::FRAGMENTS_SIZE;
use crate::format::Lbn;
use crate::format::Mapping;
use crate::format::Pbn;
use crate::format::BLOCK_SIZE;
use crate::world::World;
use core::pin::pin;
use kernel::prelude::*;
use runtime::clock::Clock;
use runtime::clock::Timer;
use runtime::disk::Buffer;
use runtime::sort::sort_by_key;
use runtime::stack::apart;
use runtime::sync::Arc;

/// What is known of a block of a batch that is written from bins.
pub(crate) struct Waiting {
    lbn: Lbn,
    claim: Option<Token>,
    /// The place that it was promised, while nothing is stored there.
    place: Option<Pbn>,
    name: Option<Name>,
    bin: usize,
    slot: u8,
}

impl<W: World> Writer<W> {
    /// Parks fragments of compressed blocks with much room left: they wait for those of other batches.
    /// Only blocks that were acknowledged can, and that nobody in the batch follows.
    pub(super) fn park(&self, batch: &mut Batch<W>, places: &mut Places) {
        let is_wanting = |bins: &Bins, bin| {
            let fragments = bins.fragments(bin);
            let room = bins.room(bin);
            // There is room for one more of their kind.
            fragments == 1
                || room >= FRAGMENTS_SIZE.saturating_sub(room) / usize::from(fragments.max(1))
        };
        if !(0..batch.bins.len()).any(|bin| is_wanting(&batch.bins, bin)) {
            return;
        }
        let now_ms = self.world.clock().now_ms();
        for request in 0..batch.requests.len() {
            let Some(own) = batch.requests.get(request).filter(|own| own.acknowledged) else {
                continue;
            };
            for at in own.blocks.clone() {
                let fate = batch.blocks.get(at).map(|block| block.fate);
                let Some(Fate::Fragment(page, bin, slot)) = fate else {
                    continue;
                };
                if is_wanting(&batch.bins, bin) && !batch.is_followed(at) {
                    let is_parked = places.peek().is_some_and(|place| {
                        self.park_block(batch, at, (bin, slot), place, now_ms)
                    });
                    if is_parked {
                        places.next();
                        batch.bins.take(bin);
                        if let Some(block) = batch.blocks.get_mut(at) {
                            block.fate = Fate::Parked(page);
                        }
                    }
                }
            }
        }
    }

    /// Parks a block whose fragment is in a slot of a bin of the batch. Returns false if there is no room.
    fn park_block(
        &self,
        batch: &Batch<W>,
        at: usize,
        (bin, slot): (usize, u8),
        place: Pbn,
        now_ms: u64,
    ) -> bool {
        let page = batch.packed_page(bin);
        let fragment = page.and_then(|page| compressed::fragment(page, slot).ok());
        let lbn = batch.blocks.get(at).map(|block| block.lbn);
        let (Some(fragment), Some(lbn)) = (fragment, lbn) else {
            return false;
        };
        let Some(claim) = self.locks.keep(lbn) else {
            return false;
        };
        let name = batch.name_of_block(at);
        let parked = Parked {
            lbn,
            claim,
            place,
            name,
        };
        match self.packer.park(fragment, parked, now_ms) {
            Ok(()) => true,
            Err(parked) => {
                self.locks.release(parked.claim);
                false
            }
        }
    }

    /// Writes bins that are due, until the volume goes.
    pub(crate) async fn run_packer(writer: Arc<Self>, mut batch: KBox<Batch<W>>) {
        while let Some(mut bins) = writer.packer.next().await {
            batch.collect_parked(&mut bins);
            apart(pin!(writer.write_parked(&mut batch, &bins))).await;
            writer.packer.written(bins);
        }
    }

    /// Has bins written whose time has come, until the volume goes.
    pub(crate) async fn run_packer_timer(writer: Arc<Self>, mut timer: TimerOf<W>) {
        while let Some(deadline) = writer.packer.deadline_ms().await {
            let left = deadline.saturating_sub(writer.world.clock().now_ms());
            if left > 0 {
                timer.sleep(left).await;
            }
            writer.packer.tick(writer.world.clock().now_ms());
        }
    }

    async fn write_parked(&self, batch: &mut Batch<W>, bins: &[Option<KBox<Bin>>; TOGETHER]) {
        let stored = apart(pin!(self.store_parked(batch, bins))).await;
        for waiting in batch.waiting.iter_mut() {
            if let Some(start) = waiting.place.take() {
                self.depot.release(Run { start, blocks: 1 });
            }
        }
        let recorded = match stored {
            Ok(()) => apart(pin!(self.record(batch))).await.map(|_| ()),
            Err(error) => Err(error),
        };
        match recorded {
            Ok(()) => self.remember_parked(batch),
            Err(error) => {
                if let Some(lbn) = batch.fail_all(error) {
                    self.lose(lbn, error);
                }
            }
        }
        batch.release_claims(self);
        batch.finish(self);
    }

    /// Stores the blocks of bins, those that share one and those that are alone.
    async fn store_parked(
        &self,
        batch: &mut Batch<W>,
        bins: &[Option<KBox<Bin>>; TOGETHER],
    ) -> Result {
        self.health.check()?;
        batch.collect_leaves();
        for at in 0..batch.leaves.len() {
            let Some(number) = batch.leaves.get(at).map(|leaf| leaf.page_number) else {
                break;
            };
            // It was allocated before the block was acknowledged.
            let leaf = self.health.watch_look_up(self.map.leaf(number).await)?;
            batch.set_leaf(at, leaf.ok_or(Error::Status(Status::BadMapping))?);
        }
        for (number, bin) in bins.iter().enumerate() {
            if let Some(bin) = bin {
                self.place_bin(batch, number, bin);
            }
        }
        // Compressed blocks come first.
        let first = batch.page_of_bin(0);
        sort_by_key(&mut batch.runs, |run| run.page < first);
        self.store(batch).await;
        Ok(())
    }

    /// Decides what is stored of a bin, and where.
    fn place_bin(&self, batch: &mut Batch<W>, number: usize, bin: &Bin) {
        let more = bin.fragments().saturating_sub(1);
        let page = batch.page_of_bin(number);
        let to = batch.packed.as_mut().and_then(|own| own.page_mut(number));
        if let (Some(to), Some(from)) = (to, bin.page()) {
            to.copy_from_slice(from);
        }
        let mut claims = 0;
        let mut shared = None;
        for at in 0..batch.blocks.len() {
            if batch.waiting.get(at).is_none_or(|own| own.bin != number) {
                continue;
            }
            if shared.is_none() && more > 0 {
                shared = batch.take_place(at);
                if let Some(pbn) = shared {
                    claims = self.depot.claim_more(pbn, more).saturating_add(1);
                    add_to(&mut batch.runs, page, pbn);
                    self.compression.packed(claims.into(), 1);
                }
            }
            let slot = batch.waiting.get(at).map_or(0, |own| own.slot);
            let mapping = shared.filter(|_| claims > 0);
            let mapping = mapping.and_then(|pbn| Mapping::fragment(pbn, slot));
            let fate = match mapping {
                Some(mapping) => {
                    claims -= 1;
                    Fate::Packed(at, mapping)
                }
                None => self.place_alone(batch, at),
            };
            if let Some(block) = batch.blocks.get_mut(at) {
                block.fate = fate;
            }
        }
    }

    /// A block that shares with nobody is stored as it is.
    fn place_alone(&self, batch: &mut Batch<W>, at: usize) -> Fate {
        let is_unpacked = batch.unpack_parked(&*self.world, at);
        match batch.take_place(at).filter(|_| is_unpacked) {
            Some(pbn) => {
                add_to(&mut batch.runs, at, pbn);
                Fate::Placed(at, pbn)
            }
            None => Fate::Failed,
        }
    }

    /// Tells the depot and the index where blocks are, now that they are recorded.
    fn remember_parked(&self, batch: &Batch<W>) {
        let listener = self.session.listener();
        for (block, waiting) in batch.blocks.iter().zip(&batch.waiting) {
            let Some(mapping) = block.mapping() else {
                continue;
            };
            let start = mapping.pbn;
            self.depot.set_stored(Run { start, blocks: 1 });
            let Some(name) = waiting.name else {
                continue;
            };
            let advice = advice::encode(mapping);
            match &listener {
                Some(Listener::Index(index)) => {
                    index.remember_unasked(uds::format::Name(name), advice);
                }
                Some(Listener::Keeper) => self.session.keep(name, advice),
                None => {}
            }
        }
    }
}

/// What wakes a task of a world after some time.
pub(crate) type TimerOf<W> = <<W as World>::Clock as Clock>::Timer;

impl<W: World> Batch<W> {
    /// Takes the blocks of bins. They were acknowledged.
    fn collect_parked(&mut self, bins: &mut [Option<KBox<Bin>>; TOGETHER]) {
        self.clear();
        for (number, bin) in bins.iter_mut().enumerate() {
            let Some(bin) = bin else { continue };
            while let Some(parked) = bin.parked.pop() {
                // There is room for all of them.
                let _ = self.waiting.push_within_capacity(Waiting {
                    lbn: parked.lbn,
                    claim: Some(parked.claim),
                    place: Some(parked.place),
                    name: parked.name,
                    bin: number,
                    slot: bin.parked.len() as u8,
                });
            }
        }
        sort_by_key(&mut self.waiting, |own| own.lbn);
        for at in 0..self.waiting.len() {
            let own = self.waiting.get_mut(at);
            let Some((lbn, claim)) = own.and_then(|own| Some((own.lbn, own.claim.take()?))) else {
                continue;
            };
            let start = lbn.saturating_mul(BLOCK_SIZE as u64);
            let bytes = start..start.saturating_add(BLOCK_SIZE as u64);
            self.add(None, claim, lbn..lbn.saturating_add(1), &bytes, false);
            if let Some(request) = self.requests.last_mut() {
                request.acknowledged = true;
            }
        }
    }

    /// Returns the place that a block of a bin was promised, if nothing is stored there.
    pub(super) fn take_place(&mut self, at: usize) -> Option<Pbn> {
        self.waiting.get_mut(at)?.place.take()
    }

    /// Puts the data of a block that is written from a bin into its page. Returns false if that cannot be;
    /// other blocks have theirs there already.
    pub(super) fn unpack_parked(&mut self, world: &W, at: usize) -> bool {
        let Some((bin, slot)) = self.waiting.get(at).map(|own| (own.bin, own.slot)) else {
            return true;
        };
        let Self {
            buffer: Some(buffer),
            packed: Some(packed),
            ..
        } = self
        else {
            return false;
        };
        fragment::decompress(world, packed.page(bin), slot, buffer.page_mut(at)).is_ok()
    }
}
