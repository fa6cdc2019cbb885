// SPDX-License-Identifier: GPL-2.0

//! The primitives that tasks wait with, between threads.

#![cfg(loom)]

use interleavings::block_on;
use interleavings::explore;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::oneshot::Oneshot;
use runtime::range_lock::acquire;
use runtime::range_lock::RangeLock;
use std::pin::pin;

/// A number that rises.
struct Level(u32);

impl Rules for Level {
    type Key = u32;

    fn left(&mut self, _: &u32, _: &mut Entries<'_, u32>) {}
}

async fn reach(monitor: &Monitor<Level>, level: u32) {
    let entry = pin!(monitor.entry(level));
    entry
        .as_ref()
        .wait(|turn| (turn.state.0 >= *turn.key).then_some(()))
        .await;
}

#[test]
fn who_waits_is_woken() {
    explore(3, || {
        let monitor = Arc::new(Monitor::new(Level(0)));
        let waiters = [1, 2].map(|level| {
            let monitor = monitor.clone();
            thread::spawn(move || block_on(reach(&monitor, level)))
        });
        for _ in 0..2 {
            monitor.with(|level, waiting| {
                level.0 += 1;
                waiting.wake_where(|wanted| *wanted <= level.0);
            });
        }
        waiters
            .into_iter()
            .for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn a_value_reaches_its_receiver() {
    explore(3, || {
        let oneshot = Arc::new(Oneshot::new());
        let sender = oneshot.clone();
        let sender = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(oneshot.recv()), 7);
        sender.join().unwrap();
    });
}

/// A mutex made of a range lock: loom fails the test if two are inside at once.
struct Guarded {
    lock: RangeLock,
    inside: UnsafeCell<u32>,
}

impl Guarded {
    async fn enter(&self, range: std::ops::Range<u64>) {
        let claim = pin!(self.lock.claim(range));
        acquire(claim.as_ref()).await;
        // SAFETY: That nobody else is inside is what is being tested.
        self.inside.with_mut(|inside| unsafe { *inside += 1 });
    }
}

#[test]
fn claims_exclude_each_other_and_end() {
    explore(3, || {
        let guarded = Guarded {
            lock: RangeLock::new(),
            inside: UnsafeCell::new(0),
        };
        let guarded = Arc::new(guarded);
        let other = guarded.clone();
        let other = thread::spawn(move || block_on(other.enter(0..4)));
        block_on(guarded.enter(2..6));
        other.join().unwrap();
        // SAFETY: Both are through.
        assert_eq!(guarded.inside.with(|inside| unsafe { *inside }), 2);
    });
}
