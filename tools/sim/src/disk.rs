// SPDX-License-Identifier: GPL-2.0

//! Block devices of the simulated machine.

mod buffer;
pub(crate) mod cache;

use crate::fault::Kind;
use crate::fault::Side;
use crate::pattern;
use crate::world::Event;
use crate::world::Micros;
use crate::world::Record;
use crate::world::State;
use crate::world::World;
use cache::Cache;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::Part;
use runtime::disk::SECTOR_SIZE;
use std::future::poll_fn;
use std::future::Future;
use std::ops::Range;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

pub use buffer::SimBuffer;
pub use cache::Survival;

/// A block device. Clones are handles on the same device.
#[derive(Clone)]
pub struct SimDisk {
    world: World,
    number: usize,
}

/// What a discard does to the sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discards {
    /// They read as zeroes.
    Zero,
    /// They read as before.
    Keep,
    /// They read as junk.
    Junk,
    /// The device knows no discards.
    Unsupported,
}

/// One operation on a disk.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What to do.
    pub kind: Kind,
    /// The first sector.
    pub sector: u64,
    /// How many sectors.
    pub sectors: u64,
    /// What to write; empty for other kinds.
    pub data: Vec<u8>,
    /// Whether a write is one with FUA.
    pub fua: bool,
    /// Whether the device forgets to make a write stable: flushes do not cover it. A crash may
    /// lose it at any later time, unless a write to the same place gets stable.
    pub fickle: bool,
}

/// The device side of a disk.
pub(crate) struct Drive {
    pub(crate) cache: Cache,
    name: String,
    latency: Range<Micros>,
    discards: Discards,
    block_sectors: u32,
    hold: Vec<(Kind, Range<u64>)>,
    held: Vec<u64>,
}

/// An operation that the device has been given.
pub(crate) struct Flight {
    disk: usize,
    operation: Operation,
    error: Option<Error>,
    change: Option<u64>,
    record: usize,
    result: Option<(Vec<u8>, Result)>,
    waker: Option<Waker>,
    orphan: bool,
}

/// Returns whether an operation is one of those that are held.
fn holds(hold: &[(Kind, Range<u64>)], kind: Kind, range: &Range<u64>) -> bool {
    hold.iter().any(|(held, sectors)| {
        let touches = sectors.start < range.end && range.start < sectors.end;
        *held == kind && (touches || kind == Kind::Flush)
    })
}

impl Drive {
    pub(crate) fn new(name: &str, image: Vec<u8>) -> Self {
        Self {
            cache: Cache::new(image),
            name: name.to_owned(),
            latency: 1..200,
            discards: Discards::Zero,
            block_sectors: 1,
            hold: Vec::new(),
            held: Vec::new(),
        }
    }
}

impl Operation {
    /// A read.
    pub fn read(sector: u64, sectors: u64) -> Self {
        Self {
            kind: Kind::Read,
            sector,
            sectors,
            data: Vec::new(),
            fua: false,
            fickle: false,
        }
    }

    /// A write of `data`.
    pub fn write(sector: u64, data: Vec<u8>, fua: bool) -> Self {
        let sectors = (data.len() / SECTOR_SIZE) as u64;
        Self {
            kind: Kind::Write,
            sector,
            sectors,
            data,
            fua,
            fickle: false,
        }
    }

    /// Makes a write that the device forgets to make stable.
    pub fn fickle(mut self) -> Self {
        (self.fua, self.fickle) = (false, true);
        self
    }

    /// A flush.
    pub fn flush() -> Self {
        Self {
            kind: Kind::Flush,
            sector: 0,
            sectors: 0,
            data: Vec::new(),
            fua: false,
            fickle: false,
        }
    }

    /// A discard.
    pub fn discard(sector: u64, sectors: u64) -> Self {
        Self {
            kind: Kind::Discard,
            sector,
            sectors,
            data: Vec::new(),
            fua: false,
            fickle: false,
        }
    }

    fn range(&self) -> Range<u64> {
        self.sector..self.sector.saturating_add(self.sectors)
    }
}

impl SimDisk {
    pub(crate) fn new(world: World, number: usize) -> Self {
        Self { world, number }
    }

    /// Returns the number of this disk in its world.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns the world that this disk is in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Sets how long operations take, from and up to. If that leaves a choice, some take longer.
    pub fn set_latency(&self, latency: Range<Micros>) {
        self.world.lock().drives[self.number].latency = latency;
    }

    /// Sets what discards do; without it they zero.
    pub fn set_discards(&self, discards: Discards) {
        self.world.lock().drives[self.number].discards = discards;
    }

    /// Sets how many sectors a logical block has. The device refuses what does not begin and end
    /// at a multiple.
    pub fn set_block_sectors(&self, sectors: u32) {
        self.world.lock().drives[self.number].block_sectors = sectors;
    }

    /// Holds operations of these kinds that are issued from now on, until they are released.
    pub fn hold(&self, kinds: &[Kind]) {
        let everywhere = kinds.iter().map(|kind| (*kind, 0..u64::MAX));
        self.world.lock().drives[self.number].hold = everywhere.collect();
    }

    /// As [`hold`](Self::hold), also what touches these sectors; flushes touch all.
    pub fn hold_at(&self, kind: Kind, sectors: Range<u64>) {
        let mut state = self.world.lock();
        state.drives[self.number].hold.push((kind, sectors));
    }

    /// Lets go what is held by the same [`hold_at`](Self::hold_at), and holds that no more.
    pub fn release_at(&self, kind: Kind, sectors: &Range<u64>) {
        let mut guard = self.world.lock();
        let state = &mut *guard;
        let drive = &mut state.drives[self.number];
        drive.hold.retain(|held| *held != (kind, sectors.clone()));
        let flights = &state.flights;
        let is_held = |id: &u64| {
            let operation = &flights[id].operation;
            holds(&drive.hold, operation.kind, &operation.range())
        };
        let (held, free): (Vec<u64>, Vec<u64>) = drive.held.iter().partition(|id| is_held(id));
        drive.held = held;
        for id in free {
            state.schedule(0, Event::Completion(id));
        }
    }

    /// Returns how many operations are held.
    pub fn held(&self) -> usize {
        self.world.lock().drives[self.number].held.len()
    }

    /// Lets `count` of the held operations go, the oldest first. Later ones are still held.
    pub fn release_some(&self, count: usize) {
        let mut state = self.world.lock();
        let held = &mut state.drives[self.number].held;
        let count = count.min(held.len());
        let ids: Vec<u64> = held.drain(..count).collect();
        for id in ids {
            state.schedule(0, Event::Completion(id));
        }
    }

    /// Lets all held operations go, and holds none any more.
    pub fn release(&self) {
        self.release_some(usize::MAX);
        self.world.lock().drives[self.number].hold = Vec::new();
    }

    /// Gives the device an operation. The future gives back the data: what was read, or what was
    /// written. Nothing is issued before it is first polled.
    pub fn submit(&self, operation: Operation) -> Io {
        Io {
            world: self.world.clone(),
            disk: self.number,
            stage: Stage::New(Some(operation)),
        }
    }
}

/// Waits until all of these have ended.
pub(crate) async fn all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none() {
                match Pin::new(future).poll(context) {
                    Poll::Ready(value) => *result = Some(value),
                    Poll::Pending => pending = true,
                }
            }
        }
        match pending {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// An operation that somebody waits for.
pub struct Io {
    world: World,
    disk: usize,
    stage: Stage,
}

enum Stage {
    New(Option<Operation>),
    Issued(u64),
    Done,
}

impl Future for Io {
    type Output = (Vec<u8>, Result);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut state = this.world.lock();
        if let Stage::New(operation) = &mut this.stage {
            let Some(operation) = operation.take() else {
                return Poll::Pending;
            };
            this.stage = Stage::Issued(state.issue(this.disk, operation));
        }
        let Stage::Issued(id) = this.stage else {
            panic!("an I/O was polled after its end")
        };
        let Some(flight) = state.flights.get_mut(&id) else {
            return Poll::Pending;
        };
        match flight.result.take() {
            Some(result) => {
                state.flights.remove(&id);
                this.stage = Stage::Done;
                Poll::Ready(result)
            }
            None => {
                flight.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        let Stage::Issued(id) = self.stage else {
            return;
        };
        let mut state = self.world.lock();
        match state.flights.get_mut(&id) {
            Some(flight) if flight.result.is_none() => flight.orphan = true,
            _ => drop(state.flights.remove(&id)),
        }
    }
}

impl State {
    fn issue(&mut self, disk: usize, operation: Operation) -> u64 {
        let id = self.id();
        let issued = self.stamp();
        let range = operation.range();
        let kind = operation.kind;
        let mut error = None;
        for fault in &mut self.faults {
            if fault.strikes(disk, kind, &range) && self.rng.chance(fault.permille, 1000) {
                error = Some(fault.error);
            }
        }
        self.struck.extend(error.map(|_| kind));
        let drive = &mut self.drives[disk];
        let block = u64::from(drive.block_sectors);
        if range.start % block != 0 || range.end % block != 0 {
            error = Some(EINVAL);
        } else if range.end > drive.cache.sectors() {
            error = Some(EIO);
        } else if kind == Kind::Write {
            drive
                .cache
                .start(id, operation.sector, &operation.data, operation.fickle);
        } else if kind == Kind::Discard {
            drive.start_discard(id, &operation);
        }
        let change = (kind != Kind::Read).then_some(self.changes);
        self.changes += u64::from(kind != Kind::Read);
        self.moments += u64::from(kind != Kind::Read);
        self.log.push(Record {
            disk,
            kind,
            sector: operation.sector,
            sectors: operation.sectors,
            fua: operation.fua,
            issued,
            completed: None,
        });
        self.trace(|| format!("issue    {}", self.name_of(disk, &operation)));
        let record = self.log.len() - 1;
        let (result, waker) = (None, None);
        let orphan = false;
        let flight = Flight {
            disk,
            operation,
            error,
            change,
            record,
            result,
            waker,
            orphan,
        };
        self.flights.insert(id, flight);
        let latency = self.drives[disk].latency.clone();
        let mut delay = latency.start + self.rng.below(latency.end - latency.start);
        if latency.end - latency.start > 1 && self.rng.chance(1, 16) {
            // Some take very much longer, so that others overtake them.
            delay *= 1 + self.rng.below(64);
        }
        if holds(&self.drives[disk].hold, kind, &range) {
            self.drives[disk].held.push(id);
        } else {
            self.schedule(delay, Event::Completion(id));
        }
        self.crash_if(change, Side::Issued);
        id
    }

    /// The device completes operation `id`.
    pub(crate) fn complete(&mut self, id: u64) -> Option<Waker> {
        let flight = self.flights.get_mut(&id)?;
        let operation = &flight.operation;
        let range = operation.range();
        let drive = &mut self.drives[flight.disk];
        let mut error = flight.error;
        let mut data = operation.data.clone();
        match operation.kind {
            Kind::Read if error.is_none() => data = drive.cache.read(range, &mut self.rng),
            Kind::Write | Kind::Discard if error.is_some() => {
                drive.cache.fail(id, range, self.stamp, &mut self.rng);
            }
            Kind::Discard if drive.discards == Discards::Unsupported => {
                error = Some(Error::from_errno(-95));
            }
            Kind::Write | Kind::Discard => {
                drive.cache.complete(id, range, self.stamp, operation.fua);
            }
            Kind::Flush if error.is_none() => {
                drive.cache.flush(self.log[flight.record].issued);
            }
            Kind::Read | Kind::Flush => {}
        }
        let result = error.map_or(Ok(()), Err);
        self.log[flight.record].completed = Some((self.stamp, result));
        flight.result = Some((data, result));
        let (waker, change, disk) = (flight.waker.take(), flight.change, flight.disk);
        let orphan = flight.orphan;
        let flight = &self.flights[&id];
        self.trace(|| {
            format!(
                "complete {} {result:?}",
                self.name_of(disk, &flight.operation)
            )
        });
        if orphan {
            self.flights.remove(&id);
        }
        self.moments += u64::from(change.is_some());
        self.crash_if(change, Side::Completed);
        waker
    }

    fn name_of(&self, disk: usize, operation: &Operation) -> String {
        let Range { start, end } = operation.range();
        let fua = if operation.fua { " FUA" } else { "" };
        format!(
            "{} {:?}{fua} {start}..{end}",
            self.drives[disk].name, operation.kind
        )
    }
}

impl Drive {
    fn start_discard(&mut self, id: u64, operation: &Operation) {
        let data = match self.discards {
            Discards::Zero => vec![0; operation.sectors as usize * SECTOR_SIZE],
            Discards::Junk => pattern::run(pattern::JUNK, operation.sector, operation.sectors),
            Discards::Keep | Discards::Unsupported => return,
        };
        self.cache.start(id, operation.sector, &data, false);
    }
}

impl Disk for SimDisk {
    type Buffer = SimBuffer;

    fn sectors(&self) -> u64 {
        self.world.lock().drives[self.number].cache.sectors()
    }

    fn block_sectors(&self) -> u32 {
        self.world.lock().drives[self.number].block_sectors
    }

    fn buffer(&self, pages: usize) -> Result<SimBuffer> {
        SimBuffer::new(pages)
    }

    fn buffer_of_parts(&self, pages: usize, parts: usize) -> Result<SimBuffer> {
        Ok(self.buffer(pages)?.in_parts(parts))
    }

    fn buffer_now(&self, pages: usize, parts: usize) -> Result<SimBuffer> {
        Ok(SimBuffer::new_by(pages, GFP_NOWAIT)?.in_parts(parts))
    }

    async fn read_into(
        &self,
        sector: u64,
        sectors: u32,
        mut buffer: SimBuffer,
        page: usize,
    ) -> (SimBuffer, Result) {
        buffer.scatter(page, &pattern::run(pattern::JUNK, sector, sectors.into()));
        let (data, result) = self.submit(Operation::read(sector, sectors.into())).await;
        if result.is_ok() {
            buffer.scatter(page, &data);
        }
        (buffer, result)
    }

    async fn write_from(
        &self,
        sector: u64,
        sectors: u32,
        buffer: SimBuffer,
        page: usize,
        durability: Durability,
    ) -> (SimBuffer, Result) {
        if durability == Durability::Ordered {
            let (_, flushed) = self.submit(Operation::flush()).await;
            if flushed.is_err() {
                return (buffer, flushed);
            }
        }
        let data = buffer.to_bytes(page, sectors.into());
        let fua = durability != Durability::Volatile;
        let (_, result) = self.submit(Operation::write(sector, data, fua)).await;
        (buffer, result)
    }

    async fn read_parts(&self, mut buffer: SimBuffer, parts: &mut [Part]) -> SimBuffer {
        for some in parts.chunks_mut(buffer.parts()) {
            for part in &*some {
                let junk = pattern::run(pattern::JUNK, part.sector, part.sectors.into());
                buffer.scatter(part.page, &junk);
            }
            let read = |part: &Part| self.submit(Operation::read(part.sector, part.sectors.into()));
            let results = all(some.iter().map(read).collect()).await;
            for (part, (data, result)) in some.iter_mut().zip(results) {
                if result.is_ok() {
                    buffer.scatter(part.page, &data);
                }
                part.result = result;
            }
        }
        buffer
    }

    async fn write_parts(&self, buffer: SimBuffer, parts: &mut [Part]) -> SimBuffer {
        for some in parts.chunks_mut(buffer.parts()) {
            let write = |part: &Part| {
                let data = buffer.to_bytes(part.page, part.sectors.into());
                self.submit(Operation::write(part.sector, data, false))
            };
            let results = all(some.iter().map(write).collect()).await;
            for (part, (_, result)) in some.iter_mut().zip(results) {
                part.result = result;
            }
        }
        buffer
    }

    async fn flush(&self, buffer: SimBuffer) -> (SimBuffer, Result) {
        let (_, result) = self.submit(Operation::flush()).await;
        (buffer, result)
    }
}
