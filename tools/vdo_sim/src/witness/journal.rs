// SPDX-License-Identifier: GPL-2.0

//! What the recovery journal of a volume that crashed says.

use super::Image;
use vdo::format::recovery_journal::check_byte;
use vdo::format::recovery_journal::entry;
use vdo::format::recovery_journal::Format;
use vdo::format::recovery_journal::Header;
use vdo::format::recovery_journal::SectorHeader;
use vdo::format::recovery_journal::ENTRY_SECTORS;
use vdo::format::super_block::SuperBlock;
use vdo::format::JournalPoint;
use vdo::format::Operation;
use vdo::format::Page;
use vdo::format::RecoveryEntry;
use vdo::format::Sequence;

/// Entries, each with its block and its place there.
pub(super) type Entries = Vec<(JournalPoint, RecoveryEntry)>;

/// What is to be replayed.
pub(super) struct Replay {
    /// For the block map.
    pub(super) mappings: Entries,
    /// For the slab journals.
    pub(super) references: Entries,
    pub(super) logical_blocks_used: u64,
    pub(super) block_map_data_blocks: u64,
}

impl Replay {
    pub(super) fn nothing(super_block: &SuperBlock) -> Self {
        Self {
            mappings: Vec::new(),
            references: Vec::new(),
            logical_blocks_used: super_block.logical_blocks_used,
            block_map_data_blocks: super_block.block_map_data_blocks,
        }
    }
}

struct Ring<'a> {
    image: &'a Image<'a>,
    start: u64,
    size: u64,
}

impl Ring<'_> {
    fn page(&self, sequence: Sequence) -> &Page {
        self.image.block(self.start + sequence % self.size)
    }

    /// Returns the header of the block at the place of a sequence if it is one of this life.
    fn header(&self, sequence: Sequence) -> Option<Header> {
        let header = Header::decode(self.page(sequence));
        let super_block = &self.image.super_block;
        header
            .is_valid(
                super_block.nonce,
                super_block.recovery_count(),
                self.image.toy.journal_shape,
            )
            .then_some(header)
    }

    /// Returns the usable entries of a block, and whether it is full.
    fn entries(&self, header: &Header) -> Result<(Entries, bool), String> {
        let shape = self.image.toy.journal_shape;
        let per_sector = u16::from(shape.entries_per_sector);
        let page = self.page(header.sequence);
        let mut entries = Vec::new();
        let mut left = header.entry_count;
        for sector in 1..=ENTRY_SECTORS {
            let head = SectorHeader::decode(page, sector);
            let count = u16::from(head.entry_count).min(left);
            if !head.belongs_to(header, shape, sector) {
                break;
            }
            for index in 0..count {
                let index = (sector as u16 - 1) * per_sector + index;
                let point = JournalPoint::new(header.sequence, index);
                let depot = &self.image.super_block.depot;
                let valid = entry(page, shape, index)
                    .filter(|entry| entry.is_valid(depot, self.image.super_block.roots()));
                let valid = valid.ok_or_else(|| format!("journal entry {point:?} is invalid"))?;
                entries.push((point, valid));
            }
            left -= count;
            if count < per_sector || left == 0 {
                break;
            }
        }
        let full = header.entry_count == shape.entries_per_block() && left == 0;
        Ok((entries, full))
    }
}

/// Reads the journal of a volume that crashed.
pub(super) fn replay(image: &Image<'_>) -> Result<Replay, String> {
    let super_block = &image.super_block;
    let ring = Ring {
        image,
        start: super_block.partitions.journal.start,
        size: super_block.recovery_journal_size,
    };
    let mut highest = super_block.journal_start;
    let mut heads = None;
    for place in 0..ring.size {
        let Some(header) = ring
            .header(place)
            .filter(|header| header.sequence % ring.size == place)
        else {
            continue;
        };
        if header.check_byte != check_byte(header.sequence, ring.size) {
            return Err(format!("check byte of block {}", header.sequence));
        }
        if header.sequence >= highest || heads.is_some() {
            highest = highest.max(header.sequence);
            let (map, slabs) = heads.unwrap_or((0, 0));
            heads = Some((
                header.block_map_head.max(map),
                header.slab_journal_head.max(slabs),
            ));
        }
    }
    let Some((map_head, slab_head)) = heads else {
        return Ok(Replay::nothing(super_block));
    };
    let head = map_head.min(slab_head);
    let mut all: Entries = Vec::new();
    let mut last = None;
    let mut tail = head;
    for sequence in head..=highest {
        tail = sequence;
        let header = ring.header(sequence);
        let Some(header) = header.filter(|header| header.sequence == sequence) else {
            break;
        };
        if header.format() != Some(Format::Current) {
            return Err(format!("block {sequence} has another format"));
        }
        let (entries, full) = ring.entries(&header)?;
        if !entries.is_empty() {
            last = Some((header, entries.clone()));
        }
        all.extend(entries);
        if !full {
            break;
        }
    }
    if let Some((header, _)) = &last {
        tail = header.sequence;
    }
    if map_head > tail || slab_head > tail {
        return Err(format!(
            "heads {map_head}, {slab_head} are behind the tail {tail}"
        ));
    }
    let mut replay = Replay::nothing(super_block);
    if let Some((header, entries)) = last {
        replay.logical_blocks_used = header.logical_blocks_used;
        replay.block_map_data_blocks = header.block_map_data_blocks;
        for (_, entry) in entries {
            match entry.operation {
                Operation::BlockMap => replay.block_map_data_blocks += 1,
                Operation::Data => {
                    replay.logical_blocks_used += u64::from(entry.new.is_mapped());
                    replay.logical_blocks_used -= u64::from(entry.old.is_mapped());
                }
            }
        }
    }
    let since = |head: Sequence| {
        let from = |(point, _): &&(JournalPoint, RecoveryEntry)| point.sequence >= head;
        all.iter().filter(from).copied().collect()
    };
    (replay.mappings, replay.references) = (since(map_head), since(slab_head));
    Ok(replay)
}
