// SPDX-License-Identifier: GPL-2.0

//! Commits: when they happen, what they write in which order, who shares them.

use clone::message::Message;
use clone_sim::scene::plan;
use clone_sim::scene::Scene;
use clone_sim::scene::DESTINATION;
use clone_sim::scene::METADATA;
use clone_sim::user::User;
use sim::fault::Kind;
use sim::world::Record;

fn completion(record: &Record) -> u64 {
    let (at, result) = record.completed.expect("completed");
    result.expect("no error");
    at
}

/// Checks the order of every commit since `since`, and returns how many there were.
fn commits_in_order(user: &User, since: usize) -> usize {
    let log: Vec<Record> = user.machine.world.log().into_iter().skip(since).collect();
    let mut blocks: Vec<&Record> = Vec::new();
    let mut commits = 0;
    for record in log.iter().filter(|record| record.disk == METADATA) {
        match record.kind {
            Kind::Write if record.sector > 0 => blocks.push(record),
            Kind::Write => {
                commits += 1;
                let first = blocks
                    .iter()
                    .map(|block| block.issued)
                    .min()
                    .expect("blocks");
                let last = blocks
                    .iter()
                    .map(|block| completion(block))
                    .max()
                    .expect("blocks");
                let between = |disk, after: u64, before: u64| {
                    log.iter().any(|flush| {
                        flush.disk == disk
                            && flush.kind == Kind::Flush
                            && flush.issued > after
                            && flush.completed.is_some_and(|(at, _)| at < before)
                    })
                };
                assert!(
                    between(DESTINATION, 0, first),
                    "no flush of the destination before"
                );
                assert!(
                    between(METADATA, last, record.issued),
                    "superblock before its blocks"
                );
                blocks.clear();
            }
            _ => {}
        }
    }
    assert!(blocks.is_empty(), "blocks without a superblock");
    commits
}

#[test]
fn one_commit_follows_a_write_within_seconds_and_then_there_is_peace() {
    Scene::new(&plan()).play(|user| async move {
        let since = user.log_len();
        user.write(0..8, false).await.unwrap();
        user.seconds(3).await;
        assert_eq!(commits_in_order(&user, since), 1);
        let since = user.log_len();
        user.seconds(10).await;
        assert_eq!(user.log_len(), since);
    });
}

#[test]
fn a_second_flush_goes_to_the_destination_only() {
    Scene::new(&plan()).play(|user| async move {
        user.write(0..8, false).await.unwrap();
        let since = user.log_len();
        user.flush().await.unwrap();
        assert_eq!(commits_in_order(&user, since), 1);
        // The commit's flush of the destination is the user's.
        assert_eq!(user.operations(since, DESTINATION, Kind::Flush).len(), 1);
        let since = user.log_len();
        user.flush().await.unwrap();
        assert_eq!(user.log_len(), since + 1);
        assert_eq!(user.operations(since, DESTINATION, Kind::Flush).len(), 1);
    });
}

#[test]
fn status_without_changes_writes_nothing() {
    Scene::new(&plan()).play(|user| async move {
        user.write(0..8, false).await.unwrap();
        let since = user.log_len();
        user.engine().commit_now().await;
        assert_eq!(commits_in_order(&user, since), 1);
        let since = user.log_len();
        user.engine().commit_now().await;
        assert_eq!(user.log_len(), since);
    });
}

#[test]
fn flushes_that_arrive_during_a_commit_share_the_next() {
    Scene::new(&plan()).play(|user| async move {
        let since = user.log_len();
        user.machine.destination.hold(&[Kind::Flush]);
        let flushers: Vec<_> = (0..32)
            .map(|region| {
                let other = user.clone();
                user.beside(async move {
                    other
                        .write(region * 8..region * 8 + 8, false)
                        .await
                        .unwrap();
                    other.flush().await.unwrap();
                })
            })
            .collect();
        let destination = user.machine.destination.clone();
        user.until(1, || destination.held() > 0).await;
        user.seconds(1).await;
        destination.release();
        for flusher in flushers {
            flusher.await;
        }
        let commits = commits_in_order(&user, since);
        assert!(commits <= 3, "{commits} commits");
    });
}

#[test]
fn fua_writes_commit_what_they_hydrate() {
    Scene::new(&plan()).play(|user| async move {
        for (sectors, region) in [(0..8, 0), (9..10, 1)] {
            let since = user.log_len();
            user.write(sectors, true).await.unwrap();
            assert_eq!(commits_in_order(&user, since), 1);
            let image = user
                .machine
                .world
                .survivors(&[sim::disk::Survival::Lost; 3], &mut sim::Rng::new(0));
            let bits = clone_sim::inspect::metadata(&image[METADATA])
                .unwrap()
                .unwrap();
            assert!(bits[region]);
        }
        // Nothing to commit: straight to the destination.
        let since = user.log_len();
        user.write(0..4, true).await.unwrap();
        assert_eq!(user.log_len(), since + 1);
    });
}

#[test]
fn hydration_commits_in_order_and_raises_one_event() {
    Scene::new(&plan()).play(|user| async move {
        let since = user.log_len();
        user.engine().message(Message::EnableHydration);
        let volume = user.engine().volume().clone();
        user.until(10, || volume.map().is_complete()).await;
        user.seconds(3).await;
        assert!(commits_in_order(&user, since) > 0);
        assert_eq!(user.machine.events(), 1);
        let table = user.machine.load().await.unwrap();
        user.machine.switch(table).await.unwrap();
        user.write(0..100, true).await.unwrap();
        user.seconds(3).await;
        assert_eq!(user.machine.events(), 1);
        let since = user.log_len();
        user.seconds(10).await;
        assert_eq!(user.log_len(), since);
    });
}
