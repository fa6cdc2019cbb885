// SPDX-License-Identifier: GPL-2.0

//! Volumes of the old manager that were converted for LVM.

use sim::harness;
use vdo_sim::converted;
use vdo_sim::converted::Physical;
use vdo_sim::used;

#[test]
fn a_converted_volume_starts_recovers_and_grows() {
    let kinds = used::ALL.len() as u64;
    harness::run_seeds(
        harness::seeds(20 * kinds),
        "cargo test -p vdo_sim --test converted",
        |seed| {
            let left = used::ALL[(seed % kinds) as usize];
            converted::run(seed, left, Physical::Less)?;
            converted::run(seed, left, Physical::Same)
        },
    );
}
