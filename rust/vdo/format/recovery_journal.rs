// SPDX-License-Identifier: GPL-2.0

//! A block of the recovery journal.
//!
//! Sector 0 is the header, sectors 1 to 7 hold entries, filled in order:
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | oldest sequence that the block map still needs, as of this write |
//! | 8 | 8 | oldest sequence that slab journals still need |
//! | 16 | 8 | sequence of this block |
//! | 24 | 8 | nonce of the volume |
//! | 32 | 1 | metadata type |
//! | 33 | 2 | entries in the block, as of this write |
//! | 35 | 8 | logical blocks in use before the first entry |
//! | 43 | 8 | block map pages in slabs before the first entry |
//! | 51 | 1 | check byte: which turn of the ring this is |
//! | 52 | 1 | recoveries that the volume has seen |
//!
//! | Offset in a sector | Size | Field |
//! |---|---|---|
//! | 0 | 1 | check byte, as in the header; 0 while the sector is empty |
//! | 1 | 1 | recoveries, as in the header |
//! | 2 | 1 | entries in the sector |
//! | 3 | 16 each | entries |
//!
//! A sector is written whole or not at all, so a torn block shows by its sectors' first bytes. A
//! block that is not full is written again, in place, as it fills.

mod entry;

pub use entry::OldEntry;
pub use entry::OldOperation;
pub use entry::Operation;
pub use entry::RecoveryEntry;
pub use entry::References;
pub use entry::StoredEntry;
pub use entry::ENTRY_SIZE;

use super::field::bytes;
use super::field::put;
use super::field::u16_at;
use super::field::u64_at;
use super::field::u8_at;
use super::metadata_type;
use super::Page;
use super::Sequence;
use super::BLOCK_SECTORS;
use super::MAX_SEQUENCE;
use super::SECTOR_SIZE;

/// Blocks of the journal, as formatters make it.
pub const RECOVERY_JOURNAL_BLOCKS: u64 = 32_768;

/// The smallest ring that goes on whatever happens: in one of a few blocks entries wait for blocks
/// that wait for them.
pub const MIN_BLOCKS: u64 = 8;

/// Sectors with entries; the first one is sector 1.
pub const ENTRY_SECTORS: usize = BLOCK_SECTORS - 1;

const BLOCK_MAP_HEAD_AT: usize = 0;
const SLAB_JOURNAL_HEAD_AT: usize = 8;
const SEQUENCE_AT: usize = 16;
const NONCE_AT: usize = 24;
const METADATA_TYPE_AT: usize = 32;
const ENTRY_COUNT_AT: usize = 33;
const LOGICAL_BLOCKS_USED_AT: usize = 35;
const BLOCK_MAP_DATA_BLOCKS_AT: usize = 43;
const CHECK_BYTE_AT: usize = 51;
const RECOVERY_COUNT_AT: usize = 52;

const SECTOR_HEADER_SIZE: usize = 3;

/// How many entries a block has: less than the format's in simulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Entries in a sector, at most 31.
    pub entries_per_sector: u8,
}

impl Shape {
    /// The format's: 217 entries in a block.
    pub const STANDARD: Self = Self {
        entries_per_sector: 31,
    };

    /// Returns the number of entries in a block.
    pub const fn entries_per_block(self) -> u16 {
        self.entries_per_sector as u16 * ENTRY_SECTORS as u16
    }

    /// Returns the sector of an entry (1..=7) and its place there.
    pub const fn place(self, index: u16) -> (usize, u16) {
        let per_sector = self.entries_per_sector as u16;
        match (index.checked_div(per_sector), index.checked_rem(per_sector)) {
            (Some(sector), Some(rest)) => (1 + sector as usize, rest),
            _ => (1, index),
        }
    }
}

const _: () = {
    let used = SECTOR_HEADER_SIZE + Shape::STANDARD.entries_per_sector as usize * ENTRY_SIZE;
    assert!(used <= SECTOR_SIZE && used + ENTRY_SIZE > SECTOR_SIZE);
};

/// The format of the entries of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What is written today.
    Current,
    /// What older versions wrote; only a rebuild reads it.
    Old,
}

impl Format {
    /// Returns how many entries a block of this format has.
    pub const fn entries_per_block(self, shape: Shape) -> u16 {
        match self {
            Self::Current => shape.entries_per_block(),
            Self::Old => entry::OLD_ENTRIES_PER_BLOCK,
        }
    }

    /// Returns how many entries a sector (1..=7) of this format has.
    pub const fn entries_in_sector(self, shape: Shape, sector: usize) -> u8 {
        match self {
            Self::Current => shape.entries_per_sector,
            Self::Old if sector == ENTRY_SECTORS => entry::OLD_ENTRIES_IN_LAST_SECTOR,
            Self::Old => entry::OLD_ENTRIES_PER_SECTOR,
        }
    }
}

/// The header of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The oldest sequence that the block map still needs.
    pub block_map_head: Sequence,
    /// The oldest sequence that slab journals still need.
    pub slab_journal_head: Sequence,
    /// The sequence of this block.
    pub sequence: Sequence,
    /// The nonce of the volume.
    pub nonce: u64,
    /// The kind of the block; see [`Self::format`].
    pub metadata_type: u8,
    /// Entries in the block.
    pub entry_count: u16,
    /// Logical blocks in use before the first entry.
    pub logical_blocks_used: u64,
    /// Block map pages in slabs before the first entry.
    pub block_map_data_blocks: u64,
    /// See [`check_byte`].
    pub check_byte: u8,
    /// Recoveries that the volume has seen, modulo 256.
    pub recovery_count: u8,
}

impl Header {
    /// Decodes the header of a block.
    pub fn decode(page: &Page) -> Self {
        Self {
            block_map_head: u64_at(page, BLOCK_MAP_HEAD_AT),
            slab_journal_head: u64_at(page, SLAB_JOURNAL_HEAD_AT),
            sequence: u64_at(page, SEQUENCE_AT),
            nonce: u64_at(page, NONCE_AT),
            metadata_type: u8_at(page, METADATA_TYPE_AT),
            entry_count: u16_at(page, ENTRY_COUNT_AT),
            logical_blocks_used: u64_at(page, LOGICAL_BLOCKS_USED_AT),
            block_map_data_blocks: u64_at(page, BLOCK_MAP_DATA_BLOCKS_AT),
            check_byte: u8_at(page, CHECK_BYTE_AT),
            recovery_count: u8_at(page, RECOVERY_COUNT_AT),
        }
    }

    /// Encodes the header into a block.
    pub fn encode(&self, page: &mut Page) {
        put(page, BLOCK_MAP_HEAD_AT, self.block_map_head.to_le_bytes());
        put(
            page,
            SLAB_JOURNAL_HEAD_AT,
            self.slab_journal_head.to_le_bytes(),
        );
        put(page, SEQUENCE_AT, self.sequence.to_le_bytes());
        put(page, NONCE_AT, self.nonce.to_le_bytes());
        put(page, METADATA_TYPE_AT, [self.metadata_type]);
        put(page, ENTRY_COUNT_AT, self.entry_count.to_le_bytes());
        put(
            page,
            LOGICAL_BLOCKS_USED_AT,
            self.logical_blocks_used.to_le_bytes(),
        );
        put(
            page,
            BLOCK_MAP_DATA_BLOCKS_AT,
            self.block_map_data_blocks.to_le_bytes(),
        );
        put(page, CHECK_BYTE_AT, [self.check_byte]);
        put(page, RECOVERY_COUNT_AT, [self.recovery_count]);
    }

    /// Returns the format of the entries; `None` if this is no block of a recovery journal.
    pub fn format(&self) -> Option<Format> {
        match self.metadata_type {
            metadata_type::RECOVERY_JOURNAL => Some(Format::Current),
            metadata_type::RECOVERY_JOURNAL_OLD => Some(Format::Old),
            _ => None,
        }
    }

    /// Returns whether this is a block that the volume wrote since its last recovery. Whether it
    /// is at its place, the sequence says.
    pub fn is_valid(&self, nonce: u64, recovery_count: u8, shape: Shape) -> bool {
        self.nonce == nonce
            && self.sequence < MAX_SEQUENCE
            && self.recovery_count == recovery_count
            && self
                .format()
                .is_some_and(|format| self.entry_count <= format.entries_per_block(shape))
    }
}

/// Returns the check byte of the block with this sequence in a ring of `size` blocks, a power of
/// two. It is never 0.
pub fn check_byte(sequence: Sequence, size: u64) -> u8 {
    let turn = sequence >> size.checked_ilog2().unwrap_or(0);
    0x80 | (turn & 0x7f) as u8
}

/// Returns the position of a sequence in a ring of `size` blocks, a power of two.
pub fn position(sequence: Sequence, size: u64) -> u64 {
    sequence & size.saturating_sub(1)
}

/// The first bytes of a sector with entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SectorHeader {
    /// As in the header of the block.
    pub check_byte: u8,
    /// As in the header of the block.
    pub recovery_count: u8,
    /// Entries in the sector.
    pub entry_count: u8,
}

impl SectorHeader {
    /// Decodes the first bytes of a sector (1..=7).
    pub fn decode(page: &Page, sector: usize) -> Self {
        let [check_byte, recovery_count, entry_count] = bytes(page, sector_at(sector));
        Self {
            check_byte,
            recovery_count,
            entry_count,
        }
    }

    /// Encodes the first bytes of a sector (1..=7).
    pub fn encode(self, page: &mut Page, sector: usize) {
        put(
            page,
            sector_at(sector),
            [self.check_byte, self.recovery_count, self.entry_count],
        );
    }

    /// Returns whether the sector was written with the block that has this header.
    pub fn belongs_to(self, header: &Header, shape: Shape, sector: usize) -> bool {
        self.check_byte == header.check_byte
            && self.recovery_count == header.recovery_count
            && header
                .format()
                .is_some_and(|format| self.entry_count <= format.entries_in_sector(shape, sector))
    }
}

/// Returns an entry of the current format; `None` if it makes no sense.
pub fn entry(page: &Page, shape: Shape, index: u16) -> Option<RecoveryEntry> {
    let (sector, rest) = shape.place(index);
    if sector > ENTRY_SECTORS {
        return None;
    }
    RecoveryEntry::decode(bytes(page, entry_at(sector, rest)))
}

/// Stores an entry, and nothing else: [`seal`] makes it count.
pub fn put_entry(page: &mut Page, shape: Shape, index: u16, entry: &RecoveryEntry) {
    let (sector, rest) = shape.place(index);
    put(page, entry_at(sector, rest), entry.encode());
}

/// As [`put_entry`], of all entries of a block from the first on, which are encoded already. What
/// is behind them is zeroed.
pub fn put_encoded(page: &mut Page, shape: Shape, entries: &[[u8; ENTRY_SIZE]]) {
    let mut parts = entries.chunks(shape.entries_per_sector.max(1).into());
    let mut sectors = page.chunks_exact_mut(SECTOR_SIZE);
    if let Some(header) = sectors.next() {
        header.fill(0);
    }
    for sector in sectors {
        let part = parts.next().unwrap_or_default().as_flattened();
        let (_, places) = sector.split_at_mut(SECTOR_HEADER_SIZE);
        if let Some((places, rest)) = places.split_at_mut_checked(part.len()) {
            places.copy_from_slice(part);
            rest.fill(0);
        }
    }
}

/// Makes the first `header.entry_count` entries of a block count: puts the header in, and the
/// first bytes of the sectors. The block is zeroed before its first entry is stored.
pub fn seal(page: &mut Page, shape: Shape, header: &Header) {
    header.encode(page);
    let mut left = header.entry_count;
    for sector in 1..=ENTRY_SECTORS {
        let here = left.min(shape.entries_per_sector.into());
        left -= here;
        let first_bytes = match here {
            0 => SectorHeader::default(),
            _ => SectorHeader {
                check_byte: header.check_byte,
                recovery_count: header.recovery_count,
                entry_count: here as u8,
            },
        };
        first_bytes.encode(page, sector);
    }
}

/// Returns an entry of a sector (1..=7) of the old format.
pub fn old_entry(page: &Page, sector: usize, index: u8) -> OldEntry {
    let at = sector_at(sector) + SECTOR_HEADER_SIZE + usize::from(index) * entry::OLD_ENTRY_SIZE;
    OldEntry::decode(bytes(page, at))
}

fn sector_at(sector: usize) -> usize {
    sector.saturating_mul(SECTOR_SIZE)
}

fn entry_at(sector: usize, index: u16) -> usize {
    sector_at(sector) + SECTOR_HEADER_SIZE + usize::from(index) * ENTRY_SIZE
}

#[cfg(test)]
mod tests;
