// SPDX-License-Identifier: GPL-2.0

//! Blocks with the same data.

use sim::clock::sleep;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::model::Shape;
use std::ops::Range;
use vdo::admin::statistics::HashLock;
use vdo::format::Lbn;
use vdo_sim::device::Kind as Region;
use vdo_sim::plan::Plan;
use vdo_sim::scene::block;
use vdo_sim::scene::sectors;
use vdo_sim::scene::Scene;
use vdo_sim::space::Space;
use vdo_sim::toy::slab;
use vdo_sim::toy::BLOCK_SECTORS;
use vdo_sim::user::User;

/// Two slabs, and an index.
fn plan() -> Plan {
    let mut plan = Plan {
        space: Space::new(&[0..20, 20..40]),
        batch_blocks: 16,
        ..Plan::default()
    };
    plan.toy.layout.slabs = 2;
    plan.with_index()
}

/// Boots a machine, and waits for its index.
fn scene(plan: &Plan) -> Scene {
    let mut scene = Scene::new(plan);
    scene.play(|user| async move {
        while !user.machine.has_index() {
            user.rest().await;
        }
    });
    scene
}

/// Data that all blocks of this kind have.
fn same(kind: u64) -> Shape {
    Shape {
        holes: Vec::new(),
        copies: Some(((1 << 40) + kind, BLOCK_SECTORS)),
    }
}

async fn write(user: &User, blocks: Range<u64>, kind: u64) {
    let written = user.write_shaped(sectors(blocks), same(kind), false).await;
    written.unwrap();
    user.flush().await.unwrap();
}

/// Returns how many blocks of data were written since `since`.
fn stored(user: &User, since: usize) -> u64 {
    let writes = user.writes(since, Region::Data);
    let sectors = writes.iter().map(|write| write.sectors);
    sectors.sum::<u64>() / BLOCK_SECTORS
}

fn counts(user: &User) -> HashLock {
    user.machine.statistics().hash_lock
}

#[test]
fn equal_blocks_of_a_write_are_stored_once() {
    scene(&plan()).play(|user| async move {
        let start = user.log_len();
        write(&user, 0..16, 1).await;
        assert_eq!(stored(&user, start), 1);
        assert_eq!(counts(&user).concurrent_data_matches, 15);
        user.rest().await;
        let first = user.pbn(0);
        assert!((1..16).all(|lbn| user.pbn(lbn) == first));
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_block_that_is_there_is_not_stored_again() {
    scene(&plan()).play(|user| async move {
        // Different kinds side by side, so that runs are cut and move together.
        for kind in 0..4 {
            write(&user, kind..kind + 1, kind).await;
        }
        user.rest().await;
        let free = user.machine.free();
        let start = user.log_len();
        for kind in 0..4 {
            write(&user, 8 + kind..9 + kind, kind).await;
        }
        assert_eq!(stored(&user, start), 0);
        assert_eq!(counts(&user).dedupe_advice_valid, 4);
        user.rest().await;
        assert_eq!(user.machine.free(), free);
        for kind in 0..4 {
            assert_eq!(user.pbn(8 + kind), user.pbn(kind));
        }
        // The first ones go; the others keep the data.
        user.discard(sectors(0..4), false).await.unwrap();
        user.flush().await.unwrap();
        user.rest().await;
        assert_eq!(user.machine.free(), free);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_block_is_found_as_soon_as_its_write_is_recorded() {
    scene(&plan()).play(|user| async move {
        let start = user.log_len();
        for lbn in 0..20 {
            let written = user
                .write_shaped(sectors(lbn..lbn + 1), same(1), false)
                .await;
            written.unwrap();
            sleep(&user.machine.world, 1500).await;
        }
        assert_eq!(stored(&user, start), 1);
        user.rest().await;
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_write_of_what_is_there_changes_nothing() {
    scene(&plan()).play(|user| async move {
        write(&user, 0..1, 1).await;
        user.rest().await;
        let (pbn, free) = (user.pbn(0), user.machine.free());
        let start = user.log_len();
        write(&user, 0..1, 1).await;
        user.rest().await;
        assert_eq!(stored(&user, start), 0);
        assert_eq!((user.pbn(0), user.machine.free()), (pbn, free));
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_freed_block_is_revived() {
    scene(&plan()).play(|user| async move {
        write(&user, 0..1, 1).await;
        user.rest().await;
        let pbn = user.pbn(0);
        user.discard(sectors(0..1), false).await.unwrap();
        user.flush().await.unwrap();
        user.rest().await;
        let start = user.log_len();
        write(&user, 5..6, 1).await;
        assert_eq!(stored(&user, start), 0);
        user.rest().await;
        assert_eq!(user.pbn(5), pbn);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn stale_advice_is_replaced() {
    scene(&plan()).play(|user| async move {
        write(&user, 0..1, 1).await;
        user.rest().await;
        let old = user.pbn(0);
        user.discard(sectors(0..1), false).await.unwrap();
        user.flush().await.unwrap();
        user.rest().await;
        // Others come to be there.
        let mut lbn = 1;
        while user.machine.free() > 0 {
            user.write(sectors(lbn..lbn + 1), true).await.unwrap();
            lbn += 1;
        }
        user.discard(sectors(1..2), false).await.unwrap();
        user.flush().await.unwrap();
        user.rest().await;
        assert_eq!(user.machine.free(), 1);
        let start = user.log_len();
        write(&user, 0..1, 1).await;
        assert_eq!(stored(&user, start), 1);
        assert_eq!(counts(&user).dedupe_advice_stale, 1);
        user.rest().await;
        assert_ne!(user.pbn(0), old);
        // The index knows the new one.
        let start = user.log_len();
        write(&user, 1..2, 1).await;
        assert_eq!(stored(&user, start), 0);
        assert_eq!(user.machine.statistics().index.updates_found, 1);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_block_has_254_references_and_the_next_copy_leads() {
    let mut plan = plan();
    plan.space = Space::new(&[0..300, 300..600]);
    plan.batch_blocks = 24;
    plan.toy.layout.slab = slab(64, 10, 4);
    scene(&plan).play(|user| async move {
        for lbn in (0..600).step_by(24) {
            write(&user, lbn..lbn + 24, 1).await;
        }
        user.rest().await;
        let pbns: Vec<_> = (0..600).map(|lbn| user.pbn(lbn)).collect();
        let (first, second) = (pbns[0], pbns[254]);
        assert!(pbns[..254].iter().all(|pbn| *pbn == first));
        assert!(pbns[254..508].iter().all(|pbn| *pbn == second));
        assert!(pbns[508..].iter().all(|pbn| *pbn == pbns[599]));
        assert_eq!(user.machine.statistics().index.updates_found, 2);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn zeroes_are_no_duplicates() {
    scene(&plan()).play(|user| async move {
        write(&user, 0..1, 1).await;
        user.rest().await;
        // Of sixteen sectors every block but each fourth is of that kind.
        let holes = vec![sectors(9..10), sectors(11..13)];
        let shape = Shape { holes, ..same(1) };
        let start = user.log_len();
        let written = user.write_shaped(sectors(8..16), shape, false).await;
        written.unwrap();
        user.flush().await.unwrap();
        user.rest().await;
        assert_eq!(stored(&user, start), 0);
        user.machine.remove().await;
    });
}

#[test]
fn who_follows_one_that_cannot_be_stored_there_is_stored_elsewhere() {
    scene(&plan()).play(|user| async move {
        // The first block that is free takes nothing.
        user.write(sectors(20..21), true).await.unwrap();
        user.rest().await;
        let next: Lbn = user.pbn(20) + 1;
        let fault = Fault::new(0, &[Kind::Write]).sectors(block(next));
        user.machine.world.add_fault(fault);
        write(&user, 0..8, 1).await;
        user.machine.world.clear_faults();
        user.rest().await;
        assert!((0..8).all(|lbn| user.pbn(lbn) != next));
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_candidate_that_cannot_be_read_is_none() {
    scene(&plan()).play(|user| async move {
        write(&user, 0..1, 1).await;
        user.rest().await;
        let fault = Fault::new(0, &[Kind::Read]).sectors(block(user.pbn(0)));
        user.machine.world.add_fault(fault);
        let start = user.log_len();
        write(&user, 1..2, 1).await;
        user.machine.world.clear_faults();
        assert_eq!(stored(&user, start), 1);
        assert_eq!(counts(&user).dedupe_advice_stale, 1);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_claim_is_kept_while_the_last_reference_goes() {
    scene(&plan()).play(|user| async move {
        write(&user, 0..1, 1).await;
        user.rest().await;
        let pbn = user.pbn(0);
        // While the candidate is being read the first one is discarded, and others look for room.
        user.machine.disk.hold_at(Kind::Read, block(pbn));
        let second = user
            .beside(|user| async move { user.write_shaped(sectors(1..2), same(1), true).await });
        user.waits(&second).await;
        user.discard(sectors(0..1), true).await.unwrap();
        user.machine.disk.release_at(Kind::Read, &block(pbn));
        second.await.unwrap();
        user.rest().await;
        assert_eq!(user.pbn(1), pbn);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}
