// SPDX-License-Identifier: GPL-2.0

//! Random workloads, faults and crashes, on several CPUs.

use sim::harness;
use vdo_sim::random;

#[test]
fn six_thousand_seeds() {
    harness::run_seeds(
        harness::seeds(6_000),
        "cargo test -p vdo_sim --test preempted",
        |seed| random::run_preempted(seed, None),
    );
}
