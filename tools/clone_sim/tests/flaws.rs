// SPDX-License-Identifier: GPL-2.0

//! Broken rules are found, and within how many seeds.

use clone_sim::flaw::Flaw;
use clone_sim::random;
use sim::harness;

/// Each flaw must show within so many seeds. The rarest do in one of 27, and one of 21.
const SEEDS: u64 = 200;

fn is_found(flaw: Flaw) {
    harness::must_find(flaw, SEEDS, |seed| random::run(seed, Some(flaw)));
}

#[test]
fn bit_before_data() {
    is_found(Flaw::BitBeforeData);
}

#[test]
fn no_flush_before_commit() {
    is_found(Flaw::NoFlushBeforeCommit);
}

#[test]
fn superblock_first() {
    is_found(Flaw::SuperblockFirst);
}

#[test]
fn discard_under_copy() {
    is_found(Flaw::DiscardUnderCopy);
}

#[test]
fn state_read_at_load() {
    is_found(Flaw::StateReadAtLoad);
}

#[test]
fn lost_completion() {
    is_found(Flaw::LostCompletion);
}
