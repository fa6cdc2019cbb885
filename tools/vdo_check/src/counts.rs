// SPDX-License-Identifier: GPL-2.0

//! Invariants 18 and 20 to 26: the true reference counts of a slab, which are those of its
//! reference blocks and what its journal adds to them.

use crate::finding::Findings;
use crate::finding::Place;
use crate::volume::Volume;
use std::io;
use vdo::format::reference;
use vdo::format::reference::Counts;
use vdo::format::slab_journal::Change;
use vdo::format::slab_journal::Header;
use vdo::format::slab_journal::SlabEntry;
use vdo::format::JournalPoint;
use vdo::format::Page;
use vdo::format::Sequence;
use vdo::format::SummaryEntry;

/// The points of the sectors of a reference block.
type Points = [JournalPoint; 8];

/// The last block of a slab journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// The journal has no block, and must have none.
    Empty,
    /// The block is not one of this journal.
    Missing,
    /// Its header.
    Found(Header),
}

/// Reads the last committed block of a slab journal.
pub(crate) fn read_tail(volume: &Volume<'_>, slab: u32, entry: SummaryEntry) -> io::Result<Tail> {
    let depot = &volume.super_block.depot;
    let offset = u32::from(entry.tail_block_offset);
    if offset == 0 && !entry.load_ref_counts {
        return Ok(Tail::Empty);
    }
    let size = depot.slab.journal_blocks;
    if offset >= size {
        return Ok(Tail::Missing);
    }
    let before = offset.checked_sub(1).unwrap_or(size - 1);
    let page = volume.read(depot.journal_block(slab, before))?;
    let header = Header::decode(&page);
    let is_here = header.sequence % u64::from(size) == u64::from(before);
    Ok(match header.is_valid(volume.super_block.nonce) {
        true if is_here => Tail::Found(header),
        // Since a rebuild, nothing was written.
        _ if offset == 0 => Tail::Empty,
        _ => Tail::Missing,
    })
}

/// The counts of a slab.
pub(crate) struct SlabCounts {
    /// The counts; provisional ones are 0.
    pub(crate) counts: Vec<u8>,
    /// How many were provisional.
    pub(crate) provisional: u64,
    points: Vec<Points>,
}

/// Reads the true counts of a slab.
pub(crate) fn load(
    volume: &Volume<'_>,
    slab: u32,
    entry: SummaryEntry,
    findings: &mut Findings,
) -> io::Result<SlabCounts> {
    let config = &volume.super_block.depot.slab;
    let mut found = SlabCounts {
        counts: vec![0; config.data_blocks as usize],
        provisional: 0,
        points: vec![Points::default(); config.used_reference_blocks() as usize],
    };
    if entry.load_ref_counts {
        found.read_blocks(volume, slab, entry, findings)?;
    }
    let tail = match read_tail(volume, slab, entry)? {
        Tail::Empty => return Ok(found),
        Tail::Missing => {
            let text = format!(
                "the summary says that its journal goes on at {}, but the block before is not there",
                entry.tail_block_offset
            );
            findings.error(22, Place::Slab(slab), text);
            return Ok(found);
        }
        Tail::Found(tail) => tail,
    };
    found.check_points(volume, slab, &tail, findings);
    if entry.is_dirty || volume.deep {
        found.read_journal(volume, slab, entry, &tail, findings)?;
    }
    Ok(found)
}

impl SlabCounts {
    fn read_blocks(
        &mut self,
        volume: &Volume<'_>,
        slab: u32,
        entry: SummaryEntry,
        findings: &mut Findings,
    ) -> io::Result<()> {
        let depot = &volume.super_block.depot;
        let mut counts: Counts = [0; reference::COUNTS_PER_BLOCK as usize];
        let places = self.counts.chunks_mut(counts.len());
        for ((index, place), points) in (0..).zip(places).zip(&mut self.points) {
            let pbn = depot.reference_block(slab, index);
            let page = volume.read(pbn)?;
            *points = reference::decode(&page, &mut counts);
            let (used, unused) = counts.split_at(place.len());
            place.copy_from_slice(used);
            if unused.iter().any(|&count| count != 0) {
                let text = "counts behind the last data block";
                findings.error(20, Place::Block(pbn), text);
            }
            if points.iter().any(|point| *point != points[0]) {
                let text = "torn: its sectors are of different age";
                let super_block = &volume.super_block;
                let never_crashed =
                    super_block.complete_recoveries + super_block.read_only_recoveries == 0;
                if volume.is_clean() && never_crashed {
                    findings.error(21, Place::Block(pbn), text);
                } else {
                    findings.warn(21, Place::Block(pbn), text);
                }
            }
            let mut provisional = 0;
            for count in place.iter_mut() {
                if *count == reference::PROVISIONAL {
                    *count = 0;
                    provisional += 1;
                }
            }
            self.provisional += provisional;
            if provisional > 0 && volume.is_clean() && !entry.is_dirty {
                let text = format!("{provisional} provisional counts");
                findings.warn(18, Place::Block(pbn), text);
            }
        }
        Ok(())
    }

    /// Checks that no reference block is ahead of the journal.
    fn check_points(&self, volume: &Volume<'_>, slab: u32, tail: &Header, findings: &mut Findings) {
        let last = JournalPoint::new(tail.sequence, tail.entry_count.saturating_sub(1));
        let depot = &volume.super_block.depot;
        for (index, points) in (0..).zip(&self.points) {
            let newest = points.iter().max().copied().unwrap_or_default();
            if newest > last && volume.is_clean() {
                let text = format!("includes {newest:?} of a journal that ends at {last:?}");
                let place = Place::Block(depot.reference_block(slab, index));
                findings.error(21, place, text);
            }
        }
    }

    /// Checks the blocks of the journal, and applies what the reference blocks lack.
    fn read_journal(
        &mut self,
        volume: &Volume<'_>,
        slab: u32,
        entry: SummaryEntry,
        tail: &Header,
        findings: &mut Findings,
    ) -> io::Result<()> {
        let depot = &volume.super_block.depot;
        let size = u64::from(depot.slab.journal_blocks);
        let place = |sequence| Place::SlabJournal { slab, sequence };
        if tail.head > tail.sequence || tail.sequence - tail.head >= size || tail.head == 0 {
            let text = format!("says that the journal starts at {}", tail.head);
            findings.error(23, place(tail.sequence), text);
            return Ok(());
        }
        let mut before: Option<JournalPoint> = None;
        for sequence in tail.head..=tail.sequence {
            let page = volume.read(depot.journal_block(slab, (sequence % size) as u32))?;
            let header = Header::decode(&page);
            if !header.is_valid(volume.super_block.nonce) || header.sequence != sequence {
                let text = format!("missing; the journal goes on to {}", tail.sequence);
                findings.error(23, place(sequence), text);
                return Ok(());
            }
            if before.is_some_and(|before| header.recovery_point <= before) {
                let text = format!("older than the one before: {:?}", header.recovery_point);
                findings.error(25, place(sequence), text);
            }
            let from = header.recovery_point.sequence;
            if from >= volume.super_block.journal_start {
                let text = format!("made from block {from} of the recovery journal, a future one");
                findings.error(25, place(sequence), text);
            }
            before = Some(header.recovery_point);
            if !header.is_count_valid(volume.shape.slab_journal) {
                let text = format!("{} entries", header.entry_count);
                findings.error(24, place(sequence), text);
                return Ok(());
            }
            self.read_journal_block(volume, slab, entry, (&header, &page), findings);
        }
        Ok(())
    }

    fn read_journal_block(
        &mut self,
        volume: &Volume<'_>,
        slab: u32,
        summary: SummaryEntry,
        (header, page): (&Header, &Page),
        findings: &mut Findings,
    ) {
        let shape = volume.shape.slab_journal;
        let place = Place::SlabJournal {
            slab,
            sequence: header.sequence,
        };
        for (index, entry) in (0..).zip(header.entries(page, shape)) {
            if entry.sbn >= volume.super_block.depot.slab.data_blocks {
                let text = format!("entry {index} is about {}, no data block", entry.sbn);
                findings.error(24, place, text);
                continue;
            }
            let marked = header.is_block_map(page, shape, index);
            if marked && entry.change == Change::Decrement {
                let text = format!("entry {index} gives a block map page up");
                findings.error(24, place, text);
            }
            if summary.is_dirty {
                self.apply(header.sequence, index, entry, place, findings);
            }
        }
    }

    fn apply(
        &mut self,
        sequence: Sequence,
        index: u16,
        entry: SlabEntry,
        place: Place,
        findings: &mut Findings,
    ) {
        let (block, sector, _) = reference::place(entry.sbn);
        let included = self.points[block as usize][sector];
        if JournalPoint::new(sequence, index) <= included {
            return;
        }
        let count = &mut self.counts[entry.sbn as usize];
        let new = match (entry.change, *count) {
            (Change::Increment, old) if old < reference::MAX_COUNT => old + 1,
            (Change::BlockMapIncrement, 0) => reference::MAX_COUNT,
            (Change::Decrement, old) if old > 0 => old - 1,
            (change, old) => {
                let text = format!("entry {index}: {change:?} of {}, which is {old}", entry.sbn);
                return findings.error(26, place, text);
            }
        };
        *count = new;
    }
}
