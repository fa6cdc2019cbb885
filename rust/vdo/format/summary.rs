// SPDX-License-Identifier: GPL-2.0

//! The slab summary: two bytes per slab, which say what there is to read when a volume starts.
//!
//! | Byte | Bits | Field |
//! |---|---|---|
//! | 0 | | where in the slab journal the next block goes |
//! | 1 | 5..0 | hint how much of the slab is free |
//! | 1 | 6 | the reference blocks on disk mean something |
//! | 1 | 7 | the slab journal may be ahead of the reference blocks |
//!
//! The partition has sixteen copies of four blocks. With `n` zones, the entry of slab `s` is
//! current in copy `s % n` only.

use super::field::bytes;
use super::field::put;
use super::Page;
use super::SlabConfig;
use super::SlabNumber;
use super::BLOCK_SIZE;

/// Bytes of an entry.
pub const ENTRY_SIZE: usize = 2;

/// Entries in a block.
pub const ENTRIES_PER_BLOCK: u32 = (BLOCK_SIZE / ENTRY_SIZE) as u32;

/// Copies in the partition, one per zone that there can be.
pub const COPIES: u32 = 16;

/// Blocks of a copy.
pub const BLOCKS_PER_COPY: u32 = super::slab::MAX_SLABS / ENTRIES_PER_BLOCK;

/// Blocks of the partition.
pub const BLOCKS: u32 = COPIES * BLOCKS_PER_COPY;

/// Bits of the hint.
const HINT_BITS: u32 = 6;

const LOAD: u8 = 1 << 6;
const DIRTY: u8 = 1 << 7;

/// What the summary says of a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SummaryEntry {
    /// The place in the slab journal where its next block goes.
    pub tail_block_offset: u8,
    /// How much of the slab is free: see [`hint`]. Six bits.
    pub fullness_hint: u8,
    /// The reference blocks on disk mean something; else all counts start from 0.
    pub load_ref_counts: bool,
    /// The slab journal may hold entries that the reference blocks lack.
    pub is_dirty: bool,
}

impl SummaryEntry {
    /// Returns the entry of a slab that was never used.
    pub fn unused(slab: &SlabConfig) -> Self {
        Self {
            tail_block_offset: 0,
            fullness_hint: hint(slab.data_blocks, slab),
            load_ref_counts: false,
            is_dirty: false,
        }
    }

    /// Decodes an entry.
    pub const fn decode(bytes: [u8; ENTRY_SIZE]) -> Self {
        let [tail_block_offset, rest] = bytes;
        Self {
            tail_block_offset,
            fullness_hint: rest & !(LOAD | DIRTY),
            load_ref_counts: rest & LOAD != 0,
            is_dirty: rest & DIRTY != 0,
        }
    }

    /// Encodes an entry.
    pub const fn encode(self) -> [u8; ENTRY_SIZE] {
        let mut rest = self.fullness_hint & !(LOAD | DIRTY);
        if self.load_ref_counts {
            rest |= LOAD;
        }
        if self.is_dirty {
            rest |= DIRTY;
        }
        [self.tail_block_offset, rest]
    }
}

/// Returns the hint of a slab with so many free blocks: 0 only if none is.
pub fn hint(free: u32, slab: &SlabConfig) -> u8 {
    if free == 0 {
        return 0;
    }
    let shift = slab.shift().saturating_sub(HINT_BITS);
    let hint = (free >> shift).clamp(1, (1 << HINT_BITS) - 1);
    hint as u8
}

/// Returns the block of a copy that has a slab's entry, and the place there.
pub fn place(slab: SlabNumber) -> (u32, usize) {
    (
        slab / ENTRIES_PER_BLOCK,
        (slab % ENTRIES_PER_BLOCK) as usize,
    )
}

/// Returns an entry of a block.
pub fn entry(page: &Page, index: usize) -> SummaryEntry {
    SummaryEntry::decode(bytes(page, index.saturating_mul(ENTRY_SIZE)))
}

/// Changes an entry of a block.
pub fn set_entry(page: &mut Page, index: usize, entry: SummaryEntry) {
    put(page, index.saturating_mul(ENTRY_SIZE), entry.encode());
}

#[cfg(test)]
mod tests;
