// SPDX-License-Identifier: GPL-2.0

//! A request costs the same, whatever number waits with it.

use super::*;
use crate::fixture::crowd::Crowd;
use crate::fixture::crowd::CROWDS;

#[test]
fn who_waits_for_a_commit_waits_alone() {
    for count in CROWDS {
        let rig = Rig::new();
        let mut executor = rig.executor();
        let end = rig.fill(3);
        let mut crowd = Crowd::new(count, |_| async {
            rig.journal.commit(end).await.unwrap();
        });
        executor.run_until(|_| rig.journal.committed() == end);
        crowd.run();
        assert_eq!(crowd.left(), 0);
        crowd.check(2, 10);
    }
}

#[test]
fn who_waits_for_counts_waits_alone() {
    for count in CROWDS {
        let rig = Rig::new();
        let mut executor = rig.executor();
        let end = rig.fill(3);
        let mut crowd = Crowd::new(count, |_| async {
            rig.journal.applied(end).await.unwrap();
        });
        executor.run_for(100_000);
        crowd.run();
        assert_eq!(crowd.left(), 0);
        crowd.check(2, 10);
    }
}

/// What is committed meanwhile costs nothing to those who wait for more, in whatever order they came.
#[test]
fn commits_cost_the_same_whatever_number_waits_for_later_ones() {
    for count in CROWDS {
        let rig = Rig::new();
        let mut executor = rig.executor();
        rig.fill(1);
        let mut crowd = Crowd::new(count, |index| {
            let place = START * PER_BLOCK + 30 + (index as u64 * 7) / count as u64;
            let journal = &rig.journal;
            async move { journal.commit(Position::new(place)).await.unwrap() }
        });
        crowd.check(1, 10);
        for _ in 0..25 {
            let end = rig.fill(1);
            executor.run_until(|_| rig.journal.committed() == end);
        }
        let steps = runtime::steps::take();
        assert!(steps.all < 1000, "{steps:?} for {count}");
        crowd.run();
        assert_eq!((crowd.left(), crowd.polls), (count, count as u64));
        for _ in 0..11 {
            let end = rig.fill(1);
            executor.run_until(|_| rig.journal.committed() == end);
            crowd.run();
        }
        assert_eq!(crowd.left(), 0);
        crowd.check(2, 10);
    }
}

/// One who comes for an older place than those who wait is not forgotten behind them.
#[test]
fn who_waits_for_less_goes_first() {
    let rig = Rig::new();
    let mut executor = rig.executor();
    let early = rig.fill(1);
    let journal = &rig.journal;
    let late = Position::new(early.get() + 5);
    let mut crowd = Crowd::new(2, |index| {
        let position = [late, early][index];
        async move { journal.commit(position).await.unwrap() }
    });
    executor.run_until(|_| journal.committed() == early);
    crowd.run();
    assert_eq!(crowd.left(), 1);
    rig.fill(5);
    executor.run_for(20_000);
    crowd.run();
    assert_eq!(crowd.left(), 0);
}

#[test]
fn who_waits_for_room_waits_alone() {
    for count in CROWDS {
        let rig = Rig::new();
        let mut executor = rig.executor();
        let journal = &rig.journal;
        // All memory is reserved.
        let first = now(journal.reserve(10)).unwrap();
        let second = now(journal.reserve(1000)).unwrap();
        let mut crowd = Crowd::new(count, |index| async move {
            let places = journal.reserve(1).await.unwrap();
            journal.fill(places, &[entry(index as u64 % 100)]);
        });
        assert_eq!(crowd.left(), count);
        for places in [first, second] {
            let entries: Vec<_> = (0..places.len() as u64).map(entry).collect();
            journal.fill(places, &entries);
        }
        while crowd.left() > 0 {
            let left = crowd.left();
            executor.run_for(200_000);
            crowd.run();
            assert!(crowd.left() < left, "{left} of {count} wait for ever");
        }
        crowd.check(3, 20);
    }
}

#[test]
fn the_end_of_all_wakes_everybody_who_waits() {
    let rig = Rig::new();
    let journal = &rig.journal;
    let end = rig.fill(3);
    let mut crowd = Crowd::new(1000, |index| async move {
        let error = match index % 3 {
            0 => journal.commit(end).await,
            1 => journal.applied(end).await,
            _ => journal.reserve(100_000).await.map(drop),
        };
        assert!(index == 2 || error == Err(Error::READ_ONLY));
    });
    rig.health.enter_read_only(Error::READ_ONLY);
    journal.wake_all();
    crowd.run();
    assert_eq!(crowd.left(), 0);
}
