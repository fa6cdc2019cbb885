// SPDX-License-Identifier: GPL-2.0

//! Invariants 17, 19, 27, 28 and 35: what the slabs count is what the block map references.

use crate::counts;
use crate::finding::Findings;
use crate::finding::Place;
use crate::references::References;
use crate::volume::Volume;
use crate::Progress;
use crate::Stage;
use crate::Usage;
use vdo::format::reference::MAX_COUNT;
use vdo::format::summary;
use vdo::format::State;
use vdo::format::SummaryEntry;

/// Checks all slabs; completes `usage`.
pub(crate) fn check(
    volume: &mut Volume<'_>,
    references: &References,
    usage: &mut Usage,
    findings: &mut Findings,
    progress: &mut Progress<'_>,
) {
    if !volume.is_counted() {
        let text = "reference counts are not looked at in this state";
        findings.note(17, Place::Volume, text);
        return;
    }
    // A recovery has read it, and changed it.
    if !volume.is_recovered {
        if let Err(error) = volume.read_summary() {
            findings.unreadable(volume.super_block.partitions.summary.start, &error);
            return;
        }
    }
    let slab_count = volume.super_block.depot.slab_count;
    let mut counted = 0;
    for (slab, &entry) in (0..slab_count).zip(&volume.summary) {
        progress(Stage::Slabs, slab.into(), slab_count.into());
        let used = references.is_used(slab);
        if used || entry.load_ref_counts || entry.is_dirty || entry.tail_block_offset != 0 {
            counted += check_slab(volume, slab, entry, references, usage, findings);
        } else {
            check_hint(volume, slab, entry, (0, 0), findings);
        }
    }
    let named = usage.data_blocks + usage.tree_pages;
    if counted != named {
        let text = format!("{counted} blocks are counted, {named} are referenced");
        findings.error(35, Place::Volume, text);
    }
    if volume.deep && volume.super_block.state != State::New {
        check_rest_of_summary(volume, findings);
    }
}

/// Returns how many blocks of the slab are counted as used.
fn check_slab(
    volume: &Volume<'_>,
    slab: u32,
    entry: SummaryEntry,
    references: &References,
    usage: &mut Usage,
    findings: &mut Findings,
) -> u64 {
    let depot = &volume.super_block.depot;
    let found = match counts::load(volume, slab, entry, findings) {
        Ok(found) => found,
        Err(error) => {
            findings.unreadable(depot.origin(slab), &error);
            return 0;
        }
    };
    let untouched = !entry.load_ref_counts && !entry.is_dirty;
    let mut used = 0;
    for (sbn, &count) in (0..).zip(&found.counts) {
        let (named, uses) = references.of(slab, sbn);
        let place = Place::Block(depot.pbn(slab, sbn));
        if uses.is_tree_page() {
            if named > 0 {
                let text = format!("a block map page that {named} logical blocks are stored in");
                findings.error(11, place, text);
            }
        } else if named > 0 {
            usage.data_blocks += 1;
        }
        if count > 0 {
            used += 1;
        }
        let expected = if uses.is_tree_page() {
            MAX_COUNT
        } else {
            named
        };
        if count == expected {
            continue;
        }
        if untouched {
            let text = "referenced, but its slab was never used";
            findings.error(19, place, text);
        } else if uses.is_tree_page() {
            let text = format!("a block map page whose count is {count}");
            findings.error(17, place, text);
        } else {
            let text = format!("its count is {count}, but {named} logical blocks are stored there");
            findings.error(17, place, text);
        }
    }
    check_hint(volume, slab, entry, (used, found.provisional), findings);
    used
}

/// Invariant 27, of slabs whose counts were all written. Whoever wrote the hint may have counted
/// provisional blocks as used; if a crash has freed these since, it stays too low until the slab is
/// written again. Only a hint that promises more than there is, is wrong.
fn check_hint(
    volume: &Volume<'_>,
    slab: u32,
    entry: SummaryEntry,
    (used, provisional): (u64, u64),
    findings: &mut Findings,
) {
    if !volume.is_clean() || entry.is_dirty {
        return;
    }
    let config = &volume.super_block.depot.slab;
    let free = u64::from(config.data_blocks).saturating_sub(used);
    let least = free.saturating_sub(provisional);
    let expected = summary::hint(free as u32, config);
    let hints = summary::hint(least as u32, config)..=expected;
    if hints.contains(&entry.fullness_hint) {
        return;
    }
    let text = format!(
        "the summary's hint is {}, but {free} free blocks make it {expected}",
        entry.fullness_hint
    );
    if entry.fullness_hint.saturating_sub(expected) > 1 {
        findings.error(27, Place::Slab(slab), text);
    } else {
        findings.warn(27, Place::Slab(slab), text);
    }
}

/// Invariant 28: slabs that the volume has not got, but may grow to have.
fn check_rest_of_summary(volume: &Volume<'_>, findings: &mut Findings) {
    let depot = &volume.super_block.depot;
    let unused = SummaryEntry::unused(&depot.slab);
    let slabs = summary::BLOCKS_PER_COPY * summary::ENTRIES_PER_BLOCK;
    for slab in depot.slab_count..slabs {
        let (pbn, index) = volume.summary_place(slab);
        let Ok(page) = volume.read(pbn) else {
            return;
        };
        let found = summary::entry(&page, index);
        if found != unused {
            let text = format!("not there, but the summary says {found:?}");
            findings.note(28, Place::Slab(slab), text);
            return;
        }
    }
}
