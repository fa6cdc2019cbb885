// SPDX-License-Identifier: GPL-2.0

//! Starts and growths without memory, or on storage that fails for a while, at every moment.

use sim::harness;
use vdo_sim::plan::Growth;
use vdo_sim::starts;
use vdo_sim::starts::During;
use vdo_sim::used;
use vdo_sim::used::Left;
use vdo_sim::used::Used;

#[test]
fn a_start_that_fails_costs_nothing_but_this_start() {
    let kinds = used::ALL.len() as u64;
    harness::run_seeds(
        harness::one_of(0..2 * kinds),
        "cargo test -p vdo_sim --test starts a_start",
        |seed| {
            let used = Used::new(seed / kinds, used::ALL[(seed % kinds) as usize]);
            for lack in starts::AT_A_START {
                let moments = starts::run(&used, During::Start, lack)?;
                println!("{:?}: {lack:?} at {moments} moments", used.left);
            }
            Ok(())
        },
    );
}

#[test]
fn a_growth_that_fails_costs_nothing_but_this_growth() {
    let growth = |logical, slabs, flush| {
        During::Growth(Growth {
            logical,
            slabs,
            flush,
        })
    };
    let growths = [
        growth(2000, 0, true),
        growth(0, 3, true),
        growth(0, 3, false),
        growth(900, 3, true),
    ];
    harness::run_seeds(
        harness::one_of(0..growths.len() as u64),
        "cargo test -p vdo_sim --test starts a_growth",
        |seed| {
            let used = Used::new(seed, Left::Stopped);
            for lack in starts::AT_A_GROWTH {
                let moments = starts::run(&used, growths[seed as usize], lack)?;
                println!("{lack:?} at {moments} moments");
            }
            Ok(())
        },
    );
}
