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

use crate::block_map::BlockMap;
use crate::block_map::BlockMapConfig;
use crate::block_map::Writer as PageWriter;
use crate::compress::encoder::Encoder;
use crate::compress::switch::Switch;
use crate::data_path::batch::Batch;
use crate::data_path::batch::MAX_BIOS;
use crate::data_path::counters::Counters;
use crate::data_path::discard::Discarder;
use crate::data_path::flush::Flusher;
use crate::data_path::flush::SharedFlush;
use crate::data_path::inbox::held_up::HeldUp;
use crate::data_path::inbox::Inbox;
use crate::data_path::inbox::Work;
use crate::data_path::locks::LbnLocks;
use crate::data_path::lost::Lost;
use crate::data_path::packer::Packer;
use crate::data_path::park::TimerOf;
use crate::data_path::read::Fragments;
use crate::data_path::read::Reader;
use crate::data_path::set_aside::SetAside;
use crate::data_path::share::VERIFIED;
use crate::data_path::shown::Shown;
use crate::data_path::unsettled::Unsettled;
use crate::data_path::write::BioOf;
use crate::data_path::write::Writer;
use crate::dedupe::askers::Askers;
use crate::dedupe::flight::Flights;
use crate::dedupe::index;
use crate::dedupe::index::Session;
use crate::depot::Depot;
use crate::depot::DepotConfig;
use crate::error::Result;
use crate::error::Status;
use crate::format::geometry::Geometry;
use crate::format::super_block::State;
use crate::format::super_block::SuperBlock;
use crate::format::JournalPoint;
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
use crate::tuning::Tuning;
use crate::volume::super_block::SuperBlockStore;
use crate::volume::watch::Fullness;
use crate::world::ReadBio;
use crate::world::World;
use core::future::Future;
use core::num::NonZeroU64;
use core::pin::pin;
use kernel::prelude::*;
use runtime::clock::Clock;
use runtime::disk::Disk;
use runtime::oneshot::Oneshot;
use runtime::pool::Pool;
use runtime::stack::apart;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;

/// A volume in use.
pub struct Engine<W: World> {
    pub(crate) world: Arc<W>,
    pub(crate) storage: Arc<Storage<W::Disk>>,
    pub(crate) health: Arc<Health>,
    pub(crate) super_block: Arc<SuperBlockStore<W::Disk>>,
    pub(crate) journal: Arc<Journal<W>>,
    pub(crate) depot: Arc<Depot<W>>,
    pub(crate) map: Arc<BlockMap<W>>,
    pub(crate) inbox: Arc<Inbox<W::Bios>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) reader: Arc<Reader<W>>,
    pub(crate) writer: Arc<Writer<W>>,
    pub(crate) discarder: Discarder<W>,
    pub(crate) flusher: Flusher<W>,
    pub(crate) session: Arc<Session<W>>,
    pub(crate) compression: Arc<Switch>,
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

/// Workers that can compare at once what is to be stored with what may be the same.
const VERIFIERS: usize = 4;

/// Workers that can compress at once.
const ENCODERS: usize = 8;

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

fn carrier<D: Disk>(storage: &Storage<D>) -> Result<Pool<D::Buffer>> {
    let mut carriers = KVec::with_capacity(1, GFP_KERNEL)?;
    carriers.push(storage.buffer(1)?, GFP_KERNEL)?;
    Ok(Pool::new(carriers))
}

fn verifiers<D: Disk>(storage: &Storage<D>) -> Result<Pool<D::Buffer>> {
    let mut all = KVec::with_capacity(VERIFIERS, GFP_KERNEL)?;
    for _ in 0..VERIFIERS {
        all.push(storage.buffer_of_parts(VERIFIED, VERIFIED)?, GFP_KERNEL)?;
    }
    Ok(Pool::new(all))
}

fn encoders<W: World>(world: &W) -> Result<Pool<Encoder<W::Compressor>>> {
    let mut all = KVec::with_capacity(ENCODERS, GFP_KERNEL)?;
    for _ in 0..ENCODERS {
        all.push(Encoder::new(world.compressor()?)?, GFP_KERNEL)?;
    }
    Ok(Pool::new(all))
}

fn flights<V: Clone>(tuning: &Tuning) -> Result<Flights<V>> {
    let large = tuning.workers.saturating_mul(tuning.batch_blocks);
    let small = tuning.small_workers.saturating_mul(tuning.small_blocks);
    let (workers, names) = match tuning.index_shape {
        Some(_) => (
            tuning.workers.saturating_add(tuning.small_workers),
            large.saturating_add(small),
        ),
        None => (0, 0),
    };
    Ok(Flights::new(workers, names)?)
}

fn fragments<D: Disk>(storage: &Storage<D>, count: usize) -> Result<Pool<Fragments<D::Buffer>>> {
    let mut all = KVec::with_capacity(count, GFP_KERNEL)?;
    for _ in 0..count {
        let buffers = [storage.buffer(1)?, storage.buffer(1)?];
        all.push(Fragments::new(buffers), GFP_KERNEL)?;
    }
    Ok(Pool::new(all))
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
        let is_new = found.state == State::New;
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
        let mut admin = KVec::with_capacity(1, GFP_KERNEL)?;
        admin.push(Admin, GFP_KERNEL)?;
        let batch = NonZeroU64::new(tuning.batch_blocks as u64).ok_or(Status::BadConfiguration)?;
        let small_bios = tuning.small_blocks.min(MAX_BIOS);
        let workers = tuning.workers.saturating_add(tuning.small_workers);
        let inbox = place(|| Ok(Inbox::new(batch)?))?;
        let locks = place(|| Ok(LbnLocks::new()?))?;
        let shown = place(|| {
            Shown::new([
                (tuning.workers, MAX_BIOS),
                (tuning.small_workers, small_bios),
            ])
        })?;
        let unsettled = place(|| Ok(Unsettled::new(workers)?))?;
        let session = place(|| {
            let region = index::place(geometry, tuning.index_shape);
            let (world, storage, health) = (same_world(), same_storage(), same_health());
            Session::new(world, storage, health, region, is_new)
        })?;
        let compression = place(|| Ok(Switch::new()))?;
        let packer = place(|| Packer::new(tuning.packers))?;
        let lost = place(|| Ok(Lost::new()))?;
        let counters = place(|| Ok(Counters::default()))?;
        let writer = place(|| {
            Ok(Writer {
                world: world.clone(),
                health: health.clone(),
                storage: storage.clone(),
                journal: journal.clone(),
                depot: depot.clone(),
                map: map.clone(),
                inbox: inbox.clone(),
                held_up: HeldUp::new(),
                locks: locks.clone(),
                shown: shown.clone(),
                unsettled: unsettled.clone(),
                set_aside: SetAside::new()?,
                session: session.clone(),
                askers: Askers::new(world.clone(), workers)?,
                flights: flights(&tuning)?,
                compression: compression.clone(),
                packer: packer.clone(),
                encoders: encoders(&*world)?,
                verifiers: verifiers(&storage)?,
                lost: lost.clone(),
                counters: counters.clone(),
            })
        })?;
        let reader = place(|| {
            Ok(Reader {
                world: world.clone(),
                health: health.clone(),
                storage: storage.clone(),
                map: map.clone(),
                depot: depot.clone(),
                locks: locks.clone(),
                shown,
                packer: packer.clone(),
                fragments: fragments(&storage, tuning.fragment_reads)?,
                counters: counters.clone(),
            })
        })?;
        Ok(Self {
            reader,
            discarder: Discarder {
                health: health.clone(),
                journal: journal.clone(),
                depot: depot.clone(),
                map: map.clone(),
                locks,
                counters: counters.clone(),
                writer: writer.clone(),
            },
            flusher: Flusher {
                storage: storage.clone(),
                journal: journal.clone(),
                unsettled,
                packer,
                rounds: SharedFlush::new(),
                carrier: carrier(&storage)?,
                lost,
                counters: counters.clone(),
            },
            writer,
            session,
            compression,
            super_block,
            journal,
            depot,
            map,
            inbox,
            counters,
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

    /// Serves a bio that reads.
    ///
    /// # Errors
    ///
    /// What the bio is to be completed with.
    pub fn read<'b, R: ReadBio>(
        &'b self,
        bio: &'b mut R,
    ) -> impl Future<Output = Result<(), kernel::error::Error>> + Send + 'b {
        self.reader.read(bio)
    }

    /// Serves a flush.
    ///
    /// # Errors
    ///
    /// `EIO` once a write that was acknowledged is lost; the error of the storage's own flush.
    pub fn flush(&self) -> impl Future<Output = Result<(), kernel::error::Error>> + Send + '_ {
        self.flusher.flush()
    }

    /// Takes the memory of worker number `worker`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn batch(&self, worker: usize) -> Result<KBox<Batch<W>>> {
        Batch::new(&self.writer, &self.tuning, worker)
    }

    /// Leaves a bio that changes something for the workers. Never waits.
    pub fn submit(&self, bio: BioOf<W>) {
        self.counters.came(&bio);
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
                    let work = pin!(engine.writer.serve_writes(first, &mut batch));
                    engine.inbox.at_work(work).await;
                }
                Work::Discard(bio) => {
                    apart(pin!(engine.discarder.serve_discard(bio, &mut batch))).await;
                }
                Work::Stop => return,
            }
        }
    }

    /// Waits for the blocks of writes that are held up until the engine stops.
    pub async fn run_claimer(engine: Arc<Self>) {
        Writer::run_claimer(engine.writer.clone()).await;
    }

    /// Takes the memory of a task that writes fragments which had to wait for others.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn packer_batch(&self) -> Result<KBox<Batch<W>>> {
        Batch::of_packer(&self.writer)
    }

    /// Returns the timer that [`run_packer_timer`](Self::run_packer_timer) needs.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn packer_timer(&self) -> Result<TimerOf<W>> {
        Ok(self.world.clock().timer()?)
    }

    /// Writes fragments that had to wait for others until the engine stops.
    pub async fn run_packer(engine: Arc<Self>, batch: KBox<Batch<W>>) {
        Writer::run_packer(engine.writer.clone(), batch).await;
    }

    /// Has fragments written that have waited for long until the engine stops.
    pub async fn run_packer_timer(engine: Arc<Self>, timer: TimerOf<W>) {
        Writer::run_packer_timer(engine.writer.clone(), timer).await;
    }

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
    pub fn page_writer(&self) -> Result<PageWriter<W>> {
        self.map.writer()
    }

    /// Writes pages of the block map until the engine stops.
    pub async fn run_page_writer(engine: Arc<Self>, writer: PageWriter<W>) {
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

    /// Opens, saves and closes the index until the engine stops.
    pub async fn run_index(engine: Arc<Self>) {
        engine.session.run().await;
    }

    /// Writes what is to be kept of the index until the engine stops.
    pub async fn run_index_writer(engine: Arc<Self>) {
        engine.session.write_chapters().await;
    }

    /// Asks the index for names that have to be read, until the engine stops:
    /// [`ASKERS`](crate::dedupe::askers::ASKERS) tasks do so.
    pub async fn run_asker(engine: Arc<Self>) {
        engine.writer.askers.run().await;
    }

    /// Looks for look-ups that take too long, until the engine stops.
    pub async fn run_asker_timer(engine: Arc<Self>) {
        engine.writer.askers.run_timer().await;
    }

    /// Lets all tasks end. No bio comes any more, and the volume is suspended.
    pub fn stop(&self) {
        self.inbox.stop();
        self.writer.held_up.stop();
        self.writer.packer.stop();
        self.health.stop();
        self.started.send(false);
        self.journal.stop();
        self.map.stop();
        self.depot.stop();
        self.writer.askers.stop();
        self.session.stop();
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
