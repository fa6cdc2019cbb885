// SPDX-License-Identifier: GPL-2.0

use super::acquire;
use super::overlap;
use super::try_acquire;
use super::RangeLock;
use crate::steps;
use crate::tests::block_on;
use crate::tests::Hand;
use core::cell::Cell;
use core::future::poll_fn;
use core::future::Future;
use core::ops::Range;
use core::pin::pin;
use core::task::Context;
use core::task::Poll;
use core::task::Waker;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::sync::Mutex;
use std::task::Wake;
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
        self.poll_if_woken();
        self.held.get()
    }

    fn poll_if_woken(&mut self) -> bool {
        let woken = self.task.wakes() > 0;
        if woken {
            self.task.poll();
        }
        woken
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
        1 => Just(Action::Claim(0..24)),
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
        actions in prop::collection::vec(actions(), 1..80),
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
            while claims.iter_mut().any(|(holder, _)| holder.poll_if_woken()) {}
            for index in 0..claims.len() {
                let (earlier, rest) = claims.split_at_mut(index);
                let (holder, range) = &mut rest[0];
                let free = !earlier.iter().any(|(_, other)| overlap(other, range));
                prop_assert_eq!(holder.settle(), free, "claim {} of {:?}", index, range);
            }
        }
    }
}

/// A claim of a crowd was woken.
struct Bell {
    index: usize,
    woken: Arc<Mutex<VecDeque<usize>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap().push_back(self.index);
    }
}

/// What each claim of a crowd costs.
#[derive(Debug)]
struct Cost {
    steps: u64,
    polls: u64,
    /// The most steps while the lock was held once.
    longest: u64,
}

/// Makes all the claims at once, and ends one after the other of those that are held, as `pick`
/// picks among so many.
fn cost_of(ranges: &[Range<u64>], mut pick: impl FnMut(usize) -> usize) -> Cost {
    let lock = RangeLock::below(1 << 31);
    let mut claims: Vec<_> = ranges
        .iter()
        .map(|range| Some(Box::pin(lock.claim(range.clone()))))
        .collect();
    let woken = Arc::new(Mutex::new((0..claims.len()).collect::<VecDeque<_>>()));
    let (mut held, mut ended, mut polls) = (Vec::new(), 0, 0);
    steps::take();
    let next = || woken.lock().unwrap().pop_front();
    while ended < claims.len() {
        while let Some(index) = next() {
            polls += 1;
            let bell = Bell {
                index,
                woken: woken.clone(),
            };
            let waker = Waker::from(Arc::new(bell));
            let claim = claims[index].as_ref().unwrap().as_ref();
            let mut claim = pin!(acquire(claim));
            if claim
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                held.push(index);
            }
        }
        assert!(!held.is_empty(), "nothing is held, and {ended} have ended");
        claims[held.swap_remove(pick(held.len()))] = None;
        ended += 1;
    }
    let count = claims.len() as u64;
    let made = steps::take();
    Cost {
        steps: made.all / count,
        polls: polls / count,
        longest: made.longest,
    }
}

/// The kinds of crowds that a clone sees.
fn crowds(count: u64) -> Vec<(&'static str, Vec<Range<u64>>)> {
    let scattered = |index: u64| index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 34;
    let one = |start: u64| start..start + 1;
    let first = |range: Range<u64>| core::iter::once(range);
    std::vec![
        ("neighbours", (0..count).map(one).collect()),
        (
            "all over the place",
            (0..count).map(|at| one(scattered(at))).collect()
        ),
        ("all on one", (0..count).map(|_| one(7)).collect()),
        (
            "behind a run",
            first(0..128)
                .chain((1..count).map(|at| one(at % 128)))
                .collect()
        ),
        (
            "behind everything",
            first(0..1 << 30).chain((1..count).map(one)).collect()
        ),
        (
            "everything behind them",
            (1..count).map(one).chain(first(0..1 << 30)).collect()
        ),
        (
            "runs",
            (0..count)
                .map(|at| scattered(at) & !127..(scattered(at) | 127) + 1)
                .collect()
        ),
        (
            "each over the next",
            (0..count).map(|at| at..at + 2).collect()
        ),
        (
            "each over the next, backwards",
            (0..count).rev().map(|at| at..at + 2).collect()
        ),
        (
            "all of them nested",
            (0..count).map(|at| at..2 * count - at).collect()
        ),
        (
            "nested, the small ones first",
            (0..count).rev().map(|at| at..2 * count - at).collect()
        ),
        (
            "with the same start",
            (0..count).map(|at| 0..at + 1).collect()
        ),
    ]
}

/// Returns what each claim of a crowd costs if those that are held end in any order.
fn cost_by_chance(ranges: &[Range<u64>]) -> Cost {
    let mut chance = 1_u64;
    cost_of(ranges, |among| {
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (chance >> 33) as usize % among
    })
}

#[test]
fn what_a_claim_costs_does_not_depend_on_how_many_there_are() {
    for which in 0..crowds(1).len() {
        let costs = [10, 1_000, 50_000].map(|count| {
            let (name, ranges) = crowds(count).swap_remove(which);
            let cost = cost_by_chance(&ranges);
            // Twice the bits of a range, and a few.
            assert!(cost.longest <= 3 * 62, "{name}, {count}: {cost:?}");
            assert!(cost.polls <= 10, "{name}, {count}: {cost:?}");
            (name, cost.steps)
        });
        let [_, (name, of_thousand), (_, of_many)] = costs;
        assert!(
            of_many <= 2 * of_thousand,
            "{name}: {of_many} steps instead of {of_thousand}"
        );
    }
}
