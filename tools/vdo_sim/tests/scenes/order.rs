// SPDX-License-Identifier: GPL-2.0

//! The rules of order: what is on the disk before what. A part of the disk is held, and nothing
//! behind it in the order may be written meanwhile.

use sim::fault::Kind;
use sim::world::Record;
use vdo_sim::device::Kind as Region;
use vdo_sim::plan::Plan;
use vdo_sim::scene::block;
use vdo_sim::scene::plan;
use vdo_sim::scene::sectors;
use vdo_sim::scene::Scene;
use vdo_sim::user::User;

/// Returns when an operation completed.
fn end(record: &Record) -> u64 {
    let (at, result) = record.completed.expect("completed");
    result.expect("no error");
    at
}

fn last_end(records: &[Record]) -> u64 {
    records.iter().map(end).max().expect("some were written")
}

/// O1: no entry before the data that it names, with a flush between.
#[test]
fn o1_data_before_its_entry() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..4), true).await.unwrap();
        user.rest().await;
        user.hold(Region::Data);
        let since = user.log_len();
        let write = user.beside(|user| async move { user.write(sectors(1..3), true).await });
        user.waits(&write).await;
        assert!(user.writes(since, Region::Journal).is_empty());
        user.release(Region::Data);
        write.await.unwrap();
        let data = last_end(&user.writes(since, Region::Data));
        let journal = user.writes(since, Region::Journal)[0].issued;
        assert!(user.flushed_between(data, journal));
    });
}

/// O2, O7: no count and no slab journal block before the entry. (That a freed block is not reused
/// is among the requests.)
#[test]
fn o2_o7_entry_before_counts_change() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..8), true).await.unwrap();
        user.rest().await;
        user.hold(Region::Journal);
        let since = user.log_len();
        user.write(sectors(0..8), false).await.unwrap();
        user.discard(sectors(8..12), false).await.unwrap();
        user.rest().await;
        let free = user.machine.free();
        assert!(user.writes(since, Region::SlabJournal).is_empty());
        assert!(user.writes(since, Region::Counts).is_empty());
        user.release(Region::Journal);
        user.flush().await.unwrap();
        user.rest().await;
        assert_eq!(user.machine.free(), free + 8, "what was replaced is free");
    });
}

/// O3: a page with a change that the journal does not have yet stays in memory, whoever needs its
/// frame.
#[test]
fn o3_entry_before_its_page() {
    let mut plan = plan();
    plan.toy.cache_pages = 1;
    Scene::new(&plan).play(|user| async move {
        user.write(sectors(0..1), true).await.unwrap();
        user.write(sectors(12..13), true).await.unwrap();
        user.machine.suspend_and_resume(true).await.unwrap();
        user.write(sectors(1..2), true).await.unwrap();
        user.hold(Region::Journal);
        user.write(sectors(0..1), false).await.unwrap();
        user.rest().await;
        let since = user.log_len();
        // Takes the only frame.
        let read = user.beside(|user| async move { user.read(sectors(12..13)).await });
        user.waits(&read).await;
        assert!(user.writes(since, Region::Data).is_empty());
        user.release(Region::Journal);
        read.await.unwrap();
        assert_eq!(user.writes(since, Region::Data).len(), 1);
    });
}

/// Writes the same blocks again and again until that does not go on, and says that it did so.
async fn write_until_stuck(user: &User) -> usize {
    let writes: Vec<_> = (0..60)
        .map(|_| user.beside(|user| async move { user.write(sectors(0..3), true).await }))
        .collect();
    user.rest().await;
    let done = writes.iter().filter(|write| write.is_done()).count();
    assert!(done < writes.len(), "the journal is not full");
    done
}

/// O4: the journal is not overwritten before the pages that it has changes of are written.
#[test]
fn o4_page_before_its_entries_are_overwritten() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..8), true).await.unwrap();
        user.machine.suspend_and_resume(true).await.unwrap();
        let pages: Vec<_> = user.found().tree_pages.into_iter().collect();
        for page in &pages {
            user.machine.disk.hold_at(Kind::Write, block(*page));
        }
        let since = user.log_len();
        write_until_stuck(&user).await;
        let ring = user.machine.toy().layout.journal_blocks;
        let mut places: Vec<u64> = user
            .writes(since, Region::Journal)
            .iter()
            .flat_map(|write| (write.sector..write.sector + write.sectors).step_by(8))
            .collect();
        places.dedup();
        assert!(places.len() as u64 <= ring, "{places:?}");
        for page in &pages {
            user.machine.disk.release_at(Kind::Write, &block(*page));
        }
        user.flush().await.unwrap();
        user.machine.remove().await;
    });
}

/// O6: nor before the summary counts the slab journal blocks that it went into.
#[test]
fn o6_summary_before_entries_are_overwritten() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..8), true).await.unwrap();
        user.machine.suspend_and_resume(true).await.unwrap();
        user.hold(Region::Summary);
        write_until_stuck(&user).await;
        user.release(Region::Summary);
        user.flush().await.unwrap();
        user.machine.remove().await;
    });
}

/// O5: the summary counts a slab journal block only when it is there, with a flush between.
#[test]
fn o5_slab_journal_before_summary() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..8), true).await.unwrap();
        user.rest().await;
        let since = user.log_len();
        user.hold(Region::SlabJournal);
        user.write(sectors(0..8), true).await.unwrap();
        let suspend =
            user.beside(|user| async move { user.machine.suspend_and_resume(true).await });
        user.waits(&suspend).await;
        assert!(user.writes(since, Region::Summary).is_empty());
        user.release(Region::SlabJournal);
        suspend.await.unwrap();
        let journal = user.writes(since, Region::SlabJournal);
        for summary in user.writes(since, Region::Summary) {
            let before = journal.iter().filter(|it| it.issued < summary.issued);
            let before: Vec<Record> = before.cloned().collect();
            assert!(user.flushed_between(last_end(&before), summary.issued));
        }
    });
}

/// O8: a slab journal is not overwritten before the counts with its entries are written: it gets
/// full, and so does the recovery journal.
#[test]
fn o8_counts_before_slab_journal_is_overwritten() {
    Scene::new(&Plan::default()).play(|user| async move {
        user.write(sectors(0..8), true).await.unwrap();
        user.machine.suspend_and_resume(true).await.unwrap();
        user.hold(Region::Counts);
        let writes: Vec<_> = (0..120)
            .map(|_| user.beside(|user| async move { user.write(sectors(0..4), true).await }))
            .collect();
        user.rest().await;
        assert!(writes.iter().any(|write| !write.is_done()));
        user.release(Region::Counts);
        for write in writes {
            write.await.unwrap();
        }
        user.machine.remove().await;
    });
}

/// O9: a page that was never written is written twice, first as one that is not valid, with a
/// flush between; and its parent only when the journal has it.
#[test]
fn o9_a_new_page_is_written_twice() {
    Scene::new(&plan()).play(|user| async move {
        user.hold(Region::Journal);
        let since = user.log_len();
        let write = user.beside(|user| async move { user.write(sectors(0..1), true).await });
        user.waits(&write).await;
        assert!(user.writes(since, Region::Interior).is_empty());
        user.release(Region::Journal);
        write.await.unwrap();
        user.machine.suspend_and_resume(true).await.unwrap();
        let found = user.found();
        assert_eq!(found.tree_pages.len(), 4);
        for page in found.tree_pages {
            let log = user.machine.world.log().into_iter();
            let own: Vec<Record> = log
                .filter(|record| {
                    record.kind == Kind::Write
                        && (record.sector..record.sector + record.sectors)
                            .contains(&block(page).start)
                })
                .collect();
            assert!(own.len() >= 2, "page {page} is written {} times", own.len());
            let last = own.last().expect("a write");
            assert!(user.flushed_between(end(&own[0]), last.issued));
        }
    });
}

/// O10: a volume that is not in use says that it is before anything else changes, and that it is
/// clean after everything else, with a flush between.
#[test]
fn o10_dirty_first_and_clean_last() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..8), true).await.unwrap();
        user.machine.remove().await;
        user.hold(Region::SuperBlock);
        let since = user.log_len();
        let start = user.beside(|user| async move { user.machine.start().await });
        user.waits(&start).await;
        let only_super_block = |user: &User| {
            let log = user.machine.world.log();
            let layout = user.machine.toy().layout;
            log[since..]
                .iter()
                .filter(|record| record.kind == Kind::Write)
                .all(|record| {
                    matches!(
                        layout.kind(record.sector / 8),
                        Region::SuperBlock | Region::Summary
                    )
                })
        };
        assert!(only_super_block(&user));
        user.release(Region::SuperBlock);
        start.await.unwrap();
        user.write(sectors(2..4), true).await.unwrap();
        for held in [
            Region::Data,
            Region::SlabJournal,
            Region::Counts,
            Region::Summary,
        ] {
            user.write(sectors(3..6), true).await.unwrap();
            user.rest().await;
            user.hold(held);
            let since = user.log_len();
            let suspend =
                user.beside(|user| async move { user.machine.suspend_and_resume(true).await });
            user.waits(&suspend).await;
            assert!(
                user.writes(since, Region::SuperBlock).is_empty(),
                "{held:?}"
            );
            user.release(held);
            suspend.await.unwrap();
            let writes = user.writes(since, Region::SuperBlock);
            let log = user.machine.world.log();
            let before = log[since..]
                .iter()
                .filter(|record| record.kind == Kind::Write && record.issued < writes[0].issued);
            let before: Vec<Record> = before.cloned().collect();
            assert!(user.flushed_between(last_end(&before), writes[0].issued));
        }
    });
}
