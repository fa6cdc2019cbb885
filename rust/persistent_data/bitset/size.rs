// SPDX-License-Identifier: GPL-2.0

//! How many metadata blocks a bitset takes.

use super::BITS_PER_BLOCK;
use crate::btree::max_entries;
use crate::space_map::bitmaps;
use crate::space_map::MAX_BLOCKS;

/// Entries in all leaves but the last two of a tree that grew by ascending keys.
const ENTRIES_AFTER_ASCENT: u64 = FULL - 4;
const FULL: u64 = max_entries(size_of::<u64>()) as u64;

/// How many metadata blocks a bitset takes, the space map and the superblock included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// In use after the format and after every commit.
    pub used: u64,
    /// Needed so that a transaction that touches everything can be committed.
    pub needed: u64,
}

/// Returns how many metadata blocks a set of `bits` bits takes on a device of `device_blocks`.
pub fn size(bits: u64, device_blocks: u64) -> Size {
    let arrays = bits.div_ceil(BITS_PER_BLOCK);
    let maps = bitmaps(device_blocks.min(MAX_BLOCKS)).unwrap_or(1) as u64;
    let movable = 1 + maps + nodes(arrays) + arrays;
    Size {
        used: 2 + movable,
        needed: 2 + 2 * movable,
    }
}

/// Returns the number of nodes of a tree into which `entries` ascending keys were inserted.
fn nodes(entries: u64) -> u64 {
    let mut total = 0;
    let mut level = entries;
    loop {
        level = match level {
            0..=FULL => 1,
            _ => 1 + (level - FULL).div_ceil(ENTRIES_AFTER_ASCENT),
        };
        total += level;
        if level == 1 {
            return total;
        }
    }
}
