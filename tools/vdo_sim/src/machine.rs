// SPDX-License-Identifier: GPL-2.0

//! A simulated machine with a vdo volume: device-mapper and the glue, as far as the core can tell.

use crate::answers::Answers;
use crate::answers::ALL;
use crate::bio::SimBio;
use crate::bio::Wait;
use crate::converted::converted_back;
use crate::device::Broken;
use crate::device::Device;
use crate::host::Host;
use crate::inspect;
use crate::plan::Growth;
use crate::plan::Plan;
use crate::reader::SimRead;
use crate::toy::Toy;
use crate::toy::BLOCK_SECTORS;
use kernel::alloc::without_waiting;
use kernel::prelude::*;
use kernel::sync::Arc;
use runtime::disk::SECTOR_SIZE;
use runtime::pool::Pool;
use sim::clock::sleep;
use sim::executor::Join;
use sim::executor::Spawner;
use sim::executor::LONGEST_PREEMPTION;
use sim::fault::Kind;
use sim::preemption::undisturbed;
use sim::SimDisk;
use sim::World;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use vdo::admin::statistics::Statistics;
use vdo::admin::status::IndexState;
use vdo::admin::status::Mode;
use vdo::data_path::locks::CHUNK;
use vdo::error::Error;
use vdo::format::block_map;
use vdo::format::block_map::Validity;
use vdo::format::geometry::Geometry;
use vdo::format::super_block::State;
use vdo::format::Lbn;
use vdo::format::Page;
use vdo::format::Pbn;
use vdo::format::BLOCK_SIZE;
use vdo::journal::Holds;
use vdo::storage::Storage;
use vdo::tuning::Tuning;
use vdo::volume::engine::Engine;
use vdo::volume::load;
use vdo::volume::load::Found;
use vdo::world::Operation;

/// A machine that runs.
pub struct Machine {
    /// Its world.
    pub world: World,
    /// What it is made of.
    pub plan: Plan,
    /// The storage.
    pub disk: SimDisk,
    /// Requests that the volume has been given and that have not ended.
    pub in_flight: Cell<u64>,
    /// Whether requests have to wait until the device is resumed.
    pub suspended: Cell<bool>,
    /// The requests that are not answered yet.
    pub answers: Answers,
    /// Whether the volume was read-only when it was started.
    born_read_only: Cell<bool>,
    wrong: RefCell<Option<String>>,
    /// The volume as the table says that it is.
    toy: RefCell<Toy>,
    volume: RefCell<Option<Rc<Volume>>>,
    spawner: Spawner<'static>,
    /// Whoever suspends or resumes has it taken, as device-mapper has a lock.
    administration: Pool<()>,
}

/// A volume in the hands of the core.
pub struct Volume {
    /// The engine.
    pub engine: Arc<Engine<Host>>,
    broken: Broken,
    tasks: RefCell<Vec<Join<()>>>,
}

/// A task on the path of I/O: it asks for no memory that it would have to wait for. (A volume that
/// is read-only may wait: no memory comes of writing to it.)
struct AtOnce<F> {
    engine: Arc<Engine<Host>>,
    task: Pin<Box<F>>,
}

impl<F: Future> AtOnce<F> {
    fn new(engine: &Arc<Engine<Host>>, task: F) -> Self {
        Self {
            engine: engine.clone(),
            task: Box::pin(task),
        }
    }
}

impl<F: Future> Future for AtOnce<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let may_wait = self.engine.is_read_only();
        let mut poll = || self.task.as_mut().poll(context);
        match may_wait {
            true => poll(),
            false => without_waiting(poll),
        }
    }
}

impl Volume {
    /// What was saved needs nothing of the recovery journal any more.
    fn must_hold_nothing(&self, saved: bool) {
        if saved && !self.engine.is_read_only() {
            let held = (self.engine.block_map(), self.engine.slab_journals());
            assert_eq!(held, (None, None), "a saved volume holds journal blocks");
        }
    }
}

/// Requests that change something, on their way.
pub struct Submitted(Vec<Wait>);

impl Submitted {
    async fn wait(self) -> Result {
        let mut result = Ok(());
        for wait in self.0 {
            result = wait.await.and(result);
        }
        result
    }
}

impl Machine {
    /// Switches a machine on whose disk holds `image`. The volume is not loaded yet.
    pub fn new(world: &World, spawner: Spawner<'static>, plan: &Plan, image: Vec<u8>) -> Rc<Self> {
        // The administrator's table says what the volume says.
        let toy = plan.toy.found(&image).unwrap_or(plan.toy.clone());
        let disk = world.add_disk("storage", image);
        if plan.large_storage_blocks {
            disk.set_block_sectors(BLOCK_SECTORS as u32);
        }
        let mut administrators = KVec::new();
        administrators.push((), GFP_KERNEL).expect("memory");
        Rc::new(Self {
            world: world.clone(),
            plan: plan.clone(),
            disk,
            in_flight: Cell::new(0),
            suspended: Cell::new(true),
            answers: Answers::default(),
            born_read_only: Cell::new(false),
            wrong: RefCell::default(),
            toy: RefCell::new(toy),
            volume: RefCell::new(None),
            spawner,
            administration: Pool::new(administrators),
        })
    }

    /// Returns what was wrong first, if anything was.
    pub fn violation(&self) -> Option<String> {
        self.wrong.borrow().clone()
    }

    /// Notes that something is wrong.
    pub fn complain(&self, text: String) {
        self.world.trace(|| format!("WRONG    {text}"));
        self.wrong.borrow_mut().get_or_insert(text);
    }

    /// Returns the volume that is in use.
    pub fn volume(&self) -> Option<Rc<Volume>> {
        self.volume.borrow().clone()
    }

    /// Returns the volume's sizes, as the table has them.
    pub fn toy(&self) -> Toy {
        self.toy.borrow().clone()
    }

    /// Returns how tasks are started.
    pub fn spawner(&self) -> &Spawner<'static> {
        &self.spawner
    }

    /// Loads the volume, starts it and resumes.
    ///
    /// # Errors
    ///
    /// Those of the storage, or what is wrong with what is on it.
    pub async fn start(&self) -> Result {
        self.administration.take().await;
        let started = self.start_alone().await;
        self.administration.give(());
        started
    }

    async fn start_alone(&self) -> Result {
        let volume = Rc::new(self.load().await?);
        volume.engine.set_deduplication(self.plan.deduplication);
        let compression = self.plan.compression.then_some(1);
        volume.engine.set_compression(compression);
        let started = volume.engine.start(self.toy().logical_blocks).await;
        if let Err(error) = started {
            self.world.trace(|| format!("no start: {error:?}"));
            self.destroy(&volume).await;
            return Err(error.errno());
        }
        volume.broken.set_started();
        *self.volume.borrow_mut() = Some(volume);
        self.suspended.set(false);
        Ok(())
    }

    /// Reads what is on the storage and makes an engine of it; writes nothing.
    async fn load(&self) -> Result<Volume> {
        let broken = Broken::new(self.toy().layout, self.plan.flaw);
        let disk = Arc::new(Device::new(self.disk.clone(), broken.clone()), GFP_KERNEL)?;
        let geometry = match load::find(&*disk).await {
            Ok(Found::Volume(geometry)) => geometry,
            _ => return Err(EIO),
        };
        let storage = Storage::new(disk.clone(), geometry.bio_offset);
        let super_block = load::read_super_block(&storage, &geometry)
            .await
            .map_err(Error::errno)?
            .map_err(|_| EIO)?;
        super_block.check(&geometry).map_err(Error::errno)?;
        self.born_read_only
            .set(super_block.state == State::ReadOnly);
        let toy = self.toy();
        let tuning = Tuning {
            workers: self.plan.workers,
            small_workers: self.plan.small_workers,
            small_blocks: 2,
            claimers: self.plan.claimers,
            packers: self.plan.claimers,
            batch_blocks: self.plan.batch_blocks,
            fragment_reads: 1,
            journal_memory_blocks: self.plan.journal_memory_blocks,
            journal_io_blocks: self.plan.journal_io_blocks,
            journal_grant: self.plan.journal_grant,
            commit_delay_ms: 5,
            cache_pages: toy.cache_pages,
            maximum_age: toy.max_age,
            slab_journal_pages: self.plan.slab_journal_pages,
            io_pages: self.plan.io_pages,
            journal_shape: toy.journal_shape,
            slab_journal_shape: toy.slab_journal_shape,
            index_shape: toy.index_shape,
        };
        let host = Host::new(&self.world);
        let engine = Engine::new(host, disk, &geometry, super_block, tuning);
        let engine = engine.map_err(Error::errno)?;
        let volume = Volume {
            engine: Arc::new(engine, GFP_KERNEL)?,
            broken,
            tasks: RefCell::default(),
        };
        let spawned = self.spawn_tasks(&volume);
        if spawned.is_err() {
            self.destroy(&volume).await;
        }
        spawned.map(|()| volume)
    }

    fn spawn_tasks(&self, volume: &Volume) -> Result {
        let engine = &volume.engine;
        let mut tasks = volume.tasks.borrow_mut();
        let mut spawn = |name, task: Pin<Box<dyn Future<Output = ()>>>| {
            let task = AtOnce::new(engine, task);
            tasks.push(self.spawner.spawn_daemon(name, task));
        };
        for worker in 0..engine.workers() {
            let batch = engine.batch(worker).map_err(Error::errno)?;
            spawn(
                "worker",
                Box::pin(Engine::run_worker(engine.clone(), batch)),
            );
        }
        for _ in 0..self.plan.claimers {
            spawn("claimer", Box::pin(Engine::run_claimer(engine.clone())));
        }
        for _ in 0..self.plan.claimers {
            let batch = engine.packer_batch().map_err(Error::errno)?;
            let packer = Engine::run_packer(engine.clone(), batch);
            spawn("packer", Box::pin(packer));
        }
        let ticks = engine.packer_timer().map_err(Error::errno)?;
        spawn(
            "packing",
            Box::pin(Engine::run_packer_timer(engine.clone(), ticks)),
        );
        let writer = engine.page_writer().map_err(Error::errno)?;
        spawn("watch", Box::pin(Engine::run_watch(engine.clone())));
        spawn("guard", Box::pin(Engine::run_guard(engine.clone())));
        spawn(
            "journal",
            Box::pin(Engine::run_journal_writer(engine.clone())),
        );
        spawn("timer", Box::pin(Engine::run_journal_timer(engine.clone())));
        spawn("applier", Box::pin(Engine::run_applier(engine.clone())));
        spawn(
            "pages",
            Box::pin(Engine::run_page_writer(engine.clone(), writer)),
        );
        spawn(
            "slabs",
            Box::pin(Engine::run_slab_committer(engine.clone())),
        );
        spawn(
            "counts",
            Box::pin(Engine::run_reference_writer(engine.clone())),
        );
        spawn("scrubber", Box::pin(Engine::run_scrubber(engine.clone())));
        for _ in 0..2 {
            spawn("asker", Box::pin(Engine::run_asker(engine.clone())));
        }
        spawn("late", Box::pin(Engine::run_asker_timer(engine.clone())));
        spawn(
            "chapters",
            Box::pin(Engine::run_index_writer(engine.clone())),
        );
        // No request waits for an index that is opened: this one may wait for memory.
        let index = Engine::run_index(engine.clone());
        tasks.push(self.spawner.spawn_daemon("index", index));
        Ok(())
    }

    /// Takes the engine down.
    async fn destroy(&self, volume: &Volume) {
        volume.engine.stop();
        let tasks = volume.tasks.take();
        for task in tasks {
            task.await;
        }
    }

    /// Suspends and resumes.
    ///
    /// # Errors
    ///
    /// Those of the resume; the device stays suspended then.
    pub async fn suspend_and_resume(&self, save: bool) -> Result {
        self.administration.take().await;
        self.suspend(save).await;
        let resumed = self.resume_alone().await;
        self.administration.give(());
        resumed
    }

    /// Suspends, and leaves it at that.
    pub async fn pause(&self, save: bool) {
        self.administration.take().await;
        self.suspend(save).await;
        self.administration.give(());
    }

    /// Resumes after that has failed.
    ///
    /// # Errors
    ///
    /// Those of the resume.
    pub async fn resume(&self) -> Result {
        self.administration.take().await;
        let resumed = self.resume_alone().await;
        self.administration.give(());
        resumed
    }

    async fn resume_alone(&self) -> Result {
        let volume = self.volume().ok_or(EIO)?;
        volume.engine.set_deduplication(self.plan.deduplication);
        let compression = self.plan.compression.then_some(1);
        volume.engine.set_compression(compression);
        volume.engine.resume().await.map_err(Error::errno)?;
        volume.broken.set_closing(false);
        self.suspended.set(false);
        Ok(())
    }

    /// Suspends: no request comes any more, and none is under way. Checks that the volume leaves
    /// the storage alone then.
    async fn suspend(&self, save: bool) {
        self.suspended.set(true);
        while self.in_flight.get() > 0 {
            sleep(&self.world, 20).await;
        }
        if let Some(volume) = self.volume() {
            volume.broken.set_closing(save);
            volume.engine.suspend(save).await;
            undisturbed(|| volume.must_hold_nothing(save));
            let seen = (self.world.changes(), self.world.moments());
            // Also who was preempted on its last steps is at rest then.
            let a_while = match self.plan.preempted {
                true => 2 * LONGEST_PREEMPTION,
                false => 2000,
            };
            sleep(&self.world, a_while).await;
            let now = (self.world.changes(), self.world.moments());
            assert_eq!(now, seen, "a suspended volume writes");
            undisturbed(|| self.check_rest(&volume, save));
        }
    }

    /// Checks that nothing is left in anybody's hands; and if everything was `saved`, that what
    /// the volume says of its blocks is what is on disk.
    fn check_rest(&self, volume: &Volume, saved: bool) {
        if self.plan.flaw.is_some() {
            return;
        }
        self.check_mode();
        if let Some(what) = volume.engine.not_at_rest(saved) {
            self.complain(format!("suspended, and {what}"));
        }
        let provisional = volume.engine.provisional_blocks();
        // What could not be written stays taken.
        let failed = self.world.struck(&[Kind::Write]) * self.plan.batch_blocks;
        if provisional > failed as u64 && !self.is_read_only() {
            self.complain(format!(
                "suspended, and {provisional} blocks are taken for nothing"
            ));
        }
        if !saved || self.is_read_only() {
            return;
        }
        let free = self.is_recovered().then(|| self.free() + provisional);
        let image = self.world.images().swap_remove(self.disk.number());
        let image = converted_back(&image);
        if let Err(text) = inspect::stopped(&self.toy(), &image, free) {
            self.complain(format!("saved: {text}"));
        }
    }

    /// Checks that the pages of the block map have what the journal has entries for, and no more.
    pub fn check_map(&self) {
        // Where a task can be stopped in the middle, its entry may be seen without its page.
        let is_whole = self.plan.flaw.is_none() && !self.plan.preempted;
        let Some(volume) = self.volume().filter(|_| is_whole) else {
            return;
        };
        if self.is_read_only() {
            return;
        }
        let clusters = self.plan.space.clusters().iter();
        let leaf = |lbn: Lbn| lbn / u64::from(block_map::ENTRIES);
        let leaves: BTreeSet<u64> = clusters
            .flat_map(|lbns| leaf(lbns.start)..=leaf(lbns.end - 1))
            .collect();
        let peek = |block: u64| -> Page {
            let sectors = block * BLOCK_SECTORS..(block + 1) * BLOCK_SECTORS;
            let page = self.world.peek(self.disk.number(), sectors);
            page.try_into().expect("a block")
        };
        let offset = Geometry::decode(&peek(0)).map_or(0, |geometry| geometry.bio_offset);
        let stored = |pbn: Pbn| {
            let page = peek(pbn - offset);
            // One that was never written is empty.
            match block_map::validate(&page, self.plan.toy.layout.nonce, pbn) {
                Validity::Valid => page,
                _ => [0; BLOCK_SIZE],
            }
        };
        let counts = volume.engine.mapped_blocks(leaves.into_iter(), stored);
        if let Some((mapped, counted)) = counts.filter(|(mapped, counted)| mapped != counted) {
            self.complain(format!(
                "{mapped} blocks are mapped in pages, {counted} by the journal"
            ));
        }
    }

    /// Checks that the volume is read-only only because of a fault.
    pub fn check_mode(&self) {
        let is_explained = self.born_read_only.get() || self.world.struck(&ALL) > 0;
        if self.plan.flaw.is_none() && self.is_read_only() && !is_explained {
            self.complain("read-only though nothing has failed".to_owned());
        }
    }

    /// Switches to a table with larger sizes.
    ///
    /// # Errors
    ///
    /// Those of the growth or of the resume; the device stays suspended then.
    pub async fn grow(&self, growth: Growth) -> Result {
        self.administration.take().await;
        let grown = self.grow_alone(growth).await;
        self.administration.give(());
        grown
    }

    async fn grow_alone(&self, growth: Growth) -> Result {
        let volume = self.volume().ok_or(EIO)?;
        let mut toy = self.toy();
        toy.logical_blocks += growth.logical;
        toy.layout = toy.layout.grown(growth.slabs);
        let physical = toy.layout.physical_blocks();
        if growth.slabs > 0 {
            // Checked when the table is loaded: nothing is suspended for a growth that is refused.
            let checked = volume.engine.check_physical_growth(physical);
            checked.map_err(Error::errno)?;
        }
        self.suspend(growth.flush).await;
        if growth.logical > 0 {
            let grown = volume.engine.grow_logical(toy.logical_blocks).await;
            grown.map_err(Error::errno)?;
        }
        if growth.slabs > 0 {
            let grown = volume.engine.grow_physical(physical).await;
            grown.map_err(Error::errno)?;
        }
        *self.toy.borrow_mut() = toy;
        self.resume_alone().await
    }

    /// Returns whether a growth that failed has become true all the same.
    pub fn has_grown(&self, growth: Growth) -> bool {
        let toy = self.toy();
        self.volume().is_some_and(|volume| {
            let found = volume.engine.super_block();
            found.logical_blocks == toy.logical_blocks + growth.logical
                && found.depot.slab_count == toy.layout.slabs + growth.slabs
        })
    }

    /// Returns whether there is room for more slabs.
    pub fn can_grow(&self) -> bool {
        let grown = self.toy().layout.grown(3);
        grown.physical_blocks() * BLOCK_SECTORS <= runtime::disk::Disk::sectors(&self.disk)
    }

    /// Removes the device.
    pub async fn remove(&self) {
        self.administration.take().await;
        self.suspend(true).await;
        let volume = self.volume.borrow_mut().take();
        if let Some(volume) = volume {
            self.destroy(&volume).await;
        }
        self.administration.give(());
    }

    /// Gives the volume a request that changes something, in the pieces that device-mapper cuts
    /// it into.
    pub async fn submit(
        &self,
        operation: Operation,
        fua: bool,
        sector: u64,
        sectors: u64,
        data: &[u8],
    ) -> Result {
        let Some(volume) = self.volume() else {
            return Err(EIO);
        };
        let end = sector + sectors;
        let name = || {
            let fua = if fua { " FUA" } else { "" };
            format!("{operation:?}{fua} {sector}..{end}")
        };
        self.world.trace(|| format!("ask      {}", name()));
        let result = match operation {
            Operation::Flush => AtOnce::new(&volume.engine, volume.engine.flush()).await,
            _ => {
                let pieces = self.pieces(operation, sector, sectors);
                self.submit_pieces(&volume, operation, fua, sector, &pieces, data)
                    .wait()
                    .await
            }
        };
        self.world
            .trace(|| format!("answer   {} {result:?}", name()));
        result
    }

    fn submit_pieces(
        &self,
        volume: &Volume,
        operation: Operation,
        fua: bool,
        sector: u64,
        pieces: &[(u64, u64)],
        data: &[u8],
    ) -> Submitted {
        let mut waits = Vec::new();
        for &(start, length) in pieces {
            let bytes = |at: u64| (at - sector) as usize * SECTOR_SIZE;
            let data = data
                .get(bytes(start)..bytes(start + length))
                .unwrap_or_default();
            let (bio, wait) = SimBio::new(operation, fua, start, length as u32, data.to_vec());
            volume.engine.submit(bio);
            waits.push(wait);
        }
        Submitted(waits)
    }

    /// Cuts a request: at multiples of a chunk, but for discards, and to what fits a batch.
    fn pieces(&self, operation: Operation, sector: u64, sectors: u64) -> Vec<(u64, u64)> {
        if operation == Operation::Discard {
            return vec![(sector, sectors)];
        }
        let chunk = CHUNK * BLOCK_SECTORS;
        let most = (self.plan.batch_blocks as u64 - 1) * BLOCK_SECTORS;
        let mut pieces = Vec::new();
        let (mut start, end) = (sector, sector + sectors);
        while start < end {
            let piece_end = ((start / chunk + 1) * chunk).min(start + most).min(end);
            pieces.push((start, piece_end - start));
            start = piece_end;
        }
        pieces
    }

    /// Reads sectors.
    pub fn read(&self, sector: u64, sectors: u64) -> Join<(Vec<u8>, Result)> {
        let volume = self.volume();
        let pieces = self.pieces(Operation::Write, sector, sectors);
        let disk = self.disk.clone();
        self.spawner.spawn("read", async move {
            let mut data = Vec::new();
            let mut result = Err(EIO);
            let Some(volume) = volume else {
                return (data, result);
            };
            result = Ok(());
            for (start, length) in pieces {
                let mut bio = SimRead::new(disk.clone(), start, length as u32);
                let read = volume.engine.read(&mut bio);
                let ended = AtOnce::new(&volume.engine, read).await;
                assert!(
                    ended.is_err() || bio.is_complete(),
                    "a read succeeded and did not deliver everything"
                );
                data.append(&mut bio.data);
                result = result.and(ended);
            }
            (data, result)
        })
    }

    /// Returns whether the volume is being closed, or is not in use.
    pub fn is_closing(&self) -> bool {
        self.volume()
            .is_none_or(|volume| volume.broken.is_closing())
    }

    /// Returns whether there is an index to ask.
    pub fn has_index(&self) -> bool {
        self.volume()
            .is_some_and(|volume| undisturbed(|| volume.engine.index_state() == IndexState::Online))
    }

    /// Returns whether the volume is read-only.
    pub fn is_read_only(&self) -> bool {
        self.volume()
            .is_some_and(|volume| undisturbed(|| volume.engine.is_read_only()))
    }

    /// Returns whether the volume runs and has nothing left to recover.
    pub fn is_recovered(&self) -> bool {
        self.volume()
            .is_some_and(|volume| undisturbed(|| volume.engine.mode() != Mode::Recovering))
    }

    /// Returns how many data blocks the volume has.
    pub fn blocks(&self) -> u64 {
        self.volume()
            .map_or(0, |volume| volume.engine.super_block().depot.data_blocks())
    }

    /// Returns how many of them are in use at most, as the entries of the journal add up; less
    /// what is not journaled yet.
    pub fn blocks_used(&self) -> u64 {
        let statistics = self.statistics();
        let metadata = statistics.physical_blocks - self.blocks();
        statistics.logical_blocks_used + statistics.overhead_blocks_used - metadata
    }

    /// Returns how many data blocks the volume says are free.
    pub fn free(&self) -> u64 {
        self.volume().map_or(0, |volume| {
            let engine = &volume.engine;
            undisturbed(|| engine.super_block().physical_blocks - engine.used_blocks())
        })
    }

    /// Returns what the volume tells of itself.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        if let Some(volume) = self.volume() {
            undisturbed(|| volume.engine.put_statistics(&mut statistics));
        }
        statistics
    }

    /// Waits until nothing is left to recover.
    pub async fn recovered(&self) {
        while !self.is_recovered() && !self.is_read_only() {
            sleep(&self.world, 1000).await;
        }
    }
}
