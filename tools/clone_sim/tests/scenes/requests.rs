// SPDX-License-Identifier: GPL-2.0

//! Requests: how many I/Os they make, and whom they wait for.

use clone::geometry::Geometry;
use clone::message::Message;
use clone_sim::scene::plan;
use clone_sim::scene::Scene;
use clone_sim::scene::DESTINATION;
use clone_sim::scene::SOURCE;
use clone_sim::user::User;
use sim::fault::Kind;

/// Returns (source reads, destination reads, destination writes, discards) since `since`.
fn counts(user: &User, since: usize) -> [usize; 4] {
    [
        (SOURCE, Kind::Read),
        (DESTINATION, Kind::Read),
        (DESTINATION, Kind::Write),
        (DESTINATION, Kind::Discard),
    ]
    .map(|(disk, kind)| user.operations(since, disk, kind).len())
}

#[test]
fn neighbours_of_equal_state_are_one_io() {
    Scene::new(&plan()).play(|user| async move {
        let mut since = user.log_len();
        let mut new_counts = |user: &User| {
            let counts = counts(user, since);
            since = user.log_len();
            counts
        };
        user.read(0..128).await.unwrap();
        assert_eq!(new_counts(&user), [1, 0, 0, 0]);
        user.write(128..256, false).await.unwrap();
        assert_eq!(new_counts(&user), [0, 0, 1, 0]);
        // Regions 4 to 7 with 5 and 6 hydrated.
        user.write(40..56, false).await.unwrap();
        new_counts(&user);
        user.read(32..64).await.unwrap();
        assert_eq!(new_counts(&user), [2, 1, 0, 0]);
        // A part: one copy of the region, then the write.
        user.write(1..2, false).await.unwrap();
        assert_eq!(new_counts(&user), [1, 0, 2, 0]);
        user.discard(60..100).await.unwrap();
        assert_eq!(new_counts(&user), [0, 0, 0, 1]);
        assert_eq!(user.engine().volume().map().hydrated(), 16 + 2 + 1 + 4);
    });
}

#[test]
fn the_short_last_region_counts_as_whole() {
    let geometry = Geometry::new(64 * 8 - 3, 3).unwrap();
    let plan = clone_sim::machine::Plan { geometry, ..plan() };
    Scene::new(&plan).play(|user| async move {
        let since = user.log_len();
        user.write(504..509, false).await.unwrap();
        assert_eq!(counts(&user, since), [0, 0, 1, 0]);
        assert_eq!(user.engine().volume().map().hydrated(), 1);
        user.discard(0..509).await.unwrap();
        assert!(user.engine().volume().map().is_complete());
    });
}

#[test]
fn a_commit_holds_up_no_other_request() {
    Scene::new(&plan()).play(|user| async move {
        user.write(0..8, false).await.unwrap();
        user.machine.destination.hold(&[Kind::Flush]);
        let other = user.clone();
        let flush = user.beside(async move { other.flush().await });
        let destination = user.machine.destination.clone();
        user.until(1, || destination.held() == 1).await;
        user.read(100..120).await.unwrap();
        user.write(8..16, false).await.unwrap();
        user.write(2..3, false).await.unwrap();
        user.write(17..18, false).await.unwrap();
        user.discard(32..48).await.unwrap();
        assert!(!flush.is_done());
        user.machine.destination.release();
        flush.await.unwrap();
    });
}

#[test]
fn a_copy_holds_up_only_writes_to_its_region() {
    Scene::new(&plan()).play(|user| async move {
        user.machine.source.hold(&[Kind::Read]);
        let other = user.clone();
        let part = user.beside(async move { other.write(1..2, false).await });
        let source = user.machine.source.clone();
        user.until(1, || source.held() == 1).await;
        user.write(8..64, false).await.unwrap();
        user.read(8..16).await.unwrap();
        user.discard(64..72).await.unwrap();
        user.flush().await.unwrap();
        let other = user.clone();
        let whole = user.beside(async move { other.write(0..8, false).await });
        let other = user.clone();
        let discard = user.beside(async move { other.discard(0..8).await });
        user.seconds(2).await;
        assert!(!part.is_done() && !whole.is_done() && !discard.is_done());
        user.machine.source.release();
        part.await.unwrap();
        whole.await.unwrap();
        discard.await.unwrap();
    });
}

#[test]
fn many_writers_of_a_region_share_one_copy() {
    Scene::new(&plan()).play(|user| async move {
        user.machine.source.hold(&[Kind::Read]);
        let writers: Vec<_> = (0..8)
            .flat_map(|sector| [sector; 4])
            .map(|sector| {
                let other = user.clone();
                user.beside(async move { other.write(sector..sector + 1, false).await })
            })
            .collect();
        let source = user.machine.source.clone();
        user.until(1, || source.held() == 1).await;
        user.seconds(1).await;
        assert_eq!(source.held(), 1);
        source.release();
        for writer in writers {
            writer.await.unwrap();
        }
        user.read(0..8).await.unwrap();
    });
}

#[test]
fn a_partial_write_into_a_run_that_hydrates_waits_for_no_more_than_one_buffer() {
    let geometry = Geometry::new(4 * 4096, 12).unwrap();
    let plan = clone_sim::machine::Plan { geometry, ..plan() };
    Scene::new(&plan).play(|user| async move {
        user.machine.source.hold(&[Kind::Read]);
        user.engine().message(Message::EnableHydration);
        let source = user.machine.source.clone();
        user.until(1, || source.held() > 0).await;
        // Region 3 is not under way: its copy comes before the rest of the background's.
        let other = user.clone();
        let write = user.beside(async move { other.write(3 * 4096..3 * 4096 + 1, false).await });
        let mut releases = 0;
        while !write.is_done() {
            source.release_some(1);
            releases += 1;
            user.seconds(1).await;
        }
        assert!(releases <= 16, "{releases} reads for a write that needs 4");
        source.release();
        let map = user.engine().volume().clone();
        user.until(10, || map.map().is_complete()).await;
    });
}
