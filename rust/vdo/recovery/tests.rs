// SPDX-License-Identifier: GPL-2.0

//! A real crash: what mainline left, and what it made of that.

use super::*;
use crate::error::Error;
use crate::error::Status;
use crate::fixture::sparse::SparseDisk;
use crate::fixture::world::arc;
use crate::fixture::world::TestWorld;
use crate::format::block_map;
use crate::format::geometry::Geometry;
use crate::format::recovery_journal;
use crate::format::slab_journal;
use crate::format::summary;
use crate::format::super_block::State;
use crate::format::super_block::SuperBlock;
use crate::format::Page;
use crate::tuning::Tuning;
use crate::volume::engine::Engine;
use kernel::prelude::EIO;
use kernel::prelude::ENOMEM;
use runtime::sync::Arc;
use sim::executor::Executor;
use sim::executor::Outcome;

const BLOCKS: u64 = 720_313;
const SUPER_BLOCK: Pbn = 679_128;

macro_rules! block {
    ($name:literal) => {
        include_bytes!(concat!(
            "../../../tools/testing/vectors/vdo/recovery-case/",
            $name,
            ".bin"
        ))
    };
}

const JOURNAL: [(Sequence, &Page); 13] = [
    (2110, block!("before/rj-seq2110")),
    (2111, block!("before/rj-seq2111")),
    (2112, block!("before/rj-seq2112")),
    (2113, block!("before/rj-seq2113")),
    (2114, block!("before/rj-seq2114")),
    (2115, block!("before/rj-seq2115")),
    (2116, block!("before/rj-seq2116")),
    (2117, block!("before/rj-seq2117")),
    (2119, block!("before/rj-seq2119")),
    (2120, block!("before/rj-seq2120")),
    (2121, block!("before/rj-seq2121")),
    (2122, block!("before/rj-seq2122")),
    (2123, block!("before/rj-seq2123")),
];

const SLAB_JOURNAL: [(Sequence, &Page); 4] = [
    (673, block!("before/sj-seq673")),
    (674, block!("before/sj-seq674")),
    (675, block!("before/sj-seq675")),
    (676, block!("before/sj-seq676")),
];

/// Pages of the block map, before and after.
const PAGES: [(Pbn, &Page, &Page); 5] = [
    (
        679_204,
        block!("before/bm-679204"),
        block!("after/bm-679204"),
    ),
    (
        679_205,
        block!("before/bm-679205"),
        block!("after/bm-679205"),
    ),
    (
        679_206,
        block!("before/bm-679206"),
        block!("after/bm-679206"),
    ),
    (
        679_207,
        block!("before/bm-679207"),
        block!("after/bm-679207"),
    ),
    (
        679_208,
        block!("before/bm-679208"),
        block!("after/bm-679208"),
    ),
];

fn tuning() -> Tuning {
    Tuning {
        workers: 0,
        small_workers: 0,
        claimers: 0,
        packers: 0,
        small_blocks: 0,
        batch_blocks: 8,
        fragment_reads: 1,
        journal_memory_blocks: 32,
        journal_io_blocks: 8,
        journal_grant: usize::MAX,
        commit_delay_ms: 5,
        cache_pages: 4,
        maximum_age: 1000,
        slab_journal_pages: 8,
        io_pages: 8,
        journal_shape: recovery_journal::Shape::STANDARD,
        slab_journal_shape: slab_journal::Shape::STANDARD,
        index_shape: None,
    }
}

fn crashed() -> (Arc<SparseDisk>, SuperBlock) {
    let disk = SparseDisk::new(BLOCKS);
    let found = SuperBlock::decode(block!("before/super")).unwrap();
    disk.put(0, block!("before/geometry"));
    disk.put(SUPER_BLOCK, block!("before/super"));
    let partitions = &found.partitions;
    for (sequence, page) in JOURNAL {
        disk.put(
            partitions.journal.start + sequence % found.recovery_journal_size,
            page,
        );
    }
    let layout = found.depot;
    for (sequence, page) in SLAB_JOURNAL {
        let size = u64::from(layout.slab.journal_blocks);
        disk.put(layout.journal_block(0, (sequence % size) as u32), page);
    }
    disk.put(layout.reference_block(0, 0), block!("before/ref-blk0"));
    disk.put(layout.reference_block(0, 1), block!("before/ref-blk1"));
    disk.put(
        partitions.summary.start,
        block!("before/summary-zone0-blk0"),
    );
    for (pbn, before, _) in PAGES {
        disk.put(pbn, before);
    }
    (arc(disk), found)
}

fn engine(
    world: &sim::world::World,
    disk: &Arc<SparseDisk>,
    found: SuperBlock,
) -> Arc<Engine<TestWorld<SparseDisk>>> {
    let geometry = Geometry::decode(block!("before/geometry")).unwrap();
    let log = TestWorld::of(world);
    arc(Engine::new(log, disk.clone(), &geometry, found, tuning()).unwrap())
}

/// Runs all tasks of an engine but those that serve bios.
fn run(
    world: &sim::world::World,
    engine: &Arc<Engine<TestWorld<SparseDisk>>>,
) -> Executor<'static> {
    let executor = Executor::new(world);
    let spawner = executor.spawner();
    let own = || engine.clone();
    spawner.spawn_daemon("journal", Engine::run_journal_writer(own()));
    spawner.spawn_daemon("timer", Engine::run_journal_timer(own()));
    spawner.spawn_daemon("applier", Engine::run_applier(own()));
    spawner.spawn_daemon("committer", Engine::run_slab_committer(own()));
    spawner.spawn_daemon("references", Engine::run_reference_writer(own()));
    spawner.spawn_daemon("scrubber", Engine::run_scrubber(own()));
    spawner.spawn_daemon("guard", Engine::run_guard(own()));
    let writer = engine.page_writer().unwrap();
    spawner.spawn_daemon("pages", Engine::run_page_writer(own(), writer));
    executor
}

#[test]
fn what_mainline_made_of_a_crash() {
    recover_from(State::Dirty, &[]);
}

/// Mainline leaves the state as it is when it resumes a volume that recovers; when that crashes
/// then, it knows of no journal, and what was flushed is lost.
#[test]
fn what_mainline_would_have_missed() {
    recover_from(
        State::Recovering,
        &[
            "Finished reading recovery journal",
            "Highest-numbered recovery journal block has sequence number 2123, and the \
             highest-numbered usable block is 2117",
        ],
    );
}

/// A counter from the disk may be as large as it likes. What the journal blocks are stamped with
/// changes all the same.
#[test]
fn counters_of_recoveries_turn_over() {
    for (state, read_only) in [(State::Dirty, u64::MAX), (State::ForceRebuild, 0)] {
        let world = sim::world::World::new(1);
        let (disk, mut found) = crashed();
        found.state = state;
        found.complete_recoveries = u64::MAX;
        found.read_only_recoveries = u64::MAX;
        let ring = found.partitions.journal.start;
        for (sequence, _) in JOURNAL {
            let pbn = ring + sequence % found.recovery_journal_size;
            let mut page = disk.get(pbn);
            page[52] = found.recovery_count();
            for sector in page.chunks_mut(512).skip(1) {
                sector[1] = found.recovery_count();
            }
            disk.put(pbn, &page);
        }
        let engine = engine(&world, &disk, found);
        let mut executor = run(&world, &engine);
        let (own, logical_blocks) = (engine.clone(), found.logical_blocks);
        executor.spawn(
            "life",
            async move { own.start(logical_blocks).await.unwrap() },
        );
        assert_eq!(executor.run(), Outcome::Done);
        assert!(!engine.is_read_only());
        let after = SuperBlock::decode(&disk.get(SUPER_BLOCK)).unwrap();
        assert_eq!((after.complete_recoveries, after.recovery_count()), (0, 0));
        assert_eq!(after.read_only_recoveries, read_only);
    }
}

fn recover_from(state: State, first_lines: &[&str]) {
    let world = sim::world::World::new(1);
    let (disk, mut found) = crashed();
    found.state = state;
    let engine = engine(&world, &disk, found);
    let mut executor = run(&world, &engine);
    let (own, logical_blocks) = (engine.clone(), found.logical_blocks);
    executor.spawn("life", async move {
        own.start(logical_blocks).await.unwrap();
        own.depot.scrubbed().await.unwrap();
        own.suspend(true).await;
    });
    assert_eq!(executor.run(), Outcome::Done);

    let after = SuperBlock::decode(&disk.get(SUPER_BLOCK)).unwrap();
    let expected = SuperBlock::decode(block!("after/super")).unwrap();
    assert_eq!(after.state, State::Clean);
    assert_eq!(after.journal_start, 2124);
    assert_eq!(after.logical_blocks_used, 3584);
    assert_eq!(after.block_map_data_blocks, 20);
    assert_eq!(after, expected);

    for (pbn, _, expected) in PAGES {
        let page = disk.get(pbn);
        assert!(
            block_map::entries(&page).eq(block_map::entries(expected)),
            "page {pbn}"
        );
    }
    let layout = found.depot;
    let size = u64::from(layout.slab.journal_blocks);
    let page = disk.get(layout.journal_block(0, (677 % size) as u32));
    let header = slab_journal::Header::decode(&page);
    let expected = slab_journal::Header::decode(block!("after/sj-seq677"));
    assert_eq!((header.sequence, header.entry_count), (677, 600));
    assert_eq!(header.recovery_point, expected.recovery_point);
    assert_eq!(
        page[36..36 + 3 * 600],
        block!("after/sj-seq677")[36..36 + 3 * 600]
    );
    assert_eq!(
        disk.get(layout.reference_block(0, 0)),
        *block!("after/ref-blk0")
    );
    assert_eq!(
        disk.get(layout.reference_block(0, 1)),
        *block!("after/ref-blk1")
    );
    let page = disk.get(found.partitions.summary.start);
    assert_eq!(
        summary::entry(&page, 0),
        summary::entry(block!("after/summary-zone0-blk0"), 0)
    );
    let lines = engine.world().lines();
    let lines: std::vec::Vec<_> = lines.iter().map(std::string::String::as_str).collect();
    assert_eq!(lines[..first_lines.len()], *first_lines);
    assert_eq!(
        lines[first_lines.len()..][..8],
        [
            "Device was dirty, rebuilding reference counts",
            "Finished reading recovery journal",
            "Highest-numbered recovery journal block has sequence number 2123, and the \
             highest-numbered usable block is 2117",
            "Replaying 1736 recovery entries into block map",
            "Flushing block map changes",
            "Replaying entries into slab journals for zone 0",
            "Replayed 600 journal entries into slab journals",
            "Rebuild complete",
        ]
    );
}

#[test]
fn a_read_only_volume_shows_what_its_journal_has() {
    let world = sim::world::World::new(2);
    let (disk, mut found) = crashed();
    found.state = State::ReadOnly;
    let engine = engine(&world, &disk, found);
    let mut executor = run(&world, &engine);
    let (own, logical_blocks) = (engine.clone(), found.logical_blocks);
    executor.spawn("life", async move {
        own.start(logical_blocks).await.unwrap();
        for (pbn, before, after) in PAGES {
            let page = own
                .map
                .pin(pbn, crate::block_map::Kind::Leaf)
                .await
                .unwrap();
            assert_ne!(before[..], after[..]);
            page.read(|page| {
                assert!(
                    block_map::entries(page).eq(block_map::entries(after)),
                    "page {pbn}"
                );
            });
        }
        own.suspend(true).await;
    });
    assert_eq!(executor.run(), Outcome::Done);
    // Nothing was written.
    for (pbn, before, _) in PAGES {
        assert_eq!(disk.get(pbn), *before);
    }
    assert_eq!(disk.get(SUPER_BLOCK), *block!("before/super"));
}

/// Starts the volume as one that is read-only, and returns what a look-up says then.
fn looked_up(
    world: &sim::world::World,
    disk: &Arc<SparseDisk>,
    found: SuperBlock,
    pbn: Pbn,
) -> [crate::error::Result; 2] {
    let engine = engine(world, disk, found);
    let mut executor = run(world, &engine);
    let (own, logical_blocks) = (engine.clone(), found.logical_blocks);
    let task = executor.spawn("life", async move {
        own.start(logical_blocks).await.unwrap();
        let page = own.map.pin(pbn, crate::block_map::Kind::Leaf).await;
        let results = [own.map.leaf(0).await.map(drop), page.map(drop)];
        own.suspend(true).await;
        results
    });
    let results = executor.run_task(&task).unwrap();
    assert!(engine.is_read_only());
    results
}

const UNKNOWN: crate::error::Error = crate::error::Error::Status(Status::CorruptJournal);

/// Flushed data must not read back as older than it is.
#[test]
fn what_a_journal_that_cannot_be_read_may_change_is_not_shown() {
    let world = sim::world::World::new(3);
    let (disk, mut found) = crashed();
    let block = found.partitions.journal.start + 2113 % found.recovery_journal_size;
    found.state = State::ReadOnly;
    disk.set_bad(block, true);
    let [leaf, _] = looked_up(&world, &disk, found, PAGES[0].0);
    assert_eq!(leaf, Err(UNKNOWN));
    disk.set_bad(block, false);
    // What it says is known again.
    let [leaf, page] = looked_up(&world, &disk, found, PAGES[0].0);
    assert_eq!((leaf, page), (Ok(()), Ok(())));
}

/// The slab journals know of entries that the journal has no more.
#[test]
fn a_journal_that_has_lost_its_end_is_not_believed() {
    let world = sim::world::World::new(4);
    let (disk, mut found) = crashed();
    let start = found.partitions.journal.start;
    for (sequence, _) in JOURNAL.iter().skip(1) {
        disk.put(start + sequence % found.recovery_journal_size, &[0; 4096]);
    }
    for state in [State::Dirty, State::ReadOnly] {
        found.state = state;
        let [leaf, _] = looked_up(&world, &disk, found, PAGES[0].0);
        assert_eq!(leaf, Err(UNKNOWN), "{state:?}");
    }
}

/// What the journal has of a page is shown whenever the page can be read, and however often.
#[test]
fn a_page_that_cannot_be_read_for_a_while_is_brought_up_to_date_then() {
    let world = sim::world::World::new(5);
    let (disk, mut found) = crashed();
    found.state = State::ReadOnly;
    let pbn = PAGES[2].0;
    disk.set_bad(pbn, true);
    let engine = engine(&world, &disk, found);
    let mut executor = run(&world, &engine);
    let (own, logical_blocks) = (engine.clone(), found.logical_blocks);
    let task = executor.spawn("life", async move {
        own.start(logical_blocks).await.unwrap();
        let leaf = crate::block_map::Kind::Leaf;
        let page = own.map.pin(pbn, leaf).await;
        assert_eq!(page.map(drop), Err(Error::Errno(EIO)));
        disk.set_bad(pbn, false);
        for (number, _, after) in [PAGES, PAGES, PAGES].into_iter().flatten() {
            let page = own.map.pin(number, leaf).await.unwrap();
            page.read(|page| {
                assert!(block_map::entries(page).eq(block_map::entries(after)));
            });
        }
        assert_eq!(own.map.oldest_change(), None);
        own.suspend(true).await;
    });
    executor.run_task(&task).unwrap();
}

/// What it has counted so far must not be counted twice.
#[test]
fn a_rebuild_that_was_given_up_is_tried_again_from_the_beginning_only() {
    let world = sim::world::World::new(6);
    let (disk, mut found) = crashed();
    found.state = State::ForceRebuild;
    disk.set_bad(PAGES[3].0, true);
    let own = engine(&world, &disk, found);
    let mut executor = run(&world, &own);
    let (disk_then, engine_then) = (disk.clone(), own.clone());
    let task = executor.spawn("life", async move {
        let first = engine_then.start(found.logical_blocks).await;
        disk_then.set_bad(PAGES[3].0, false);
        (first, engine_then.start(found.logical_blocks).await)
    });
    let (first, second) = executor.run_task(&task).unwrap();
    assert_eq!(first, Err(crate::error::Error::Errno(kernel::prelude::EIO)));
    assert_eq!(second, Err(Status::InvalidAdminState.into()));
    assert!(own
        .world()
        .lines()
        .iter()
        .any(|line| line.starts_with("Rebuild aborted, the next start tries it again")));
    assert_eq!(disk.get(SUPER_BLOCK), *block!("before/super"));
    let own = engine(&world, &disk, found);
    let mut executor = run(&world, &own);
    let task = executor.spawn("life", async move {
        own.start(found.logical_blocks).await.unwrap();
        own.suspend(true).await;
    });
    executor.run_task(&task).unwrap();
    let after = SuperBlock::decode(&disk.get(SUPER_BLOCK)).unwrap();
    assert_eq!(after.state, State::Clean);
}

/// What a start finds is damage, or it is not: a path that fails for a while, or a lack of memory,
/// must not cost a volume anything but this start.
#[test]
fn a_start_that_fails_for_want_of_a_block_can_be_repeated() {
    for state in [State::Dirty, State::Recovering] {
        let (_, found) = crashed();
        let layout = found.depot;
        let summary = found.partitions.summary.start;
        let journal = found.partitions.journal.start;
        let blocks = [
            journal + JOURNAL[0].0 % found.recovery_journal_size,
            summary,
            layout.journal_block(0, 676 % layout.slab.journal_blocks),
            layout.reference_block(0, 0),
            PAGES[0].0,
        ];
        for block in blocks {
            let world = sim::world::World::new(1);
            let (disk, mut found) = crashed();
            found.state = state;
            let mut page = [0; 4096];
            found.encode(&mut page);
            disk.put(SUPER_BLOCK, &page);
            disk.set_bad(block, true);
            let engine = engine(&world, &disk, found);
            let mut executor = run(&world, &engine);
            let result = started(&mut executor, &engine, &found);
            executor.run_for(1_000_000);
            assert_eq!(result, Err(Error::Errno(EIO)), "{state:?}: block {block}");
            let again = started(&mut executor, &engine, &found);
            assert_eq!(again, Err(Status::InvalidAdminState.into()));
            let said = SuperBlock::decode(&disk.get(SUPER_BLOCK)).unwrap();
            assert!(matches!(said.state, State::Dirty | State::Recovering));

            disk.set_bad(block, false);
            recovers_on(&disk);
        }
    }
}

/// As if every allocation failed from some moment on, of all moments that there are.
#[test]
fn a_start_without_memory_can_be_repeated() {
    let mut failures = 0;
    // Most of them are pages to read the journal into, one like the other.
    let all = (0..200).chain((200..).step_by(101));
    for allocations in all {
        let world = sim::world::World::new(1);
        let (disk, found) = crashed();
        let engine = engine(&world, &disk, found);
        let mut executor = run(&world, &engine);
        kernel::alloc::fail_after(Some(allocations));
        let (own, logical_blocks) = (engine.clone(), found.logical_blocks);
        let start = executor.spawn("start", async move { own.start(logical_blocks).await });
        executor.run_for(1_000_000);
        let is_over = kernel::alloc::allocations_left() != Some(0);
        kernel::alloc::fail_after(None);
        let result = executor.run_task(&start).unwrap();
        if is_over {
            assert_eq!(result, Ok(()));
            break;
        }
        failures += 1;
        if result.is_ok() {
            // It waited for memory.
            assert!(!engine.is_read_only());
            continue;
        }
        assert_eq!(result, Err(Error::Errno(ENOMEM)), "after {allocations}");
        let said = SuperBlock::decode(&disk.get(SUPER_BLOCK)).unwrap();
        assert_eq!(said.state, State::Dirty);
        if allocations % 7 == 0 {
            recovers_on(&disk);
        }
    }
    assert!(failures > 20, "{failures}");
}

fn started(
    executor: &mut Executor<'static>,
    engine: &Arc<Engine<TestWorld<SparseDisk>>>,
    found: &SuperBlock,
) -> crate::error::Result {
    let (own, logical_blocks) = (engine.clone(), found.logical_blocks);
    let start = executor.spawn("start", async move { own.start(logical_blocks).await });
    executor.run_task(&start).unwrap()
}

/// Starts a volume once more, which recovers, and stops it.
fn recovers_on(disk: &Arc<SparseDisk>) {
    let world = sim::world::World::new(1);
    let found = SuperBlock::decode(&disk.get(SUPER_BLOCK)).unwrap();
    let engine = engine(&world, disk, found);
    let mut executor = run(&world, &engine);
    started(&mut executor, &engine, &found).unwrap();
    let own = engine.clone();
    executor.spawn("life", async move {
        own.depot.scrubbed().await.unwrap();
        own.suspend(true).await;
    });
    assert_eq!(executor.run(), Outcome::Done);
    assert!(!engine.is_read_only());
    for (pbn, _, expected) in PAGES {
        let page = disk.get(pbn);
        let is_same = block_map::entries(&page).eq(block_map::entries(expected));
        assert!(is_same, "page {pbn}");
    }
    let after = SuperBlock::decode(&disk.get(SUPER_BLOCK)).unwrap();
    assert_eq!(after.state, State::Clean);
}
