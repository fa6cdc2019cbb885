// SPDX-License-Identifier: GPL-2.0

//! Slabs: which physical blocks are in use, and how often.
//!
//! The depot is the array of slabs. Each slab has data blocks, a count of references for each of
//! them, and a journal of the changes of these counts. The path of a change:
//!
//! ```text
//! recovery journal --apply--> block of the slab journal, count    (in memory)
//!                             |                          |
//!                      committer                 reference writer
//!                      block, then the summary   count blocks, then the summary
//!                      that counts it            says that the slab is clean
//!                             |                          |
//!                  recovery journal may be       slab journal may be
//!                  overwritten                   overwritten
//! ```
//!
//! | File | What it holds |
//! |---|---|
//! | [`slab`], [`counts`], [`slab_journal`] | a slab in memory, and its two halves |
//! | [`allocator`], [`allocate`] | which slab is open; free blocks for who needs them |
//! | [`apply`] | changes of counts, also those of a recovery |
//! | [`committer`], [`reference_writer`], [`scrubber`] | the tasks, each with its own buffers |
//! | [`summary`], [`load`], [`rebuild`] | start, recovery, and counting anew |
//! | [`save`] | suspend, and growth |
//! | [`rest`] | what must hold while nothing is under way |
//! | [`desk`], [`holds`], [`ring`], [`slab_set`] | where the tasks meet |
//!
//! The slabs are spread over [`SHARDS`] locks; the allocator, the summary and the desk have one
//! each. No two are held at once. A slab is changed first, and then whoever may go on is told at
//! the desk. In between others may come, on another CPU: what they must not do so soon, the slab
//! refuses until it is told that the desk knows ([`slab_journal::SlabJournal::hold`]). The tasks wait for the disk only, the scrubber for the committer as well; the
//! one that applies changes waits for all of them, others for nothing here but memory.

mod allocate;
mod allocator;
mod apply;
mod claims;
mod committer;
mod counts;
mod desk;
mod holds;
mod load;
mod rebuild;
mod reference_writer;
mod rest;
mod ring;
mod save;
mod scrubber;
mod slab;
mod slab_journal;
mod slab_set;
mod summary;

pub use allocate::Run;
pub use allocate::Runs;
pub use load::Load;
pub use save::Room;

use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::slab_journal::Shape;
use crate::format::DepotLayout;
use crate::format::Pbn;
use crate::format::Sequence;
use crate::format::SlabConfig;
use crate::format::SlabNumber;
use crate::health::Health;
use crate::storage::Storage;
use crate::world::World;
use allocator::Allocator;
use desk::Desk;
use kernel::prelude::KBox;
use kernel::prelude::KVVec;
use kernel::prelude::KVec;
use kernel::prelude::GFP_KERNEL;
use runtime::clock::Clock;
use runtime::disk::Disk;
use runtime::pool::Pool;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;
use runtime::sync::AtomicU64;
use runtime::sync::Lock;
use slab::Slab;
use summary::Summary;

/// Locks that the slabs are spread over.
const SHARDS: u32 = 16;

/// What is not as this code made it, of which no status says so.
const IMPOSSIBLE: Error = Error::Status(Status::InvalidAdminState);

/// Fails if a thing found no room where there is room for all that come.
fn fits<T, E>(pushed: Result<T, E>) -> Result<T> {
    debug_assert!(pushed.is_ok(), "there is room");
    pushed.map_err(|_| IMPOSSIBLE)
}

/// Memory for I/O of a depot on this world's storage.
type BufferOf<W> = <<W as World>::Disk as Disk>::Buffer;

/// What a depot has to know of its volume.
#[derive(Clone, Copy, Debug)]
pub struct DepotConfig {
    /// Where the slabs are.
    pub layout: DepotLayout,
    /// The first block of the slab summary.
    pub summary_origin: Pbn,
    /// The number of zones that the volume was last used with, as the super block has it.
    pub zone_count: u32,
    /// The nonce of the volume.
    pub nonce: u64,
    /// How many entries a block of a slab journal has.
    pub shape: Shape,
    /// Blocks of slab journals that may be on their way to disk, beside one per slab.
    pub journal_pages: usize,
    /// Pages of the buffer for writing counts, and of that for reading (at least 4).
    pub io_pages: usize,
}

/// The slabs of a volume.
pub struct Depot<W: World> {
    slab_config: SlabConfig,
    first_block: Pbn,
    slab_count: AtomicU32,
    nonce: u64,
    shape: Shape,
    zone_count: u32,
    /// What the depot was started from.
    load: Lock<Load>,
    shards: KVec<Lock<KVVec<Slab<BufferOf<W>>>>>,
    allocator: KBox<Lock<Allocator>>,
    summary: Summary,
    desk: KBox<Desk<BufferOf<W>>>,
    committer: Pool<committer::Tools<BufferOf<W>>>,
    reference_writer: Pool<reference_writer::Tools<BufferOf<W>>>,
    scrubber: Pool<scrubber::Tools<BufferOf<W>>>,
    /// The scrubber's.
    timer: Lock<Option<<W::Clock as Clock>::Timer>>,
    counters: Counters,
    storage: Arc<Storage<W::Disk>>,
    health: Arc<Health>,
    #[cfg(test)]
    flaw: Option<Flaw>,
}

/// What happened so far.
struct Counters {
    journal_full: AtomicU64,
    journal_flushed: AtomicU64,
    journal_blocked: AtomicU64,
    journal_written: AtomicU64,
    journal_tail_busy: AtomicU64,
    summary_written: AtomicU64,
    references_written: AtomicU64,
}

/// A rule that a test breaks, to see that this would be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// The summary may be on stable storage before the blocks that it counts.
    SummaryFirst,
    /// A sealed block is followed by the next before the summary counts it.
    SealedIsFollowed,
    /// The recovery journal is let go of before the summary is written.
    HoldIsReleased,
    /// Blocks of slab journals that a recovery would read are overwritten.
    RingIsReused,
}

/// Numbers for status and statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Slabs.
    pub slabs: u32,
    /// Slabs whose counts are not known yet.
    pub slabs_unscrubbed: u32,
    /// Data blocks of all slabs.
    pub data_blocks: u64,
    /// Data blocks that are free; an estimate for slabs whose counts are not known yet.
    pub free_blocks: u64,
    /// Slabs that were opened for the first time, or had been used at the start.
    pub slabs_opened: u64,
    /// How often a used slab was opened.
    pub slabs_reopened: u64,
    /// How often an entry waited for the next block of the ring.
    pub journal_disk_full: u64,
    /// Blocks of slab journals that were begun at or above the flushing threshold.
    pub journal_flushed: u64,
    /// How often an entry waited at the blocking threshold.
    pub journal_blocked: u64,
    /// Blocks of slab journals written.
    pub journal_blocks_written: u64,
    /// How often an entry waited for the write of the block under construction.
    pub journal_tail_busy: u64,
    /// Blocks of the summary written.
    pub summary_blocks_written: u64,
    /// Reference blocks written.
    pub reference_blocks_written: u64,
}

impl Statistics {
    /// Returns the number of data blocks that are in use.
    pub fn used_blocks(&self) -> u64 {
        self.data_blocks.saturating_sub(self.free_blocks)
    }
}

impl<W: World> Depot<W> {
    /// Allocates all but what the slabs in use need. [`Self::load`] is next, once the tasks run.
    pub fn new(
        config: &DepotConfig,
        world: &W,
        storage: Arc<Storage<W::Disk>>,
        health: Arc<Health>,
    ) -> Result<Self> {
        config.layout.slab.check()?;
        let slabs = config.layout.slab_count;
        let mut shards = KVec::with_capacity(SHARDS as usize, GFP_KERNEL)?;
        for _ in 0..SHARDS {
            shards.push(Lock::new(KVVec::new()), GFP_KERNEL)?;
        }
        let mut pages = KVec::with_capacity(config.journal_pages, GFP_KERNEL)?;
        for _ in 0..config.journal_pages.max(2) {
            pages.push(storage.buffer(1)?, GFP_KERNEL)?;
        }
        let io_pages = config.io_pages.max(summary::BLOCKS as usize);
        let depot = Self {
            slab_config: config.layout.slab,
            first_block: config.layout.first_block,
            slab_count: AtomicU32::new(0),
            nonce: config.nonce,
            shape: config.shape,
            zone_count: config.zone_count.max(1),
            load: Lock::new(Load::ReadOnly),
            shards,
            allocator: boxed(|| Ok(Lock::new(Allocator::new(&config.layout.slab))))?,
            summary: Summary::new(config.summary_origin, &config.layout.slab)?,
            desk: boxed(|| Desk::new(slabs, pages))?,
            committer: pool(|| committer::Tools::new(&storage, config.journal_pages))?,
            reference_writer: pool(|| reference_writer::Tools::new(&storage, io_pages))?,
            scrubber: pool(|| scrubber::Tools::new(&storage, io_pages))?,
            timer: Lock::new(Some(world.clock().timer()?)),
            counters: Counters::new(),
            storage,
            health,
            #[cfg(test)]
            flaw: None,
        };
        depot.add_unused(SlabRoom::new(slabs)?)?;
        Ok(depot)
    }

    /// Returns where the slabs are.
    pub fn layout(&self) -> DepotLayout {
        DepotLayout {
            first_block: self.first_block,
            slab_count: self.slab_count.load_acquire(),
            slab: self.slab_config,
        }
    }

    /// Returns the oldest sequence of the recovery journal that slab journals still need.
    ///
    /// Who wants to know how far the recovery journal can be overwritten asks first what was not
    /// applied yet, and then this: what is applied meanwhile is then held either way.
    pub fn oldest_hold(&self) -> Option<Sequence> {
        self.desk.with(|work| work.holds.oldest())
    }

    /// Sees to that nothing before `sequence` is held much longer.
    pub fn write_before(&self, sequence: Sequence) {
        let is_new = self.desk.with(|work| {
            let seal = &mut work.seal;
            let was_empty = seal.is_empty();
            work.holds.ask(sequence, |slab| seal.insert(slab));
            was_empty && !seal.is_empty()
        });
        if is_new {
            self.desk.tell(|_| ());
        }
    }

    /// Returns the count of a data block, also a provisional one; `None` while it is not known.
    pub fn count(&self, pbn: Pbn) -> Option<u8> {
        let (slab, sbn) = self.layout().slab_of(pbn)?;
        self.slab(slab, |slab| match &slab.state {
            slab::State::Unused => Some(0),
            slab::State::Ready(counts) => counts.get(sbn),
            slab::State::Unscrubbed | slab::State::Scrubbing => None,
        })
        .ok()?
    }

    /// Returns the number of data blocks of all slabs.
    pub fn data_blocks(&self) -> u64 {
        self.layout().data_blocks()
    }

    /// Returns how many data blocks are in use, provisional ones included; an estimate while slabs
    /// are not scrubbed.
    pub fn used_blocks(&self) -> u64 {
        let free = self.allocator.with(|allocator| allocator.free());
        self.data_blocks().saturating_sub(free)
    }

    /// Returns whether slabs wait to be scrubbed after a crash.
    pub fn is_recovering(&self) -> bool {
        let load = self.load.with(|load| *load);
        load.is_after_crash() && self.unscrubbed() > 0
    }

    /// Returns how many of a hundred slabs need not be scrubbed (any more).
    pub fn recovery_percentage(&self) -> u32 {
        let slabs = self.slab_count.load_acquire();
        let done = slabs.saturating_sub(self.unscrubbed());
        done.saturating_mul(100).checked_div(slabs).unwrap_or(100)
    }

    fn unscrubbed(&self) -> u32 {
        self.desk.with(|work| work.scrubbing.left)
    }

    /// Returns numbers for status and statistics.
    pub fn statistics(&self) -> Statistics {
        let layout = self.layout();
        let (free_blocks, slabs_opened, slabs_reopened) = self
            .allocator
            .with(|allocator| (allocator.free(), allocator.opened, allocator.reopened));
        let counters = &self.counters;
        Statistics {
            slabs: layout.slab_count,
            slabs_unscrubbed: self.unscrubbed(),
            data_blocks: layout.data_blocks(),
            free_blocks,
            slabs_opened,
            slabs_reopened,
            journal_disk_full: counters.journal_full.load_relaxed(),
            journal_flushed: counters.journal_flushed.load_relaxed(),
            journal_blocked: counters.journal_blocked.load_relaxed(),
            journal_blocks_written: counters.journal_written.load_relaxed(),
            journal_tail_busy: counters.journal_tail_busy.load_relaxed(),
            summary_blocks_written: counters.summary_written.load_relaxed(),
            reference_blocks_written: counters.references_written.load_relaxed(),
        }
    }

    /// Has everybody look whether the volume is read-only now.
    pub fn wake_all(&self) {
        self.desk.tell(|_| ());
    }

    /// Makes the tasks end, and everybody who waits.
    pub fn stop(&self) {
        self.desk.tell(|work| work.is_stopping = true);
    }

    /// Runs `f` with a slab, under its lock.
    fn slab<R>(&self, slab: SlabNumber, f: impl FnOnce(&mut Slab<BufferOf<W>>) -> R) -> Result<R> {
        let shard = self.shards.get((slab % SHARDS) as usize);
        let shard = shard.ok_or(IMPOSSIBLE)?;
        shard
            .with(|slabs| slabs.get_mut((slab / SHARDS) as usize).map(f))
            .ok_or(IMPOSSIBLE)
    }

    /// Adds slabs that were never used, as many as there is room for.
    fn add_unused(&self, room: SlabRoom<BufferOf<W>>) -> Result {
        let SlabRoom {
            slabs,
            mut places,
            shards,
        } = room;
        self.allocator.with(|allocator| allocator.grow(&mut places));
        for ((number, shard), mut room) in (0..).zip(&self.shards).zip(shards) {
            let count = SlabRoom::<BufferOf<W>>::of_shard(slabs, number);
            shard.with(|own| -> Result {
                // There is room for more than these; what is left is freed without the lock.
                while let Some(slab) = own.pop() {
                    fits(room.push_within_capacity(slab))?;
                }
                room.reverse();
                core::mem::swap(own, &mut room);
                while own.len() < count {
                    let slab = Slab::unused(&self.slab_config, self.nonce);
                    fits(own.push_within_capacity(slab))?;
                }
                Ok(())
            })?;
        }
        let known = self.slab_count.swap(slabs);
        for slab in known..slabs {
            self.allocator
                .with(|allocator| allocator.set_free(slab, self.slab_config.data_blocks));
        }
        Ok(())
    }

    /// Returns whether a test breaks this rule.
    fn breaks(&self, flaw: Flaw) -> bool {
        #[cfg(test)]
        return self.flaw == Some(flaw);
        #[cfg(not(test))]
        {
            let _ = flaw;
            false
        }
    }

    /// Fails if what every slab has to be does not hold.
    #[cfg(test)]
    fn check(&self) {
        for slab in 0..self.layout().slab_count {
            self.slab(slab, |slab| slab.check(&self.slab_config))
                .unwrap();
        }
    }
}

/// Room for the slabs themselves.
struct SlabRoom<B> {
    slabs: u32,
    places: KVVec<allocator::Place>,
    shards: KVec<KVVec<Slab<B>>>,
}

impl<B> SlabRoom<B> {
    fn new(slabs: u32) -> Result<Self> {
        let mut shards = KVec::with_capacity(SHARDS as usize, GFP_KERNEL)?;
        for number in 0..SHARDS {
            let count = Self::of_shard(slabs, number);
            shards.push(KVVec::with_capacity(count, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(Self {
            slabs,
            places: Allocator::places(slabs)?,
            shards,
        })
    }

    /// Returns how many of so many slabs a shard has.
    fn of_shard(slabs: u32, number: u32) -> usize {
        slabs.saturating_sub(number).div_ceil(SHARDS) as usize
    }
}

impl Counters {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            journal_full: zero(),
            journal_flushed: zero(),
            journal_blocked: zero(),
            journal_written: zero(),
            journal_tail_busy: zero(),
            summary_written: zero(),
            references_written: zero(),
        }
    }
}

/// Makes a large thing in a stack frame of its own, and keeps it on the heap.
#[inline(never)]
fn boxed<T>(make: impl FnOnce() -> Result<T>) -> Result<KBox<T>> {
    Ok(KBox::new(make()?, GFP_KERNEL)?)
}

/// Makes a pool of one thing in a stack frame of its own.
#[inline(never)]
fn pool<T>(make: impl FnOnce() -> Result<T>) -> Result<Pool<T>> {
    let mut things = KVec::with_capacity(1, GFP_KERNEL)?;
    things.push(make()?, GFP_KERNEL)?;
    Ok(Pool::new(things))
}

#[cfg(test)]
mod tests;
