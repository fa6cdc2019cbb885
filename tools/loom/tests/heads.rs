// SPDX-License-Identifier: GPL-2.0

//! What slab journals and pages hold of the recovery journal, and how far its heads go.
//!
//! One slab, a recovery journal behind it, the root of a block map, and those of their tasks that
//! meet: the applier takes holds, the committer releases them, pages are held by their changes, and
//! the journal's writer asks what is held. Each block of the recovery journal has seven entries, all
//! of them increments.

#![cfg(loom)]

mod vdo_host;

use interleavings::block_on;
use interleavings::explore;
use interleavings::world::Memory;
use interleavings::world::Still;
use kernel::prelude::*;
use kernel::sync::Arc;
use loom::thread;
use runtime::oneshot::Oneshot;
use std::future::poll_fn;
use std::future::Future;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use vdo::block_map::Allocator;
use vdo::block_map::BlockMap;
use vdo::block_map::BlockMapConfig;
use vdo::depot::Depot;
use vdo::depot::DepotConfig;
use vdo::depot::Load;
use vdo::format::recovery_journal;
use vdo::format::slab_journal;
use vdo::format::summary;
use vdo::format::DepotLayout;
use vdo::format::JournalPoint;
use vdo::format::Mapping;
use vdo::format::Operation;
use vdo::format::Pbn;
use vdo::format::RecoveryEntry;
use vdo::format::Sequence;
use vdo::format::StoredEntry;
use vdo::health::Health;
use vdo::journal::Apply;
use vdo::journal::Counters;
use vdo::journal::Holds;
use vdo::journal::Journal;
use vdo::journal::JournalConfig;
use vdo::journal::JournalStart;
use vdo::journal::Position;
use vdo::storage::Storage;
use vdo_host::drive;
use vdo_host::Host;
use vdo_host::Task;
use vdo_sim::toy;

const NONCE: u64 = 0x1234_5678;
const RING: u64 = 8;
const SHAPE: recovery_journal::Shape = recovery_journal::Shape {
    entries_per_sector: 1,
};
/// Blocks that there are entries for.
const BLOCKS: u32 = 16;
/// Two leaf pages.
const LOGICAL_BLOCKS: u64 = 1000;
const FIRST: Pbn = summary::BLOCKS as Pbn;

fn layout() -> DepotLayout {
    DepotLayout {
        first_block: FIRST,
        slab_count: 1,
        slab: toy::slab(32, 10, 4),
    }
}

/// Returns where a block of the recovery journal is.
fn journal_block(sequence: Sequence) -> Pbn {
    layout().last_block() + recovery_journal::position(sequence, RING)
}

fn arc<T>(value: T) -> Arc<T> {
    Arc::new(value, GFP_KERNEL).unwrap()
}

/// Returns a depot whose slab journal has so many entries a block.
fn depot(disk: &Memory, entries: u16) -> Depot<Host> {
    let config = DepotConfig {
        layout: layout(),
        summary_origin: 0,
        zone_count: 1,
        nonce: NONCE,
        shape: slab_journal::Shape {
            full: entries,
            data: entries,
        },
        journal_pages: 2,
        io_pages: 4,
    };
    let storage = arc(Storage::new(arc(disk.clone()), 0));
    Depot::new(&config, &Host(Still), storage, arc(Health::new(false))).unwrap()
}

/// The first reference to a block, different for each `number`.
fn entry(number: u16) -> RecoveryEntry {
    RecoveryEntry {
        operation: Operation::Data,
        page: layout().pbn(0, 0),
        slot: number,
        new: Mapping::plain(layout().pbn(0, number.into())),
        old: Mapping::UNMAPPED,
    }
}

/// What the journal knows of the rest.
struct Rest {
    map: Arc<BlockMap<Host>>,
    depot: Arc<Depot<Host>>,
}

impl Holds for Rest {
    fn block_map(&self) -> Option<Sequence> {
        self.map.oldest_change()
    }

    fn slab_journals(&self) -> Option<Sequence> {
        self.depot.oldest_hold()
    }

    fn hurry(&self, _: Sequence) {}

    fn block_opened(&self, _: Sequence) {}
}

impl Apply for Rest {
    async fn apply(&self, entries: &[(JournalPoint, StoredEntry)]) -> vdo::error::Result {
        self.depot.apply(entries).await
    }
}

/// Gives one block after the other to new pages, which nobody counts.
#[derive(Default)]
struct Free(AtomicU32);

impl Allocator for Free {
    async fn allocate_one(&self) -> vdo::error::Result<Pbn> {
        Ok(layout().pbn(0, self.0.fetch_add(1, Relaxed)))
    }

    fn release_one(&self, _: Pbn) {
        panic!("a page was not made");
    }
}

/// What runs here.
struct Volume {
    disk: Memory,
    depot: Arc<Depot<Host>>,
    map: Arc<BlockMap<Host>>,
    journal: Arc<Journal<Host>>,
    committer: Task,
    reference_writer: Task,
    scrubber: Task,
    writer: Task,
    applier: Task,
    /// How many entries there are.
    entries: u16,
}

impl Volume {
    /// A new volume whose slab journal has so many entries a block.
    fn new(entries: u16) -> Self {
        let root_origin = layout().last_block() + RING;
        let blocks = root_origin + 1;
        let disk = Memory::new(vec![0; blocks as usize * 4096]);
        let depot = arc(depot(&disk, entries));
        let config = JournalConfig {
            origin: layout().last_block(),
            size: RING,
            nonce: NONCE,
            recovery_count: 0,
            shape: SHAPE,
            memory_blocks: 2,
            commit_delay_ms: 5,
            io_pages: 2,
            grant: usize::MAX,
        };
        let start = JournalStart {
            tail: 1,
            counters: Counters::default(),
        };
        let storage = arc(Storage::new(arc(disk.clone()), 0));
        let health = arc(Health::new(false));
        let host = arc(Host(Still));
        let journal = Journal::new(config, start, host.clone(), storage.clone(), health.clone());
        let journal = arc(journal.unwrap());
        let config = BlockMapConfig {
            root_origin,
            roots: 1,
            nonce: NONCE,
            logical_blocks: LOGICAL_BLOCKS,
            workers: 1,
            depot: layout(),
            cache_pages: 2,
            write_pages: 4,
        };
        let map = arc(BlockMap::new(config, host, storage, health).unwrap());
        let rest = || {
            arc(Rest {
                map: map.clone(),
                depot: depot.clone(),
            })
        };
        let mut volume = Self {
            committer: Box::pin(Depot::run_committer(depot.clone())),
            reference_writer: Box::pin(Depot::run_reference_writer(depot.clone())),
            scrubber: Box::pin(Depot::run_scrubber(depot.clone())),
            writer: Box::pin(Journal::run_writer(journal.clone(), rest())),
            applier: Box::pin(Journal::run_applier(journal.clone(), rest())),
            disk,
            depot: depot.clone(),
            map: map.clone(),
            journal,
            entries: 0,
        };
        volume.with_depot(depot.load(Load::New)).unwrap();
        volume.with_depot(depot.start()).unwrap();
        let blocks = volume.with_depot(depot.allocate(BLOCKS)).unwrap().unwrap();
        assert_eq!((blocks.start, blocks.blocks), (layout().pbn(0, 0), BLOCKS));
        volume
    }

    /// Runs `future` beside the tasks of the depot.
    fn with_depot<T>(&mut self, future: impl Future<Output = T>) -> T {
        let Self {
            committer,
            reference_writer,
            scrubber,
            ..
        } = self;
        drive(future, [committer, reference_writer, scrubber])
    }

    /// Puts so many more entries into the recovery journal.
    fn write(&mut self, count: u16) -> Position {
        for _ in 0..count {
            let place = block_on(self.journal.reserve(1)).unwrap();
            self.journal.fill(place, &[entry(self.entries)]);
            self.entries += 1;
        }
        self.journal.end()
    }

    /// Has slab 0 used once, so that it has memory. All of that is saved.
    fn use_slab(&mut self) {
        let end = self.write(1);
        let journal = self.journal.clone();
        drive(journal.commit(end), [&mut self.writer]).unwrap();
        let Self {
            committer,
            scrubber,
            applier,
            ..
        } = self;
        drive(journal.applied(end), [committer, scrubber, applier]).unwrap();
        let depot = self.depot.clone();
        self.with_depot(depot.save()).unwrap();
        assert_eq!(depot.oldest_hold(), None);
    }

    /// Has all committed that was written.
    fn commit(&mut self) {
        let end = self.journal.end();
        let journal = self.journal.clone();
        drive(journal.commit(end), [&mut self.writer]).unwrap();
    }

    /// Has all applied that was committed; the depot's tasks do nothing meanwhile.
    fn apply(&mut self) {
        let journal = self.journal.clone();
        drive(journal.applied(journal.end()), [&mut self.applier]).unwrap();
    }
}

fn run(task: Task) -> thread::JoinHandle<()> {
    thread::spawn(|| block_on(task))
}

/// Runs a task until `over`, and gives it back.
fn run_until(mut task: Task, over: std::sync::Arc<Oneshot<()>>) -> thread::JoinHandle<Task> {
    thread::spawn(move || {
        let mut end = Box::pin(over.recv());
        block_on(poll_fn(|context| {
            assert!(task.as_mut().poll(context).is_pending());
            end.as_mut().poll(context)
        }));
        drop(end);
        task
    })
}

/// Fails if the newest block of the recovery journal gives up what no slab journal has on disk.
fn check_heads(disk: &Memory, newest: Sequence, slab_entries: u16) {
    let image = disk.image();
    let header = recovery_journal::Header::decode(toy::block(&image, journal_block(newest)));
    assert_eq!(header.sequence, newest);
    let depot = depot(&Memory::new(image), slab_entries);
    let saved = block_on(depot.latest_point_on_disk());
    let last = SHAPE.entries_per_block() - 1;
    let given_up = header.slab_journal_head - 1;
    assert!(
        given_up == 0 || saved >= slab_journal::recovery_point(given_up, last, true),
        "block {given_up} is given up, slab journals have all up to {saved:?}"
    );
}

/// Fails if block 2 of the recovery journal gives up block 1 while that has the entry of the second
/// leaf page: nobody writes the page above.
fn check_pages(disk: &Memory) {
    let image = disk.image();
    let block = |sequence| toy::block(&image, journal_block(sequence));
    let head = recovery_journal::Header::decode(block(2)).block_map_head;
    let entries = 0..SHAPE.entries_per_block();
    let mut entries = entries.filter_map(|at| recovery_journal::entry(block(1), SHAPE, at));
    let is_new = |entry: RecoveryEntry| entry.operation == Operation::BlockMap && entry.slot == 1;
    assert!(head == 1 || !entries.any(is_new), "a page is given up");
}

/// A block of a slab journal takes its hold before the committer can release it, and the committer
/// releases it.
#[test]
fn what_is_saved_holds_nothing() {
    explore(1, || {
        let mut volume = Volume::new(2);
        volume.use_slab();
        // One more fills the block of the slab journal that is to be sealed, the next begins another.
        volume.write(1);
        volume.commit();
        volume.apply();
        volume.depot.write_before(Sequence::MAX);
        volume.write(2);
        volume.commit();
        let depot = volume.depot.clone();
        let end = volume.journal.end();
        let over = std::sync::Arc::new(Oneshot::new());
        let applier = run(volume.applier);
        let committer = run_until(volume.committer, over.clone());
        block_on(volume.journal.applied(end)).unwrap();
        over.send(());
        let mut tasks = [committer.join().unwrap(), volume.reference_writer];
        drive(depot.save(), &mut tasks).unwrap();
        assert_eq!(depot.oldest_hold(), None);
        volume.journal.stop();
        applier.join().unwrap();
    });
}

/// What is not applied yet no slab journal holds: the head does not go beyond it all the same.
#[test]
fn a_head_leaves_what_is_about_to_be_applied() {
    explore(1, || {
        let mut volume = Volume::new(32);
        volume.use_slab();
        volume.write(7);
        volume.commit();
        let end = volume.write(1);
        let threads = [volume.applier, volume.writer].map(run);
        block_on(volume.journal.commit(end)).unwrap();
        check_heads(&volume.disk, 2, 32);
        volume.journal.stop();
        threads.map(|thread| thread.join().unwrap());
    });
}

/// A block of a slab journal holds the recovery journal until the summary counts it.
#[test]
fn a_head_waits_for_the_summary() {
    explore(1, || {
        let mut volume = Volume::new(32);
        volume.use_slab();
        volume.write(7);
        volume.commit();
        volume.apply();
        let journal = volume.journal.clone();
        let end = volume.write(1);
        let threads = [volume.committer, volume.writer].map(run);
        volume.depot.write_before(Sequence::MAX);
        block_on(journal.commit(end)).unwrap();
        check_heads(&volume.disk, 2, 32);
        journal.stop();
        volume.depot.stop();
        threads.map(|thread| thread.join().unwrap());
    });
}

/// A page holds the recovery journal before the entry of its change can be committed, and the head
/// goes beyond it.
#[test]
fn a_head_leaves_what_a_page_is_about_to_hold() {
    explore(1, || {
        let mut volume = Volume::new(32);
        let (map, journal) = (volume.map.clone(), volume.journal.clone());
        let free = Free::default();
        // All pages on the way to a leaf page, which are written then; one place is left in block 1.
        let (writer, log) = (&mut volume.writer, &*journal);
        drive(map.leaf_or_allocate(0, log, &free), [&mut *writer]).unwrap();
        drive(map.write_all(log), [writer]).unwrap();
        assert_eq!(map.oldest_change(), None);
        volume.write(2);
        volume.commit();
        let writer = run(volume.writer);
        let (log, disk) = (journal.clone(), volume.disk);
        let other = thread::spawn(move || {
            for _ in 0..2 {
                let place = block_on(log.reserve(1)).unwrap();
                let end = log.fill(place, &[entry(15)]);
                block_on(log.commit(end)).unwrap();
            }
            check_pages(&disk);
        });
        block_on(map.leaf_or_allocate(1, &*journal, &free)).unwrap();
        other.join().unwrap();
        journal.stop();
        writer.join().unwrap();
    });
}
