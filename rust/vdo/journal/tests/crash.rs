// SPDX-License-Identifier: GPL-2.0

//! The power fails while the journal runs; what recovery finds must be enough.
//!
//! Two markers on the disk stand for the block map and the slab journals: each says up to which
//! place everything is written there. They are written as the real ones are: the map after a
//! commit, slab journals after entries were applied, both without a flush, and holds are given up
//! when the writes have completed.

use super::super::*;
use super::SHAPE;
use crate::fixture::world::arc;
use crate::fixture::world::storage;
use crate::fixture::world::TestWorld;
use crate::format::recovery_journal;
use crate::format::DepotLayout;
use crate::format::Mapping;
use crate::format::Operation;
use crate::format::Partition;
use crate::format::References;
use crate::format::SlabConfig;
use crate::recovery::Survey;
use crate::recovery::Volume;
use crate::storage::Purpose;
use runtime::clock::Timer;
use runtime::disk::Buffer;
use runtime::disk::Durability;
use sim::executor::Executor;
use sim::executor::Outcome;
use sim::fault::CrashPoint;
use sim::fault::Side;
use sim::harness;
use sim::rng::Rng;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

const MAP_MARKER: Pbn = 1;
const SLAB_MARKER: Pbn = 2;
const FIRST_DATA: Pbn = 16;
const ENTRIES: u64 = 220;
const WORKERS: u64 = 3;
const PER_BLOCK: u64 = 14;
const START: Sequence = 3;

fn volume() -> Volume {
    let config = super::config();
    Volume {
        origin: config.origin,
        size: config.size,
        shape: SHAPE,
        nonce: config.nonce,
        recovery_count: config.recovery_count,
        journal_start: START,
        counters: Counters::default(),
        roots: Partition {
            start: 3,
            blocks: 1,
        },
        depot: DepotLayout {
            first_block: FIRST_DATA,
            slab_count: 1,
            slab: SlabConfig {
                blocks: 256,
                data_blocks: 240,
                reference_blocks: 1,
                journal_blocks: 4,
                flushing: 2,
                blocking: 3,
                scrubbing: 4,
            },
        },
    }
}

/// The entry with this number: its data is in a block of its own.
fn entry(number: u64) -> RecoveryEntry {
    RecoveryEntry {
        operation: if number % 7 == 3 {
            Operation::BlockMap
        } else {
            Operation::Data
        },
        page: FIRST_DATA + 239,
        slot: number as u16,
        new: Mapping::plain(FIRST_DATA + number),
        old: Mapping::UNMAPPED,
    }
}

#[derive(Default)]
struct Books {
    /// By place: the entry that was filled there.
    filled: BTreeMap<u64, u64>,
    /// What a commit was reported for.
    committed: u64,
    /// First sequence and end of reservations that are in no page on the disk.
    map: Vec<(Sequence, u64)>,
    /// As in `map`, of entries that were applied and are in no slab journal on the disk.
    slabs: Vec<(Sequence, u64)>,
    hurry: Sequence,
}

/// Stands for the map and the slab journals.
#[derive(Default)]
struct Parts(Mutex<Books>);

impl Parts {
    fn with<R>(&self, f: impl FnOnce(&mut Books) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }
}

impl Holds for Parts {
    fn block_map(&self) -> Option<Sequence> {
        self.with(|books| books.map.iter().map(|hold| hold.0).min())
    }

    fn slab_journals(&self) -> Option<Sequence> {
        self.with(|books| books.slabs.iter().map(|hold| hold.0).min())
    }

    fn hurry(&self, before: Sequence) {
        self.with(|books| books.hurry = books.hurry.max(before));
    }

    fn block_opened(&self, _: Sequence) {}
}

impl Apply for Parts {
    async fn apply(&self, entries: &[(JournalPoint, StoredEntry)]) -> Result {
        self.with(|books| {
            for (point, entry) in entries {
                let place = point.sequence * PER_BLOCK + u64::from(point.entry);
                let number = entry.gains() - FIRST_DATA;
                assert_eq!(
                    books.filled.get(&place),
                    Some(&number),
                    "applied at {place}"
                );
                books.slabs.push((point.sequence, place + 1));
            }
        });
        Ok(())
    }
}

struct Life {
    world: sim::world::World,
    log: Arc<TestWorld>,
    storage: Arc<Storage<sim::disk::SimDisk>>,
    journal: Arc<Journal<TestWorld>>,
    parts: Arc<Parts>,
}

impl Life {
    fn new(seed: u64, flaw: Flaw) -> Self {
        let world = sim::world::World::new(seed);
        let mut image = vec![0; 300 * 4096];
        for marker in [MAP_MARKER, SLAB_MARKER] {
            let at = marker as usize * 4096;
            image[at..at + 8].copy_from_slice(&(START * PER_BLOCK).to_le_bytes());
        }
        let disk = world.add_disk("disk", image);
        let log = TestWorld::new(&world);
        let start = JournalStart {
            tail: START,
            counters: Counters::default(),
        };
        let storage = storage(&disk);
        let health = arc(Health::new(false));
        let mut journal =
            Journal::new(super::config(), start, log.clone(), storage.clone(), health).unwrap();
        journal.flaw = flaw;
        Self {
            world,
            log,
            storage,
            journal: arc(journal),
            parts: arc(Parts::default()),
        }
    }

    fn executor(&self) -> Executor<'_> {
        let executor = Executor::new(&self.world);
        let journal = || self.journal.clone();
        executor.spawn_daemon("writer", Journal::run_writer(journal(), self.parts.clone()));
        executor.spawn_daemon("timer", Journal::run_timer(journal()));
        executor.spawn_daemon(
            "applier",
            Journal::run_applier(journal(), self.parts.clone()),
        );
        executor.spawn_daemon("map", self.run_map());
        executor.spawn_daemon("slabs", self.run_slabs());
        for worker in 0..WORKERS {
            executor.spawn("worker", self.work(worker));
        }
        executor
    }

    async fn write(&self, pbn: Pbn, value: u64) {
        let mut buffer = self.storage.buffer(1).unwrap();
        buffer.page_mut(0).unwrap()[..8].copy_from_slice(&value.to_le_bytes());
        let (_, result) = self
            .storage
            .write(Purpose::Data, pbn, 1, buffer, 0, Durability::Volatile)
            .await;
        result.unwrap();
    }

    async fn work(&self, worker: u64) {
        let mut rng = Rng::new(worker + 77);
        let mut numbers: Vec<_> = (0..ENTRIES).filter(|n| n % WORKERS == worker).collect();
        while !numbers.is_empty() {
            let wanted = (1 + rng.below(9) as usize).min(numbers.len());
            for number in &numbers[..wanted] {
                self.write(FIRST_DATA + number, number + 1).await;
            }
            let mut batch: Vec<_> = numbers.drain(..wanted).collect();
            let mut end = Position::default();
            while !batch.is_empty() {
                let places = self.journal.reserve(batch.len()).await.unwrap();
                let now: Vec<_> = batch.drain(..places.len()).collect();
                let last = places.end().get();
                self.parts.with(|books| {
                    books.map.push((places.first(), last));
                    for (place, number) in (places.place..).zip(&now) {
                        books.filled.insert(place, *number);
                    }
                });
                let entries: Vec<_> = now.iter().map(|number| entry(*number)).collect();
                end = self.journal.fill(places, &entries);
            }
            if rng.chance(1, 4) {
                self.journal.commit(end).await.unwrap();
                self.parts
                    .with(|books| books.committed = books.committed.max(end.get()));
            }
        }
    }

    async fn run_map(&self) {
        let mut timer = self.log.clock().timer().unwrap();
        loop {
            timer.sleep(3).await;
            let urgent = self
                .parts
                .with(|books| books.map.iter().any(|hold| hold.0 < books.hurry));
            if !urgent {
                continue;
            }
            // The pages hold all that was filled until now.
            let end = self.journal.end();
            let held = self.parts.with(|books| books.map.len());
            self.journal.commit(end).await.unwrap();
            self.write(MAP_MARKER, end.get()).await;
            self.parts.with(|books| drop(books.map.drain(..held)));
        }
    }

    async fn run_slabs(&self) {
        let mut timer = self.log.clock().timer().unwrap();
        loop {
            timer.sleep(2).await;
            let urgent = self
                .parts
                .with(|books| books.slabs.iter().any(|hold| hold.0 < books.hurry));
            if !urgent {
                continue;
            }
            let (held, end) = self.parts.with(|books| {
                let end = books.slabs.last().map_or(0, |hold| hold.1);
                (books.slabs.len(), end)
            });
            self.write(SLAB_MARKER, end).await;
            self.parts.with(|books| drop(books.slabs.drain(..held)));
        }
    }

    /// Checks what a crash has left in `image`.
    fn check(&self, image: Vec<u8>) -> Result<(), String> {
        let number_at = |pbn: Pbn| {
            let at = pbn as usize * 4096;
            u64::from_le_bytes(image[at..at + 8].try_into().unwrap())
        };
        let (map, slabs) = (number_at(MAP_MARKER), number_at(SLAB_MARKER));
        let world = sim::world::World::new(0);
        let disk = world.add_disk("disk", image.clone());
        let log = TestWorld::new(&world);
        let storage = storage(&disk);
        let mut executor = Executor::new(&world);
        let survey = executor.spawn("survey", async {
            Survey::new(&*log, &*storage, &volume()).await
        });
        let survey = executor.run_task(&survey).unwrap();
        let survey = survey.map_err(|error| format!("survey: {error} {:?}", log.lines()))?;

        let end = survey.end.sequence * PER_BLOCK + u64::from(survey.end.entry);
        let books = self.parts.0.lock().unwrap();
        if end < books.committed {
            return Err(format!("{} was committed, {end} is there", books.committed));
        }
        let Some(extent) = survey.extent else {
            return Ok(());
        };
        for (head, done) in [
            (extent.block_map_head, map),
            (extent.slab_journal_head, slabs),
        ] {
            if head * PER_BLOCK > done {
                return Err(format!(
                    "a head is at block {head}, but place {done} is not done"
                ));
            }
        }
        let first = extent.block_map_head.min(extent.slab_journal_head) * PER_BLOCK;
        let mut expected = Counters::default();
        for (&place, &number) in books.filled.range(..end) {
            expected.add(&entry(number));
            if place < first {
                continue;
            }
            let sequence = place / PER_BLOCK;
            let at = (super::ORIGIN + sequence % super::SIZE) as usize * 4096;
            let page = image[at..at + 4096].try_into().unwrap();
            let found = recovery_journal::entry(page, SHAPE, (place % PER_BLOCK) as u16);
            if found != Some(entry(number)) {
                return Err(format!("place {place} holds {found:?}"));
            }
            if number_at(FIRST_DATA + number) != number + 1 {
                return Err(format!("place {place} names data that is not there"));
            }
        }
        if survey.counters != expected {
            return Err(format!("{:?}, not {expected:?}", survey.counters));
        }
        Ok(())
    }
}

/// Lives with one seed until the power fails at operation `crash`; returns how many there were.
fn live(seed: u64, flaw: Flaw, crash: Option<CrashPoint>) -> Result<u64, String> {
    let life = Life::new(seed, flaw);
    if let Some(point) = crash {
        life.world.crash_at(point);
    }
    let mut executor = life.executor();
    match executor.run() {
        Outcome::Stuck(waiting) => return Err(format!("stuck: {waiting:?}")),
        Outcome::Done => {
            // Nobody asks for anything any more, and all is written all the same.
            executor.run_for(1_000_000);
            let (committed, end) = (life.journal.committed(), life.journal.end());
            if crash.is_none() && committed < end {
                return Err(format!("{committed:?} was committed of {end:?}"));
            }
        }
        Outcome::Crashed => (),
    }
    executor.power_off();
    let mut rng = Rng::new(seed ^ 0xABCD);
    for _ in 0..3 {
        let image = life.world.survivors(&[], &mut rng).remove(0);
        life.check(image)?;
    }
    Ok(life.world.changes())
}

/// Lives once without a crash, then with some crashes.
fn live_and_crash(seed: u64, flaw: Flaw) -> Result<(), String> {
    let changes = live(seed, flaw, None)?;
    let mut rng = Rng::new(seed);
    for _ in 0..6 {
        let side = *rng.pick(&[Side::Issued, Side::Completed]);
        let point = CrashPoint::Operation(rng.below(changes), side);
        live(seed, flaw, Some(point)).map_err(|text| format!("{point:?}: {text}"))?;
    }
    Ok(())
}

#[test]
fn a_crash_leaves_what_was_committed() {
    harness::run_seeds(harness::seeds(60), "cargo test -p vdo journal", |seed| {
        live_and_crash(seed, Flaw::None)
    });
}

#[test]
fn a_crash_at_every_operation_leaves_what_was_committed() {
    let runs = harness::enumerate_crash_points(|point| live(4711, Flaw::None, point));
    assert!(runs.unwrap() > 500);
}

#[test]
fn flaws_are_found() {
    for flaw in [Flaw::EarlyCommit, Flaw::NoPreflush] {
        let failure = harness::first_failure(0..200, |seed| live_and_crash(seed, flaw));
        assert!(failure.is_some(), "{flaw:?} was not found");
    }
}

/// Fills the ring, lets the head move, fills on, and crashes there.
fn reuse(flaw: Flaw, crash: Option<CrashPoint>) -> Result<u64, String> {
    let life = Life::new(1, flaw);
    let (journal, parts) = (&life.journal, &life.parts);
    let mut executor = Executor::new(&life.world);
    executor.spawn_daemon(
        "writer",
        Journal::run_writer(journal.clone(), parts.clone()),
    );
    executor.spawn_daemon("timer", Journal::run_timer(journal.clone()));
    executor.spawn_daemon(
        "applier",
        Journal::run_applier(journal.clone(), parts.clone()),
    );
    parts.with(|books| books.map.push((START, 0)));
    let filler = executor.spawn("filler", async {
        let mut number = 0;
        while number < 9 * PER_BLOCK {
            let places = journal.reserve(5 * PER_BLOCK as usize).await.unwrap();
            let count = places.len() as u64;
            let entries: Vec<_> = (number..number + count).map(entry).collect();
            parts.with(|books| {
                books
                    .filled
                    .extend((places.place..).zip(number..number + count))
            });
            journal.fill(places, &entries);
            number += count;
        }
    });
    executor.run_for(50_000);
    assert!(!filler.is_done(), "the ring is not full");
    let full = journal.committed().get();
    parts.with(|books| {
        books.map.clear();
        books.map.push((START + 5, 0));
        books.slabs.clear();
    });
    if let Some(point) = crash {
        life.world.crash_at(point);
    }
    executor.run();
    executor.run_for(50_000);
    let mut rng = Rng::new(1);
    for _ in 0..200 {
        let image = life.world.survivors(&[], &mut rng).remove(0);
        let log = TestWorld::new(&life.world);
        let other = sim::world::World::new(0);
        let storage = storage(&other.add_disk("disk", image));
        let volume = volume();
        let mut executor = Executor::new(&other);
        let survey = executor.spawn("survey", Survey::new(&*log, &*storage, &volume));
        let survey = executor.run_task(&survey).unwrap().unwrap();
        let end = survey.end.sequence * PER_BLOCK + u64::from(survey.end.entry);
        if end < full {
            return Err(format!("{full} was committed, {end} is there"));
        }
    }
    Ok(life.world.changes())
}

#[test]
fn no_block_is_overwritten_that_a_head_on_storage_needs() {
    assert!(harness::enumerate_crash_points(|point| reuse(Flaw::None, point)).is_ok());
    assert!(harness::enumerate_crash_points(|point| reuse(Flaw::EarlyReuse, point)).is_err());
}
