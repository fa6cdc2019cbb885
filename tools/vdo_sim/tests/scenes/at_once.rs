// SPDX-License-Identifier: GPL-2.0

//! What a batch asks of the storage, it asks at once: none of its I/Os waits for another that it
//! does not need.

use sim::fault::Fault;
use sim::fault::Kind;
use sim::world::Record;
use std::collections::BTreeSet;
use vdo_sim::device::Kind as Region;
use vdo_sim::plan::Plan;
use vdo_sim::scene::block;
use vdo_sim::scene::sectors;
use vdo_sim::scene::Scene;
use vdo_sim::space::Space;
use vdo_sim::toy::Toy;
use vdo_sim::user::User;

/// Two slabs of 21 blocks, and a cache and a journal of which nothing has to be written soon.
fn plan() -> Plan {
    let mut plan = Plan {
        space: Space::new(&[0..20, 20..40]),
        workers: 1,
        journal_memory_blocks: 4,
        ..Plan::default()
    };
    plan.toy.layout.slabs = 2;
    plan.toy.layout.journal_blocks = 64;
    plan.toy.max_age = 60;
    plan
}

/// Fills the volume, then frees some blocks of each slab, none beside another. Returns how many of
/// the first blocks of the model are mapped still: every second.
async fn age(user: &User) -> u64 {
    let free = user.machine.free();
    // The first write allocates pages of the block map, too.
    user.write(sectors(0..1), true).await.unwrap();
    let room = user.machine.free();
    assert!(room < free);
    for lbn in 1..=room {
        user.write(sectors(lbn..lbn + 1), true).await.unwrap();
    }
    assert_eq!(user.machine.free(), 0);
    for lbn in (1..=room).step_by(2) {
        user.discard(sectors(lbn..lbn + 1), true).await.unwrap();
    }
    user.rest().await;
    room
}

/// Returns how many writes of data were issued since `since`, and none of them completed.
fn in_flight(user: &User, since: usize) -> usize {
    let writes = user.writes(since, Region::Data);
    assert!(writes.iter().all(|write| write.completed.is_none()));
    writes.len()
}

#[test]
fn all_runs_of_a_batch_are_written_at_once() {
    Scene::new(&plan()).play(|user| async move {
        age(&user).await;
        user.hold(Region::Data);
        let since = user.log_len();
        user.write(sectors(0..8), false).await.unwrap();
        user.rest().await;
        assert_eq!(in_flight(&user, since), 8, "runs that wait for others");
        user.release(Region::Data);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

/// Who waits until each write is taken has as many on their way as there are workers, small ones too.
#[test]
fn writes_block_by_block_are_on_their_way_together() {
    let plan = Plan {
        small_workers: 3,
        ..plan()
    };
    Scene::new(&plan).play(|user| async move {
        user.write(sectors(0..1), true).await.unwrap();
        user.rest().await;
        user.hold(Region::Data);
        let since = user.log_len();
        for lbn in 1..5 {
            user.write(sectors(lbn..lbn + 1), false).await.unwrap();
        }
        user.rest().await;
        assert_eq!(in_flight(&user, since), 4, "blocks that wait for others");
        // There is nobody left, and what is too large is not for a small one.
        let more = user.beside(|user| async move { user.write(sectors(8..16), false).await });
        user.waits(&more).await;
        user.release(Region::Data);
        more.await.unwrap();
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

/// A block that is on its way holds up another write of it, and not those that came with that.
#[test]
fn who_has_a_block_holds_up_nobody_else() {
    let plan = Plan {
        workers: 3,
        ..plan()
    };
    Scene::new(&plan).play(|user| async move {
        user.write(sectors(0..8), true).await.unwrap();
        user.rest().await;
        user.hold(Region::Data);
        let write = |lbns| user.beside(move |user| async move { user.write(lbns, false).await });
        write(sectors(1..2)).await.unwrap();
        let again = write(sectors(1..2));
        let (before, behind) = (write(sectors(0..1)), write(sectors(2..4)));
        before.await.unwrap();
        behind.await.unwrap();
        user.waits(&again).await;
        user.release(Region::Data);
        again.await.unwrap();
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

/// One of eight runs fails, and goes elsewhere; the others are not written again.
#[test]
fn of_many_runs_only_what_fails_is_tried_again() {
    Scene::new(&plan()).play(|user| async move {
        age(&user).await;
        let slabs = user.machine.toy().layout.slab_sectors();
        let third = Fault::new(0, &[Kind::Write]).sectors(slabs).numbers(2..3);
        user.machine.world.add_fault(third);
        let since = user.log_len();
        user.write(sectors(0..8), true).await.unwrap();
        let writes = user.writes(since, Region::Data);
        let has_failed = |write: &&Record| matches!(write.completed, Some((_, Err(_))));
        assert_eq!(
            (writes.iter().filter(has_failed).count(), writes.len()),
            (1, 9)
        );
        let places: BTreeSet<u64> = writes.iter().map(|write| write.sector).collect();
        assert_eq!(places.len(), 9, "something was written twice");
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

/// Leaf pages that a batch needs, and that are not in memory.
#[test]
fn the_leaf_pages_of_a_batch_are_read_at_once() {
    let plan = Plan {
        // The first cluster is on two leaf pages. Of the next page of each tree nothing is mapped.
        space: Space::new(&[808..816, 3 * 812..3 * 812 + 1, 4 * 812..4 * 812 + 1]),
        toy: Toy {
            cache_pages: 4,
            ..plan().toy
        },
        ..plan()
    };
    Scene::new(&plan).play(|user| async move {
        user.write(sectors(0..8), true).await.unwrap();
        user.machine.remove().await;
        user.machine.start().await.unwrap();
        // The pages above are in memory from here on.
        user.read(sectors(8..10)).await.unwrap();
        user.machine.disk.hold(&[Kind::Read]);
        let write = user.beside(|user| async move { user.write(sectors(0..8), false).await });
        user.waits(&write).await;
        assert_eq!(user.machine.disk.held(), 2, "pages that wait for others");
        user.machine.disk.release();
        write.await.unwrap();
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn what_blocks_in_part_hold_is_read_at_once() {
    let plan = Plan {
        small_sectors: true,
        ..plan()
    };
    Scene::new(&plan).play(|user| async move {
        user.write(sectors(0..6), true).await.unwrap();
        user.rest().await;
        user.machine.disk.hold(&[Kind::Read]);
        let write = user.beside(|user| async move { user.write(4..36, false).await });
        user.waits(&write).await;
        assert_eq!(user.machine.disk.held(), 2, "blocks that wait for others");
        user.machine.disk.release();
        write.await.unwrap();
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

/// Leaf pages that are apart, and blocks of the journals of several slabs.
#[test]
fn what_a_suspend_saves_is_written_at_once() {
    let mut plan = plan();
    plan.space = Space::new(&[0..40, 812..816]);
    plan.toy.cache_pages = 4;
    Scene::new(&plan).play(|user| async move {
        user.write(sectors(0..1), true).await.unwrap();
        user.write(sectors(40..41), true).await.unwrap();
        let room = user.machine.free();
        for lbn in 1..room {
            user.write(sectors(lbn..lbn + 1), true).await.unwrap();
        }
        user.rest().await;
        user.hold(Region::Data);
        user.hold(Region::SlabJournal);
        let since = user.log_len();
        let suspend = user.beside(|user| async move {
            user.machine.suspend_and_resume(true).await.unwrap();
        });
        user.waits(&suspend).await;
        assert_eq!(in_flight(&user, since), 2, "pages that wait for others");
        user.release(Region::Data);
        user.waits(&suspend).await;
        let blocks = user.writes(since, Region::SlabJournal);
        assert!(blocks.iter().all(|write| write.completed.is_none()));
        assert_eq!(blocks.len(), 2, "blocks that wait for others");
        user.release(Region::SlabJournal);
        suspend.await;
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_start_reads_the_ends_of_all_slab_journals_at_once() {
    Scene::new(&plan()).play(|user| async move {
        age(&user).await;
        user.machine.remove().await;
        let layout = user.machine.toy().layout;
        let journals = (0..layout.physical_blocks())
            .filter(|&pbn| layout.kind(pbn) == Region::SlabJournal)
            .map(block);
        for sectors in journals {
            user.machine.disk.hold_at(Kind::Read, sectors);
        }
        let start = user.beside(|user| async move { user.machine.start().await });
        user.waits(&start).await;
        assert_eq!(user.machine.disk.held(), 2, "slabs that wait for others");
        user.machine.disk.release();
        start.await.unwrap();
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}
