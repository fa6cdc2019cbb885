// SPDX-License-Identifier: GPL-2.0

use super::acquire;
use super::overlap;
use super::try_acquire;
use super::RangeLock;
use crate::tests::block_on;
use crate::tests::Hand;
use core::cell::Cell;
use core::future::poll_fn;
use core::ops::Range;
use core::pin::pin;
use core::task::Poll;
use proptest::prelude::*;
use std::boxed::Box;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::vec::Vec;

/// A task that holds a range until it is told otherwise.
struct Holder<'l> {
    task: Hand<'l, ()>,
    held: Rc<Cell<bool>>,
    is_done: Rc<Cell<bool>>,
}

impl<'l> Holder<'l> {
    /// Makes a claim and polls it once.
    fn start(lock: &'l RangeLock, range: Range<u64>) -> Self {
        let held = Rc::new(Cell::new(false));
        let is_done = Rc::new(Cell::new(false));
        let (told_held, told_done) = (held.clone(), is_done.clone());
        let mut task = Hand::new(async move {
            let claim = pin!(lock.claim(range));
            acquire(claim.as_ref()).await;
            told_held.set(true);
            poll_fn(|_| match told_done.get() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
        });
        task.poll();
        Self {
            task,
            held,
            is_done,
        }
    }

    fn release(&mut self) {
        assert!(self.held.get());
        self.is_done.set(true);
        self.task.poll();
    }

    /// Polls the task if it was woken, and returns true if it holds its range.
    fn settle(&mut self) -> bool {
        if self.task.wakes() > 0 {
            self.task.poll();
        }
        self.held.get()
    }
}

#[test]
fn overlapping_claims_wait_and_others_do_not() {
    let lock = RangeLock::new();
    let mut first = Holder::start(&lock, 0..4);
    let mut second = Holder::start(&lock, 3..6);
    let mut apart = Holder::start(&lock, 6..8);
    assert!(first.settle() && !second.settle() && apart.settle());
    first.release();
    assert!(second.settle());
}

#[test]
fn a_claim_does_not_overtake_a_waiter() {
    let lock = RangeLock::new();
    let mut first = Holder::start(&lock, 0..4);
    let mut waiter = Holder::start(&lock, 2..8);
    let mut late = Holder::start(&lock, 6..8);
    assert!(!waiter.settle() && !late.settle());
    first.release();
    assert!(waiter.settle() && !late.settle());
    waiter.release();
    assert!(late.settle());
}

#[test]
fn a_waiter_that_goes_away_lets_others_through() {
    let lock = RangeLock::new();
    let _first = Holder::start(&lock, 0..4);
    let waiter = Holder::start(&lock, 2..8);
    let mut late = Holder::start(&lock, 6..8);
    drop(waiter);
    assert!(late.settle());
}

#[test]
fn try_acquire_takes_or_leaves() {
    let lock = RangeLock::new();
    let claim = pin!(lock.claim(0..4));
    assert!(try_acquire(claim.as_ref()));
    let failed = pin!(lock.claim(2..8));
    assert!(!try_acquire(failed.as_ref()));
    // What failed stands in nobody's way, though it still exists.
    let other = pin!(lock.claim(4..8));
    assert!(try_acquire(other.as_ref()));
}

#[test]
fn threads_exclude_each_other() {
    let lock = RangeLock::new();
    let busy = [(); 4].map(|()| AtomicBool::new(false));
    thread::scope(|scope| {
        for start in 0..4 {
            let (lock, busy) = (&lock, &busy);
            scope.spawn(move || {
                let range = start.min(2)..(start + 2).min(4);
                for _ in 0..500 {
                    block_on(async {
                        let claim = pin!(lock.claim(range.clone()));
                        acquire(claim.as_ref()).await;
                        for index in range.clone() {
                            assert!(!busy[index as usize].swap(true, Ordering::SeqCst));
                        }
                        for index in range.clone() {
                            assert!(busy[index as usize].swap(false, Ordering::SeqCst));
                        }
                    });
                }
            });
        }
    });
}

/// What a test does to the lock; indices are taken modulo the claims there are.
#[derive(Clone, Debug)]
enum Action {
    Claim(Range<u64>),
    Release(usize),
    GiveUpWaiting(usize),
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (0..16_u64, 0..8_u64).prop_map(|(start, len)| Action::Claim(start..start + len)),
        1 => any::<usize>().prop_map(Action::Release),
        1 => any::<usize>().prop_map(Action::GiveUpWaiting),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A claim is held if and only if no earlier claim overlaps it: nobody is let in too early,
    /// and everybody whose turn has come was woken.
    #[test]
    fn held_is_who_has_no_earlier_overlap(
        actions in prop::collection::vec(actions(), 1..40),
    ) {
        let lock = Box::new(RangeLock::new());
        let mut claims: Vec<(Holder<'_>, Range<u64>)> = Vec::new();
        for action in actions {
            let pick = |who: usize, held: bool, claims: &[(Holder<'_>, Range<u64>)]| {
                let all = claims.iter().enumerate();
                let fit: Vec<usize> =
                    all.filter(|(_, claim)| claim.0.held.get() == held).map(|(at, _)| at).collect();
                fit.get(who % fit.len().max(1)).copied()
            };
            match action {
                Action::Claim(range) => {
                    claims.push((Holder::start(&lock, range.clone()), range));
                }
                Action::Release(who) => {
                    if let Some(index) = pick(who, true, &claims) {
                        claims.remove(index).0.release();
                    }
                }
                Action::GiveUpWaiting(who) => {
                    if let Some(index) = pick(who, false, &claims) {
                        claims.remove(index);
                    }
                }
            }
            for index in 0..claims.len() {
                let (earlier, rest) = claims.split_at_mut(index);
                let (holder, range) = &mut rest[0];
                let free = !earlier.iter().any(|(_, other)| overlap(other, range));
                prop_assert_eq!(holder.settle(), free, "claim {} of {:?}", index, range);
            }
        }
    }
}
