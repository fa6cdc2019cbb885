// SPDX-License-Identifier: GPL-2.0

//! How large the region of the deduplication index is.
//!
//! Only formatters ask: whoever loads a volume takes the bounds of the region from the geometry
//! block. The arithmetic mirrors the layout of an index: its volume of chapters, and two saves of
//! the index of that volume.

use super::BLOCK_SIZE;

/// How much memory an index takes, as the geometry block stores it.
///
/// A number of GiB up to 1024, or one of three fractions. Volumes that were converted from an older
/// format use other values, which stand for the same sizes with one chapter less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexMemory(pub u32);

impl IndexMemory {
    /// 0.25 GiB.
    pub const QUARTER: Self = Self(-256_i32 as u32);

    /// 0.5 GiB.
    pub const HALF: Self = Self(-512_i32 as u32);

    /// 0.75 GiB.
    pub const THREE_QUARTERS: Self = Self(-768_i32 as u32);

    /// The largest whole number of GiB.
    pub const MAX_GIB: u32 = 1024;

    /// What a converted volume adds to a number of GiB.
    const CONVERTED: u32 = 0x1000;

    /// Returns chapters, record pages in a chapter, and whether the volume was converted; `None` for
    /// an unknown value.
    const fn shape(self) -> Option<(u64, u64, bool)> {
        const MAX_CONVERTED_GIB: u32 = IndexMemory::CONVERTED + IndexMemory::MAX_GIB;
        match self.0 as i32 {
            -256 => Some((1024, 64, false)),
            -512 => Some((1024, 128, false)),
            -768 => Some((1024, 192, false)),
            -1280 => Some((1024, 64, true)),
            -1536 => Some((1024, 128, true)),
            -1792 => Some((1024, 192, true)),
            _ => match self.0 {
                gib @ 1..=Self::MAX_GIB => Some((1024 * gib as u64, 256, false)),
                more @ 0x1001..=MAX_CONVERTED_GIB => {
                    Some((1024 * (more - Self::CONVERTED) as u64, 256, true))
                }
                _ => None,
            },
        }
    }

    /// Returns whether an index can have this size.
    pub const fn is_known(self) -> bool {
        self.shape().is_some()
    }
}

/// Records in a page of records.
const RECORDS_PER_PAGE: u64 = 1024;

/// Bytes of a page of records, and of an index page.
const INDEX_PAGE_SIZE: u64 = 32_768;

/// Bytes that an index page spends on its own header.
const INDEX_PAGE_HEADER: u64 = 20;

/// Bits that a list of an index page costs beside its entries.
const LIST_BITS: u64 = 19;

/// What the names of a chapter are spread over.
const CHAPTER_MEAN_DELTA: u64 = 1 << 16;

/// Blocks of an index page.
const PAGE_BLOCKS: u64 = INDEX_PAGE_SIZE / BLOCK_SIZE as u64;

/// Blocks for the open chapter's part of a save, beside its records; and such.
const SAVE_EXTRA_BLOCKS: u64 = 16;

/// Returns the number of blocks of the index region; `None` if the memory makes no sense.
pub fn blocks(memory: IndexMemory, sparse: bool) -> Option<u64> {
    let (base, record_pages, converted) = memory.shape()?;
    let missing = u64::from(converted);
    let chapters = base * if sparse { 10 } else { 1 } - missing;
    let sparse_chapters = if sparse { 19 * base / 2 } else { 0 };
    let records = RECORDS_PER_PAGE * record_pages;
    let index_pages = index_pages(records, record_pages)?;

    let volume_blocks = PAGE_BLOCKS * ((index_pages + record_pages) * chapters + 1);
    let bytes = if sparse {
        let hooks = records / 32;
        12 + volume_index_bytes(hooks, chapters, missing)?
            + volume_index_bytes(records - hooks, chapters - sparse_chapters, missing)?
    } else {
        volume_index_bytes(records, chapters, missing)?
    };
    let block = BLOCK_SIZE as u64;
    let save_blocks = 1
        + ((bytes + 8).div_ceil(block) + SAVE_EXTRA_BLOCKS)
        + (16 + 2 * chapters * (index_pages - 1)).div_ceil(block)
        + (14 + 32 * records).div_ceil(block);
    Some(3 + volume_blocks + 2 * save_blocks)
}

/// Returns the number of pages that index the records of a chapter.
fn index_pages(records: u64, record_pages: u64) -> Option<u64> {
    let lists = 1 << (significant_bits((records - 1) | 63) - 6);
    let bits = list_bits(
        records,
        CHAPTER_MEAN_DELTA,
        significant_bits(record_pages - 1),
    )?;
    let room = (INDEX_PAGE_SIZE - INDEX_PAGE_HEADER) * 8 - LIST_BITS - bits.checked_div(lists)?;
    let pages = bits + LIST_BITS * lists;
    Some(pages.checked_div(room)? + u64::from(pages.checked_rem(room)? > 0))
}

/// Returns the bytes that the index of a volume saves.
fn volume_index_bytes(records: u64, chapters: u64, missing: u64) -> Option<u64> {
    let rounded = chapters + missing;
    let lists = (records * rounded / 256).max(256);
    let chapters_kept = rounded + (rounded / 256).max(2);
    let mean = (lists << 20).checked_div(records * chapters_kept)?;
    let chapter_bits = list_bits(records, mean, significant_bits(rounded - 1))?;
    let bytes = chapter_bits * chapters_kept / 8;
    let memory = bytes * 106 / 100;
    Some(80 + 17 * lists + memory.next_multiple_of(1 << 16))
}

/// Returns the bits that lists with so many entries take, `mean` apart on average.
fn list_bits(entries: u64, mean: u64, payload_bits: u64) -> Option<u64> {
    // The mean times the logarithm of 2, rounded: the width at which a delta is cut in two.
    let cut = (836_158 * mean + 603_160) / 1_206_321;
    Some(entries.checked_mul(payload_bits + significant_bits(cut + 1) + 1)? + entries / 2)
}

/// Returns the number of significant bits, at least 1.
fn significant_bits(value: u64) -> u64 {
    1 + u64::from(value.checked_ilog2().unwrap_or(0))
}

#[cfg(test)]
mod tests;
