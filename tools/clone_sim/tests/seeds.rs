// SPDX-License-Identifier: GPL-2.0

//! Random workloads, faults and crashes.

use clone_sim::random;
use sim::harness;

#[test]
fn ten_thousand_seeds() {
    harness::run_seeds(
        harness::seeds(10_000),
        "cargo test -p clone_sim --test seeds",
        |seed| random::run(seed, None),
    );
}
