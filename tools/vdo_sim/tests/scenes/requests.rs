// SPDX-License-Identifier: GPL-2.0

//! Requests that meet each other, and what they wait for.

use kernel::prelude::*;
use sim::fault::Fault;
use sim::fault::Kind;
use std::future::Future;
use vdo::world::Operation;
use vdo_sim::device::Kind as Region;
use vdo_sim::plan::Plan;
use vdo_sim::scene::block;
use vdo_sim::scene::plan;
use vdo_sim::scene::sectors;
use vdo_sim::scene::Scene;
use vdo_sim::space::Space;
use vdo_sim::toy::BLOCK_SECTORS;

#[test]
fn a_write_is_answered_at_once_and_read_while_it_is_on_its_way() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..8), false).await.unwrap();
        user.flush().await.unwrap();
        user.hold(Region::Data);
        user.write(sectors(2..6), false).await.unwrap();
        // Whole blocks, and sectors in the middle of one: the model says which version.
        user.read(sectors(2..6)).await.unwrap();
        user.read(27..30).await.unwrap();
        user.read(37..45).await.unwrap();
        // What is not on its way as a whole waits.
        let read = user.beside(|user| async move { user.read(sectors(5..7)).await });
        user.waits(&read).await;
        user.release(Region::Data);
        read.await.unwrap();
    });
}

#[test]
fn a_write_waits_for_the_write_before_and_a_discard_for_both() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..4), true).await.unwrap();
        user.hold(Region::Data);
        user.write(sectors(0..4), false).await.unwrap();
        let write = user.beside(|user| async move { user.write(17..21, false).await });
        let discard = user.beside(|user| async move { user.discard(19..64, true).await });
        user.waits(&write).await;
        user.waits(&discard).await;
        user.release(Region::Data);
        write.await.unwrap();
        discard.await.unwrap();
        user.read_all().await.unwrap();
    });
}

/// Each kind of request that wants to be stable waits for the journal (O1, O2: what the entry
/// promises is promised when the entry is stable).
#[test]
fn fua_waits_for_the_journal_whatever_the_request() {
    type Deed = fn(vdo_sim::user::User) -> std::pin::Pin<Box<dyn Future<Output = Result>>>;
    let deeds: [(&str, Deed); 7] = [
        ("data", |user| {
            Box::pin(async move { user.write(sectors(1..3), true).await })
        }),
        ("a part of a block", |user| {
            Box::pin(async move { user.write(9..11, true).await })
        }),
        ("zeroes", |user| {
            Box::pin(async move { user.zero(sectors(1..3), Operation::Write, true).await })
        }),
        ("write-zeroes", |user| {
            Box::pin(async move { user.zero(sectors(2..5), Operation::WriteZeroes, true).await })
        }),
        ("a discard", |user| {
            Box::pin(async move { user.discard(sectors(1..3), true).await })
        }),
        ("the head of a discard", |user| {
            Box::pin(async move { user.discard(20..24, true).await })
        }),
        ("the tail of a discard", |user| {
            Box::pin(async move { user.discard(64..73, true).await })
        }),
    ];
    for (name, deed) in deeds {
        Scene::new(&plan()).play(|user| async move {
            user.write(sectors(0..10), true).await.unwrap();
            // Of the last discard, only the tail has an entry.
            user.discard(sectors(8..9), true).await.unwrap();
            user.hold(Region::Journal);
            let deed = user.beside(deed);
            user.rest().await;
            assert!(!deed.is_done(), "{name} does not wait");
            user.release(Region::Journal);
            deed.await.unwrap();
            user.machine.remove().await;
        });
    }
}

/// Two requests of one batch, on two leaf pages of which the second is not in memory; that one finds
/// no room and has no entry. The first one is stable when the journal is, not before.
#[test]
fn fua_waits_for_the_entries_of_all_leaf_pages() {
    let mut plan = Plan {
        space: Space::new(&[0..8, 812..816, 1624..1628]),
        workers: 1,
        ..plan()
    };
    plan.toy.layout.slabs = 1;
    Scene::new(&plan).play(|user| async move {
        // Blocks 8 and 12 are the first ones of the other leaf pages; each has three pages above it.
        user.write(sectors(8..9), true).await.unwrap();
        user.write(sectors(0..5), true).await.unwrap();
        user.write(sectors(12..13), true).await.unwrap();
        user.rest().await;
        assert_eq!(user.machine.free(), 21 - 12 - 7);
        user.machine.suspend_and_resume(true).await.unwrap();
        user.read(sectors(0..1)).await.unwrap();
        user.read(sectors(12..13)).await.unwrap();
        // The only worker is busy, so that both come into one batch.
        user.hold(Region::Data);
        user.write(sectors(6..7), false).await.unwrap();
        let first = user.beside(|user| async move { user.write(sectors(0..1), true).await });
        let second = user.beside(|user| async move { user.write(sectors(9..10), true).await });
        user.rest().await;
        user.machine.disk.release_some(1);
        user.rest().await;
        assert_eq!(user.machine.disk.held(), 1, "the data of the first one");
        user.hold(Region::Journal);
        user.release(Region::Data);
        user.waits(&first).await;
        user.release(Region::Journal);
        first.await.unwrap();
        assert_eq!(second.await, Err(ENOSPC));
        user.machine.remove().await;
    });
}

/// A block of a request is in our buffer, and the next cannot be read to be written in part. Both
/// keep what they had, and nothing is taken for either.
#[test]
fn a_write_in_part_that_fails_takes_no_room() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..4), true).await.unwrap();
        user.rest().await;
        let free = user.machine.free();
        let bad = block(user.pbn(3));
        let fault = Fault::new(0, &[Kind::Read]).sectors(bad);
        user.machine.world.add_fault(fault);
        for fua in [false, true] {
            let answer = user.write(0..3 * BLOCK_SECTORS + 1, fua).await;
            assert_eq!(answer, Err(EIO));
        }
        user.machine.world.clear_faults();
        user.rest().await;
        assert_eq!(user.machine.free(), free);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_flush_waits_for_data_and_entries_of_what_was_acknowledged_before() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..2), true).await.unwrap();
        user.hold(Region::Data);
        user.write(sectors(0..2), false).await.unwrap();
        let flush = user.beside(|user| async move { user.flush().await });
        user.waits(&flush).await;
        // Another write does not let it go, nor does it wait for that one.
        user.write(sectors(5..6), false).await.unwrap();
        user.hold(Region::Journal);
        user.release(Region::Data);
        user.waits(&flush).await;
        user.release(Region::Journal);
        flush.await.unwrap();
        // Acknowledged and in the journal's memory only.
        user.hold(Region::Journal);
        user.discard(sectors(0..1), false).await.unwrap();
        let flush = user.beside(|user| async move { user.flush().await });
        user.waits(&flush).await;
        user.release(Region::Journal);
        flush.await.unwrap();
    });
}

#[test]
fn flushes_without_anything_to_commit_flush_the_storage_and_share_it() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..2), true).await.unwrap();
        user.rest().await;
        user.machine.disk.hold(&[Kind::Flush]);
        let since = user.log_len();
        let flushes: Vec<_> = (0..5)
            .map(|_| user.beside(|user| async move { user.flush().await }))
            .collect();
        user.rest().await;
        assert!(flushes.iter().all(|flush| !flush.is_done()));
        assert_eq!(user.machine.disk.held(), 1);
        user.machine.disk.release();
        for flush in flushes {
            flush.await.unwrap();
        }
        assert_eq!(
            user.log_len() - since,
            2,
            "one, and one for those who came late"
        );
    });
}

/// A flush that comes while the journal is written has its entries in that write, and does not
/// wait for those that come behind.
#[test]
fn a_flush_waits_for_the_entries_before_it_and_for_no_others() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..3), true).await.unwrap();
        user.rest().await;
        let flush = || user.beside(|user| async move { user.flush().await });
        user.hold(Region::Journal);
        user.write(sectors(0..1), false).await.unwrap();
        let first = flush();
        user.rest().await;
        assert_eq!(user.machine.disk.held(), 1);
        let second = flush();
        user.rest().await;
        user.write(sectors(1..2), false).await.unwrap();
        let third = flush();
        user.waits(&second).await;
        user.machine.disk.release_some(1);
        first.await.unwrap();
        second.await.unwrap();
        user.waits(&third).await;
        user.release(Region::Journal);
        third.await.unwrap();
    });
}

/// O2: what an entry frees is taken again only when the entry is stable. A volume that is full
/// but for that waits, and does not say that it is full.
#[test]
fn a_freed_block_waits_for_its_entry_and_who_needs_it_waits_for_that() {
    let mut plan = plan();
    plan.toy.layout.slabs = 1;
    Scene::new(&plan).play(|user| async move {
        // All on the first leaf page.
        user.write(sectors(0..12), true).await.unwrap();
        user.rest().await;
        let free = user.machine.free();
        assert_eq!(free, 21 - 4 - 12);
        let taken: Vec<_> = (0..8).map(|lbn| block(user.pbn(lbn))).collect();
        user.hold(Region::Journal);
        let since = user.log_len();
        user.write(sectors(0..free), false).await.unwrap();
        let write = user.beside(|user| async move { user.write(sectors(7..8), false).await });
        user.waits(&write).await;
        let log = user.machine.world.log();
        let reused = log[since..].iter().find(|record| {
            record.kind == Kind::Write && taken.iter().any(|block| block.contains(&record.sector))
        });
        assert!(reused.is_none(), "{reused:?}");
        user.release(Region::Journal);
        write.await.unwrap();
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

/// A volume that has just crashed, and has room in a slab only that is still being scrubbed: who
/// needs it waits.
#[test]
fn who_needs_room_waits_for_a_slab_that_is_being_scrubbed() {
    let mut plan = Plan {
        space: Space::new(&[0..16, 812..828]),
        batch_blocks: 24,
        ..plan()
    };
    plan.toy.layout.slabs = 2;
    let (image, model) = Scene::new(&plan).play(|user| async move {
        // Two blocks are free in the first slab then, and four in the other one.
        user.write(sectors(0..16), true).await.unwrap();
        user.write(sectors(16..30), true).await.unwrap();
        // From here on the counts on disk mean something, and have to be read.
        user.machine.suspend_and_resume(true).await.unwrap();
        user.discard(sectors(0..2), true).await.unwrap();
        user.rest().await;
        assert_eq!(user.machine.free(), 2 * 21 - 8 - 28);
        let mut model = user.model.borrow().clone();
        model.crash();
        (user.machine.world.images().swap_remove(0), model)
    });
    let mut waited = 0;
    for slab in 0..2 {
        let mut scene = Scene::off(&plan, image.clone());
        *scene.user.model.borrow_mut() = model.clone();
        waited += scene.play(move |user| async move {
            let depot = user.machine.toy().layout.depot();
            let own = block(depot.reference_block(slab, 0));
            user.machine.disk.hold_at(Kind::Read, own.clone());
            let start = user.beside(|user| async move { user.machine.start().await });
            user.rest().await;
            let is_started = start.is_done();
            let write = user.beside(|user| async move { user.write(sectors(2..7), false).await });
            user.waits(&write).await;
            user.machine.disk.release_at(Kind::Read, &own);
            start.await.unwrap();
            write.await.unwrap();
            user.machine.recovered().await;
            user.read_all().await.unwrap();
            user.machine.remove().await;
            u32::from(is_started)
        });
    }
    assert!(waited > 0, "a start waits for all slabs");
}

#[test]
fn a_sector_border_is_no_block_border() {
    Scene::new(&Plan {
        workers: 1,
        ..plan()
    })
    .play(|user| async move {
        user.write(0..16 * BLOCK_SECTORS, false).await.unwrap();
        for range in [3..5, 7..9, 62..67, 94..98, 1..127, 8..9, 15..16] {
            user.discard(range.clone(), true).await.unwrap_or_default();
            user.read_all().await.unwrap();
            user.write(range.clone(), false).await.unwrap();
            let operation = Operation::WriteZeroes;
            user.zero(range.start..range.end - 1, operation, true)
                .await
                .unwrap();
            user.read_all().await.unwrap();
        }
        user.machine.remove().await;
        user.machine.start().await.unwrap();
        user.read_all().await.unwrap();
    });
}
