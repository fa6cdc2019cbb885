// SPDX-License-Identifier: GPL-2.0

//! What a recovery makes of a crashed volume, in memory.
//!
//! Written from the description of the format, not from the target's own recovery, so that each
//! checks the other: both must come to the same mappings, counts, slab journal blocks and counters.

use crate::counts;
use crate::counts::Tail;
use crate::finding::Finding;
use crate::finding::Findings;
use crate::finding::Place;
use crate::image::Image;
use crate::journal;
use crate::journal::Counters;
use crate::journal::Journal;
use crate::journal::Ring;
use crate::journal::Usable;
use crate::sizes;
use crate::volume::Volume;
use crate::Shape;
use std::collections::BTreeSet;
use std::io;
use vdo::format::block_map;
use vdo::format::block_map::Validity;
use vdo::format::recovery_journal;
use vdo::format::recovery_journal::Format;
use vdo::format::recovery_journal::Header;
use vdo::format::recovery_journal::Operation;
use vdo::format::recovery_journal::RecoveryEntry;
use vdo::format::slab_journal;
use vdo::format::slab_journal::recovery_point;
use vdo::format::slab_journal::Change;
use vdo::format::slab_journal::SlabEntry;
use vdo::format::JournalPoint;
use vdo::format::Page;
use vdo::format::Pbn;
use vdo::format::Sequence;
use vdo::format::SuperBlock;
use vdo::format::BLOCK_SIZE;

/// What a recovery does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The highest sequence in the journal.
    pub highest: Sequence,
    /// The last block that can be used.
    pub tail: Sequence,
    /// The first block that is replayed into the block map.
    pub block_map_head: Sequence,
    /// The first block that is replayed into slab journals.
    pub slab_journal_head: Sequence,
    /// Entries that are replayed into the block map.
    pub entries: u64,
    /// Pages of the block map that they touch.
    pub pages: u64,
    /// Changes of counts that the journal holds.
    pub slab_updates: u64,
    /// Of those, changes that the slab journals lack.
    pub slab_entries: u64,
    /// The super block that is written in the end.
    pub super_block: SuperBlock,
}

/// Recovers a crashed volume in memory; what prevents it is an error.
///
/// The volume then reads as a recovery leaves it, up to the moment before slabs are scrubbed.
pub fn recovered(
    image: &dyn Image,
    shape: Shape,
    toy: bool,
) -> Result<(Recovery, Volume<'_>), Vec<Finding>> {
    let mut findings = Findings::default();
    let Some(mut volume) = sizes::open(image, shape, toy, &mut findings) else {
        return Err(findings.into_vec());
    };
    let journal = journal::check(&volume, &mut findings, &mut |_, _, _| {});
    let recovery = journal.and_then(|journal| replay(&mut volume, &journal, &mut findings));
    match recovery {
        Some(recovery) => Ok((recovery, volume)),
        None => Err(findings.into_vec()),
    }
}

/// Replays the journal of a crashed volume; `None` if a recovery would fail.
pub(crate) fn replay(
    volume: &mut Volume<'_>,
    journal: &Journal,
    findings: &mut Findings,
) -> Option<Recovery> {
    let result = try_replay(volume, &journal.ring, journal.usable.as_ref(), findings);
    match result {
        Ok(recovery) => recovery,
        Err(error) => {
            findings.error(34, Place::Volume, format!("cannot be recovered: {error}"));
            None
        }
    }
}

fn try_replay(
    volume: &mut Volume<'_>,
    ring: &Ring,
    usable: Option<&Usable>,
    findings: &mut Findings,
) -> io::Result<Option<Recovery>> {
    volume.read_summary()?;
    let mut recovery = Recovery {
        highest: ring.highest,
        tail: usable.map_or(ring.highest, |usable| usable.tail),
        block_map_head: ring.block_map_head,
        slab_journal_head: ring.slab_journal_head,
        entries: 0,
        pages: 0,
        slab_updates: 0,
        slab_entries: 0,
        super_block: volume.super_block,
    };
    let mut counters = None;
    if let Some(usable) = usable.filter(|usable| usable.any) {
        if usable.format == Format::Old {
            let text = "a journal of the old format, which cannot be replayed";
            findings.error(34, Place::Volume, text);
            return Ok(None);
        }
        let mut replay = Replay::new(volume, usable);
        if !replay.block_map(ring, &mut recovery, findings)? {
            return Ok(None);
        }
        replay.slab_journals(ring, &mut recovery)?;
        counters = replay.counters;
    }
    let super_block = &mut volume.super_block;
    super_block.complete_recoveries = super_block.complete_recoveries.wrapping_add(1);
    super_block.journal_start = ring.highest.wrapping_add(1);
    if let Some(counters) = counters {
        super_block.logical_blocks_used = counters.logical_blocks_used;
        super_block.block_map_data_blocks = counters.block_map_data_blocks;
    }
    recovery.super_block = *super_block;
    volume.is_recovered = true;
    Ok(Some(recovery))
}

struct Replay<'a, 'v> {
    volume: &'a mut Volume<'v>,
    tail: Sequence,
    /// Usable entries of the tail block.
    entries: u16,
    /// Behind the last entry.
    counters: Option<Counters>,
}

impl<'a, 'v> Replay<'a, 'v> {
    fn new(volume: &'a mut Volume<'v>, usable: &Usable) -> Self {
        Self {
            volume,
            tail: usable.tail,
            entries: usable.entries,
            counters: None,
        }
    }

    /// Returns the usable entries of a block.
    fn block(&self, sequence: Sequence) -> io::Result<(Header, Vec<Option<RecoveryEntry>>)> {
        let shape = self.volume.shape.journal;
        let page = journal::read_block(self.volume, sequence)?;
        let count = if sequence == self.tail {
            self.entries
        } else {
            shape.entries_per_block()
        };
        let entry = |index| recovery_journal::entry(&page, shape, index);
        Ok((Header::decode(&page), (0..count).map(entry).collect()))
    }

    /// Replays into the block map: for each slot the last change counts. False if an entry makes no
    /// sense.
    fn block_map(
        &mut self,
        ring: &Ring,
        recovery: &mut Recovery,
        findings: &mut Findings,
    ) -> io::Result<bool> {
        let mut touched = BTreeSet::new();
        let roots = self.volume.super_block.roots();
        for sequence in ring.block_map_head..=self.tail {
            let (header, entries) = self.block(sequence)?;
            let mut counters = Counters::of(&header);
            for (index, entry) in (0..).zip(entries) {
                let depot = &self.volume.super_block.depot;
                let entry = entry.filter(|entry| entry.is_valid(depot, roots));
                let Some(entry) = entry else {
                    let text = format!("entry {index} makes no sense, and so is not replayed");
                    findings.error(33, Place::Journal(sequence), text);
                    return Ok(false);
                };
                counters.count(&entry);
                recovery.entries += 1;
                touched.insert(entry.page);
                let Some(page) = self.page(entry.page, findings)? else {
                    return Ok(false);
                };
                block_map::set_entry(page, entry.slot, entry.new);
            }
            if sequence == self.tail {
                self.counters = Some(counters);
            }
        }
        recovery.pages = touched.len() as u64;
        Ok(true)
    }

    /// Returns a page of the block map that is to be changed; `None` if it is of another place.
    fn page(&mut self, pbn: Pbn, findings: &mut Findings) -> io::Result<Option<&mut Page>> {
        let page = match self.volume.changed.remove(&pbn) {
            Some(page) => page,
            None => {
                let nonce = self.volume.super_block.nonce;
                let mut page = self.volume.read(pbn)?;
                match block_map::validate(&page, nonce, pbn) {
                    Validity::Valid => {}
                    Validity::Invalid => {
                        block_map::format_page(&mut page, nonce, pbn);
                        block_map::set_initialized(&mut page, true);
                    }
                    Validity::Bad { pbn: other } => {
                        let text = format!("a block map page that says it is {other}");
                        findings.error(10, Place::Block(pbn), text);
                        return Ok(None);
                    }
                }
                page
            }
        };
        Ok(Some(self.volume.changed.entry(pbn).or_insert(page)))
    }

    /// Replays into the slab journals what they lack.
    fn slab_journals(&mut self, ring: &Ring, recovery: &mut Recovery) -> io::Result<()> {
        let mut slabs: Vec<Option<SlabJournal>> = Vec::new();
        slabs.resize_with(self.volume.summary.len(), || None);
        let depot = self.volume.super_block.depot;
        for sequence in ring.slab_journal_head..=self.tail {
            let (_, entries) = self.block(sequence)?;
            for (index, entry) in (0..).zip(entries) {
                let Some(entry) = entry else { continue };
                for (pbn, change) in changes(&entry) {
                    let Some((slab, sbn)) = depot.slab_of(pbn) else {
                        continue;
                    };
                    recovery.slab_updates += 1;
                    let journal = &mut slabs[slab as usize];
                    if journal.is_none() {
                        *journal = Some(SlabJournal::open(self.volume, slab)?);
                    }
                    let Some(journal) = journal else { continue };
                    let increment = change != Change::Decrement;
                    let point = recovery_point(sequence, index, increment);
                    if point > journal.last {
                        recovery.slab_entries += 1;
                        journal.push(self.volume, SlabEntry { sbn, change }, point);
                    }
                }
            }
        }
        for journal in slabs.iter_mut().flatten() {
            journal.commit(self.volume);
        }
        Ok(())
    }
}

/// Returns the changes of counts that an entry stands for, in order.
pub(crate) fn changes(entry: &RecoveryEntry) -> impl Iterator<Item = (Pbn, Change)> {
    let increment = match entry.operation {
        Operation::Data => Change::Increment,
        Operation::BlockMap => Change::BlockMapIncrement,
    };
    [
        (entry.new.pbn, increment),
        (entry.old.pbn, Change::Decrement),
    ]
    .into_iter()
    .filter(|(pbn, _)| *pbn != 0)
}

/// The journal of a slab, while it is appended to.
struct SlabJournal {
    slab: u32,
    head: Sequence,
    header: slab_journal::Header,
    page: Box<Page>,
    /// The newest change that the journal holds.
    last: JournalPoint,
}

impl SlabJournal {
    fn open(volume: &Volume<'_>, slab: u32) -> io::Result<Self> {
        let entry = volume.summary[slab as usize];
        let (head, next, last) = match counts::read_tail(volume, slab, entry)? {
            Tail::Found(tail) => {
                let next = tail.sequence.wrapping_add(1);
                let head = if entry.is_dirty { tail.head } else { next };
                (head, next, tail.recovery_point)
            }
            Tail::Empty | Tail::Missing => (1, 1, JournalPoint::NONE),
        };
        Ok(Self {
            slab,
            head,
            header: slab_journal::Header::new(head, next, volume.super_block.nonce),
            page: Box::new([0; BLOCK_SIZE]),
            last,
        })
    }

    fn push(&mut self, volume: &mut Volume<'_>, entry: SlabEntry, point: JournalPoint) {
        let shape = volume.shape.slab_journal;
        if !self.header.has_room_for(shape, entry.change) {
            self.commit(volume);
        }
        self.header.push(&mut self.page, shape, entry, point);
        self.last = point;
        if self.header.is_full(shape) {
            self.commit(volume);
        }
    }

    /// Writes the block, if it holds anything, and says so in the summary.
    fn commit(&mut self, volume: &mut Volume<'_>) {
        if self.header.entry_count == 0 {
            return;
        }
        let depot = volume.super_block.depot;
        let size = u64::from(depot.slab.journal_blocks);
        let sequence = self.header.sequence;
        let next = sequence.wrapping_add(1);
        self.header.encode(&mut self.page);
        let pbn = depot.journal_block(self.slab, (sequence % size) as u32);
        volume.changed.insert(pbn, self.page.clone());
        let entry = &mut volume.summary[self.slab as usize];
        entry.tail_block_offset = (next % size) as u8;
        entry.is_dirty = true;
        entry.load_ref_counts |= self.head > 1;

        // A full ring gives up its oldest block: what it holds is in the counts, or no recovery
        // journal would be this long.
        self.head = self.head.max(next.saturating_add(1).saturating_sub(size));
        self.header = slab_journal::Header::new(self.head, next, volume.super_block.nonce);
    }
}
