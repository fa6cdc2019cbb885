// SPDX-License-Identifier: GPL-2.0

//! Random workloads, faults and crashes, on several CPUs.

use sim::harness;
use vdo_sim::random;

#[test]
fn twelve_thousand_seeds() {
    harness::run_seeds(
        harness::seeds(12_000),
        "cargo test -p vdo_sim --test preempted",
        |seed| random::run_preempted(seed, None),
    );
}
