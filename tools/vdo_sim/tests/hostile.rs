// SPDX-License-Identifier: GPL-2.0

//! Volumes with any field changed.

use sim::harness;
use vdo_sim::hostile;

#[test]
fn whatever_a_device_says_nothing_panics_or_hangs_or_is_written_elsewhere() {
    harness::run_seeds(
        harness::seeds(3000),
        "cargo test -p vdo_sim --test hostile",
        |seed| hostile::run(&seed.to_le_bytes()),
    );
}
