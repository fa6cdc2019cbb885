// SPDX-License-Identifier: GPL-2.0

//! What is counted for the statistics, by block, whatever batches were made of it.

use crate::admin::dump::BLOCKS_MAX;
use crate::admin::statistics::Bios;
use crate::admin::statistics::Statistics;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::storage::BLOCK_SECTORS;
use crate::world::Bio;
use crate::world::Operation;
use runtime::sync::AtomicU64;

/// Bios by kind.
#[derive(Default)]
pub(crate) struct BioCounters {
    read: Counter,
    write: Counter,
    discard: Counter,
    flush: Counter,
    fua: Counter,
}

/// Counts from 0 on.
pub(crate) struct Counter(AtomicU64);

impl Default for Counter {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load_relaxed()
    }

    fn set(&self, count: u64) {
        self.0.store_relaxed(count);
    }
}

impl BioCounters {
    fn get(&self) -> Bios {
        Bios {
            read: self.read.get(),
            write: self.write.get(),
            empty_flush: self.flush.get(),
            discard: self.discard.get(),
            flush: self.flush.get(),
            fua: self.fua.get(),
        }
    }
}

/// All counters of the data path.
#[derive(Default)]
pub(crate) struct Counters {
    bios_in: BioCounters,
    partial: BioCounters,
    acknowledged: BioCounters,
    acknowledged_partial: BioCounters,
    /// The most blocks that were under way at once, as far as somebody looked.
    most: Counter,
    flush_out: Counter,
    no_space: Counter,
    read_only: Counter,
}

impl Counters {
    /// Returns the blocks that are under way; no more than mainline would admit.
    fn under_way(&self) -> u64 {
        let sum = |bios: &BioCounters| {
            let sum = bios.read.get().saturating_add(bios.write.get());
            sum.saturating_add(bios.discard.get())
        };
        let done = sum(&self.acknowledged);
        sum(&self.bios_in).saturating_sub(done).min(BLOCKS_MAX)
    }

    fn note_most(&self) {
        let now = self.under_way();
        if now > self.most.get() {
            // Another may note less at the same time: nobody relies on this number.
            self.most.set(now);
        }
    }
}

/// Pieces of blocks that a bio consists of, as mainline cuts it.
struct Pieces {
    all: u64,
    partial: u64,
}

impl Pieces {
    fn of(sector: u64, sectors: u32) -> Self {
        let end = sector.saturating_add(sectors.into());
        let all = end
            .div_ceil(BLOCK_SECTORS)
            .saturating_sub(sector / BLOCK_SECTORS);
        let whole = (end / BLOCK_SECTORS).saturating_sub(sector.div_ceil(BLOCK_SECTORS));
        Self {
            all,
            partial: all.saturating_sub(whole),
        }
    }
}

impl Counters {
    /// A bio has come that changes something.
    pub(crate) fn came(&self, bio: &impl Bio) {
        let pieces = Pieces::of(bio.sector(), bio.sectors());
        match bio.operation() {
            // A discard is one, however long; so is what mainline makes of it.
            Operation::Discard => {
                self.bios_in.discard.add(1);
                self.partial.discard.add(discard_is_partial(bio).into());
            }
            _ => {
                self.bios_in.write.add(pieces.all);
                self.partial.write.add(pieces.partial);
            }
        }
        if bio.is_fua() {
            self.bios_in.fua.add(pieces.all);
            self.partial.fua.add(pieces.partial);
        }
        self.note_most();
    }

    /// A bio has completed that changed something.
    pub(crate) fn done(&self, bio: &impl Bio) {
        let pieces = Pieces::of(bio.sector(), bio.sectors());
        match bio.operation() {
            Operation::Discard => {
                self.acknowledged.discard.add(1);
                self.acknowledged_partial
                    .discard
                    .add(discard_is_partial(bio).into());
            }
            _ => {
                self.acknowledged.write.add(pieces.all);
                self.acknowledged_partial.write.add(pieces.partial);
            }
        }
        if bio.is_fua() {
            self.acknowledged.fua.add(pieces.all);
            self.acknowledged_partial.fua.add(pieces.partial);
        }
    }

    pub(crate) fn read_came(&self, sector: u64, sectors: u32) {
        let pieces = Pieces::of(sector, sectors);
        self.bios_in.read.add(pieces.all);
        self.partial.read.add(pieces.partial);
        self.note_most();
    }

    pub(crate) fn read_done(&self, sector: u64, sectors: u32) {
        let pieces = Pieces::of(sector, sectors);
        self.acknowledged.read.add(pieces.all);
        self.acknowledged_partial.read.add(pieces.partial);
    }

    pub(crate) fn flush_came(&self) {
        self.bios_in.flush.add(1);
    }

    pub(crate) fn flush_done(&self) {
        self.acknowledged.flush.add(1);
        self.flush_out.add(1);
    }

    /// A suspend has flushed the storage.
    pub(crate) fn flush_of_suspend(&self) {
        self.flush_out.add(1);
    }

    /// Blocks have failed.
    pub(crate) fn failed(&self, result: &Result, blocks: u64) {
        match result {
            Err(Error::Status(Status::NoSpace)) => self.no_space.add(blocks),
            Err(Error::READ_ONLY) => self.read_only.add(blocks),
            _ => {}
        }
    }

    /// Fills in what is counted here.
    pub(crate) fn put(&self, statistics: &mut Statistics) {
        statistics.bios_in = self.bios_in.get();
        statistics.bios_in_partial = self.partial.get();
        statistics.bios_acknowledged = self.acknowledged.get();
        statistics.bios_acknowledged_partial = self.acknowledged_partial.get();
        statistics.bios_in_progress =
            in_progress(&statistics.bios_in, &statistics.bios_acknowledged);
        statistics.current_vios_in_progress = self.under_way() as u32;
        statistics.max_vios = self.most.get() as u32;
        statistics.flush_out = self.flush_out.get();
        statistics.errors.no_space_error_count = self.no_space.get();
        statistics.errors.read_only_error_count = self.read_only.get();
    }
}

fn in_progress(came: &Bios, done: &Bios) -> Bios {
    Bios {
        read: came.read.saturating_sub(done.read),
        write: came.write.saturating_sub(done.write),
        empty_flush: came.empty_flush.saturating_sub(done.empty_flush),
        discard: came.discard.saturating_sub(done.discard),
        flush: came.flush.saturating_sub(done.flush),
        fua: came.fua.saturating_sub(done.fua),
    }
}

/// Of a discard, mainline looks at the first block.
fn discard_is_partial(bio: &impl Bio) -> bool {
    bio.sector() % BLOCK_SECTORS != 0 || u64::from(bio.sectors()) < BLOCK_SECTORS
}
