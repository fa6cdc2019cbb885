// SPDX-License-Identifier: GPL-2.0

//! A volume in use: its parts, and what they need of each other.
//!
//! The engine is made when a table is loaded; its tasks ([`Engine::run_worker`] and the others) run
//! from then on until [`Engine::stop`]. They do nothing before [`start`](Engine::start).
//!
//! # What waits for what
//!
//! A claimer waits for blocks, with none in its hands. A worker waits for pages and tree pages, then for
//! places in the journal. Nobody whom it waits for there waits for a worker: the journal's writer waits for
//! the storage, its applier for slab journals and reference counts to be written, the writer of
//! pages for the journal's writer. All of them have their memory from the start.

use crate::block_map::Allocator;
use crate::block_map::BlockMap;
use crate::block_map::BlockMapConfig;
use crate::block_map::Kind;
use crate::block_map::Pinned;
use crate::block_map::Writer;
use crate::data_path::batch::Batch;
use crate::data_path::batch::MAX_BIOS;
use crate::data_path::counters::Counters;
use crate::data_path::flush::SharedFlush;
use crate::data_path::inbox::held_up::HeldUp;
use crate::data_path::inbox::Inbox;
use crate::data_path::inbox::Work;
use crate::data_path::locks::LbnLocks;
use crate::data_path::read::Fragments;
use crate::data_path::set_aside::SetAside;
use crate::data_path::shown::Shown;
use crate::data_path::unsettled::Unsettled;
use crate::data_path::write::BioOf;
use crate::depot::Depot;
use crate::depot::DepotConfig;
use crate::depot::Run;
use crate::error::Result;
use crate::error::Status;
use crate::format::block_map;
use crate::format::geometry::Geometry;
use crate::format::recovery_journal;
use crate::format::slab_journal;
use crate::format::super_block::State;
use crate::format::super_block::SuperBlock;
use crate::format::tree;
use crate::format::DepotLayout;
use crate::format::JournalPoint;
use crate::format::Lbn;
use crate::format::Mapping;
use crate::format::Pbn;
use crate::format::Sequence;
use crate::format::StoredEntry;
use crate::health::Health;
use crate::journal;
use crate::journal::Apply;
use crate::journal::Holds;
use crate::journal::Journal;
use crate::journal::JournalConfig;
use crate::journal::JournalStart;
use crate::storage::Storage;
use crate::volume::super_block::SuperBlockStore;
use crate::volume::watch::Fullness;
use crate::world::World;
use core::num::NonZeroU64;
use core::pin::pin;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::oneshot::Oneshot;
use runtime::pool::Pool;
use runtime::stack::apart;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;

/// Sizes of an engine that are not those of its volume.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Workers with a whole batch; some of them, of two at least one, serve no discards.
    pub workers: usize,
    /// Workers for few blocks, who are called when the others wait for the storage.
    pub small_workers: usize,
    /// The most blocks of theirs.
    pub small_blocks: usize,
    /// Tasks that wait for blocks of writes that are held up.
    pub claimers: usize,
    /// Blocks in a batch; a bio with data must fit.
    pub batch_blocks: usize,
    /// Reads of compressed blocks at once.
    pub fragment_reads: usize,
    /// Journal blocks in memory.
    pub journal_memory_blocks: u64,
    /// Journal blocks in one write.
    pub journal_io_blocks: u64,
    /// Places in the journal that a request is given at once.
    pub journal_grant: usize,
    /// How long journal entries wait for company.
    pub commit_delay_ms: u64,
    /// Leaf pages in memory.
    pub cache_pages: usize,
    /// A leaf page is written when its oldest change is so many journal blocks old.
    pub maximum_age: u64,
    /// Blocks of slab journals that may be on their way to the storage.
    pub slab_journal_pages: usize,
    /// Pages of the buffers for metadata.
    pub io_pages: usize,
    /// How many entries a journal block has.
    pub journal_shape: recovery_journal::Shape,
    /// How many entries a block of a slab journal has.
    pub slab_journal_shape: slab_journal::Shape,
}

/// The data of a write, for readers.
pub(crate) type ViewOf<W> = <<<W as World>::Disk as Disk>::Buffer as Buffer>::View;

/// A volume in use.
pub struct Engine<W: World> {
    pub(crate) world: Arc<W>,
    pub(crate) storage: Arc<Storage<W::Disk>>,
    pub(crate) health: Arc<Health>,
    pub(crate) super_block: Arc<SuperBlockStore<W::Disk>>,
    pub(crate) journal: Arc<Journal<W>>,
    pub(crate) depot: Arc<Depot<W>>,
    pub(crate) map: Arc<BlockMap<W>>,
    pub(crate) locks: Arc<LbnLocks>,
    pub(crate) shown: Shown<ViewOf<W>>,
    pub(crate) set_aside: Arc<SetAside>,
    pub(crate) inbox: Arc<Inbox<W::Bios>>,
    pub(crate) held_up: Arc<HeldUp<W::Bios>>,
    pub(crate) unsettled: Arc<Unsettled>,
    pub(crate) flushing: Arc<SharedFlush>,
    /// Lends its I/O resources to flushes of the storage.
    pub(crate) carrier: Pool<<W::Disk as Disk>::Buffer>,
    pub(crate) fragments: Pool<Fragments<<W::Disk as Disk>::Buffer>>,
    pub(crate) layout: Layout,
    pub(crate) counters: Arc<Counters>,
    /// Not 0 once a write that was acknowledged is lost.
    pub(crate) lost: AtomicU32,
    /// Whether the volume had to be recovered; told when it is started.
    pub(crate) started: Oneshot<bool>,
    pub(crate) fullness: Fullness,
    /// Who has this is the one that starts, suspends, or resumes the volume.
    pub(crate) admin: Pool<Admin>,
    /// Not 0 once a start was given up on the way: what is in memory is of no use then.
    pub(crate) given_up: AtomicU32,
    state: AtomicU32,
    tuning: Tuning,
}

/// The right to change the state of the volume as a whole.
pub(crate) struct Admin;

const NOT_STARTED: u32 = 0;
const RUNNING: u32 = 1;
const SUSPENDED: u32 = 2;

fn journal_config(found: &SuperBlock, tuning: &Tuning) -> JournalConfig {
    JournalConfig {
        origin: found.partitions.journal.start,
        size: found.recovery_journal_size,
        nonce: found.nonce,
        recovery_count: found.recovery_count(),
        shape: tuning.journal_shape,
        memory_blocks: tuning.journal_memory_blocks,
        commit_delay_ms: tuning.commit_delay_ms,
        io_pages: tuning.journal_io_blocks,
        grant: tuning.journal_grant,
    }
}

fn depot_config(found: &SuperBlock, tuning: &Tuning) -> DepotConfig {
    DepotConfig {
        layout: found.depot,
        summary_origin: found.partitions.summary.start,
        zone_count: found.zone_count.into(),
        nonce: found.nonce,
        shape: tuning.slab_journal_shape,
        journal_pages: tuning.slab_journal_pages,
        io_pages: tuning.io_pages,
    }
}

fn map_config(found: &SuperBlock, tuning: &Tuning) -> BlockMapConfig {
    BlockMapConfig {
        root_origin: found.root_origin,
        roots: found.root_count,
        nonce: found.nonce,
        logical_blocks: found.logical_blocks,
        workers: tuning.workers,
        depot: found.depot,
        cache_pages: tuning.cache_pages,
        write_pages: tuning.io_pages,
    }
}

/// Returns what the super block says of the journal's counters.
pub(crate) fn counters_of(found: &SuperBlock) -> journal::Counters {
    journal::Counters {
        logical_blocks_used: found.logical_blocks_used,
        block_map_data_blocks: found.block_map_data_blocks,
    }
}

/// Where data blocks are; slabs are added while the volume is suspended.
pub(crate) struct Layout {
    depot: DepotLayout,
    slabs: AtomicU32,
}

impl Layout {
    pub(crate) fn new(depot: DepotLayout) -> Self {
        Self {
            depot,
            slabs: AtomicU32::new(depot.slab_count),
        }
    }

    pub(crate) fn get(&self) -> DepotLayout {
        DepotLayout {
            slab_count: self.slabs.load_relaxed(),
            ..self.depot
        }
    }

    pub(crate) fn set_slabs(&self, slabs: u32) {
        self.slabs.store_relaxed(slabs);
    }

    pub(crate) fn is_data_block(&self, pbn: Pbn) -> bool {
        self.get().is_data_block(pbn)
    }
}

/// Makes a part of an engine in a stack frame of its own, and puts it on the heap.
#[inline(never)]
fn place<T>(make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
    Ok(Arc::new(make()?, GFP_KERNEL)?)
}

impl<W: World> Engine<W> {
    /// Makes the engine of a volume, which was checked. Nothing is written, and nothing read,
    /// before [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or sizes that make no sense.
    pub fn new(
        world: W,
        disk: Arc<W::Disk>,
        geometry: &Geometry,
        found: SuperBlock,
        tuning: Tuning,
    ) -> Result<Self> {
        let world = Arc::new(world, GFP_KERNEL)?;
        let storage = place(|| Ok(Storage::new(disk, geometry.bio_offset)))?;
        let health = place(|| Ok(Health::new(found.state == State::ReadOnly)))?;
        let (same_world, same_storage, same_health) =
            (|| world.clone(), || storage.clone(), || health.clone());
        let journal = place(|| {
            let start = JournalStart {
                tail: found.journal_start,
                counters: counters_of(&found),
            };
            let config = journal_config(&found, &tuning);
            Journal::new(config, start, same_world(), same_storage(), same_health())
        })?;
        let depot = place(|| {
            let config = depot_config(&found, &tuning);
            Depot::new(&config, &*world, same_storage(), same_health())
        })?;
        let map = place(|| {
            let config = map_config(&found, &tuning);
            BlockMap::new(config, same_world(), same_storage(), same_health())
        })?;
        let super_block =
            place(|| SuperBlockStore::new(same_storage(), geometry.data_start, found))?;
        let mut carriers = KVec::with_capacity(1, GFP_KERNEL)?;
        carriers.push(storage.buffer(1)?, GFP_KERNEL)?;
        let mut fragments = KVec::with_capacity(tuning.fragment_reads, GFP_KERNEL)?;
        for _ in 0..tuning.fragment_reads {
            let buffers = [storage.buffer(1)?, storage.buffer(1)?];
            fragments.push(Fragments::new(buffers), GFP_KERNEL)?;
        }
        let mut admin = KVec::with_capacity(1, GFP_KERNEL)?;
        admin.push(Admin, GFP_KERNEL)?;
        let batch = NonZeroU64::new(tuning.batch_blocks as u64).ok_or(Status::BadConfiguration)?;
        let small_bios = tuning.small_blocks.min(MAX_BIOS);
        let workers = tuning.workers.saturating_add(tuning.small_workers);
        Ok(Self {
            super_block,
            journal,
            depot,
            map,
            locks: place(|| Ok(LbnLocks::new()?))?,
            shown: Shown::new([
                (tuning.workers, MAX_BIOS),
                (tuning.small_workers, small_bios),
            ])?,
            set_aside: place(SetAside::new)?,
            inbox: place(|| Ok(Inbox::new(batch)?))?,
            held_up: place(|| Ok(HeldUp::new()))?,
            unsettled: place(|| Ok(Unsettled::new(workers)?))?,
            flushing: place(|| Ok(SharedFlush::new()))?,
            carrier: Pool::new(carriers),
            fragments: Pool::new(fragments),
            layout: Layout::new(found.depot),
            counters: place(|| Ok(Counters::default()))?,
            lost: AtomicU32::new(0),
            started: Oneshot::new(),
            fullness: Fullness::new(),
            admin: Pool::new(admin),
            given_up: AtomicU32::new(0),
            state: AtomicU32::new(NOT_STARTED),
            world,
            storage,
            health,
            tuning,
        })
    }

    /// Leaves a bio that changes something for the workers. Never waits.
    pub fn submit(&self, bio: BioOf<W>) {
        self.count_in(&bio);
        self.inbox.push(bio);
    }

    /// Returns true once the volume was started.
    pub fn is_started(&self) -> bool {
        self.state.load_acquire() != NOT_STARTED
    }

    /// Returns true while nothing may be written.
    pub(crate) fn is_suspended(&self) -> bool {
        self.state.load_acquire() != RUNNING
    }

    pub(crate) fn set_suspended(&self, suspended: bool) {
        let state = if suspended { SUSPENDED } else { RUNNING };
        self.state.store_release(state);
    }

    /// Makes everybody look who waits for something that may not happen any more.
    pub(crate) fn wake_all(&self) {
        self.journal.wake_all();
        self.depot.wake_all();
        self.map.wake_all();
    }

    /// Returns the sizes that the volume does not say.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Returns what the engine sees of the world.
    pub fn world(&self) -> &W {
        &self.world
    }

    /// Returns the storage, through the handle that is in use.
    pub fn disk(&self) -> Arc<W::Disk> {
        self.storage.disk()
    }

    /// Goes on with another handle of the same storage.
    pub fn set_disk(&self, disk: Arc<W::Disk>) {
        self.storage.set_disk(disk);
    }

    /// A worker: serves bios until the engine stops.
    pub async fn run_worker(engine: Arc<Self>, mut batch: KBox<Batch<W>>) {
        loop {
            match engine.inbox.next(batch.kind).await {
                Work::Write(first) => {
                    let work = pin!(engine.serve_writes(first, &mut batch));
                    engine.inbox.at_work(work).await;
                }
                Work::Discard(bio) => {
                    apart(pin!(engine.serve_discard(bio, &mut batch))).await;
                }
                Work::Stop => return,
            }
        }
    }

    /// Returns the mapping of a block whose leaf page is `leaf`.
    pub(crate) async fn mapping(&self, leaf: Option<Pbn>, lbn: Lbn) -> Result<Mapping> {
        let Some(pbn) = leaf else {
            return Ok(Mapping::UNMAPPED);
        };
        let (_, slot) = tree::leaf(lbn);
        if let Some(mapping) = self.map.try_read(pbn, |page| block_map::entry(page, slot)) {
            return Ok(mapping);
        }
        let page = self.pin_leaf(pbn).await?;
        Ok(page.read(|page| block_map::entry(page, slot)))
    }
}

impl<W: World> Engine<W> {
    /// Pins a leaf page.
    pub(crate) async fn pin_leaf(&self, pbn: Pbn) -> Result<Pinned<'_, W>> {
        self.health
            .watch_look_up(self.map.pin(pbn, Kind::Leaf).await)
    }
}

impl<W: World> Engine<W> {
    /// Returns the number of workers, each of which needs a [`Batch`].
    pub fn workers(&self) -> usize {
        self.tuning
            .workers
            .saturating_add(self.tuning.small_workers)
    }

    /// Writes the journal until the engine stops.
    pub async fn run_journal_writer(engine: Arc<Self>) {
        Journal::run_writer(engine.journal.clone(), engine).await;
    }

    /// Has the journal written that waits for nobody, until the engine stops.
    pub async fn run_journal_timer(engine: Arc<Self>) {
        Journal::run_timer(engine.journal.clone()).await;
    }

    /// Applies what the journal has committed until the engine stops.
    pub async fn run_applier(engine: Arc<Self>) {
        Journal::run_applier(engine.journal.clone(), engine).await;
    }

    /// Returns what [`run_page_writer`](Self::run_page_writer) needs.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn page_writer(&self) -> Result<Writer<W>> {
        self.map.writer()
    }

    /// Writes pages of the block map until the engine stops.
    pub async fn run_page_writer(engine: Arc<Self>, writer: Writer<W>) {
        engine.map.run_writer(writer, &*engine.journal).await;
    }

    /// Writes slab journals until the engine stops.
    pub async fn run_slab_committer(engine: Arc<Self>) {
        Depot::run_committer(engine.depot.clone()).await;
    }

    /// Writes reference counts until the engine stops.
    pub async fn run_reference_writer(engine: Arc<Self>) {
        Depot::run_reference_writer(engine.depot.clone()).await;
    }

    /// Scrubs slabs until the engine stops.
    pub async fn run_scrubber(engine: Arc<Self>) {
        Depot::run_scrubber(engine.depot.clone()).await;
    }

    /// Lets all tasks end. No bio comes any more, and the volume is suspended.
    pub fn stop(&self) {
        self.inbox.stop();
        self.held_up.stop();
        self.health.stop();
        self.started.send(false);
        self.journal.stop();
        self.map.stop();
        self.depot.stop();
    }
}

impl<W: World> Allocator for Engine<W> {
    async fn allocate_one(&self) -> Result<Pbn> {
        let run = self.depot.allocate(1).await?;
        Ok(run.ok_or(Status::NoSpace)?.start)
    }

    fn release_one(&self, pbn: Pbn) {
        self.depot.release(Run {
            start: pbn,
            blocks: 1,
        });
    }
}

impl<W: World> Holds for Engine<W> {
    fn block_map(&self) -> Option<Sequence> {
        self.map.oldest_change()
    }

    fn slab_journals(&self) -> Option<Sequence> {
        self.depot.oldest_hold()
    }

    fn hurry(&self, before: Sequence) {
        self.map.write_before(before);
        self.depot.write_before(before);
    }

    fn block_opened(&self, sequence: Sequence) {
        if let Some(before) = sequence.checked_sub(self.tuning.maximum_age) {
            self.map.write_before(before);
        }
    }
}

impl<W: World> Apply for Engine<W> {
    async fn apply(&self, entries: &[(JournalPoint, StoredEntry)]) -> Result {
        self.depot.apply(entries).await
    }
}
