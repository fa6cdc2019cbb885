// SPDX-License-Identifier: GPL-2.0

//! Blocks with the same data.

use kernel::prelude::Result;
use sim::clock::sleep;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::model::Shape;
use std::collections::BTreeSet;
use std::ops::Range;
use vdo::admin::statistics::HashLock;
use vdo::format::Lbn;
use vdo::format::BLOCK_SIZE;
use vdo::world::Operation;
use vdo_sim::device::Kind as Region;
use vdo_sim::plan::Plan;
use vdo_sim::scene::block;
use vdo_sim::scene::sectors;
use vdo_sim::scene::Scene;
use vdo_sim::space::Space;
use vdo_sim::toy::slab;
use vdo_sim::toy::BLOCK_SECTORS;
use vdo_sim::user::User;

/// In so many other places the volume tries to store what the storage does not take.
const TRIES: u32 = 3;

/// Two slabs, and an index.
pub(crate) fn plan() -> Plan {
    let mut plan = Plan {
        space: Space::new(&[0..20, 20..40]),
        batch_blocks: 16,
        ..Plan::default()
    };
    plan.toy.layout.slabs = 2;
    plan.with_index()
}

/// Boots a machine, and waits for its index.
pub(crate) fn scene(plan: &Plan) -> Scene {
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
        // No write takes longer than the pauses, and the leaf page is there.
        write(&user, 19..20, 2).await;
        user.rest().await;
        user.machine.disk.set_latency(100..101);
        let start = user.log_len();
        for lbn in 0..19 {
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

/// Returns the sectors of the index.
fn index(user: &User) -> Range<u64> {
    BLOCK_SECTORS..user.machine.toy().layout.data_start * BLOCK_SECTORS
}

/// Starts the volume again, without waiting for its index.
async fn restart(user: &User) {
    user.rest().await;
    user.machine.remove().await;
    user.machine.start().await.unwrap();
}

async fn until_online(user: &User) {
    while !user.machine.has_index() {
        user.rest().await;
    }
}

#[test]
fn a_look_up_that_takes_too_long_is_not_waited_for() {
    scene(&plan()).play(|user| async move {
        write(&user, 0..1, 1).await;
        // Its chapter is full, and on the disk.
        for lbn in 1..18 {
            user.write(sectors(lbn..lbn + 1), true).await.unwrap();
        }
        restart(&user).await;
        until_online(&user).await;
        user.machine.disk.hold_at(Kind::Read, index(&user));
        let start = user.log_len();
        let copy = |lbn| {
            user.beside(move |user| async move {
                user.write_shaped(sectors(lbn..lbn + 1), same(1), true)
                    .await
            })
        };
        let late = copy(20);
        user.waits(&late).await;
        user.waits(&late).await;
        let statistics = || user.machine.statistics();
        assert_eq!(statistics().dedupe_advice_timeouts, 0);
        assert_eq!(counts(&user).curr_dedupe_queries, 1);
        late.await.unwrap();
        assert_eq!(statistics().dedupe_advice_timeouts, 1);
        assert_eq!(counts(&user).curr_dedupe_queries, 1);
        assert_eq!(stored(&user, start), 1);
        user.machine.disk.release_at(Kind::Read, &index(&user));
        user.rest().await;
        assert_eq!(counts(&user).curr_dedupe_queries, 0);
        // The index has heard of it nevertheless.
        write(&user, 21..22, 1).await;
        user.rest().await;
        assert_eq!(user.pbn(21), user.pbn(20));
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn the_more_look_ups_wait_the_sooner_they_are_late() {
    scene(&plan()).play(|user| async move {
        for kind in 0..3 {
            write(&user, kind..kind + 1, kind).await;
        }
        for lbn in 3..18 {
            user.write(sectors(lbn..lbn + 1), true).await.unwrap();
        }
        restart(&user).await;
        until_online(&user).await;
        user.machine.disk.hold_at(Kind::Read, index(&user));
        let mut copies = Vec::new();
        for kind in 0..3 {
            copies.push(user.beside(move |user| async move {
                let lbns = 20 + kind..21 + kind;
                user.write_shaped(sectors(lbns), same(kind), true).await
            }));
            // Each is a batch.
            sleep(&user.machine.world, 10_000).await;
        }
        user.rest().await;
        assert!(copies.iter().all(|copy| copy.is_done()));
        assert_eq!(user.machine.statistics().dedupe_advice_timeouts, 3);
        // Nothing is asked before these are back, and nobody waits for that.
        let next = user.beside(|user| async move { user.write(sectors(30..33), true).await });
        user.rest().await;
        assert!(next.is_done());
        assert!(user.machine.statistics().dedupe_advice_timeouts > 3);
        user.machine.disk.release_at(Kind::Read, &index(&user));
        user.rest().await;
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn what_is_written_while_the_index_opens_is_remembered() {
    scene(&plan()).play(|user| async move {
        user.write(sectors(0..1), true).await.unwrap();
        user.rest().await;
        user.machine.remove().await;
        user.machine.disk.hold_at(Kind::Read, index(&user));
        user.machine.start().await.unwrap();
        user.rest().await;
        assert!(!user.machine.has_index());
        write(&user, 5..6, 1).await;
        user.machine.disk.release_at(Kind::Read, &index(&user));
        until_online(&user).await;
        let start = user.log_len();
        write(&user, 6..7, 1).await;
        assert_eq!(stored(&user, start), 0);
        user.rest().await;
        assert_eq!(user.pbn(6), user.pbn(5));
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn who_has_no_place_asks_without_being_remembered() {
    scene(&plan()).play(|user| async move {
        write(&user, 0..1, 1).await;
        let mut lbn = 1;
        while user.machine.free() > 0 {
            user.write(sectors(lbn..lbn + 1), true).await.unwrap();
            lbn += 1;
        }
        let posts = user.machine.statistics().index.posts_not_found;
        assert!(user.write(sectors(38..39), true).await.is_err());
        write(&user, 39..40, 1).await;
        let index = user.machine.statistics().index;
        assert_eq!((index.queries_found, index.queries_not_found), (1, 1));
        assert_eq!(index.posts_not_found, posts);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn equal_blocks_of_two_batches_share_a_write() {
    scene(&plan()).play(|user| async move {
        let start = user.log_len();
        user.hold(Region::Data);
        let copy = |lbns: Range<u64>| {
            user.beside(|user| async move { user.write_shaped(sectors(lbns), same(1), true).await })
        };
        let first = copy(0..1);
        user.waits(&first).await;
        let second = copy(4..8);
        user.waits(&second).await;
        assert_eq!(stored(&user, start), 1);
        user.release(Region::Data);
        first.await.unwrap();
        second.await.unwrap();
        assert_eq!(stored(&user, start), 1);
        assert_eq!(counts(&user).concurrent_data_matches, 4);
        assert_eq!(counts(&user).dedupe_advice_valid, 0);
        user.rest().await;
        assert!((4..8).all(|lbn| user.pbn(lbn) == user.pbn(0)));
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

/// Writes blocks that are each of one byte.
async fn write_bytes(user: &User, lbn: Lbn, bytes: &[u8]) -> Result {
    let data: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; BLOCK_SIZE]).collect();
    let (sector, sectors) = (lbn * BLOCK_SECTORS, bytes.len() as u64 * BLOCK_SECTORS);
    let machine = &user.machine;
    let written = machine.submit(Operation::Write, true, sector, sectors, &data);
    written.await
}

#[test]
fn who_waits_for_another_batch_stores_the_rest_at_once() {
    scene(&plan()).play(|user| async move {
        user.hold(Region::Data);
        let first = user.beside(|user| async move { write_bytes(&user, 0, &[1]).await });
        user.waits(&first).await;
        let start = user.log_len();
        let second = user.beside(|user| async move { write_bytes(&user, 8, &[2, 1, 3]).await });
        user.waits(&second).await;
        // That one has its own buffer by pages: a block between these two is left out.
        assert_eq!(stored(&user, start), 2);
        user.release(Region::Data);
        first.await.unwrap();
        second.await.unwrap();
        user.rest().await;
        assert_eq!(user.pbn(9), user.pbn(0));
        assert_eq!(user.pbn(10), user.pbn(8) + 1);
        let (data, result) = user.machine.read(8 * BLOCK_SECTORS, 24).await;
        result.unwrap();
        let bytes: Vec<_> = data.chunks(BLOCK_SIZE).map(|block| block[17]).collect();
        assert_eq!(bytes, [2, 1, 3]);
        user.machine.remove().await;
    });
}

#[test]
fn who_follows_a_batch_that_fails_is_stored() {
    scene(&plan()).play(|user| async move {
        user.write(sectors(20..21), true).await.unwrap();
        user.rest().await;
        user.hold(Region::Data);
        // Here and elsewhere.
        let writes = 0..1 + u64::from(TRIES);
        user.machine
            .world
            .add_fault(Fault::new(0, &[Kind::Write]).numbers(writes));
        let copy = |lbns: Range<u64>| {
            user.beside(|user| async move { user.write_shaped(sectors(lbns), same(1), true).await })
        };
        let first = copy(0..1);
        user.waits(&first).await;
        let others = [copy(4..8), copy(8..9)];
        for other in &others {
            user.waits(other).await;
        }
        let start = user.log_len();
        user.release(Region::Data);
        assert!(first.await.is_err());
        for other in others {
            other.await.unwrap();
        }
        user.machine.world.clear_faults();
        // One of them leads the other.
        assert_eq!(stored(&user, start), u64::from(TRIES) + 1);
        user.rest().await;
        assert!((5..9).all(|lbn| user.pbn(lbn) == user.pbn(4)));
        // And the index knows that.
        let start = user.log_len();
        write(&user, 10..11, 1).await;
        assert_eq!(stored(&user, start), 0);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn who_follows_one_that_is_stored_elsewhere_finds_it_there() {
    scene(&plan()).play(|user| async move {
        user.write(sectors(20..21), true).await.unwrap();
        user.rest().await;
        let next: Lbn = user.pbn(20) + 1;
        let fault = Fault::new(0, &[Kind::Write]).sectors(block(next));
        user.machine.world.add_fault(fault);
        user.hold(Region::Data);
        let copy = |lbns: Range<u64>| {
            user.beside(|user| async move { user.write_shaped(sectors(lbns), same(1), true).await })
        };
        let first = copy(0..1);
        user.waits(&first).await;
        let second = copy(1..2);
        user.waits(&second).await;
        user.release(Region::Data);
        first.await.unwrap();
        second.await.unwrap();
        user.machine.world.clear_faults();
        user.rest().await;
        assert_ne!(user.pbn(0), next);
        assert_eq!(user.pbn(1), user.pbn(0));
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn who_gets_no_claim_in_flight_leads_anew() {
    let mut plan = plan();
    plan.space = Space::new(&[0..300, 300..600]);
    plan.batch_blocks = 24;
    plan.toy.layout.slab = slab(64, 10, 4);
    scene(&plan).play(|user| async move {
        for lbn in (0..240).step_by(20) {
            write(&user, lbn..lbn + 20, 1).await;
        }
        user.rest().await;
        let first = user.pbn(0);
        assert!((0..240).all(|lbn| user.pbn(lbn) == first));
        // One looks at the block, and others with more copies than it can have wait for that.
        user.machine.disk.hold_at(Kind::Read, block(first));
        let copy = |lbns: Range<u64>| {
            user.beside(|user| async move { user.write_shaped(sectors(lbns), same(1), true).await })
        };
        let looks = copy(240..242);
        user.waits(&looks).await;
        let others = [copy(300..320), copy(320..340)];
        for other in &others {
            user.waits(other).await;
        }
        user.machine.disk.release_at(Kind::Read, &block(first));
        looks.await.unwrap();
        for other in others {
            other.await.unwrap();
        }
        user.rest().await;
        let pbns: Vec<_> = (0..242).chain(300..340).map(|lbn| user.pbn(lbn)).collect();
        let full = pbns.iter().filter(|pbn| **pbn == first).count();
        assert_eq!(full, 254);
        // What does not fit is stored once, and the index knows where.
        let second: BTreeSet<_> = pbns.iter().filter(|pbn| **pbn != first).collect();
        assert_eq!(second.len(), 1);
        write(&user, 350..351, 1).await;
        user.rest().await;
        assert!(second.contains(&user.pbn(350)));
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}
