// SPDX-License-Identifier: GPL-2.0

//! An entry of the recovery journal: one slot of one block map page changes.
//!
//! | Bytes | Content |
//! |---|---|
//! | 0..1 | bits 1..0 operation, bits 11..2 slot, bits 15..12 the page's PBN, bits 35..32 |
//! | 2..5 | the page's PBN, bits 31..0 |
//! | 6..10 | the new mapping |
//! | 11..15 | the old mapping |
//!
//! The old format has one mapping only, and says in the operation which one.

use crate::format::block_map;
use crate::format::mapping::MAPPING_SIZE;
use crate::format::DepotLayout;
use crate::format::Mapping;
use crate::format::Pbn;

/// Bytes of an entry.
pub const ENTRY_SIZE: usize = 16;

/// Bytes of an entry of the old format.
pub(super) const OLD_ENTRY_SIZE: usize = 11;

pub(super) const OLD_ENTRIES_PER_SECTOR: u8 = 46;
pub(super) const OLD_ENTRIES_IN_LAST_SECTOR: u8 = 35;
pub(super) const OLD_ENTRIES_PER_BLOCK: u16 = 311;

/// Bytes that name the operation, the page and the slot.
const SLOT_SIZE: usize = ENTRY_SIZE - 2 * MAPPING_SIZE;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A slot of a leaf page: data.
    Data,
    /// A slot of another page, maybe a root: a new page below it.
    BlockMap,
}

/// One change of one slot of the block map. First the new block gains a reference, then the old
/// one loses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryEntry {
    /// What the slot is for.
    pub operation: Operation,
    /// The page.
    pub page: Pbn,
    /// The slot in the page.
    pub slot: u16,
    /// What the slot holds from now on.
    pub new: Mapping,
    /// What it held before.
    pub old: Mapping,
}

impl RecoveryEntry {
    /// Decodes an entry; `None` if the operation is unknown.
    pub fn decode(bytes: [u8; ENTRY_SIZE]) -> Option<Self> {
        let (place, new, old) = split(&bytes)?;
        let (bits, slot, page) = decode_slot(place);
        let operation = match bits {
            0 => Operation::Data,
            1 => Operation::BlockMap,
            _ => return None,
        };
        Some(Self {
            operation,
            page,
            slot,
            new: Mapping::decode(new),
            old: Mapping::decode(old),
        })
    }

    /// Encodes an entry.
    pub fn encode(&self) -> [u8; ENTRY_SIZE] {
        let bits = match self.operation {
            Operation::Data => 0,
            Operation::BlockMap => 1,
        };
        let [a, b, c, d, e, f] = encode_slot(bits, self.slot, self.page);
        let [g, h, i, j, k] = self.new.encode();
        let [l, m, n, o, p] = self.old.encode();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Returns whether the entry may be replayed on a volume of this shape.
    pub fn is_valid(&self, depot: &DepotLayout, physical_blocks: u64) -> bool {
        let operation_fits = match self.operation {
            Operation::Data => true,
            Operation::BlockMap => {
                self.new == Mapping::plain(self.new.pbn)
                    && self.new.pbn != 0
                    && self.old == Mapping::UNMAPPED
            }
        };
        self.page < physical_blocks
            && self.slot < block_map::ENTRIES
            && is_valid_mapping(self.new, depot)
            && is_valid_mapping(self.old, depot)
            && operation_fits
    }
}

/// What an entry of the old format is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldOperation {
    /// A data block loses a reference.
    DataDecrement,
    /// A slot of a leaf page gets this mapping.
    DataIncrement,
    /// A page of the block map is given up.
    BlockMapDecrement,
    /// A slot of another page gets this page.
    BlockMapIncrement,
}

/// An entry of the old format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldEntry {
    /// What the entry is about.
    pub operation: OldOperation,
    /// The page.
    pub page: Pbn,
    /// The slot in the page.
    pub slot: u16,
    /// The mapping that comes or goes.
    pub mapping: Mapping,
}

impl OldEntry {
    /// Decodes an entry.
    pub fn decode(bytes: [u8; OLD_ENTRY_SIZE]) -> Self {
        let [a, b, c, d, e, f, mapping @ ..] = bytes;
        let (bits, slot, page) = decode_slot([a, b, c, d, e, f]);
        let operation = match bits {
            0 => OldOperation::DataDecrement,
            1 => OldOperation::DataIncrement,
            2 => OldOperation::BlockMapDecrement,
            _ => OldOperation::BlockMapIncrement,
        };
        Self {
            operation,
            page,
            slot,
            mapping: Mapping::decode(mapping),
        }
    }

    /// Returns the entry as one of the current format, if it is an increment: its old mapping is
    /// not known.
    pub fn increment(&self) -> Option<RecoveryEntry> {
        let operation = match self.operation {
            OldOperation::DataIncrement => Operation::Data,
            OldOperation::BlockMapIncrement => Operation::BlockMap,
            OldOperation::DataDecrement | OldOperation::BlockMapDecrement => return None,
        };
        Some(RecoveryEntry {
            operation,
            page: self.page,
            slot: self.slot,
            new: self.mapping,
            old: Mapping::UNMAPPED,
        })
    }
}

fn is_valid_mapping(mapping: Mapping, depot: &DepotLayout) -> bool {
    mapping.is_valid_location() && (mapping.pbn == 0 || depot.is_data_block(mapping.pbn))
}

type Parts = ([u8; SLOT_SIZE], [u8; MAPPING_SIZE], [u8; MAPPING_SIZE]);

fn split(bytes: &[u8; ENTRY_SIZE]) -> Option<Parts> {
    let (place, rest) = bytes.split_first_chunk()?;
    let (new, rest) = rest.split_first_chunk()?;
    Some((*place, *new, *rest.first_chunk()?))
}

/// Returns operation, slot and PBN.
fn decode_slot(bytes: [u8; SLOT_SIZE]) -> (u8, u16, Pbn) {
    let [a, b, c, d, e, f] = bytes;
    let first = u16::from_le_bytes([a, b]);
    let low = u32::from_le_bytes([c, d, e, f]);
    (
        (first & 3) as u8,
        (first >> 2) & 0x3ff,
        (u64::from(first >> 12) << 32) | u64::from(low),
    )
}

fn encode_slot(operation: u8, slot: u16, pbn: Pbn) -> [u8; SLOT_SIZE] {
    let [c, d, e, f, high, ..] = pbn.to_le_bytes();
    let high = u16::from(high & 0xf) << 12;
    let first = u16::from(operation & 3) | ((slot & 0x3ff) << 2) | high;
    let [a, b] = first.to_le_bytes();
    [a, b, c, d, e, f]
}
