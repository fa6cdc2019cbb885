// SPDX-License-Identifier: GPL-2.0

//! Broken rules of order are found, and within how many seeds.

use sim::harness;
use vdo_sim::flaw::Flaw;
use vdo_sim::random;

/// Each flaw must show within so many seeds.
const SEEDS: u64 = 2_000;

fn is_found(flaw: Flaw) {
    harness::must_find(flaw, SEEDS, |seed| random::run(seed, Some(flaw)));
}

#[test]
fn o1_entry_before_data() {
    is_found(Flaw::EntryBeforeData);
}

#[test]
fn o2_reuse_before_entry() {
    is_found(Flaw::ReuseBeforeEntry);
}

#[test]
fn o3_page_before_entry() {
    is_found(Flaw::PageBeforeEntry);
}

#[test]
fn o4_journal_reused_before_page() {
    is_found(Flaw::JournalReusedBeforePage);
}

#[test]
fn o5_summary_before_slab_journal() {
    is_found(Flaw::SummaryBeforeSlabJournal);
}

#[test]
fn o6_journal_reused_before_summary() {
    is_found(Flaw::JournalReusedBeforeSummary);
}

#[test]
fn o7_counts_before_entry() {
    is_found(Flaw::CountsBeforeEntry);
}

#[test]
fn o8_slab_journal_reused_before_counts() {
    is_found(Flaw::SlabJournalReusedBeforeCounts);
}

#[test]
fn o9_page_initialized_at_once() {
    is_found(Flaw::PageInitializedAtOnce);
}

#[test]
fn o9_child_before_entry() {
    is_found(Flaw::ChildBeforeEntry);
}

#[test]
fn o10_change_before_dirty() {
    is_found(Flaw::ChangeBeforeDirty);
}

#[test]
fn o10_clean_too_early() {
    is_found(Flaw::CleanTooEarly);
}
