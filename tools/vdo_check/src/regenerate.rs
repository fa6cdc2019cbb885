// SPDX-License-Identifier: GPL-2.0

//! Invariant 36: as far as the recovery journal goes back, slab journals hold what it says.

use crate::counts;
use crate::counts::Tail;
use crate::finding::Findings;
use crate::finding::Place;
use crate::journal;
use crate::journal::Journal;
use crate::recover::changes;
use crate::volume::Volume;
use std::collections::BTreeMap;
use std::io;
use vdo::format::recovery_journal;
use vdo::format::slab_journal::recovery_point;
use vdo::format::slab_journal::Change;
use vdo::format::slab_journal::Header;
use vdo::format::slab_journal::SlabEntry;
use vdo::format::JournalPoint;
use vdo::format::Sequence;

/// What a slab journal should hold, each change with where it comes from.
type Changes = Vec<(JournalPoint, SlabEntry)>;

/// Compares all slab journals with the recovery journal.
pub(crate) fn check(volume: &Volume<'_>, journal: &Journal, findings: &mut Findings) {
    if let Err(error) = try_check(volume, journal, findings) {
        findings.unreadable(volume.super_block.partitions.journal.start, &error);
    }
}

fn try_check(volume: &Volume<'_>, journal: &Journal, findings: &mut Findings) -> io::Result<()> {
    let Some((first, last)) = retained(volume, journal) else {
        return Ok(());
    };
    let mut expected: BTreeMap<u32, Changes> = BTreeMap::new();
    for sequence in first..=last {
        let page = journal::read_block(volume, sequence)?;
        let count = match &journal.usable {
            Some(usable) if usable.tail == sequence => usable.entries,
            _ => recovery_journal::Header::decode(&page).entry_count,
        };
        for index in 0..count {
            let entry = recovery_journal::entry(&page, volume.shape.journal, index);
            for (pbn, change) in entry.iter().flat_map(changes) {
                if let Some((slab, sbn)) = volume.super_block.depot.slab_of(pbn) {
                    let point = recovery_point(sequence, index, change != Change::Decrement);
                    let changes = expected.entry(slab).or_default();
                    changes.push((point, SlabEntry { sbn, change }));
                }
            }
        }
    }
    let none = Changes::new();
    for slab in 0..volume.super_block.depot.slab_count {
        let expected = expected.get(&slab).unwrap_or(&none);
        check_slab(volume, slab, (first, last), expected, findings)?;
    }
    Ok(())
}

/// Returns the first and the last of the newest blocks that are there without a gap.
fn retained(volume: &Volume<'_>, journal: &Journal) -> Option<(Sequence, Sequence)> {
    let end = match &journal.usable {
        Some(usable) => usable.tail.saturating_add(1),
        None => volume.super_block.journal_start,
    };
    // What a crash may have torn is of no use.
    let start = journal.usable.as_ref().map_or(0, |_| journal.ring.head());
    let mut first = end;
    for sequence in journal.ring.sequences_before(end) {
        if sequence.wrapping_add(1) != first || sequence < start {
            break;
        }
        first = sequence;
    }
    (first < end).then(|| (first, end - 1))
}

fn check_slab(
    volume: &Volume<'_>,
    slab: u32,
    (first, last): (Sequence, Sequence),
    expected: &Changes,
    findings: &mut Findings,
) -> io::Result<()> {
    let depot = &volume.super_block.depot;
    let Some(entry) = volume.summary(slab) else {
        return Ok(());
    };
    let Tail::Found(tail) = counts::read_tail(volume, slab, entry)? else {
        return Ok(());
    };
    let size = u64::from(depot.slab.journal_blocks);
    let oldest = tail.sequence.saturating_sub(size - 1).max(1);
    let mut before: Option<JournalPoint> = (oldest == 1).then_some(JournalPoint::NONE);
    for sequence in oldest..=tail.sequence {
        let page = volume.read(depot.journal_block(slab, (sequence % size) as u32))?;
        let header = Header::decode(&page);
        if !header.is_valid(volume.super_block.nonce) || header.sequence != sequence {
            before = None;
            continue;
        }
        let after = header.recovery_point;
        let start = before.replace(after);
        // Only what comes from blocks that are all there can be made again.
        let Some(start) = start.filter(|start| start.sequence >= first || first == 1) else {
            continue;
        };
        if after.sequence > last {
            continue;
        }
        let from = expected.partition_point(|(point, _)| *point <= start);
        let to = expected.partition_point(|(point, _)| *point <= after);
        let made = expected.get(from..to).unwrap_or_default();
        let found = header.entries(&page, volume.shape.slab_journal);
        if !found.eq(made.iter().map(|(_, entry)| *entry)) {
            let text = format!("is not what the recovery journal says from {start:?} to {after:?}");
            findings.error(36, Place::SlabJournal { slab, sequence }, text);
        }
    }
    Ok(())
}
