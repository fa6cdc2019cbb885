// SPDX-License-Identifier: GPL-2.0

//! A simulated machine with a clone device: device-mapper and the glue, as far as the core can
//! tell.

use crate::device::Broken;
use crate::device::Device;
use crate::device::Role;
use crate::flaw::Flaw;
use clone::copier;
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
use sim::executor::Join;
use sim::executor::Spawner;
use sim::pattern;
use sim::SimClock;
use sim::SimDisk;
use sim::World;
use std::cell::Cell;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// Sectors in a block of the metadata.
const BLOCK_SECTORS: u64 = 8;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the clone is cut into regions.
    pub geometry: Geometry,
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
    /// The rule that is broken.
    pub flaw: Option<Flaw>,
}

impl Plan {
    /// Returns what the disks hold before the first boot: metadata, destination, source.
    pub fn blank(&self) -> Vec<Vec<u8>> {
        let sectors = self.geometry.length();
        vec![
            vec![0; (self.metadata_blocks * BLOCK_SECTORS) as usize * 512],
            pattern::run(pattern::JUNK, 0, sectors),
            pattern::run(pattern::INITIAL, 0, sectors),
        ]
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

/// A loaded table.
pub struct Table {
    /// The engine.
    pub engine: Arc<Engine<Host>>,
    metadata: Arc<Device>,
    tasks: RefCell<Vec<Join<()>>>,
}

/// What the core sees of the machine beside its devices.
pub struct Host {
    clock: SimClock,
    world: World,
    events: std::sync::Arc<AtomicU32>,
    throttle_percent: u32,
}

impl clone::engine::World for Host {
    type Disk = Device;
    type Clock = SimClock;

    fn clock(&self) -> &SimClock {
        &self.clock
    }

    fn event(&self) {
        self.world.trace(|| "event".to_owned());
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    fn error(&self, text: fmt::Arguments<'_>) {
        self.world.trace(|| format!("log      {text}"));
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
        let names = ["metadata", "destination", "source"];
        let mut disks = names
            .into_iter()
            .zip(images)
            .map(|(name, image)| world.add_disk(name, image));
        let (Some(metadata), Some(destination), Some(source)) =
            (disks.next(), disks.next(), disks.next())
        else {
            panic!("a clone has three disks");
        };
        destination.set_discards(plan.discards);
        let mut administrators = KVec::new();
        administrators.push((), GFP_KERNEL).expect("memory");
        Rc::new(Self {
            world: world.clone(),
            plan: plan.clone(),
            metadata,
            destination,
            source,
            table: RefCell::new(None),
            in_flight: Cell::new(0),
            suspended: Cell::new(true),
            events: std::sync::Arc::default(),
            spawner,
            administration: Pool::new(administrators),
        })
    }

    fn device(&self, disk: &SimDisk, role: Role) -> Device {
        Device::new(disk.clone(), Broken::new(role, self.plan.flaw))
    }

    /// Returns how many events were raised.
    pub fn events(&self) -> u32 {
        self.events.load(Ordering::Relaxed)
    }

    /// Returns the table that is active.
    pub fn active(&self) -> Option<Rc<Table>> {
        self.table.borrow().clone()
    }

    /// Loads a table: checks everything, writes nothing.
    pub async fn load(&self) -> Result<Rc<Table>> {
        let metadata = Arc::new(self.device(&self.metadata, Role::Metadata), GFP_KERNEL)?;
        let shared = self
            .active()
            .filter(|_| self.plan.flaw != Some(Flaw::StateReadAtLoad));
        let shared = shared.map(|table| table.engine.volume().clone());
        let volume = match shared.filter(|volume| volume.is_loaded()) {
            Some(volume) => {
                volume.check_geometry(&self.plan.geometry)?;
                volume
            }
            None => {
                let settings = &self.plan.settings;
                let geometry = self.plan.geometry;
                let volume = Volume::load(metadata.clone(), geometry, settings.read_only).await?;
                Arc::new(volume, GFP_KERNEL)?
            }
        };
        if self.plan.flaw == Some(Flaw::StateReadAtLoad) {
            volume.activate(metadata.clone(), self.plan.settings.read_only).await?;
        }
        let engine = Engine::new(
            Host {
                clock: SimClock::new(&self.world),
                world: self.world.clone(),
                events: self.events.clone(),
                throttle_percent: self.plan.throttle_percent,
            },
            volume,
            self.device(&self.source, Role::Source),
            self.device(&self.destination, Role::Destination),
            self.plan.settings,
        )?;
        let table = Table {
            engine: Arc::new(engine, GFP_KERNEL)?,
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
        let large = std::iter::repeat_n(copier::LARGE_PAGES, self.plan.workers.1);
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

    /// Suspends the device and resumes with `table`, which may be the one that was active.
    ///
    /// # Errors
    ///
    /// Those of the resume; the device stays suspended then.
    pub async fn switch(&self, table: Rc<Table>) -> Result {
        self.administration.take().await;
        self.suspend().await;
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

    /// Suspends the active table: no request comes any more, and none is under way.
    async fn suspend(&self) {
        self.suspended.set(true);
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
                let (volume, disk) = (table.engine.volume(), table.metadata.clone());
                volume.activate(disk, self.plan.settings.read_only).await
            }
        };
        if resumed.is_ok() {
            table.engine.resume();
            self.suspended.set(false);
        }
        if let Some(old) = old {
            self.destroy(&old).await;
        }
        resumed
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
