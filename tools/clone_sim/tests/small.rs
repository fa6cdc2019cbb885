// SPDX-License-Identifier: GPL-2.0

//! Every short sequence of operations, crashed at every moment.

use clone_sim::small;
use clone_sim::small::Order;
use clone_sim::small::Tried;
use sim::harness;

/// Steps in a sequence; more by hand.
fn length(default: u32) -> u32 {
    let text = std::env::var("DMOX_SIM_LENGTH").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run_all(order: Order, length: u32) {
    let tried = Tried::default();
    let count = small::STEPS.pow(length);
    harness::run_seeds(
        harness::one_of(0..count),
        &format!("DMOX_SIM_LENGTH={length} cargo test -p clone_sim --test small"),
        |number| small::run(number, length, order, None, &tried),
    );
    println!(
        "{order:?}: {count} sequences, {} different crashes",
        tried.count()
    );
}

#[test]
fn one_by_one() {
    run_all(Order::OneByOne, length(3));
}

#[test]
fn at_once() {
    run_all(Order::AtOnce, length(3));
}
