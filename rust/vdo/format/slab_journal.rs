// SPDX-License-Identifier: GPL-2.0

//! A block of a slab journal: changes of the reference counts of a slab, in order.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | oldest sequence that is still needed, as of this write |
//! | 8 | 8 | sequence of this block |
//! | 16 | 8 | point of the recovery journal: see [`recovery_point`] |
//! | 24 | 8 | nonce of the volume |
//! | 32 | 1 | metadata type, 2 |
//! | 33 | 1 | 1 if there are increments of block map pages |
//! | 34 | 2 | entries |
//! | 36 | 3 each | entries: bits 22..0 block in the slab, bit 23 set for an increment |
//! | 3933 | 163 | a bit per entry, set for block map pages; only with the flag at 33 |
//!
//! The bits take room, so a block with the flag holds fewer entries. A block is written once, when
//! it is full or must be; what it holds decides which points reference blocks are stamped with, so
//! that a recovery must cut the entries into the very same blocks: [`Header::push`] is the one
//! place that knows how.

use super::field::bytes;
use super::field::put;
use super::field::u16_at;
use super::field::u64_at;
use super::field::u8_at;
use super::metadata_type;
use super::JournalPoint;
use super::Page;
use super::Sbn;
use super::Sequence;
use super::BLOCK_SIZE;

const HEAD_AT: usize = 0;
const SEQUENCE_AT: usize = 8;
const RECOVERY_POINT_AT: usize = 16;
const NONCE_AT: usize = 24;
const METADATA_TYPE_AT: usize = 32;
const FLAG_AT: usize = 33;
const ENTRY_COUNT_AT: usize = 34;
const ENTRIES_AT: usize = 36;

const ENTRY_SIZE: usize = 3;
const INCREMENT: u32 = 1 << 23;

/// How many entries a block has: less than the format's in simulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// With increments of block map pages; at most 1299.
    pub full: u16,
    /// Without; at most 1353, at least `full`.
    pub data: u16,
}

impl Shape {
    /// The format's.
    pub const STANDARD: Self = Self {
        full: 1299,
        data: 1353,
    };

    /// Returns how many entries a block holds, with the flag or without.
    pub const fn capacity(self, has_block_map_increments: bool) -> u16 {
        if has_block_map_increments {
            self.full
        } else {
            self.data
        }
    }

    const fn bits_at(self) -> usize {
        ENTRIES_AT + self.full as usize * ENTRY_SIZE
    }

    const fn bits_size(self) -> usize {
        (self.full as usize).div_ceil(8)
    }
}

const _: () = {
    let shape = Shape::STANDARD;
    assert!(shape.bits_at() == 3933 && shape.bits_at() + shape.bits_size() == BLOCK_SIZE);
    assert!(ENTRIES_AT + shape.data as usize * ENTRY_SIZE <= BLOCK_SIZE);
};

/// Returns the recovery point of half of an entry of the recovery journal. Such points count half
/// entries: of entry `index`, `2 * index` is the increment and `2 * index + 1` the decrement.
///
/// The header of a block has that of its last entry.
pub const fn recovery_point(sequence: Sequence, index: u16, increment: bool) -> JournalPoint {
    JournalPoint::new(sequence, index.wrapping_mul(2) | !increment as u16)
}

/// What happens to a reference count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A data block gains a reference.
    Increment,
    /// A free block becomes a page of the block map.
    BlockMapIncrement,
    /// A data block loses a reference.
    Decrement,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabEntry {
    /// The block in the slab: 23 bits.
    pub sbn: Sbn,
    /// What happens to its count.
    pub change: Change,
}

/// The header of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The oldest sequence of this slab journal that is still needed.
    pub head: Sequence,
    /// The sequence of this block.
    pub sequence: Sequence,
    /// Where in the recovery journal the last entry comes from; see [`recovery_point`].
    pub recovery_point: JournalPoint,
    /// The nonce of the volume.
    pub nonce: u64,
    /// 2.
    pub metadata_type: u8,
    /// Whether the block has increments of block map pages, and so bits for all entries.
    pub has_block_map_increments: bool,
    /// Entries in the block.
    pub entry_count: u16,
}

impl Header {
    /// Returns the header of an empty block. (Nothing need be zeroed for it.)
    pub fn new(head: Sequence, sequence: Sequence, nonce: u64) -> Self {
        Self {
            head,
            sequence,
            recovery_point: JournalPoint::NONE,
            nonce,
            metadata_type: metadata_type::SLAB_JOURNAL,
            has_block_map_increments: false,
            entry_count: 0,
        }
    }

    /// Decodes the header of a block.
    pub fn decode(page: &Page) -> Self {
        Self {
            head: u64_at(page, HEAD_AT),
            sequence: u64_at(page, SEQUENCE_AT),
            recovery_point: JournalPoint::unpack(u64_at(page, RECOVERY_POINT_AT)),
            nonce: u64_at(page, NONCE_AT),
            metadata_type: u8_at(page, METADATA_TYPE_AT),
            has_block_map_increments: u8_at(page, FLAG_AT) != 0,
            entry_count: u16_at(page, ENTRY_COUNT_AT),
        }
    }

    /// Encodes the header into a block.
    pub fn encode(&self, page: &mut Page) {
        put(page, HEAD_AT, self.head.to_le_bytes());
        put(page, SEQUENCE_AT, self.sequence.to_le_bytes());
        put(
            page,
            RECOVERY_POINT_AT,
            self.recovery_point.pack().to_le_bytes(),
        );
        put(page, NONCE_AT, self.nonce.to_le_bytes());
        put(page, METADATA_TYPE_AT, [self.metadata_type]);
        put(page, FLAG_AT, [self.has_block_map_increments.into()]);
        put(page, ENTRY_COUNT_AT, self.entry_count.to_le_bytes());
    }

    /// Returns whether this is a block of a slab journal of this volume.
    pub fn is_valid(&self, nonce: u64) -> bool {
        self.metadata_type == metadata_type::SLAB_JOURNAL && self.nonce == nonce
    }

    /// Returns whether the block can have so many entries.
    pub fn is_count_valid(&self, shape: Shape) -> bool {
        self.entry_count <= shape.capacity(self.has_block_map_increments)
    }

    /// Returns whether the block is full, and so to be written.
    pub fn is_full(&self, shape: Shape) -> bool {
        self.entry_count >= shape.capacity(self.has_block_map_increments)
    }

    /// Returns whether the block has room for such an entry. If not, it is written as it is, and
    /// the entry goes to the next one.
    pub fn has_room_for(&self, shape: Shape, change: Change) -> bool {
        let with_bits = self.has_block_map_increments || change == Change::BlockMapIncrement;
        self.entry_count < shape.capacity(with_bits)
    }

    /// Appends an entry to the block that this is the header of; returns its place, or `None` if
    /// there is no room.
    ///
    /// The header is put into the block when the block is written.
    #[inline(always)]
    pub fn push(
        &mut self,
        page: &mut Page,
        shape: Shape,
        entry: SlabEntry,
        recovery_point: JournalPoint,
    ) -> Option<u16> {
        if !self.has_room_for(shape, entry.change) {
            return None;
        }
        let index = self.entry_count;
        if entry.change == Change::BlockMapIncrement && !self.has_block_map_increments {
            self.has_block_map_increments = true;
            let bits = shape.bits_at()..shape.bits_at() + shape.bits_size();
            if let Some(bits) = page.get_mut(bits) {
                bits.fill(0);
            }
        }
        put_entry(page, index, entry);
        if entry.change == Change::BlockMapIncrement {
            let at = shape.bits_at() + usize::from(index / 8);
            let byte = u8_at(page, at) | (1 << (index % 8));
            put(page, at, [byte]);
        }
        self.entry_count += 1;
        self.recovery_point = recovery_point;
        Some(index)
    }

    /// Returns an entry of the block that this is the header of. Behind the last one it is
    /// whatever was there before.
    ///
    /// A decrement whose bit says that it is one of a block map page is a decrement here.
    pub fn entry(&self, page: &Page, shape: Shape, index: u16) -> SlabEntry {
        let [a, b, c] = bytes(page, entry_at(index));
        let bits = u32::from_le_bytes([a, b, c, 0]);
        let change = if bits & INCREMENT == 0 {
            Change::Decrement
        } else if self.is_block_map(page, shape, index) {
            Change::BlockMapIncrement
        } else {
            Change::Increment
        };
        SlabEntry {
            sbn: bits & !INCREMENT,
            change,
        }
    }

    /// Returns all entries of the block that this is the header of, as far as its shape allows.
    pub fn entries<'a>(
        &'a self,
        page: &'a Page,
        shape: Shape,
    ) -> impl Iterator<Item = SlabEntry> + 'a {
        let capacity = shape.capacity(self.has_block_map_increments);
        (0..self.entry_count.min(capacity)).map(move |index| self.entry(page, shape, index))
    }

    /// Returns whether the entry is marked as one of a block map page.
    pub fn is_block_map(&self, page: &Page, shape: Shape, index: u16) -> bool {
        let bits = u8_at(page, shape.bits_at() + usize::from(index / 8));
        self.has_block_map_increments && (bits >> (index % 8)) & 1 == 1
    }
}

#[inline]
fn put_entry(page: &mut Page, index: u16, entry: SlabEntry) {
    let mut bits = entry.sbn & !INCREMENT;
    if entry.change != Change::Decrement {
        bits |= INCREMENT;
    }
    let [a, b, c, _] = bits.to_le_bytes();
    put(page, entry_at(index), [a, b, c]);
}

fn entry_at(index: u16) -> usize {
    ENTRIES_AT + usize::from(index) * ENTRY_SIZE
}

#[cfg(test)]
mod tests;
