// SPDX-License-Identifier: GPL-2.0

mod crash;
mod crowd;

use super::*;
use crate::fixture::now;
use crate::fixture::world::arc;
use crate::fixture::world::storage;
use crate::fixture::world::TestWorld;
use crate::fixture::Hand;
use crate::format::recovery_journal;
use crate::format::recovery_journal::Header;
use crate::format::Mapping;
use crate::format::Operation;
use crate::format::MAX_SEQUENCE;
use runtime::clock::Timer;
use sim::executor::Executor;
use sim::executor::Outcome;
use sim::fault::Fault;
use sim::fault::Kind;
use std::format;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

const ORIGIN: Pbn = 4;
const SIZE: u64 = 8;
/// Two entries in a sector: 14 in a block.
const SHAPE: Shape = Shape {
    entries_per_sector: 2,
};
const PER_BLOCK: u64 = 14;
const BLOCKS: u64 = 300;
const START: Sequence = 5;

fn config() -> JournalConfig {
    JournalConfig {
        origin: ORIGIN,
        size: SIZE,
        nonce: 0x1234,
        recovery_count: 7,
        shape: SHAPE,
        memory_blocks: 4,
        commit_delay_ms: 5,
        io_pages: 3,
        grant: usize::MAX,
    }
}

fn entry(number: u64) -> RecoveryEntry {
    RecoveryEntry {
        operation: Operation::Data,
        page: 20,
        slot: (number % 800) as u16,
        new: Mapping::plain(30 + number),
        old: Mapping::UNMAPPED,
    }
}

/// What holds the ring: set by hand.
#[derive(Default)]
struct Held {
    block_map: Mutex<Option<Sequence>>,
    slab_journals: Mutex<Option<Sequence>>,
    hurried: Mutex<Vec<Sequence>>,
    opened: Mutex<Vec<Sequence>>,
    applied: Mutex<Vec<(JournalPoint, RecoveryEntry)>>,
    apply_fails: Mutex<bool>,
}

impl Holds for Held {
    fn block_map(&self) -> Option<Sequence> {
        *self.block_map.lock().unwrap()
    }

    fn slab_journals(&self) -> Option<Sequence> {
        *self.slab_journals.lock().unwrap()
    }

    fn hurry(&self, before: Sequence) {
        self.hurried.lock().unwrap().push(before);
    }

    fn block_opened(&self, sequence: Sequence) {
        self.opened.lock().unwrap().push(sequence);
    }
}

impl Apply for Held {
    async fn apply(&self, entries: &[(JournalPoint, StoredEntry)]) -> Result {
        if *self.apply_fails.lock().unwrap() {
            return Err(Status::RefCountInvalid.into());
        }
        let decoded =
            |(point, entry): &(_, StoredEntry)| (*point, RecoveryEntry::decode(entry.0).unwrap());
        self.applied
            .lock()
            .unwrap()
            .extend(entries.iter().map(decoded));
        Ok(())
    }
}

struct Rig {
    world: sim::world::World,
    disk: sim::disk::SimDisk,
    log: Arc<TestWorld>,
    health: Arc<Health>,
    held: Arc<Held>,
    journal: Arc<Journal<TestWorld>>,
}

impl Rig {
    fn new() -> Self {
        Self::with(config(), START)
    }

    fn with(config: JournalConfig, tail: Sequence) -> Self {
        let world = sim::world::World::new(1);
        let disk = world.add_disk("disk", vec![0; BLOCKS as usize * 4096]);
        let log = TestWorld::new(&world);
        let health = arc(Health::new(false));
        let counters = Counters {
            logical_blocks_used: 100,
            block_map_data_blocks: 10,
        };
        let start = JournalStart { tail, counters };
        let journal = Journal::new(config, start, log.clone(), storage(&disk), health.clone());
        Self {
            world,
            disk,
            log,
            health,
            held: arc(Held::default()),
            journal: arc(journal.unwrap()),
        }
    }

    /// Returns an executor that runs the tasks of the journal.
    fn executor(&self) -> Executor<'static> {
        let executor = Executor::new(&self.world);
        let spawner = executor.spawner();
        let journal = || self.journal.clone();
        spawner.spawn_daemon("writer", Journal::run_writer(journal(), self.held.clone()));
        spawner.spawn_daemon("timer", Journal::run_timer(journal()));
        spawner.spawn_daemon(
            "applier",
            Journal::run_applier(journal(), self.held.clone()),
        );
        executor
    }

    /// Fills `count` places, which are there.
    fn fill(&self, count: usize) -> Position {
        let mut end = self.journal.end();
        let mut left = count;
        while left > 0 {
            let places = now(self.journal.reserve(left)).unwrap();
            let entries: Vec<_> = (0..places.len() as u64).map(entry).collect();
            left -= places.len();
            end = self.journal.fill(places, &entries);
        }
        end
    }

    fn page(&self, sequence: Sequence) -> [u8; 4096] {
        let at = (ORIGIN + sequence % SIZE) as usize * 4096;
        self.world.images()[0][at..at + 4096].try_into().unwrap()
    }

    fn header(&self, sequence: Sequence) -> Header {
        let header = Header::decode(&self.page(sequence));
        assert_eq!(header.sequence, sequence);
        assert!(header.is_valid(0x1234, 7, SHAPE));
        header
    }
}

#[test]
fn reservations_are_contiguous_and_bounded_by_memory() {
    let rig = Rig::new();
    let journal = &rig.journal;
    let first = now(journal.reserve(10)).unwrap();
    assert_eq!(
        (first.len(), first.first(), first.last()),
        (10, START, START)
    );
    assert_eq!(first.end().get(), START * PER_BLOCK + 10);
    let second = now(journal.reserve(1000)).unwrap();
    // Three blocks: one stays for the last block before the start.
    assert_eq!(
        (second.len(), second.first(), second.last()),
        (32, START, START + 2)
    );
    let _blocked = Hand::waiting(journal.reserve(1));
    assert_eq!(journal.tail(), START + 3);
    assert_eq!(journal.end(), second.end());
}

#[test]
fn only_what_is_filled_without_a_gap_is_written() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    let first = now(rig.journal.reserve(3)).unwrap();
    let second = now(rig.journal.reserve(4)).unwrap();
    let entries: Vec<_> = (0..4).map(entry).collect();
    let end = rig.journal.fill(second, &entries);
    let journal = rig.journal.clone();
    let commit = executor.spawn("commit", async move { journal.commit(end).await });
    executor.run_for(100_000);
    assert!(!commit.is_done());
    assert_eq!(rig.journal.statistics().blocks.written, 0);

    rig.journal.fill(first, &entries[..3]);
    assert_eq!(executor.run(), Outcome::Done);
    assert_eq!(rig.header(START).entry_count, 7);
    assert_eq!(rig.journal.committed(), end);
}

#[test]
fn blocks_say_what_the_format_wants() {
    let rig = Rig::new();
    *rig.held.block_map.lock().unwrap() = Some(START);
    let mut executor = rig.executor();
    let places = now(rig.journal.reserve(17)).unwrap();
    let mut entries: Vec<_> = (0..17).map(entry).collect();
    entries[0].operation = Operation::BlockMap;
    entries[1].new = Mapping::UNMAPPED;
    entries[1].old = Mapping::ZERO;
    let end = rig.journal.fill(places, &entries);
    let journal = rig.journal.clone();
    executor.spawn("commit", async move { journal.commit(end).await.unwrap() });
    assert_eq!(executor.run(), Outcome::Done);

    let first = rig.header(START);
    assert_eq!(first.entry_count, 14);
    assert_eq!(first.logical_blocks_used, 100);
    assert_eq!(first.block_map_data_blocks, 10);
    assert_eq!(
        (first.block_map_head, first.slab_journal_head),
        (START, START)
    );
    let second = rig.header(START + 1);
    assert_eq!(second.entry_count, 3);
    // 12 new ones, and one less.
    assert_eq!(second.logical_blocks_used, 111);
    assert_eq!(second.block_map_data_blocks, 11);
    assert_eq!(first.check_byte, 0x80);
    let page = rig.page(START + 1);
    for (index, entry) in (0..3).zip(&entries[14..]) {
        assert_eq!(recovery_journal::entry(&page, SHAPE, index), Some(*entry));
    }
    assert_eq!(
        rig.journal.counters(),
        Counters {
            logical_blocks_used: 114,
            block_map_data_blocks: 11,
        }
    );
    // Both in one I/O, with one flush before.
    let log = rig.world.log();
    let kinds: Vec<_> = log
        .iter()
        .map(|record| (record.kind, record.sectors))
        .collect();
    assert_eq!(kinds, [(Kind::Flush, 0), (Kind::Write, 16)]);
    assert!(log[1].fua);
    assert_eq!(*rig.held.opened.lock().unwrap(), [START, START + 1]);
    let statistics = rig.journal.statistics();
    assert_eq!(statistics.entries.started, 17);
    assert_eq!(statistics.entries.written, 17);
    assert_eq!(statistics.entries.committed, 17);
    assert_eq!(statistics.blocks.started, 2);
    assert_eq!(statistics.blocks.written, 2);
    assert_eq!(statistics.blocks.committed, 2);
}

#[test]
fn a_block_that_is_not_full_waits_for_company_and_is_written_again() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    let end = rig.fill(3);
    executor.run_for(4_000);
    assert!(rig.journal.committed() < end);
    executor.run_for(10_000);
    assert_eq!(rig.journal.committed(), end);
    assert_eq!(rig.header(START).entry_count, 3);
    let end = rig.fill(2);
    executor.run_for(10_000);
    assert_eq!(rig.journal.committed(), end);
    assert_eq!(rig.header(START).entry_count, 5);
    assert_eq!(rig.header(START).logical_blocks_used, 100);
    assert_eq!(rig.journal.statistics().entries.committed, 5);
    assert_eq!(rig.journal.statistics().blocks.written, 2);
    assert_eq!(*rig.held.opened.lock().unwrap(), [START]);
}

#[test]
fn when_half_the_memory_is_full_nobody_waits() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    let end = rig.fill(2 * PER_BLOCK as usize);
    executor.run_until(|_| rig.journal.committed() == end);
    assert!(rig.world.now() < 5_000);
}

/// Each write of the journal costs a flush.
#[test]
fn a_block_that_is_full_waits_for_company() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    rig.fill(PER_BLOCK as usize);
    executor.run_for(4_000);
    assert_eq!(rig.world.changes(), 0);
    let end = rig.fill(3);
    executor.run_for(10_000);
    assert_eq!(rig.journal.committed(), end);
    assert_eq!(rig.journal.statistics().blocks.written, 2);
    let is_write = |record: &sim::world::Record| record.kind == Kind::Write;
    assert_eq!(rig.world.log().into_iter().filter(is_write).count(), 1);
}

#[test]
fn nothing_wraps_within_one_io() {
    let rig = Rig::with(config(), 7);
    let mut executor = rig.executor();
    rig.fill(20);
    executor.run_for(50_000);
    let writes: Vec<_> = rig
        .world
        .log()
        .into_iter()
        .filter(|r| r.kind == Kind::Write)
        .collect();
    assert_eq!(writes.len(), 2);
    assert_eq!(writes[0].sector, (ORIGIN + 7) * 8);
    assert_eq!(writes[1].sector, ORIGIN * 8);
    assert_eq!(rig.header(7).check_byte, 0x80);
    assert_eq!(rig.header(8).check_byte, 0x81);
    assert_eq!(rig.header(8).logical_blocks_used, 114);
}

#[test]
fn entries_are_applied_in_order_once_they_are_committed() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    rig.disk.hold(&[Kind::Write]);
    let end = rig.fill(30);
    executor.run_for(50_000);
    assert!(rig.held.applied.lock().unwrap().is_empty());
    rig.disk.release();
    let journal = rig.journal.clone();
    executor.spawn(
        "applied",
        async move { journal.applied(end).await.unwrap() },
    );
    assert_eq!(executor.run(), Outcome::Done);
    let points: Vec<_> = rig
        .held
        .applied
        .lock()
        .unwrap()
        .iter()
        .map(|(p, _)| *p)
        .collect();
    let expected = (0..30).map(|n| JournalPoint::new(START + n / 14, (n % 14) as u16));
    assert_eq!(points, expected.collect::<Vec<_>>());
}

#[test]
fn reservers_are_served_in_order() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    rig.disk.hold(&[Kind::Write]);
    rig.fill(42);
    let order: Arc<Mutex<Vec<u64>>> = arc(Mutex::default());
    for number in 0..6 {
        let (journal, order) = (rig.journal.clone(), order.clone());
        executor.spawn("reserver", async move {
            let places = journal.reserve(9).await.unwrap();
            order.lock().unwrap().push(number);
            let entries: Vec<_> = (0..places.len() as u64).map(entry).collect();
            journal.fill(places, &entries);
        });
        // So that it stands in line before the next one comes.
        while executor.run_for(100) == Outcome::Done
            && rig.journal.monitor.with(|r, _| r.queue as u64) <= number
        {}
    }
    rig.disk.release();
    assert_eq!(executor.run(), Outcome::Done);
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn the_ring_waits_for_heads_that_are_on_storage() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    *rig.held.block_map.lock().unwrap() = Some(START);
    // Six of eight blocks may be used.
    let journal = rig.journal.clone();
    let filler = executor.spawn("filler", async move {
        let mut left = 6 * PER_BLOCK as usize + 1;
        while left > 0 {
            let places = journal.reserve(left).await.unwrap();
            left -= places.len();
            let entries: Vec<_> = (0..places.len() as u64).map(entry).collect();
            journal.fill(places, &entries);
        }
    });
    executor.run_for(100_000);
    assert!(!filler.is_done());
    assert_eq!(rig.journal.tail(), START + 6);
    assert_eq!(rig.journal.head(), START);
    assert_eq!(rig.journal.statistics().disk_full, 1);
    // Whoever holds it was told.
    assert!(rig
        .held
        .hurried
        .lock()
        .unwrap()
        .iter()
        .any(|&before| before > START));
    assert!(rig.journal.statistics().slab_journal_commits_requested > 0);
    let writes = rig.journal.statistics().blocks.written;

    *rig.held.block_map.lock().unwrap() = Some(START + 3);
    executor.run_for(100_000);
    assert!(filler.is_done());
    assert_eq!(rig.journal.head(), START + 3);
    // The last block was written again for it, and then the new entry.
    assert_eq!(rig.journal.statistics().blocks.written, writes + 2);
    assert_eq!(rig.header(START + 5).block_map_head, START + 3);
}

#[test]
fn a_saved_journal_goes_on_with_a_new_block() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    rig.fill(3);
    let error = Err(Status::InvalidAdminState.into());
    assert_eq!(rig.journal.close_block(), error);
    let journal = rig.journal.clone();
    executor.spawn("drain", async move { journal.drain().await.unwrap() });
    assert_eq!(executor.run(), Outcome::Done);
    for _ in 0..2 {
        assert_eq!(rig.journal.close_block(), Ok(START + 1));
    }
    assert_eq!(rig.journal.head(), START + 1);
    let places = now(rig.journal.reserve(1)).unwrap();
    assert_eq!(places.first(), START + 1);
    rig.journal.fill(places, &[entry(1)]);
    executor.run_for(20_000);
    assert_eq!(rig.header(START).entry_count, 3);
    let header = rig.header(START + 1);
    assert_eq!((header.entry_count, header.logical_blocks_used), (1, 103));
    assert_eq!(
        (header.block_map_head, header.slab_journal_head),
        (START + 1, START + 1)
    );
}

#[test]
fn a_failed_write_makes_the_volume_read_only_and_wakes_everybody() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    rig.world.add_fault(Fault::new(0, &[Kind::Write]));
    let end = rig.fill(42);
    let journal = rig.journal.clone();
    let commit = executor.spawn("commit", async move { journal.commit(end).await });
    let journal = rig.journal.clone();
    let applied = executor.spawn("applied", async move { journal.applied(end).await });
    let journal = rig.journal.clone();
    let reserve = executor.spawn("reserve", async move { journal.reserve(1).await.map(drop) });
    let journal = rig.journal.clone();
    let drain = executor.spawn("drain", async move { journal.drain().await });
    assert_eq!(executor.run(), Outcome::Done);
    for task in [commit, applied, reserve, drain] {
        assert_eq!(task.take(), Some(Err(Error::READ_ONLY)));
    }
    assert!(rig.health.is_read_only());
    assert_eq!(
        rig.log.lines(),
        [format!(
            "cannot write recovery journal block {START}: Input/output error (-5)"
        )]
    );
    rig.journal.stop();
    assert_eq!(executor.run_until_idle(), Outcome::Done);
}

#[test]
fn what_is_committed_stays_committed_in_read_only_mode() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    let end = rig.fill(14);
    executor.run_until(|_| rig.journal.committed() == end);
    rig.health.enter_read_only(Error::READ_ONLY);
    rig.journal.wake_all();
    assert_eq!(now(rig.journal.commit(end)), Ok(()));
    assert_eq!(now(rig.journal.reserve(1)).map(drop), Err(Error::READ_ONLY));
}

#[test]
fn entries_that_cannot_be_applied_make_the_volume_read_only() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    *rig.held.apply_fails.lock().unwrap() = true;
    let end = rig.fill(14);
    let journal = rig.journal.clone();
    let applied = executor.spawn("applied", async move { journal.applied(end).await });
    assert_eq!(executor.run(), Outcome::Done);
    assert_eq!(applied.take(), Some(Err(Error::READ_ONLY)));
    assert_eq!(
        now(rig.health.failed()),
        Some(Status::RefCountInvalid.into())
    );
}

#[test]
fn sequence_numbers_end() {
    let rig = Rig::with(config(), MAX_SEQUENCE - 1);
    let mut executor = rig.executor();
    let places = now(rig.journal.reserve(100)).unwrap();
    assert_eq!(places.len(), 14);
    let entries: Vec<_> = (0..14).map(entry).collect();
    rig.journal.fill(places, &entries);
    executor.run_for(20_000);
    assert_eq!(rig.header(MAX_SEQUENCE - 1).entry_count, 14);
    assert_eq!(
        now(rig.journal.reserve(1)).map(drop),
        Err(Status::JournalOverflow.into())
    );
    assert!(rig.health.is_read_only());
    assert!(Journal::new(
        config(),
        JournalStart {
            tail: MAX_SEQUENCE,
            counters: Counters::default(),
        },
        rig.log.clone(),
        storage(&rig.disk),
        rig.health.clone(),
    )
    .is_err());
}

#[test]
fn a_stream_of_reservations_does_not_starve_a_commit() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    let journal = rig.journal.clone();
    executor.spawn_daemon("stream", async move {
        loop {
            let places = journal.reserve(5).await.unwrap();
            let entries: Vec<_> = (0..places.len() as u64).map(entry).collect();
            journal.fill(places, &entries);
        }
    });
    for _ in 0..20 {
        let journal = rig.journal.clone();
        let mut timer = rig.log.clock().timer().unwrap();
        let commit = executor.spawn("commit", async move {
            timer.sleep(1).await;
            journal.commit(journal.end()).await
        });
        assert_eq!(executor.run_task(&commit), Ok(Ok(())));
    }
    assert!(rig.journal.tail() > START + SIZE);
}
