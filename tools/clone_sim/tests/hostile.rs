// SPDX-License-Identifier: GPL-2.0

//! Clones whose metadata has any field changed.

use clone_sim::hostile;
use sim::harness;

#[test]
fn whatever_the_metadata_says_nothing_panics_or_hangs_or_is_written_elsewhere() {
    harness::run_seeds(
        harness::seeds(3000),
        "cargo test -p clone_sim --test hostile",
        |seed| hostile::run(&seed.to_le_bytes()),
    );
}
