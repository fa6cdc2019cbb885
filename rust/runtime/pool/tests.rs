// SPDX-License-Identifier: GPL-2.0

use super::Pool;
use crate::tests::block_on;
use crate::tests::Hand;
use kernel::prelude::*;
use sim::Executor;
use sim::Outcome;
use sim::World;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread;

fn pool_of(things: &[u32]) -> Pool<u32> {
    let mut all = KVec::new();
    all.extend_from_slice(things, GFP_KERNEL).unwrap();
    Pool::new(all)
}

#[test]
fn what_is_there_is_taken_at_once() {
    let pool = pool_of(&[1, 2]);
    assert!(Hand::new(pool.take()).poll().is_some());
    assert!(Hand::new(pool.take()).poll().is_some());
    Hand::waiting(pool.take());
}

#[test]
fn waiters_are_served_in_order_of_arrival() {
    let pool = pool_of(&[7]);
    assert_eq!(Hand::new(pool.take()).poll(), Some(7));
    let mut waiters = [(); 3].map(|()| Hand::waiting(pool.take()));
    for served in 0..3 {
        pool.give(7);
        let wakes = [0, 1, 2].map(|index: usize| waiters[index].wakes());
        assert_eq!(wakes, [0, 1, 2].map(|index| u32::from(index == served)));
        for (index, waiter) in waiters.iter_mut().enumerate().skip(served).rev() {
            assert_eq!(waiter.poll(), (index == served).then_some(7));
        }
    }
}

#[test]
fn nobody_overtakes_who_was_woken() {
    let pool = pool_of(&[7]);
    assert_eq!(Hand::new(pool.take()).poll(), Some(7));
    let mut first = Hand::waiting(pool.take());
    pool.give(7);
    assert_eq!(first.wakes(), 1);
    let mut second = Hand::waiting(pool.take());
    assert_eq!(first.poll(), Some(7));
    assert_eq!(second.wakes(), 0);
    pool.give(7);
    assert_eq!(second.poll(), Some(7));
}

#[test]
fn two_things_that_come_back_at_once_serve_two() {
    let pool = pool_of(&[1, 2]);
    let taken = [(); 2].map(|()| Hand::new(pool.take()).poll().unwrap());
    let mut waiters = [(); 2].map(|()| Hand::waiting(pool.take()));
    taken.into_iter().for_each(|thing| pool.give(thing));
    assert_eq!([waiters[0].wakes(), waiters[1].wakes()], [1, 0]);
    assert!(waiters[0].poll().is_some());
    // The first one passed the wake on when it left.
    assert_eq!(waiters[1].wakes(), 1);
    assert!(waiters[1].poll().is_some());
}

#[test]
fn a_waiter_that_goes_away_passes_its_wake_on() {
    let pool = pool_of(&[7]);
    assert_eq!(Hand::new(pool.take()).poll(), Some(7));
    let first = Hand::waiting(pool.take());
    let mut second = Hand::waiting(pool.take());
    pool.give(7);
    assert_eq!(second.wakes(), 0);
    drop(first);
    assert_eq!(second.wakes(), 1);
    assert_eq!(second.poll(), Some(7));
}

#[test]
fn no_wake_is_lost_in_any_order() {
    for seed in 0..500 {
        let world = World::new(seed);
        let pool = pool_of(&[1, 2]);
        let served = AtomicU32::new(0);
        let mut executor = Executor::new(&world);
        for _ in 0..8 {
            executor.spawn("user", async {
                for _ in 0..4 {
                    let thing = pool.take().await;
                    sim::clock::sleep(&world, thing.into()).await;
                    served.fetch_add(1, Ordering::Relaxed);
                    pool.give(thing);
                }
            });
        }
        assert_eq!(executor.run(), Outcome::Done, "seed {seed}");
        assert_eq!(served.load(Ordering::Relaxed), 32);
    }
}

#[test]
fn threads_share_a_pool_of_one_as_a_mutex() {
    let pool = pool_of(&[0]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let count = block_on(pool.take());
                    pool.give(count + 1);
                }
            });
        }
    });
    assert_eq!(block_on(pool.take()), 4000);
}
