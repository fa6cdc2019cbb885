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
use crate::format::Partition;
use crate::format::Pbn;

/// Bytes of an entry.
pub const ENTRY_SIZE: usize = 16;

/// Bytes of an entry of the old format.
pub(super) const OLD_ENTRY_SIZE: usize = 11;

pub(super) const OLD_ENTRIES_PER_SECTOR: u8 = 46;
pub(super) const OLD_ENTRIES_IN_LAST_SECTOR: u8 = 35;
pub(super) const OLD_ENTRIES_PER_BLOCK: u16 = 311;

const MAPPING_BITS: u64 = (1 << (8 * MAPPING_SIZE)) - 1;
const OLD_SHIFT: usize = 8 * (ENTRY_SIZE - MAPPING_SIZE);
const NEW_SHIFT: usize = OLD_SHIFT - 8 * MAPPING_SIZE;

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
        let bits = u128::from_le_bytes(bytes);
        let (operation, slot, page) = decode_slot(bits as u64);
        let operation = match operation {
            0 => Operation::Data,
            1 => Operation::BlockMap,
            _ => return None,
        };
        Some(Self {
            operation,
            page,
            slot,
            new: Mapping::from_bits((bits >> NEW_SHIFT) as u64 & MAPPING_BITS),
            old: Mapping::from_bits((bits >> OLD_SHIFT) as u64 & MAPPING_BITS),
        })
    }

    /// Encodes an entry.
    pub fn encode(&self) -> [u8; ENTRY_SIZE] {
        let operation = match self.operation {
            Operation::Data => 0,
            Operation::BlockMap => 1,
        };
        let slot = u128::from(encode_slot(operation, self.slot, self.page));
        let (new, old) = (u128::from(self.new.bits()), u128::from(self.old.bits()));
        (slot | (new << NEW_SHIFT) | (old << OLD_SHIFT)).to_le_bytes()
    }

    /// Returns whether the entry may be replayed on a volume with these slabs and these root pages.
    ///
    /// Entries have no checksum, and what has no page at the place that an entry names gets one
    /// there: the place must be one where a page can be. (Mainline takes any block.)
    pub fn is_valid(&self, depot: &DepotLayout, roots: Partition) -> bool {
        let operation_fits = match self.operation {
            Operation::Data => depot.is_data_block(self.page),
            Operation::BlockMap => {
                (depot.is_data_block(self.page) || roots.contains(self.page))
                    && self.new == Mapping::plain(self.new.pbn)
                    && self.new.pbn != 0
                    && self.old == Mapping::UNMAPPED
            }
        };
        self.slot < block_map::ENTRIES
            && is_valid_mapping(self.new, depot)
            && is_valid_mapping(self.old, depot)
            && operation_fits
    }
}

/// An entry as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredEntry(pub [u8; ENTRY_SIZE]);

/// What an entry does to reference counts: the new block gains one, then the old one loses one.
pub trait References: Copy + Send + Sync {
    /// Returns what the entry is about.
    fn operation(&self) -> Operation;

    /// Returns the block that gains a reference, or 0.
    fn gains(&self) -> Pbn;

    /// Returns the block that loses a reference, or 0.
    fn loses(&self) -> Pbn;
}

impl References for RecoveryEntry {
    fn operation(&self) -> Operation {
        self.operation
    }

    fn gains(&self) -> Pbn {
        self.new.pbn
    }

    fn loses(&self) -> Pbn {
        self.old.pbn
    }
}

/// An operation that is unknown counts as one of data: none was stored.
impl References for StoredEntry {
    #[inline]
    fn operation(&self) -> Operation {
        match u128::from_le_bytes(self.0) & 3 {
            1 => Operation::BlockMap,
            _ => Operation::Data,
        }
    }

    #[inline]
    fn gains(&self) -> Pbn {
        let bits = u128::from_le_bytes(self.0) >> NEW_SHIFT;
        Mapping::from_bits(bits as u64 & MAPPING_BITS).pbn
    }

    #[inline]
    fn loses(&self) -> Pbn {
        let bits = u128::from_le_bytes(self.0) >> OLD_SHIFT;
        Mapping::from_bits(bits as u64).pbn
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
        let (operation, slot, page) = decode_slot(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
        let operation = match operation {
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

/// Returns operation, slot and PBN, which are in the lowest 48 bits.
fn decode_slot(bits: u64) -> (u8, u16, Pbn) {
    (
        (bits & 3) as u8,
        ((bits >> 2) & 0x3ff) as u16,
        ((bits & 0xf000) << 20) | ((bits >> 16) & 0xffff_ffff),
    )
}

/// Returns operation, slot and PBN as 48 bits.
fn encode_slot(operation: u8, slot: u16, pbn: Pbn) -> u64 {
    let first = u64::from(operation & 3) | (u64::from(slot & 0x3ff) << 2);
    first | ((pbn >> 20) & 0xf000) | ((pbn & 0xffff_ffff) << 16)
}
