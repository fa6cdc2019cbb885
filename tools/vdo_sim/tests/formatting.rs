// SPDX-License-Identifier: GPL-2.0

//! Formatting, crashed at every moment.

use sim::harness;
use vdo_sim::flaw::Flaw;
use vdo_sim::formatting;

#[test]
fn a_crash_leaves_a_blank_device_or_a_whole_volume() {
    harness::run_seeds(
        harness::seeds(50),
        "cargo test -p vdo_sim --test formatting",
        |seed| formatting::run(seed, None).map(drop),
    );
}

#[test]
fn a_geometry_block_that_comes_first_is_found() {
    let flaw = Flaw::GeometryFirst;
    harness::must_find(flaw, 100, |seed| {
        formatting::run(seed, Some(flaw)).map(drop)
    });
}
