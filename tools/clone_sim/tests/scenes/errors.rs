// SPDX-License-Identifier: GPL-2.0

//! Errors of the devices: what fails, what goes on, and that nothing is unsaid.

use clone::message::Message;
use clone::volume::Mode;
use clone_sim::scene::plan;
use clone_sim::scene::Scene;
use clone_sim::scene::DESTINATION;
use clone_sim::scene::METADATA;
use clone_sim::scene::SOURCE;
use clone_sim::user::User;
use kernel::prelude::*;
use sim::fault::Fault;
use sim::fault::Kind;

/// Hydrates regions 0 to 7 for good, region 8 only in memory, and makes the metadata fail.
async fn lose_metadata(user: &User, kinds: &[Kind]) {
    user.write(0..64, true).await.unwrap();
    user.write(64..72, false).await.unwrap();
    user.machine.world.add_fault(Fault::new(METADATA, kinds));
    assert!(user.flush().await.is_err());
    assert_eq!(user.engine().volume().mode(), Mode::ReadOnly);
    assert_eq!(user.machine.events(), 1);
}

async fn check_read_only(user: &User) {
    // What was acknowledged is still there: `read` checks it.
    user.read(0..512).await.unwrap();
    user.write(60..70, false).await.unwrap();
    user.discard(0..8).await.unwrap();
    let since = user.log_len();
    user.discard(72..88).await.unwrap();
    assert!(user.write(72..80, false).await.is_err());
    assert!(user.write(72..73, false).await.is_err());
    assert!(user.write(0..1, true).await.is_err());
    assert!(user.flush().await.is_err());
    user.engine().message(Message::EnableHydration);
    user.seconds(3).await;
    assert_eq!(user.log_len(), since, "I/O for what cannot be recorded");
    assert_eq!(user.engine().volume().map().hydrated(), 9);
    assert_eq!(user.machine.events(), 1);
}

fn metadata_is_lost(kinds: &'static [Kind]) {
    Scene::new(&plan()).play(move |user| async move {
        lose_metadata(&user, kinds).await;
        check_read_only(&user).await;
        user.machine.world.clear_faults();
        check_read_only(&user).await;
        // The same table stays as it is; a new one has the bits of the old.
        let table = user.machine.active().unwrap();
        user.machine.switch(table).await.unwrap();
        assert_eq!(user.engine().volume().mode(), Mode::ReadOnly);
        let table = user.machine.load().await.unwrap();
        user.machine.switch(table).await.unwrap();
        assert_eq!(user.engine().volume().mode(), Mode::ReadWrite);
        assert_eq!(user.engine().volume().map().hydrated(), 9);
        user.flush().await.unwrap();
        let image = user
            .machine
            .world
            .survivors(&[sim::disk::Survival::Lost; 3], &mut sim::Rng::new(0));
        let bits = clone_sim::inspect::metadata(&image[METADATA])
            .unwrap()
            .unwrap();
        assert_eq!(bits.iter().filter(|bit| **bit).count(), 9);
    });
}

#[test]
fn metadata_that_cannot_be_written() {
    metadata_is_lost(&[Kind::Write]);
}

#[test]
fn metadata_that_cannot_be_flushed() {
    metadata_is_lost(&[Kind::Flush]);
}

#[test]
fn metadata_that_is_dead() {
    metadata_is_lost(&[]);
}

#[test]
fn a_destination_that_cannot_be_flushed_ends_commits() {
    Scene::new(&plan()).play(|user| async move {
        user.write(0..8, false).await.unwrap();
        user.machine
            .world
            .add_fault(Fault::new(DESTINATION, &[Kind::Flush]));
        assert!(user.flush().await.is_err());
        assert_eq!(user.engine().volume().mode(), Mode::ReadOnly);
        user.read(0..8).await.unwrap();
    });
}

#[test]
fn the_tick_notices_a_metadata_error_by_itself() {
    Scene::new(&plan()).play(|user| async move {
        user.write(0..8, false).await.unwrap();
        user.machine
            .world
            .add_fault(Fault::new(METADATA, &[Kind::Write]));
        user.seconds(3).await;
        assert_eq!(user.engine().volume().mode(), Mode::ReadOnly);
        assert_eq!(user.machine.events(), 1);
        user.read(0..8).await.unwrap();
    });
}

#[test]
fn a_write_that_waits_for_its_copy_fails_when_the_metadata_is_lost() {
    Scene::new(&plan()).play(|user| async move {
        user.write(0..8, false).await.unwrap();
        user.machine.source.hold(&[Kind::Read]);
        let other = user.clone();
        let part = user.beside(async move { other.write(100..101, false).await });
        let source = user.machine.source.clone();
        user.until(1, || source.held() == 1).await;
        user.machine
            .world
            .add_fault(Fault::new(METADATA, &[Kind::Write]));
        assert!(user.flush().await.is_err());
        assert_eq!(user.engine().hydrating(), 1);
        source.release();
        assert!(part.await.is_err());
        assert_eq!(user.engine().hydrating(), 0);
        user.read(96..104).await.unwrap();
    });
}

#[test]
fn errors_of_the_destination_are_the_users() {
    Scene::new(&plan()).play(|user| async move {
        user.write(0..8, false).await.unwrap();
        user.machine
            .world
            .add_fault(Fault::new(DESTINATION, &[Kind::Write]));
        assert!(user.write(0..4, false).await.is_err());
        assert!(user.write(8..16, false).await.is_err());
        assert!(user.write(17..18, false).await.is_err());
        assert_eq!(user.engine().volume().map().hydrated(), 1);
        user.read(8..24).await.unwrap();
        user.flush().await.unwrap();
        assert_eq!(user.engine().volume().mode(), Mode::ReadWrite);
        user.machine.world.clear_faults();
        user.write(8..24, false).await.unwrap();
    });
}

#[test]
fn a_discard_that_fails_counts_as_hydrated() {
    Scene::new(&plan()).play(|user| async move {
        user.machine
            .world
            .add_fault(Fault::new(DESTINATION, &[Kind::Discard]));
        assert!(user.discard(0..16).await.is_err());
        assert_eq!(user.engine().volume().map().hydrated(), 2);
        user.write(0..4, false).await.unwrap();
        user.read(0..4).await.unwrap();
    });
}

#[test]
fn errors_of_the_source_are_the_readers() {
    Scene::new(&plan()).play(|user| async move {
        user.machine
            .world
            .add_fault(Fault::new(SOURCE, &[Kind::Read]));
        assert!(user.read(0..8).await.is_err());
        user.write(0..8, false).await.unwrap();
        user.read(0..8).await.unwrap();
        assert_eq!(user.machine.events(), 0);
    });
}

#[test]
fn a_superblock_whose_write_failed_is_settled_before_its_predecessors_blocks_are_used() {
    // The write of the superblock, and the flush behind it.
    for (kind, numbers) in [(Kind::Write, 1..2), (Kind::Flush, 1..2)] {
        for removed in [false, true] {
            let numbers = numbers.clone();
            Scene::new(&plan()).play(|user| async move {
                let fault = Fault::new(METADATA, &[kind]).numbers(numbers);
                user.machine.world.add_fault(fault);
                user.write(0..8, false).await.unwrap();
                assert!(user.flush().await.is_err());
                user.machine.world.clear_faults();
                if removed {
                    user.machine.remove().await;
                    user.model.borrow_mut().crash();
                    user.machine.start().await.unwrap();
                } else {
                    let table = user.machine.load().await.unwrap();
                    user.machine.switch(table).await.unwrap();
                }
                let since = user.log_len();
                user.write(8..16, true).await.unwrap();
                let log = user.machine.world.log();
                let mut changes = log[since..]
                    .iter()
                    .filter(|record| record.disk == METADATA && record.kind != Kind::Read);
                let first = changes.next().expect("a commit");
                assert_eq!(first.kind, Kind::Flush, "{kind:?} removed {removed}");
                let second = changes.next().expect("a commit");
                assert!(first.completed.is_some_and(|(at, _)| at < second.issued));
                // Once is enough.
                let since = user.log_len();
                user.write(16..24, true).await.unwrap();
                assert_eq!(user.operations(since, METADATA, Kind::Flush).len(), 2);
            });
        }
    }
}

#[test]
fn whatever_a_copy_fails_with_the_write_that_waits_for_it_gets_eio() {
    // ENODATA, ETIMEDOUT, ENOLINK: what a medium, a timeout, a lost path give.
    for errno in [-61, -110, -67] {
        for (disk, kind) in [(SOURCE, Kind::Read), (DESTINATION, Kind::Write)] {
            Scene::new(&plan()).play(move |user| async move {
                let mut fault = Fault::new(disk, &[kind]);
                fault.error = Error::from_errno(errno);
                user.machine.world.add_fault(fault);
                assert_eq!(user.write(17..18, false).await, Err(EIO));
            });
        }
    }
}
