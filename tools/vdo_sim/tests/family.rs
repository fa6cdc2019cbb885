// SPDX-License-Identifier: GPL-2.0

//! Short workloads, each crashed at every moment.

use sim::harness;
use vdo_sim::every;
use vdo_sim::every::Tried;
use vdo_sim::script;

#[test]
fn every_script_crashed_at_every_moment() {
    let scripts = script::family();
    let tried = Tried::new(400);
    harness::run_seeds(
        harness::one_of(0..scripts.len() as u64),
        "cargo test -p vdo_sim --test family",
        |number| every::run(&scripts[number as usize], 1, &tried),
    );
    println!(
        "{} scripts, {} different crashes",
        scripts.len(),
        tried.count()
    );
}
