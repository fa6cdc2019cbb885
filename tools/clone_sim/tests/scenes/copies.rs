// SPDX-License-Identifier: GPL-2.0

//! Hydration: how much is in flight, what it does about errors and users.

use clone::geometry::Geometry;
use clone::message::Message;
use clone_sim::scene::plan;
use clone_sim::scene::Scene;
use clone_sim::scene::SOURCE;
use kernel::prelude::*;
use sim::fault::Fault;
use sim::fault::Kind;

/// Returns how many regions are in flight once hydration stands still on a held source, and in
/// how many reads.
fn in_flight(threshold: Option<u32>, batch_size: Option<u32>) -> (u64, usize) {
    let mut plan = plan();
    plan.workers = (16, 4);
    Scene::new(&plan).play(move |user| async move {
        user.machine.source.hold(&[Kind::Read]);
        let engine = user.engine();
        threshold
            .map(Message::Threshold)
            .into_iter()
            .for_each(|set| engine.message(set));
        batch_size
            .map(Message::BatchSize)
            .into_iter()
            .for_each(|set| engine.message(set));
        let since = user.log_len();
        engine.message(Message::EnableHydration);
        user.seconds(3).await;
        let reads = user.operations(since, SOURCE, Kind::Read);
        let regions = reads.iter().map(|read| read.sectors / 8).sum();
        assert_eq!(engine.hydrating(), regions);
        engine.message(Message::DisableHydration);
        user.machine.source.release();
        user.until(10, || engine.hydrating() == 0).await;
        // What was running has finished, and nothing new has started.
        assert_eq!(engine.volume().map().hydrated(), regions);
        (regions, reads.len())
    })
}

#[test]
fn stated_values_are_exact_caps() {
    assert_eq!(in_flight(Some(0), None).0, 0);
    assert_eq!(in_flight(Some(1), Some(1)), (1, 1));
    assert_eq!(in_flight(Some(2), Some(1)), (2, 2));
    assert_eq!(in_flight(Some(8), Some(1)), (8, 8));
    assert_eq!(in_flight(Some(8), Some(4)), (8, 2));
    assert_eq!(in_flight(Some(8), Some(100)), (8, 1));
    assert_eq!(in_flight(Some(5), Some(0)), (5, 5));
}

#[test]
fn without_values_neighbours_go_together() {
    let (regions, reads) = in_flight(None, None);
    assert_eq!((regions, reads), (64, 1));
}

#[test]
fn one_bad_sector_leaves_one_region() {
    Scene::new(&plan()).play(|user| async move {
        user.machine
            .world
            .add_fault(Fault::new(SOURCE, &[Kind::Read]).sectors(300..301));
        user.engine().message(Message::EnableHydration);
        let volume = user.engine().volume().clone();
        user.until(10, || volume.map().hydrated() == 63).await;
        assert!(!volume.map().is_hydrated(300 / 8));
        let since = user.log_len();
        user.seconds(10).await;
        let retries = user.operations(since, SOURCE, Kind::Read).len();
        assert!((1..=20).contains(&retries), "{retries} retries in 10 s");
        // A whole write needs no source.
        user.write(296..304, false).await.unwrap();
        assert!(volume.map().is_complete());
    });
}

#[test]
fn a_dead_source_is_retried_now_and_then() {
    Scene::new(&plan()).play(|user| async move {
        user.machine
            .world
            .add_fault(Fault::new(SOURCE, &[Kind::Read]));
        user.engine().message(Message::EnableHydration);
        user.seconds(2).await;
        let since = user.log_len();
        user.seconds(20).await;
        let retries = user.operations(since, SOURCE, Kind::Read).len();
        assert!((1..=2000).contains(&retries), "{retries} retries in 20 s");
        assert!(user.write(1..2, false).await.is_err());
        user.write(0..8, false).await.unwrap();
        user.machine.world.clear_faults();
        let volume = user.engine().volume().clone();
        user.until(10, || volume.map().is_complete()).await;
    });
}

#[test]
fn busy_users_do_not_starve_hydration() {
    Scene::new(&plan()).play(|user| async move {
        user.write(0..64, false).await.unwrap();
        let volume = user.engine().volume().clone();
        let busy: Vec<_> = (0..4)
            .map(|index| {
                let (other, volume) = (user.clone(), volume.clone());
                user.beside(async move {
                    while !volume.map().is_complete() {
                        let sector = index * 8;
                        other.read(sector..sector + 8).await.unwrap();
                    }
                })
            })
            .collect();
        let start = user.machine.world.now();
        user.engine().message(Message::EnableHydration);
        user.until(10, || volume.map().is_complete()).await;
        let took = user.machine.world.now() - start;
        assert!(took < 1_000_000, "56 regions took {took} us");
        for task in busy {
            task.await;
        }
    });
}

/// Returns how long 64 single copies take that last `copy_ms` each.
fn duration_ms(copy_ms: u64, throttle_percent: u32) -> u64 {
    let plan = clone_sim::machine::Plan {
        throttle_percent,
        ..plan()
    };
    Scene::new(&plan).play(move |user| async move {
        let latency = copy_ms * 1000;
        user.machine.source.set_latency(latency..latency + 1);
        user.machine.destination.set_latency(1..2);
        let start = user.machine.world.now();
        user.engine().message(Message::Threshold(1));
        user.engine().message(Message::BatchSize(1));
        user.engine().message(Message::EnableHydration);
        let volume = user.engine().volume().clone();
        user.until(10_000, || volume.map().is_complete()).await;
        (user.machine.world.now() - start) / 1000
    })
}

#[test]
fn the_throttle_stretches_hydration() {
    for copy_ms in [2, 10, 100] {
        for percent in [150, 100, 50, 20, 10] {
            let wanted = 64 * copy_ms * 100 / percent.min(100);
            let took = duration_ms(copy_ms, percent as u32);
            // The clock counts whole milliseconds.
            let allowed = wanted * 9 / 10..wanted * 12 / 10;
            assert!(
                allowed.contains(&took),
                "{copy_ms} ms at {percent} %: {took} ms"
            );
        }
    }
    // Copies as slow as that are put off for a while, but not for minutes.
    let rising = [100, 50, 20, 10].map(|percent| duration_ms(1000, percent));
    assert!(
        rising.is_sorted() && rising[3] > 2 * rising[0],
        "{rising:?}"
    );
}

#[test]
fn no_throttle_puts_a_user_off_for_ever() {
    let plan = clone_sim::machine::Plan {
        throttle_percent: 0,
        ..plan()
    };
    Scene::new(&plan).play(|user| async move {
        user.machine.source.set_latency(10_000..10_001);
        user.engine().message(Message::EnableHydration);
        user.seconds(3).await;
        let start = user.machine.world.now();
        user.write(100..101, false).await.unwrap();
        assert!(user.machine.world.now() - start < 2_000_000);
        user.machine.remove().await;
        assert!(user.machine.world.now() - start < 4_000_000);
    });
}

#[test]
fn a_reload_waits_for_copies() {
    Scene::new(&plan()).play(|user| async move {
        user.machine.source.hold(&[Kind::Read]);
        user.engine().message(Message::EnableHydration);
        let source = user.machine.source.clone();
        user.until(1, || source.held() > 0).await;
        let table = user.machine.load().await.unwrap();
        let machine = user.machine.clone();
        let reload = user.beside(async move { machine.switch(table).await });
        let machine = user.machine.clone();
        user.until(1, || machine.suspended.get()).await;
        // A copy of the old table would undo what is written through the new one.
        let other = user.clone();
        let write = user.beside(async move { other.write(0..8, false).await });
        user.seconds(2).await;
        assert!(!reload.is_done());
        source.release();
        reload.await.unwrap();
        write.await.unwrap();
        user.seconds(1).await;
        user.read(0..8).await.unwrap();
    });
}

#[test]
fn suspend_waits_for_copies_and_nothing_runs_after_it() {
    Scene::new(&plan()).play(|user| async move {
        user.machine.source.hold(&[Kind::Read]);
        user.engine().message(Message::Threshold(4));
        user.engine().message(Message::EnableHydration);
        let source = user.machine.source.clone();
        user.until(1, || source.held() > 0).await;
        let machine = user.machine.clone();
        let removed = user.beside(async move { machine.remove().await });
        user.seconds(2).await;
        assert!(!removed.is_done());
        source.release();
        assert!(removed.await);
        let since = user.log_len();
        user.seconds(5).await;
        assert_eq!(user.log_len(), since);
    });
}

/// A clone of 8 regions of 64 sectors that are copied in pieces of 8.
fn in_pieces() -> clone_sim::machine::Plan {
    let mut plan = plan();
    plan.geometry = Geometry::new(8 * 64, 6).expect("a small device");
    plan.settings.large_pages = 1;
    plan
}

#[test]
fn a_region_is_copied_in_pieces_by_several_workers() {
    Scene::new(&in_pieces()).play(|user| async move {
        let source = user.machine.source.clone();
        source.hold(&[Kind::Read]);
        let since = user.log_len();
        let other = user.clone();
        let write = user.beside(async move { other.write(70..71, false).await });
        user.until(1, || source.held() == 6).await;
        let volume = user.engine().volume().clone();
        for _ in 0..7 {
            source.release_some(1);
            user.seconds(1).await;
            assert!(!volume.map().is_hydrated(1));
        }
        source.release();
        write.await.unwrap();
        let reads = user.operations(since, SOURCE, Kind::Read);
        let mut pieces: Vec<_> = reads
            .iter()
            .map(|read| (read.sector, read.sectors))
            .collect();
        pieces.sort_unstable();
        assert!(pieces
            .into_iter()
            .eq((64..128).step_by(8).map(|sector| (sector, 8))));
        user.read(0..512).await.unwrap();
    });
}

#[test]
fn a_piece_that_fails_ends_the_copy_and_nothing_is_marked() {
    Scene::new(&in_pieces()).play(|user| async move {
        let source = user.machine.source.clone();
        source.hold(&[Kind::Read]);
        user.machine
            .world
            .add_fault(Fault::new(SOURCE, &[Kind::Read]).sectors(65..66));
        let since = user.log_len();
        let other = user.clone();
        let write = user.beside(async move { other.write(70..71, false).await });
        user.until(1, || source.held() == 6).await;
        source.release_some(1);
        user.seconds(1).await;
        // What is under way is waited for, and no more is begun.
        assert!(!write.is_done());
        assert_eq!(user.operations(since, SOURCE, Kind::Read).len(), 6);
        source.release();
        assert_eq!(write.await, Err(EIO));
        assert_eq!(user.operations(since, SOURCE, Kind::Read).len(), 6);
        assert_eq!(user.engine().volume().map().hydrated(), 0);
        user.read(0..64).await.unwrap();
        user.machine.world.clear_faults();
        user.write(70..71, false).await.unwrap();
        user.read(0..512).await.unwrap();
    });
}

#[test]
fn a_write_waits_for_the_copy_that_it_met_and_not_for_its_retries() {
    Scene::new(&plan()).play(|user| async move {
        let source = user.machine.source.clone();
        source.hold(&[Kind::Read]);
        user.machine
            .world
            .add_fault(Fault::new(SOURCE, &[Kind::Read]).sectors(20..21));
        user.engine().message(Message::EnableHydration);
        user.until(1, || source.held() == 1).await;
        let since = user.log_len();
        let other = user.clone();
        // A part of region 50, and all of region 40.
        let part = user.beside(async move { other.write(401..402, false).await });
        let other = user.clone();
        let whole = user.beside(async move { other.write(320..328, false).await });
        user.seconds(1).await;
        assert!(!part.is_done() && !whole.is_done());
        // The copy of all fails, and its first half is tried.
        source.release_some(1);
        whole.await.unwrap();
        user.until(1, || source.held() == 2).await;
        let reads = user.operations(since, SOURCE, Kind::Read);
        let mut reads: Vec<_> = reads
            .iter()
            .map(|read| (read.sector, read.sectors))
            .collect();
        reads.sort_unstable();
        assert_eq!(reads, [(0, 256), (400, 8)]);
        source.release();
        part.await.unwrap();
        let volume = user.engine().volume().clone();
        user.until(10, || volume.map().hydrated() == 63).await;
        // No piece of a retry undid what was written.
        user.read(24..512).await.unwrap();
    });
}
