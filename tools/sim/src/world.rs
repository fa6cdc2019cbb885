// SPDX-License-Identifier: GPL-2.0

//! Virtual time, the disks, what happens next, and the end of the world.

use crate::disk::cache::Stamp;
use crate::disk::cache::Survival;
use crate::disk::Drive;
use crate::disk::Flight;
use crate::disk::SimDisk;
use crate::fault::CrashPoint;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::fault::Side;
use crate::rng::Rng;
use kernel::error::Error;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Waker;

/// Virtual microseconds.
pub type Micros = u64;

/// One simulated machine from power on to power off. Clones are handles on the same machine.
#[derive(Clone)]
pub struct World(Arc<Mutex<State>>);

/// An operation that a disk was given, for assertions on order.
#[derive(Clone, Debug)]
pub struct Record {
    /// The disk, by its number in the world.
    pub disk: usize,
    /// What it was.
    pub kind: Kind,
    /// The first sector.
    pub sector: u64,
    /// How many sectors.
    pub sectors: u64,
    /// Whether it was a write with FUA.
    pub fua: bool,
    /// When it was issued.
    pub issued: Stamp,
    /// When it completed, if it has, and with what.
    pub completed: Option<(Stamp, Result<(), Error>)>,
}

pub(crate) struct State {
    pub(crate) rng: Rng,
    pub(crate) now: Micros,
    pub(crate) stamp: Stamp,
    pub(crate) drives: Vec<Drive>,
    pub(crate) flights: BTreeMap<u64, Flight>,
    pub(crate) timers: BTreeMap<u64, Alarm>,
    pub(crate) faults: Vec<Fault>,
    /// The kinds of the operations that a fault has made fail.
    pub(crate) struck: Vec<Kind>,
    pub(crate) log: Vec<Record>,
    pub(crate) changes: u64,
    pub(crate) moments: u64,
    queue: BTreeMap<(Micros, u64), Event>,
    next_id: u64,
    crash: Option<CrashPoint>,
    crashed: bool,
    trace: bool,
}

pub(crate) struct Alarm {
    pub(crate) fired: bool,
    pub(crate) waker: Option<Waker>,
}

#[derive(Clone, Copy)]
pub(crate) enum Event {
    Completion(u64),
    Alarm(u64),
}

impl World {
    /// Creates the machine of `seed`, without disks. `DMOX_SIM_TRACE=1` prints all that happens.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: Rng::new(seed),
            now: 0,
            stamp: 0,
            drives: Vec::new(),
            flights: BTreeMap::new(),
            timers: BTreeMap::new(),
            faults: Vec::new(),
            struck: Vec::new(),
            log: Vec::new(),
            changes: 0,
            moments: 0,
            queue: BTreeMap::new(),
            next_id: 0,
            crash: None,
            crashed: false,
            trace: std::env::var_os("DMOX_SIM_TRACE").is_some_and(|value| value != "0"),
        })))
    }

    /// Adds a disk that holds `image`; disks are numbered from 0 in this order.
    pub fn add_disk(&self, name: &str, image: Vec<u8>) -> SimDisk {
        let mut state = self.lock();
        let number = state.drives.len();
        state.drives.push(Drive::new(name, image));
        SimDisk::new(self.clone(), number)
    }

    /// Adds a rule that makes operations fail.
    pub fn add_fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Returns how many operations of these kinds were made to fail so far.
    pub fn struck(&self, kinds: &[Kind]) -> usize {
        let state = self.lock();
        let struck = state.struck.iter();
        struck.filter(|kind| kinds.contains(kind)).count()
    }

    /// Sets the moment at which the power fails.
    pub fn crash_at(&self, point: CrashPoint) {
        self.lock().crash = Some(point);
    }

    /// Cuts the power now.
    pub fn crash(&self) {
        self.lock().crashed = true;
    }

    /// Returns true once the power has failed.
    pub fn crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Returns the time now.
    pub fn now(&self) -> Micros {
        self.lock().now
    }

    /// Returns how many writes, flushes and discards were issued so far, over all disks.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Counts the moments at which what a crash leaves on the disks may have become another.
    pub fn moments(&self) -> u64 {
        self.lock().moments
    }

    /// Returns every operation that was issued so far, in order.
    pub fn log(&self) -> Vec<Record> {
        self.lock().log.clone()
    }

    /// Returns what each disk holds after a crash now, each by its own rule; disks that
    /// `survivals` does not reach get one by chance.
    pub fn survivors(&self, survivals: &[Survival], rng: &mut Rng) -> Vec<Vec<u8>> {
        use Survival::{Kept, Lost, Picked, Torn};
        let state = self.lock();
        let images = state.drives.iter().enumerate().map(|(number, drive)| {
            let by_chance = *rng.pick(&[Lost, Kept, Torn, Torn, Picked]);
            drive
                .cache
                .survivor(*survivals.get(number).unwrap_or(&by_chance), rng)
        });
        images.collect()
    }

    /// Returns what each disk holds if nothing gets lost.
    pub fn images(&self) -> Vec<Vec<u8>> {
        self.lock()
            .drives
            .iter()
            .map(|drive| drive.cache.settled())
            .collect()
    }

    /// Returns what some sectors of a disk hold if nothing is under way there.
    pub fn peek(&self, disk: usize, sectors: Range<u64>) -> Vec<u8> {
        self.lock().drives[disk].cache.peek(sectors)
    }

    /// Runs `f` with the generator of this world.
    pub fn with_rng<R>(&self, f: impl FnOnce(&mut Rng) -> R) -> R {
        f(&mut self.lock().rng)
    }

    /// Prints a line if tracing is on.
    pub fn trace(&self, line: impl FnOnce() -> String) {
        self.lock().trace(line);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if something will happen by itself.
    pub(crate) fn has_event(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// Returns true if something will happen within `time`.
    pub(crate) fn has_event_within(&self, time: Micros) -> bool {
        let state = self.lock();
        state
            .queue
            .keys()
            .next()
            .is_some_and(|(at, _)| *at <= state.now.saturating_add(time))
    }

    /// Lets the next thing happen.
    pub(crate) fn fire(&self) {
        let mut state = self.lock();
        let Some(((at, _), event)) = state.queue.pop_first() else {
            return;
        };
        state.now = state.now.max(at);
        state.stamp += 1;
        let waker = match event {
            Event::Completion(id) => state.complete(id),
            Event::Alarm(id) => state.timers.get_mut(&id).and_then(|alarm| {
                alarm.fired = true;
                alarm.waker.take()
            }),
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Counts a step of the executor.
    pub(crate) fn step(&self, step: u64) {
        let mut state = self.lock();
        if state.crash == Some(CrashPoint::Step(step)) {
            state.power_off();
        }
    }
}

impl State {
    pub(crate) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn stamp(&mut self) -> Stamp {
        self.stamp += 1;
        self.stamp
    }

    pub(crate) fn schedule(&mut self, delay: Micros, event: Event) {
        let key = (self.now.saturating_add(delay), self.id());
        self.queue.insert(key, event);
    }

    /// Cuts the power if change number `change` has got as far as the crash point says.
    pub(crate) fn crash_if(&mut self, change: Option<u64>, side: Side) {
        if change.is_some_and(|number| self.crash == Some(CrashPoint::Operation(number, side))) {
            self.power_off();
        }
    }

    fn power_off(&mut self) {
        self.crashed = true;
        self.trace(|| "power off".to_owned());
    }

    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>9} us  {}", self.now, line());
        }
    }
}
