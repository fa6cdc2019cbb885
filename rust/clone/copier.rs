// SPDX-License-Identifier: GPL-2.0

//! The copy engine: workers with a buffer each, and the copies they have to make.
//!
//! Copies that a user's write waits for come first; a worker that finds none hydrates. Nothing is
//! allocated: a copy stands in the future of whoever waits for it, on the [`desk`].

mod desk;

use crate::engine::Engine;
use crate::engine::World;
use crate::geometry::RegionRange;
use crate::geometry::Regions;
use crate::geometry::SectorRange;
use crate::geometry::Sectors;
use crate::hydration::Hydration;
use crate::hydration::Tuning;
use core::pin::pin;
use desk::Chunk;
use desk::Desk;
use desk::Work;
use kernel::prelude::*;
use runtime::clock::Clock;
use runtime::clock::Timer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::PAGE_SECTORS;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;
use runtime::task::yield_now;

/// Pages in the buffer of a worker for large copies: 512 KiB, what a disk takes in one request.
pub const LARGE_PAGES: usize = 128;

/// Workers for large copies; their buffers are the 8 MiB that hydration may have in flight.
pub const LARGE_WORKERS: usize = 16;

/// Workers for copies of a page, which keep many small regions in flight.
pub const SMALL_WORKERS: usize = 48;

/// What a worker copies, at most, before it lets others run; a chunk more if they are large.
const TURN_SECTORS: Sectors = (1 << 20) / 512;

/// The copies of an engine, and who makes them.
pub(crate) struct Copier {
    desk: Desk,
    /// Whether users have used the source since somebody looked.
    users: AtomicU32,
}

impl Copier {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(hydration: Hydration, large_pages: usize) -> Result<Self> {
        Ok(Self {
            desk: Desk::new(hydration, large_pages as u64 * PAGE_SECTORS)?,
            users: AtomicU32::new(0),
        })
    }

    /// A user's request uses the source.
    pub(crate) fn saw_user(&self) {
        // Most find it set, and leave its cache line to all.
        if self.users.load_relaxed() == 0 {
            self.users.store_relaxed(1);
        }
    }

    /// Returns true if users have used the source since the last call.
    pub(crate) fn take_users(&self) -> bool {
        self.users.swap(0) != 0
    }

    /// Changes how hydration runs, and has idle workers look at it.
    pub(crate) fn tune<R>(&self, change: impl FnOnce(&mut Hydration) -> R) -> R {
        self.desk.tune(change)
    }

    pub(crate) fn tuning(&self) -> (bool, Tuning) {
        self.desk
            .look(|hydration| (hydration.enabled, hydration.tuning))
    }

    /// Returns true while hydration may run.
    pub(crate) fn is_running(&self) -> bool {
        self.desk.look(Hydration::is_running)
    }

    /// Waits until no hydration is in flight.
    pub(crate) async fn drained(&self) {
        self.desk.drained().await;
    }

    /// Makes the workers end.
    pub(crate) fn stop(&self) {
        self.desk.stop();
    }

    /// Some regions of a permit are done with, or not needed.
    pub(crate) fn end_permit(&self, regions: Regions, change: impl FnOnce(&mut Hydration)) {
        self.desk.end_permit(regions, change);
    }
}

/// What a worker needs; allocated when a table is loaded.
pub struct Tools<W: World> {
    buffer: Option<<W::Disk as Disk>::Buffer>,
    capacity: Sectors,
    timer: <W::Clock as Clock>::Timer,
    /// What was done since others were last let run.
    done: Sectors,
}

impl<W: World> Tools<W> {
    /// Allocates the tools of a worker with a buffer of `pages` pages.
    pub fn new(engine: &Engine<W>, pages: usize) -> Result<Self> {
        Ok(Self {
            buffer: Some(engine.source.buffer(pages)?),
            capacity: pages as u64 * PAGE_SECTORS,
            timer: engine.world.clock().timer()?,
            done: 0,
        })
    }

    /// The worker has done as much as to copy `sectors`; if that adds up, others are let run. Without
    /// this, a worker whose devices complete I/O at once, as memory does, would go on without end.
    pub(crate) async fn spend(&mut self, sectors: Sectors) {
        self.done = self.done.saturating_add(sectors);
        if self.done >= TURN_SECTORS {
            self.done = 0;
            yield_now().await;
        }
    }
}

impl<W: World> Engine<W> {
    /// A worker: makes copies until the engine stops.
    pub async fn run_worker(engine: Arc<Self>, mut tools: Tools<W>) {
        let place = pin!(engine.copier.desk.worker(tools.capacity));
        loop {
            match desk::work(place.as_ref()).await {
                Work::Chunk(chunk) => engine.copy_chunk(&chunk, &mut tools).await,
                Work::Hydrate(permit) => engine.hydrate(permit, &mut tools).await,
                Work::Stop => return,
            }
        }
    }

    /// Copies `regions` for somebody who waits for it, and marks them. The caller holds the claim.
    ///
    /// # Errors
    ///
    /// `EIO` if a read or write failed, or if the volume has become read-only.
    pub(crate) async fn copy_regions(&self, regions: &RegionRange) -> Result {
        self.copier.saw_user();
        let sectors = self.volume.geometry.sectors(regions);
        let copy = pin!(self.copier.desk.urgent_copy(sectors));
        desk::enlist(copy.as_ref());
        desk::done(copy.as_ref()).await?;
        self.mark_hydrated(regions)
    }

    /// As [`copy_regions`](Self::copy_regions), by a worker for the background.
    pub(crate) async fn copy_as_worker(
        &self,
        regions: &RegionRange,
        tools: &mut Tools<W>,
    ) -> Result {
        let sectors = self.volume.geometry.sectors(regions);
        let copy = pin!(self.copier.desk.background_copy(sectors));
        while let Some(chunk) = desk::take_own(copy.as_ref()) {
            self.copy_chunk(&chunk, tools).await;
        }
        desk::done(copy.as_ref()).await?;
        self.mark_hydrated(regions)
    }

    /// Marks `regions`, whose data the destination holds now.
    pub(crate) fn mark_hydrated(&self, regions: &RegionRange) -> Result {
        if !self.may_write() {
            return Err(EIO);
        }
        self.volume.map.set_hydrated(regions);
        Ok(())
    }

    async fn copy_chunk(&self, chunk: &Chunk, tools: &mut Tools<W>) {
        let now = || self.world.clock().now_ms();
        let asked = now();
        while let Err(pause) = self
            .throttle
            .with(|throttle| throttle.begin(self.world.throttle_percent(), asked, now()))
        {
            tools.timer.sleep(pause).await;
        }
        let result = self.transfer(&chunk.sectors, &mut tools.buffer).await;
        self.throttle.with(|throttle| throttle.end(now()));
        self.copier.desk.report(chunk, result);
        tools.spend(chunk.len() + PAGE_SECTORS).await;
    }

    /// Copies `sectors` by way of `buffer`, which holds them.
    async fn transfer(
        &self,
        sectors: &SectorRange,
        buffer: &mut Option<<W::Disk as Disk>::Buffer>,
    ) -> Result {
        let count = u32::try_from(sectors.end - sectors.start).map_err(|_| EIO)?;
        let own = buffer.take().ok_or(EIO)?;
        let (own, read) = self.source.read(sectors.start, count, own).await;
        if read.is_err() {
            *buffer = Some(own);
            return read;
        }
        let (own, written) = self
            .destination
            .write(sectors.start, count, own, Durability::Volatile)
            .await;
        *buffer = Some(own);
        written
    }
}
