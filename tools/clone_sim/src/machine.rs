// SPDX-License-Identifier: GPL-2.0

//! A simulated machine with a clone device: device-mapper and the glue, as far as the core can
//! tell.

use crate::device::Broken;
use crate::device::Device;
use crate::device::Role;
use crate::flaw::Flaw;
use crate::image;
use crate::inspect;
use crate::islands::Archipelago;
use crate::islands::Islands;
use clone::copier::Tools;
use clone::engine::Engine;
use clone::engine::Settings;
use clone::geometry::Geometry;
use clone::volume::Mode;
use clone::volume::Volume;
use kernel::prelude::*;
use kernel::sync::Arc;
use runtime::pool::Pool;
use sim::clock::sleep;
use sim::disk::Discards;
use sim::disk::Operation;
use sim::disk::Survival;
use sim::executor::Join;
use sim::executor::Spawner;
use sim::pattern;
use sim::FlawedDisk;
use sim::Rng;
use sim::SimClock;
use sim::SimDisk;
use sim::World;
use std::cell::Cell;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// Sectors in a block of the metadata.
const BLOCK_SECTORS: u64 = 8;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How what users see is cut into regions.
    pub geometry: Geometry,
    /// Regions of each bitmap block that users see; without a number there is one such block.
    pub island: Option<u64>,
    /// Blocks on the metadata device.
    pub metadata_blocks: u64,
    /// What discards do on the destination.
    pub discards: Discards,
    /// Workers with small and with large buffers.
    pub workers: (usize, usize),
    /// How tables are to be loaded.
    pub settings: Settings,
    /// Percentage of time that copying may be active.
    pub throttle_percent: u32,
    /// Whether tasks are preempted, as on several CPUs.
    pub preempted: bool,
    /// Whether the metadata may be damaged from the start.
    pub hostile: bool,
    /// The rule that is broken.
    pub flaw: Option<Flaw>,
}

impl Plan {
    /// Returns what the disks hold before the first boot: metadata, destination, source, and one
    /// that may become the destination. Metadata of several bitmap blocks comes from elsewhere.
    pub fn blank(&self) -> Vec<Vec<u8>> {
        let sectors = self.geometry.length();
        let metadata = match self.island {
            Some(_) => image::format(&self.clone_geometry(), self.metadata_blocks),
            None => vec![0; (self.metadata_blocks * BLOCK_SECTORS) as usize * 512],
        };
        vec![
            metadata,
            pattern::run(pattern::JUNK, 0, sectors),
            pattern::run(pattern::INITIAL, 0, sectors),
            pattern::run(pattern::JUNK, 0, sectors),
        ]
    }

    /// Returns where users see the regions of which there is data, if not all are seen.
    pub fn islands(&self) -> Option<Islands> {
        let regions = self.island?;
        Some(Islands::new(&self.geometry, regions))
    }

    /// Returns how the clone is cut into regions.
    pub fn clone_geometry(&self) -> Geometry {
        match self.islands() {
            Some(islands) => islands.spread(&self.geometry),
            None => self.geometry,
        }
    }
}

/// A machine that runs.
pub struct Machine {
    /// Its world.
    pub world: World,
    /// What it is made of.
    pub plan: Plan,
    /// The metadata device.
    pub metadata: SimDisk,
    /// The destination.
    pub destination: SimDisk,
    /// The source.
    pub source: SimDisk,
    /// A disk that may take the destination's place.
    pub spare: SimDisk,
    /// Whether it has.
    pub on_spare: Cell<bool>,
    /// The table that is active.
    pub table: RefCell<Option<Rc<Table>>>,
    /// Requests that the table has been given and that have not ended.
    pub in_flight: Cell<u64>,
    /// Whether requests have to wait until the device is resumed.
    pub suspended: Cell<bool>,
    events: std::sync::Arc<AtomicU32>,
    spawner: Spawner<'static>,
    /// Whoever suspends or resumes has it taken, as device-mapper has a lock.
    administration: Pool<()>,
}

/// How a table differs from the one that is planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// It is loaded for a mapping that is read-only.
    pub read_only: bool,
    /// It names the other of the two disks that may be the destination.
    pub moves: bool,
}

/// A loaded table.
pub struct Table {
    /// The engine.
    pub engine: Arc<Engine<Host>>,
    /// The destination that it names.
    pub destination: SimDisk,
    /// Whether it was loaded for a mapping that is read-only.
    pub read_only: bool,
    metadata: Arc<Device>,
    tasks: RefCell<Vec<Join<()>>>,
}

/// What the core sees of the machine beside its devices.
pub struct Host {
    clock: SimClock,
    world: World,
    events: std::sync::Arc<AtomicU32>,
    /// Whether the volume went read-only, or nothing can be said of its metadata.
    gave_up: AtomicBool,
    throttle_percent: u32,
}

impl Host {
    /// Fails if a crash now left a region that is not hydrated.
    fn must_be_complete(&self) {
        let left = self.world.survivors(&[Survival::Lost], &mut Rng::new(0));
        let bits = inspect::metadata(&left[0]).expect("sound metadata");
        let complete = bits.is_some_and(|bits| !bits.contains(&false));
        assert!(complete, "an event before everything is committed");
    }
}

impl clone::engine::World for Host {
    type Disk = Device;
    type Clock = SimClock;

    fn clock(&self) -> &SimClock {
        &self.clock
    }

    fn event(&self) {
        self.world.trace(|| "event".to_owned());
        if !self.gave_up.load(Ordering::Relaxed) {
            self.must_be_complete();
        }
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    fn error(&self, text: fmt::Arguments<'_>) {
        let text = text.to_string();
        self.world.trace(|| format!("log      {text}"));
        if text.contains("read-only mode") {
            self.gave_up.store(true, Ordering::Relaxed);
        }
    }

    fn hydration_failed(&self) {
        self.world.trace(|| "log      hydration failed".to_owned());
    }

    fn throttle_percent(&self) -> u32 {
        self.throttle_percent
    }
}

impl Machine {
    /// Switches a machine on whose disks hold `images`. There is no table yet.
    pub fn new(
        world: &World,
        spawner: Spawner<'static>,
        plan: &Plan,
        images: Vec<Vec<u8>>,
    ) -> Rc<Self> {
        let names = ["metadata", "destination", "source", "spare"];
        let mut disks = names
            .into_iter()
            .zip(images)
            .map(|(name, image)| world.add_disk(name, image));
        let (Some(metadata), Some(destination), Some(source), Some(spare)) =
            (disks.next(), disks.next(), disks.next(), disks.next())
        else {
            panic!("a clone has three disks, and there is one to spare");
        };
        destination.set_discards(plan.discards);
        spare.set_discards(plan.discards);
        let mut administrators = KVec::new();
        administrators.push((), GFP_KERNEL).expect("memory");
        Rc::new(Self {
            world: world.clone(),
            plan: plan.clone(),
            metadata,
            destination,
            source,
            spare,
            on_spare: Cell::new(false),
            table: RefCell::new(None),
            in_flight: Cell::new(0),
            suspended: Cell::new(true),
            events: std::sync::Arc::default(),
            spawner,
            administration: Pool::new(administrators),
        })
    }

    fn device(&self, disk: &SimDisk, role: Role, read_only: bool) -> Device {
        let islands = match role {
            Role::Metadata => None,
            Role::Destination | Role::Source => self.plan.islands(),
        };
        let broken = Broken::new(role, self.plan.flaw, read_only);
        Archipelago::new(FlawedDisk::new(disk.clone(), broken), islands)
    }

    /// Returns how many events were raised.
    pub fn events(&self) -> u32 {
        self.events.load(Ordering::Relaxed)
    }

    /// Returns the table that is active.
    pub fn active(&self) -> Option<Rc<Table>> {
        self.table.borrow().clone()
    }

    /// Returns the disk that is the destination.
    pub fn destination_now(&self) -> &SimDisk {
        match self.on_spare.get() {
            true => &self.spare,
            false => &self.destination,
        }
    }

    /// Loads the table that is planned: checks everything, writes nothing.
    pub async fn load(&self) -> Result<Rc<Table>> {
        self.load_line(Line::default()).await
    }

    /// Loads a table that differs from it.
    pub async fn load_line(&self, line: Line) -> Result<Rc<Table>> {
        let mut settings = self.plan.settings;
        settings.read_only |= line.read_only;
        let read_only = settings.read_only;
        let destination = match line.moves != self.on_spare.get() {
            true => &self.spare,
            false => &self.destination,
        };
        let metadata = self.device(&self.metadata, Role::Metadata, read_only);
        let metadata = Arc::new(metadata, GFP_KERNEL)?;
        let shared = self
            .active()
            .filter(|_| self.plan.flaw != Some(Flaw::StateReadAtLoad));
        let shared = shared.map(|table| table.engine.volume().clone());
        let volume = match shared.filter(|volume| volume.is_loaded()) {
            Some(volume) => {
                volume.check_geometry(&self.plan.clone_geometry())?;
                volume
            }
            None => {
                let geometry = self.plan.clone_geometry();
                let volume = Volume::load(metadata.clone(), geometry, read_only).await?;
                Arc::new(volume, GFP_KERNEL)?
            }
        };
        if self.plan.flaw == Some(Flaw::StateReadAtLoad) {
            volume.activate(metadata.clone(), read_only).await?;
        }
        let engine = Engine::new(
            Host {
                clock: SimClock::new(&self.world),
                world: self.world.clone(),
                events: self.events.clone(),
                gave_up: AtomicBool::new(self.plan.hostile),
                throttle_percent: self.plan.throttle_percent,
            },
            volume,
            self.device(&self.source, Role::Source, true),
            self.device(destination, Role::Destination, read_only),
            settings,
        )?;
        let table = Table {
            engine: Arc::new(engine, GFP_KERNEL)?,
            destination: destination.clone(),
            read_only,
            metadata,
            tasks: RefCell::default(),
        };
        let spawned = self.spawn_tasks(&table);
        if spawned.is_err() {
            self.destroy(&table).await;
        }
        spawned.map(|()| Rc::new(table))
    }

    fn spawn_tasks(&self, table: &Table) -> Result {
        let engine = &table.engine;
        let mut tasks = table.tasks.borrow_mut();
        tasks.push(
            self.spawner
                .spawn_daemon("committer", Engine::run_committer(engine.clone())),
        );
        let small = std::iter::repeat_n(1, self.plan.workers.0);
        let large = std::iter::repeat_n(self.plan.settings.large_pages, self.plan.workers.1);
        for pages in small.chain(large) {
            let tools = Tools::new(engine, pages)?;
            let worker = Engine::run_worker(engine.clone(), tools);
            tasks.push(self.spawner.spawn_daemon("worker", worker));
        }
        Ok(())
    }

    /// Takes a table down.
    pub async fn destroy(&self, table: &Table) {
        table.engine.stop();
        let tasks = table.tasks.take();
        for task in tasks {
            task.await;
        }
        table.engine.volume().release(&table.metadata).await;
    }

    /// Loads a table and resumes with it.
    ///
    /// # Errors
    ///
    /// Those of load and resume.
    pub async fn start(&self) -> Result {
        let table = self.load().await?;
        self.administration.take().await;
        let resumed = self.resume(table).await;
        self.administration.give(());
        resumed
    }

    /// Suspends the device.
    pub async fn pause(&self) {
        self.administration.take().await;
        self.suspend().await;
        self.administration.give(());
    }

    /// Suspends the device, if it is not suspended, and resumes with `table`, which may be the one
    /// that was active. If it names another destination, the data is moved there in between.
    ///
    /// # Errors
    ///
    /// Those of the resume; the device stays suspended then.
    pub async fn switch(&self, table: Rc<Table>) -> Result {
        self.administration.take().await;
        self.suspend().await;
        if table.destination.number() != self.destination_now().number() {
            self.move_destination(&table.destination).await;
        }
        let resumed = self.resume(table).await;
        self.administration.give(());
        resumed
    }

    /// Removes the device. Returns true if everything is committed.
    pub async fn remove(&self) -> bool {
        self.administration.take().await;
        self.suspend().await;
        let table = self.table.borrow_mut().take();
        self.administration.give(());
        let Some(table) = table else { return false };
        self.destroy(&table).await;
        table.engine.volume().mode() == Mode::ReadWrite
    }

    /// Tells the status of `table`, which may be one that is not active, as `dmsetup status` does.
    pub async fn status(&self, table: &Table, noflush: bool) -> String {
        if !noflush {
            table.engine.commit_now().await;
        }
        let mut line = String::new();
        let _ = table.engine.write_status(&mut line);
        line
    }

    /// Copies the destination to `to`, however often something fails.
    async fn move_destination(&self, to: &SimDisk) {
        let sectors = self.plan.geometry.length();
        loop {
            let read = Operation::read(0, sectors);
            let (data, read) = self.destination_now().submit(read).await;
            let (_, written) = to.submit(Operation::write(0, data, false)).await;
            let (_, flushed) = to.submit(Operation::flush()).await;
            if read.and(written).and(flushed).is_ok() {
                return;
            }
        }
    }

    /// Suspends the active table: no request comes any more, and none is under way.
    async fn suspend(&self) {
        if self.suspended.replace(true) {
            return;
        }
        while self.in_flight.get() > 0 {
            sleep(&self.world, 20).await;
        }
        if let Some(table) = self.active() {
            table.engine.suspend().await;
        }
    }

    /// Resumes with `table`, which takes the place of the one that is active, if there is one.
    async fn resume(&self, table: Rc<Table>) -> Result {
        let old = self.active().filter(|old| !Rc::ptr_eq(old, &table));
        // Device-mapper has swapped the tables when it asks the new one.
        *self.table.borrow_mut() = Some(table.clone());
        let resumed = match self.plan.flaw {
            Some(Flaw::StateReadAtLoad) => Ok(()),
            _ => {
                let volume = table.engine.volume();
                volume
                    .activate(table.metadata.clone(), table.read_only)
                    .await
            }
        };
        if resumed.is_ok() {
            self.flood(&table);
            let on_spare = table.destination.number() == self.spare.number();
            self.on_spare.set(on_spare);
            table.engine.resume();
            self.suspended.set(false);
        }
        if let Some(old) = old {
            self.destroy(&old).await;
        }
        resumed
    }

    /// Hydrates what nobody sees, before anybody could copy it.
    fn flood(&self, table: &Table) {
        let Some(islands) = self.plan.islands() else {
            return;
        };
        if !table.read_only {
            let map = table.engine.volume().map();
            islands
                .sea(map.blocks())
                .for_each(|regions| map.set_hydrated(&regions));
        }
    }

    /// Lets the engine do what it does every second.
    pub fn tick(&self) {
        if !self.suspended.get() {
            if let Some(table) = self.active() {
                table.engine.tick();
            }
        }
    }

    /// Returns how tasks are started.
    pub fn spawner(&self) -> &Spawner<'static> {
        &self.spawner
    }
}
