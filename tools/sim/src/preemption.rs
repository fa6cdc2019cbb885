// SPDX-License-Identifier: GPL-2.0

//! Where tasks are interrupted, and for how long.
//!
//! On several CPUs others may do much between two locks that a task takes one after the other. So
//! a task may stop at the edges of locks and atomics while others take a number of steps. Two kinds
//! of faults are looked for: those that a short interruption at any place shows, and those that
//! need a long one at one place, again and again. For the latter a seed picks a few places that are
//! *hot*. A place is a task, what it locks, and the side: each seed has a few of the hundreds.

use crate::rng::mix;
use crate::rng::Rng;
use runtime::preempt;
use runtime::preempt::Edge;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::rc::Rc;

/// Where tasks are interrupted, and for how long.
#[derive(Clone, Debug)]
pub struct Preemption {
    /// Decides all that follows.
    pub rng: Rng,
    /// Of so many edges at any place one is preempted; 0 means none.
    pub one_in: u64,
    /// For at most so many steps.
    pub steps: u64,
    /// Of so many places one is hot; 0 means none.
    pub hot_one_in: u64,
    /// Of a thousand edges at a hot place so many are preempted.
    pub hot_permille: u64,
    /// For at most so many steps.
    pub hot_steps: u64,
    /// Says which places are hot.
    pub salt: u64,
}

/// Runs `f`, a look at things from outside, without being preempted.
pub fn undisturbed<R>(f: impl FnOnce() -> R) -> R {
    preempt::with_hook(Rc::new(|_| ()), f)
}

impl Preemption {
    /// What a seed may ask for.
    pub fn random(rng: &mut Rng) -> Self {
        Self {
            one_in: *rng.pick(&[0, 30, 100, 400]),
            steps: *rng.pick(&[4, 20, 80]),
            hot_one_in: *rng.pick(&[4, 12, 30]),
            hot_permille: *rng.pick(&[30, 200, 700]),
            hot_steps: *rng.pick(&[40, 200, 600]),
            salt: rng.next_u64(),
            rng: rng.fork(),
        }
    }

    /// Returns how many steps others take before `task` goes on at `edge`.
    pub(crate) fn steps(&mut self, task: &str, edge: Edge) -> u64 {
        let mut hasher = DefaultHasher::new();
        (task, edge).hash(&mut hasher);
        let place = mix(hasher.finish() ^ self.salt);
        if self.hot_one_in > 0 && place % self.hot_one_in == 0 {
            if self.rng.chance(self.hot_permille, 1000) {
                return 1 + self.rng.below(self.hot_steps);
            }
        } else if self.one_in > 0 && self.rng.chance(1, self.one_in) {
            return 1 + self.rng.below(self.steps);
        }
        0
    }
}
