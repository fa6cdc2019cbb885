// SPDX-License-Identifier: GPL-2.0

//! Random workloads, faults and crashes, on several CPUs.

use clone_sim::random;
use sim::harness;

#[test]
fn eight_thousand_seeds() {
    harness::run_seeds(
        harness::seeds(8_000),
        "cargo test -p clone_sim --test preempted",
        |seed| random::run_preempted(seed, None),
    );
}
