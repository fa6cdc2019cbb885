// SPDX-License-Identifier: GPL-2.0

//! What is done to tables and to the metadata without memory, or on a disk that fails for a while,
//! at every moment.

use clone_sim::starts;
use clone_sim::starts::During;
use clone_sim::used;
use clone_sim::used::Used;
use sim::harness;

/// Has `during` go wrong in every way, which there are `fewest` of at least.
fn at_every_moment(during: During, fewest: u64) {
    let kinds = used::ALL.len() as u64;
    harness::run_seeds(
        harness::one_of(0..kinds),
        &format!("cargo test -p clone_sim --test starts {during:?}"),
        |seed| {
            let used = Used::new(seed, used::ALL[seed as usize]);
            let mut all = 0;
            for lack in starts::LACKS {
                for again in during.again() {
                    let moments = starts::run(&used, during, lack, *again)?;
                    all += moments;
                    println!(
                        "{:?}: {during:?}, {lack:?}, {again:?}: {moments} moments",
                        used.left
                    );
                }
            }
            match all >= fewest {
                true => Ok(()),
                false => Err(format!("{:?}: {all} moments only", used.left)),
            }
        },
    );
}

#[test]
fn a_start_that_fails_costs_nothing_but_this_start() {
    at_every_moment(During::Start, 300);
}

#[test]
fn a_flush_that_fails_loses_nothing_that_was_acknowledged() {
    at_every_moment(During::Flush, 1);
}

#[test]
fn a_status_that_cannot_commit_loses_nothing() {
    at_every_moment(During::Status, 1);
}

#[test]
fn a_suspend_that_cannot_commit_loses_nothing() {
    at_every_moment(During::Suspend, 1);
}

#[test]
fn a_reload_that_fails_costs_nothing_but_this_reload() {
    at_every_moment(During::Reload, 20);
}

#[test]
fn a_volume_that_has_fallen_can_be_recovered_whatever_fails_first() {
    at_every_moment(During::Recovery, 20);
}

#[test]
fn a_last_commit_that_fails_can_be_made_later() {
    at_every_moment(During::Completion, 1);
}
