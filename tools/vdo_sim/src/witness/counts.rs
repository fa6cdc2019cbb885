// SPDX-License-Identifier: GPL-2.0

//! The true reference counts, and whether they are those of the block map.

use super::journal::Replay;
use super::Image;
use super::Walk;
use vdo::format::reference;
use vdo::format::reference::COUNTS_PER_BLOCK;
use vdo::format::reference::COUNTS_PER_SECTOR;
use vdo::format::slab_journal::recovery_point;
use vdo::format::slab_journal::Change;
use vdo::format::slab_journal::Header;
use vdo::format::slab_journal::SlabEntry;
use vdo::format::summary;
use vdo::format::summary::SummaryEntry;
use vdo::format::super_block::State;
use vdo::format::JournalPoint;
use vdo::format::Operation;
use vdo::format::SlabNumber;

/// A slab as it is found, and as replaying the recovery journal goes on with it.
struct Slab {
    number: SlabNumber,
    counts: Vec<u8>,
    /// By data block: what its count includes.
    points: Vec<JournalPoint>,
    /// Where the next entry goes, and whether its block has bits for pages.
    next: JournalPoint,
    has_bits: bool,
    /// The newest entry of the recovery journal that the slab journal has.
    last: JournalPoint,
    errors: Vec<String>,
}

pub(super) fn compare(image: &Image<'_>, walk: &Walk, replay: &Replay, errors: &mut Vec<String>) {
    let depot = image.super_block.depot;
    let mut slabs: Vec<Slab> = (0..depot.slab_count)
        .map(|number| Slab::read(image, number))
        .collect();
    for (point, entry) in &replay.references {
        let increment = match entry.operation {
            Operation::Data => Change::Increment,
            Operation::BlockMap => Change::BlockMapIncrement,
        };
        for (mapping, change) in [(entry.new, increment), (entry.old, Change::Decrement)] {
            if let Some((slab, sbn)) = depot.slab_of(mapping.pbn) {
                let half = change != Change::Decrement;
                let point = recovery_point(point.sequence, point.entry, half);
                let entry = SlabEntry { sbn, change };
                slabs[slab as usize].append(image, point, entry);
            }
        }
    }
    for slab in slabs {
        errors.extend(slab.errors);
        for (sbn, count) in (0..).zip(slab.counts) {
            let pbn = depot.pbn(slab.number, sbn);
            let leaves = walk.references.get(&pbn).copied().unwrap_or(0);
            let wanted = match (walk.tree_pages.contains(&pbn), leaves) {
                (true, 0) => u64::from(reference::MAX_COUNT),
                (true, _) => {
                    errors.push(format!("block {pbn} is a page and has data"));
                    continue;
                }
                (false, leaves) => leaves,
            };
            if wanted != u64::from(count) {
                errors.push(format!(
                    "block {pbn} (slab {}, {sbn}) has {wanted} references and the count {count}",
                    slab.number
                ));
            }
        }
    }
}

impl Slab {
    fn read(image: &Image<'_>, number: SlabNumber) -> Self {
        let depot = &image.super_block.depot;
        let blocks = depot.slab.data_blocks as usize;
        let mut slab = Self {
            number,
            counts: vec![0; blocks],
            points: vec![JournalPoint::NONE; blocks],
            next: JournalPoint::new(1, 0),
            has_bits: false,
            last: JournalPoint::NONE,
            errors: Vec::new(),
        };
        if image.super_block.state == State::New {
            return slab;
        }
        let entry = summary_entry(image, number);
        if entry.load_ref_counts {
            slab.load(image);
        }
        if entry.tail_block_offset != 0 || entry.load_ref_counts {
            slab.replay_journal(image, &entry);
        } else if entry.is_dirty {
            slab.complain("is dirty and never used".to_owned());
        }
        slab
    }

    fn complain(&mut self, text: String) {
        self.errors.push(format!("slab {}: {text}", self.number));
    }

    fn load(&mut self, image: &Image<'_>) {
        let depot = &image.super_block.depot;
        for block in 0..depot.slab.used_reference_blocks() {
            let mut counts = [0; COUNTS_PER_BLOCK as usize];
            let page = image.block(depot.reference_block(self.number, block));
            let points = reference::decode(page, &mut counts);
            let first = (block * COUNTS_PER_BLOCK) as usize;
            for (index, count) in counts.into_iter().enumerate() {
                let point = points[index / COUNTS_PER_SECTOR as usize];
                let Some(own) = self.counts.get_mut(first + index) else {
                    if count != 0 {
                        self.complain(format!("a count behind the last block is {count}"));
                    }
                    continue;
                };
                *own = if count == reference::PROVISIONAL {
                    0
                } else {
                    count
                };
                self.points[first + index] = point;
            }
        }
    }

    /// Takes over what the committed blocks of the slab journal say.
    fn replay_journal(&mut self, image: &Image<'_>, entry: &SummaryEntry) {
        let depot = &image.super_block.depot;
        let shape = image.toy.slab_journal_shape;
        let size = depot.slab.journal_blocks;
        let block = |offset: u32| image.block(depot.journal_block(self.number, offset));
        let offset = (u32::from(entry.tail_block_offset) + size - 1) % size;
        let last = Header::decode(block(offset));
        if !last.is_valid(image.super_block.nonce) {
            if entry.tail_block_offset != 0 {
                self.complain(format!("journal block {offset} is no journal block"));
            }
            return;
        }
        let mut found = Vec::new();
        let mut errors = Vec::new();
        if last.sequence % u64::from(size) != u64::from(offset) {
            errors.push(format!("journal block {} is at {offset}", last.sequence));
        }
        let head = if entry.is_dirty {
            last.head
        } else {
            last.sequence + 1
        };
        if last.sequence + 1 - head.min(last.sequence + 1) > u64::from(size) {
            errors.push(format!("head {head} of journal {}", last.sequence));
        }
        let mut point = JournalPoint::NONE;
        for sequence in head..=last.sequence {
            let page = block((sequence % u64::from(size)) as u32);
            let header = Header::decode(page);
            if !header.is_valid(image.super_block.nonce)
                || header.sequence != sequence
                || !header.is_count_valid(shape)
                || header.recovery_point <= point
            {
                errors.push(format!("journal block {sequence} is {header:?}"));
                break;
            }
            point = header.recovery_point;
            let entries = header.entries(page, shape);
            found.extend((0..).zip(entries).map(|(index, it)| (sequence, index, it)));
        }
        for text in errors {
            self.complain(text);
        }
        for (sequence, index, entry) in found {
            self.apply(JournalPoint::new(sequence, index), entry);
        }
        self.next = JournalPoint::new(last.sequence + 1, 0);
        self.last = last.recovery_point;
    }

    /// Goes on with an entry of the recovery journal, if it is not there yet.
    fn append(&mut self, image: &Image<'_>, point: JournalPoint, entry: SlabEntry) {
        if point <= self.last {
            return;
        }
        self.last = point;
        let shape = image.toy.slab_journal_shape;
        let bits = self.has_bits || entry.change == Change::BlockMapIncrement;
        if self.next.entry >= shape.capacity(bits) {
            self.next = JournalPoint::new(self.next.sequence + 1, 0);
            self.has_bits = false;
        }
        self.has_bits |= entry.change == Change::BlockMapIncrement;
        let at = self.next;
        self.next = JournalPoint::new(at.sequence, at.entry + 1);
        if self.next.entry >= shape.capacity(self.has_bits) {
            self.next = JournalPoint::new(at.sequence + 1, 0);
            self.has_bits = false;
        }
        self.apply(at, entry);
    }

    fn apply(&mut self, point: JournalPoint, entry: SlabEntry) {
        let sbn = entry.sbn as usize;
        let Some(&count) = self.counts.get(sbn) else {
            return self.complain(format!("entry {point:?} is for block {sbn}"));
        };
        if point <= self.points[sbn] {
            return;
        }
        let new = match (entry.change, count) {
            (Change::Increment, 0..=253) => count + 1,
            (Change::BlockMapIncrement, 0) => reference::MAX_COUNT,
            (Change::Decrement, 1..=254) => count - 1,
            _ => {
                return self.complain(format!("entry {point:?} is {entry:?}, count {count}"));
            }
        };
        self.counts[sbn] = new;
    }
}

fn summary_entry(image: &Image<'_>, slab: SlabNumber) -> SummaryEntry {
    let zones = u32::from(image.super_block.zone_count).max(1);
    let (block, index) = summary::place(slab);
    let block = slab % zones * summary::BLOCKS_PER_COPY + block;
    let pbn = image.super_block.partitions.summary.start + u64::from(block);
    summary::entry(image.block(pbn), index)
}
