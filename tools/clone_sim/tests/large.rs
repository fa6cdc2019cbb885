// SPDX-License-Identifier: GPL-2.0

//! Random workloads, faults and crashes on clones whose commits take several transactions.

use clone_sim::random;
use sim::harness;

#[test]
fn three_thousand_seeds() {
    harness::run_seeds(
        harness::seeds(3_000),
        "cargo test -p clone_sim --test large",
        |seed| random::run_large(seed, None),
    );
}
