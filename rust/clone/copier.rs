// SPDX-License-Identifier: GPL-2.0

//! The copy engine: workers with a buffer each, and the copies they have to make.
//!
//! A copy is a range of sectors. Workers cut it into chunks of a buffer's size and have several in
//! flight. Copies that a user's write waits for come first; a worker that finds none hydrates.
//! Nothing is allocated: a copy stands in the future of whoever waits for it.

use crate::engine::Engine;
use crate::engine::World;
use crate::geometry::RegionRange;
use crate::geometry::Regions;
use crate::geometry::SectorRange;
use crate::geometry::Sectors;
use crate::hydration::Hydration;
use crate::hydration::Permit;
use crate::hydration::Tuning;
use core::pin::pin;
use core::pin::Pin;
use kernel::prelude::*;
use runtime::clock::Clock;
use runtime::clock::Timer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::PAGE_SECTORS;
use runtime::monitor::Entries;
use runtime::monitor::Entry;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::monitor::Turn;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;

/// Pages in the buffer of a worker for large copies: 512 KiB, what a disk takes in one request.
pub const LARGE_PAGES: usize = 128;

/// Workers for large copies; their buffers are the 8 MiB that hydration may have in flight.
pub const LARGE_WORKERS: usize = 16;

/// Workers for copies of a page, which keep many small regions in flight.
pub const SMALL_WORKERS: usize = 48;

const LARGE_SECTORS: Sectors = LARGE_PAGES as u64 * PAGE_SECTORS;

/// Where copies and workers meet.
pub(crate) struct Copier {
    monitor: Monitor<Desk>,
    /// Whether users have used the source since somebody looked.
    users: AtomicU32,
}

struct Desk {
    hydration: Hydration,
    last_copy: u64,
    stopping: bool,
}

/// Who stands at the desk.
enum Place {
    Worker {
        capacity: Sectors,
        idle: bool,
    },
    Copy(Copy),
    /// Somebody who waits until hydration is drained.
    Drain,
}

/// A copy that is under way.
struct Copy {
    id: u64,
    /// Whether a user's write waits for it.
    urgent: bool,
    /// The sectors that no worker has taken yet.
    left: SectorRange,
    chunks_in_flight: u32,
    result: Result,
}

/// A part of a copy, in the hands of a worker.
struct Chunk {
    copy: u64,
    sectors: SectorRange,
}

enum Work {
    Chunk(Chunk),
    Hydrate(Permit),
    Stop,
}

impl Rules for Desk {
    type Key = Place;

    fn left(&mut self, _: &Place, _: &mut Entries<'_, Place>) {}
}

impl Copy {
    /// Takes a chunk for a buffer of `capacity` sectors.
    fn take(&mut self, capacity: Sectors) -> Option<Chunk> {
        let wanted = (self.left.end - self.left.start).min(LARGE_SECTORS);
        // After an error the rest is pointless.
        if wanted == 0 || wanted > capacity || self.result.is_err() {
            return None;
        }
        let end = self.left.start + wanted;
        let sectors = self.left.start..end;
        self.left.start = end;
        self.chunks_in_flight += 1;
        Some(Chunk {
            copy: self.id,
            sectors,
        })
    }

    fn is_done(&self) -> bool {
        self.chunks_in_flight == 0 && (self.left.is_empty() || self.result.is_err())
    }
}

impl Copier {
    pub(crate) fn new(hydration: Hydration) -> Self {
        Self {
            monitor: Monitor::new(Desk {
                hydration,
                last_copy: 0,
                stopping: false,
            }),
            users: AtomicU32::new(0),
        }
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

    /// Changes how hydration runs, and has the idle workers look at it.
    pub(crate) fn tune<R>(&self, change: impl FnOnce(&mut Hydration) -> R) -> R {
        self.monitor.with(|desk, places| {
            let result = change(&mut desk.hydration);
            wake_idle(places, usize::MAX, 0);
            result
        })
    }

    pub(crate) fn tuning(&self) -> (bool, Tuning) {
        self.monitor
            .with(|desk, _| (desk.hydration.enabled, desk.hydration.tuning))
    }

    /// Returns true while hydration may run.
    pub(crate) fn is_running(&self) -> bool {
        self.monitor.with(|desk, _| desk.hydration.is_running())
    }

    /// Waits until no hydration is in flight.
    pub(crate) async fn drained(&self) {
        let place = pin!(self.monitor.entry(Place::Drain));
        place
            .as_ref()
            .wait(|turn| turn.state.hydration.is_drained().then_some(()))
            .await;
    }

    /// Makes the workers end.
    pub(crate) fn stop(&self) {
        self.monitor.with(|desk, places| {
            desk.stopping = true;
            wake_idle(places, usize::MAX, 0);
        });
    }

    fn copy(&self, sectors: SectorRange, urgent: bool) -> Entry<'_, Desk> {
        self.monitor.entry(Place::Copy(Copy {
            id: 0,
            urgent,
            left: sectors,
            chunks_in_flight: 0,
            result: Ok(()),
        }))
    }

    /// A worker has done what it could with `chunk`.
    fn report(&self, chunk: &Chunk, result: Result) {
        self.monitor.with(|_, places| {
            places.wake_where(|place| match place {
                Place::Copy(copy) if copy.id == chunk.copy => {
                    copy.chunks_in_flight -= 1;
                    copy.result = copy.result.and(result);
                    copy.is_done()
                }
                _ => false,
            });
        });
    }

    /// Some regions of a permit are done with, or not needed.
    pub(crate) fn end_permit(&self, regions: Regions, change: impl FnOnce(&mut Hydration)) {
        self.monitor.with(|desk, places| {
            desk.hydration.give_back(regions);
            change(&mut desk.hydration);
            // Whoever waits for the end of hydration, and workers for which there is room now.
            places.wake_where(|place| matches!(place, Place::Drain));
            wake_idle(places, 1, 0);
        });
    }
}

/// Wakes up to `count` idle workers with buffers of at least `capacity` sectors.
fn wake_idle(places: &mut Entries<'_, Place>, mut count: usize, wanted: Sectors) {
    places.wake_where(|place| match place {
        Place::Worker { capacity, idle } if *idle && count > 0 && *capacity >= wanted => {
            count -= 1;
            *idle = false;
            true
        }
        _ => false,
    });
}

/// Puts a copy on the desk and returns its number.
fn enlist(copy: Pin<&Entry<'_, Desk>>) {
    copy.with(|turn| {
        turn.state.last_copy += 1;
        if let Place::Copy(copy) = turn.key {
            copy.id = turn.state.last_copy;
            let sectors = copy.left.end - copy.left.start;
            let chunks = sectors.div_ceil(LARGE_SECTORS);
            wake_idle(
                &mut turn.others,
                chunks as usize,
                sectors.min(LARGE_SECTORS),
            );
        }
    });
}

fn result_of(turn: &mut Turn<'_, Desk>) -> Option<Result> {
    match turn.key {
        Place::Copy(copy) => copy.is_done().then_some(copy.result),
        _ => None,
    }
}

/// Finds work for the worker whose turn it is.
fn find_work(turn: &mut Turn<'_, Desk>) -> Option<Work> {
    let Place::Worker { capacity, idle } = turn.key else {
        return None;
    };
    let capacity = *capacity;
    *idle = false;
    for urgent in [true, false] {
        if let Some(chunk) = take_chunk(&mut turn.others, capacity, urgent) {
            return Some(Work::Chunk(chunk));
        }
    }
    if turn.state.stopping {
        return Some(Work::Stop);
    }
    if let Some(permit) = turn.state.hydration.permit(capacity, LARGE_SECTORS) {
        return Some(Work::Hydrate(permit));
    }
    *idle = true;
    None
}

/// Takes a chunk of the first copy that has one for a buffer of `capacity` sectors.
fn take_chunk(places: &mut Entries<'_, Place>, capacity: Sectors, urgent: bool) -> Option<Chunk> {
    let mut chunk = None;
    places.for_each(|place| match place {
        Place::Copy(copy) if chunk.is_none() && copy.urgent == urgent => {
            chunk = copy.take(capacity);
        }
        _ => (),
    });
    chunk
}

/// What a worker needs; allocated when a table is loaded.
pub struct Tools<W: World> {
    buffer: Option<<W::Disk as Disk>::Buffer>,
    capacity: Sectors,
    timer: <W::Clock as Clock>::Timer,
}

impl<W: World> Tools<W> {
    /// Allocates the tools of a worker with a buffer of `pages` pages.
    pub fn new(engine: &Engine<W>, pages: usize) -> Result<Self> {
        Ok(Self {
            buffer: Some(engine.source.buffer(pages)?),
            capacity: pages as u64 * PAGE_SECTORS,
            timer: engine.world.clock().timer()?,
        })
    }
}

impl<W: World> Engine<W> {
    /// A worker: makes copies until the engine stops.
    pub async fn run_worker(engine: Arc<Self>, mut tools: Tools<W>) {
        let place = Place::Worker {
            capacity: tools.capacity,
            idle: false,
        };
        let place = pin!(engine.copier.monitor.entry(place));
        loop {
            match place.as_ref().wait(find_work).await {
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
    /// That of the read or write that failed; `EIO` if the volume has become read-only.
    pub(crate) async fn copy_regions(&self, regions: &RegionRange) -> Result {
        self.copier.saw_user();
        let copy = pin!(self
            .copier
            .copy(self.volume.geometry.sectors(regions), true));
        enlist(copy.as_ref());
        copy.as_ref().wait(result_of).await?;
        self.mark_hydrated(regions)
    }

    /// As [`copy_regions`](Self::copy_regions), by a worker for the background.
    pub(crate) async fn copy_as_worker(
        &self,
        regions: &RegionRange,
        tools: &mut Tools<W>,
    ) -> Result {
        let sectors = self.volume.geometry.sectors(regions);
        let copy = pin!(self.copier.copy(sectors, false));
        enlist(copy.as_ref());
        // Other workers may take chunks of a large region, too.
        while let Some(chunk) = copy.as_ref().with(|turn| match turn.key {
            Place::Copy(copy) => copy.take(tools.capacity),
            _ => None,
        }) {
            self.copy_chunk(&chunk, tools).await;
        }
        copy.as_ref().wait(result_of).await?;
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
        self.copier.report(chunk, result);
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
