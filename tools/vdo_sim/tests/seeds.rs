// SPDX-License-Identifier: GPL-2.0

//! Random workloads, faults and crashes.

use sim::harness;
use vdo_sim::random;

#[test]
fn twelve_thousand_seeds() {
    harness::run_seeds(
        harness::seeds(12_000),
        "cargo test -p vdo_sim --test seeds",
        |seed| random::run(seed, None),
    );
}

#[test]
fn volumes_that_mainline_wrote() {
    harness::run_seeds(
        harness::seeds(500),
        "cargo test -p vdo_sim --test seeds volumes",
        random::run_inherited,
    );
}
