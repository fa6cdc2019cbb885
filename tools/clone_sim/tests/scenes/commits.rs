// SPDX-License-Identifier: GPL-2.0

//! Commits: when they happen, what they write in which order, who shares them.

use clone::message::Message;
use clone::volume::Mode;
use clone_sim::machine::Line;
use clone_sim::scene::large_plan;
use clone_sim::scene::plan;
use clone_sim::scene::Scene;
use clone_sim::scene::DESTINATION;
use clone_sim::scene::METADATA;
use clone_sim::scene::SPARE;
use clone_sim::user::User;
use sim::disk::Survival;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::pattern;
use sim::world::Record;
use sim::Rng;

fn completion(record: &Record) -> u64 {
    let (at, result) = record.completed.expect("completed");
    result.expect("no error");
    at
}

/// Checks the order of every transaction since `since`, and returns how many there were.
fn commits_in_order(user: &User, since: usize) -> usize {
    let log: Vec<Record> = user.machine.world.log().into_iter().skip(since).collect();
    let mut blocks: Vec<&Record> = Vec::new();
    let mut before = 0;
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
                    between(DESTINATION, before, first),
                    "no flush of the destination between the transaction before and this one"
                );
                assert!(
                    between(METADATA, last, record.issued),
                    "superblock before its blocks"
                );
                before = completion(record);
                blocks.clear();
            }
            _ => {}
        }
    }
    assert!(blocks.is_empty(), "blocks without a superblock");
    commits
}

/// Returns true if a crash now leaves region `region` hydrated.
fn is_committed(user: &User, region: usize) -> bool {
    let world = &user.machine.world;
    let images = world.survivors(&[Survival::Lost; 4], &mut Rng::new(0));
    let bits = clone_sim::inspect::metadata(&images[METADATA]).unwrap();
    bits.unwrap()[region]
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
            assert!(is_committed(&user, region));
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

#[test]
fn the_status_of_a_table_that_is_only_loaded_commits_nothing() {
    for moves in [false, true] {
        Scene::new(&plan()).play(|user| async move {
            let machine = user.machine.clone();
            let line = Line {
                moves,
                ..Line::default()
            };
            let loaded = machine.load_line(line).await.unwrap();
            user.write(16..24, false).await.unwrap();
            let since = user.log_len();
            machine.status(&loaded, false).await;
            assert_eq!(user.log_len(), since);
            // A flush comes back when the region is on disk, and no earlier.
            machine.metadata.hold(&[Kind::Write]);
            let (other, table) = (user.clone(), loaded.clone());
            let status = user.beside(async move { other.machine.status(&table, false).await });
            status.await;
            let other = user.clone();
            let flush = user.beside(async move { other.flush().await });
            user.until(1, || machine.metadata.held() > 0).await;
            user.seconds(1).await;
            assert!(!flush.is_done());
            machine.metadata.release();
            flush.await.unwrap();
            assert!(is_committed(&user, 2));
            machine.destroy(&loaded).await;
            user.write(24..32, true).await.unwrap();
            assert!(is_committed(&user, 3));
        });
    }
}

#[test]
fn what_a_table_that_is_only_loaded_cannot_flush_is_no_matter() {
    Scene::new(&plan()).play(|user| async move {
        let machine = user.machine.clone();
        machine.world.add_fault(Fault::new(SPARE, &[Kind::Flush]));
        let line = Line {
            moves: true,
            ..Line::default()
        };
        let loaded = machine.load_line(line).await.unwrap();
        user.write(16..24, false).await.unwrap();
        machine.status(&loaded, false).await;
        assert_eq!(user.engine().volume().mode(), Mode::ReadWrite);
        user.flush().await.unwrap();
        assert_eq!(machine.events(), 0);
    });
}

#[test]
fn the_status_of_a_device_that_is_suspended_commits_nothing() {
    Scene::new(&plan()).play(|user| async move {
        let machine = user.machine.clone();
        let loaded = machine.load().await.unwrap();
        user.write(16..24, false).await.unwrap();
        machine.pause().await;
        assert!(is_committed(&user, 2));
        let since = user.log_len();
        machine.status(&machine.active().unwrap(), false).await;
        machine.status(&loaded, false).await;
        assert_eq!(user.log_len(), since);
        machine.switch(loaded).await.unwrap();
        user.write(24..32, true).await.unwrap();
        assert!(is_committed(&user, 3));
    });
}

#[test]
fn a_commit_of_several_transactions_flushes_the_destination_in_each() {
    Scene::new(&large_plan(4)).play(|user| async move {
        // The sea, which nobody sees, is committed first.
        user.flush().await.unwrap();
        let since = user.log_len();
        for block in 0..4 {
            user.write(block * 32..block * 32 + 8, false).await.unwrap();
        }
        user.flush().await.unwrap();
        assert_eq!(commits_in_order(&user, since), 4);
        for block in 0..4 {
            assert!(is_committed(&user, block * 509 * 64));
        }
    });
}

#[test]
fn a_flush_waits_for_every_transaction_of_its_commit() {
    Scene::new(&large_plan(3)).play(|user| async move {
        user.flush().await.unwrap();
        for block in 0..3 {
            user.write(block * 32..block * 32 + 8, false).await.unwrap();
        }
        let metadata = user.machine.metadata.clone();
        metadata.hold(&[Kind::Flush]);
        let other = user.clone();
        let flush = user.beside(async move { other.flush().await });
        // Each transaction flushes its blocks, then its superblock.
        for step in 1..=6 {
            user.until(1, || metadata.held() == 1).await;
            assert!(
                !flush.is_done(),
                "ended before flush {step} of the metadata"
            );
            metadata.release_some(1);
        }
        flush.await.unwrap();
        assert!((0..3).all(|block| is_committed(&user, block * 509 * 64)));
    });
}

#[test]
fn a_flush_reaches_the_destination_though_its_commit_finds_nothing_left_to_write() {
    Scene::new(&large_plan(3)).play(|user| async move {
        user.flush().await.unwrap();
        let metadata = user.machine.metadata.clone();
        user.write(0..8, false).await.unwrap();
        user.write(32..40, false).await.unwrap();
        metadata.hold(&[Kind::Flush]);
        let other = user.clone();
        let first = user.beside(async move { other.flush().await });
        user.until(1, || metadata.held() == 1).await;
        // Comes while the first transaction is written, and is in a later one of the same commit.
        user.write(64..72, false).await.unwrap();
        metadata.release();
        first.await.unwrap();
        assert!(is_committed(&user, 2 * 509 * 64));
        user.write(64..65, false).await.unwrap();
        let since = user.log_len();
        user.flush().await.unwrap();
        let flushes = user.operations(since, DESTINATION, Kind::Flush);
        assert_eq!(flushes.len(), 1);
        assert_eq!(commits_in_order(&user, since), 0);
    });
}

/// Complains of regions that a crash now would leave hydrated and without their data.
fn check_what_is_committed(user: &User) {
    let world = &user.machine.world;
    let images = world.survivors(&[Survival::Lost; 4], &mut Rng::new(0));
    let bits = clone_sim::inspect::metadata(&images[METADATA]).unwrap();
    let bits = bits.unwrap();
    let islands = user.machine.plan.islands().unwrap();
    for sector in (0..user.machine.plan.geometry.length()).step_by(8) {
        let region = islands.place(sector) / 8;
        let start = sector as usize * 512;
        let data = &images[DESTINATION][start..start + 8 * 512];
        assert!(
            !bits[region as usize] || *data != pattern::run(pattern::JUNK, sector, 8),
            "the bit of region {region} is on disk, and its data is not"
        );
    }
}

#[test]
fn what_is_written_during_a_transaction_is_flushed_before_it_is_in_the_next() {
    Scene::new(&large_plan(3)).play(|user| async move {
        user.flush().await.unwrap();
        for block in 0..3 {
            user.write(block * 32..block * 32 + 8, false).await.unwrap();
        }
        let destination = user.machine.destination.clone();
        destination.hold(&[Kind::Flush]);
        let other = user.clone();
        let flush = user.beside(async move { other.flush().await });
        for region in 1..4 {
            user.until(1, || destination.held() == 1).await;
            check_what_is_committed(&user);
            for block in 0..3 {
                let start = block * 32 + region * 8;
                user.write(start..start + 8, false).await.unwrap();
            }
            destination.release_some(1);
        }
        destination.release();
        flush.await.unwrap();
        check_what_is_committed(&user);
        user.flush().await.unwrap();
        check_what_is_committed(&user);
    });
}
