// SPDX-License-Identifier: GPL-2.0

//! The blocks of a space map on disk: root, index block, bitmap blocks.

use crate::block::Block;
use crate::block::BlockKind;
use crate::block::Stamp;
use crate::block::BLOCK_SIZE;
use crate::error::Error;
use crate::error::Result;
use core::mem::offset_of;
use core::mem::size_of;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// Blocks that one bitmap block counts: two bits each.
pub const ENTRIES_PER_BITMAP: u64 = 16_320;

/// Bitmap blocks that an index block names.
pub(crate) const MAX_BITMAPS: u64 = 255;

/// Blocks that a metadata space map can manage; the rest of a larger device is left alone.
pub const MAX_BLOCKS: u64 = MAX_BITMAPS * ENTRIES_PER_BITMAP;

/// Bytes of a root; superblocks reserve [`ROOT_FIELD_SIZE`].
pub const ROOT_SIZE: usize = size_of::<DiskRoot>();

/// Bytes that a superblock reserves for a root; what the root leaves over is zero.
pub const ROOT_FIELD_SIZE: usize = 128;

/// The index block of a metadata space map.
pub static INDEX: BlockKind = BlockKind {
    name: "index",
    verify: |block, number| verify(INDEX_STAMP, block, number),
    seal: |block, number| INDEX_STAMP.seal(block, number),
};

/// A block of two-bit reference counts.
pub static BITMAP: BlockKind = BlockKind {
    name: "sm_bitmap",
    verify: |block, number| verify(BITMAP_STAMP, block, number),
    seal: |block, number| BITMAP_STAMP.seal(block, number),
};

const INDEX_STAMP: Stamp = Stamp {
    salt: 160_478,
    number_at: offset_of!(DiskIndex, number),
};
const BITMAP_STAMP: Stamp = Stamp {
    salt: 240_779,
    number_at: offset_of!(DiskBitmap, number),
};

fn verify(stamp: Stamp, block: &Block, number: u64) -> Result<(), crate::block::Problem> {
    stamp.number(block, number)?;
    stamp.checksum(block)
}

/// Where a space map is and how much of it is in use, as a superblock names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Blocks managed.
    pub nr_blocks: u64,
    /// Blocks with a count above zero.
    pub nr_allocated: u64,
    /// The index block.
    pub index: u64,
    /// The root of the tree of counts above two.
    pub overflow: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DiskRoot {
    nr_blocks: U64,
    nr_allocated: U64,
    index: U64,
    overflow: U64,
}

impl Root {
    /// Reads a root.
    pub fn decode(bytes: &[u8; ROOT_SIZE]) -> Self {
        let disk: &DiskRoot = zerocopy::transmute_ref!(bytes);
        Self {
            nr_blocks: disk.nr_blocks.get(),
            nr_allocated: disk.nr_allocated.get(),
            index: disk.index.get(),
            overflow: disk.overflow.get(),
        }
    }

    /// Writes a root.
    pub fn encode(&self) -> [u8; ROOT_SIZE] {
        zerocopy::transmute!(DiskRoot {
            nr_blocks: self.nr_blocks.into(),
            nr_allocated: self.nr_allocated.into(),
            index: self.index.into(),
            overflow: self.overflow.into(),
        })
    }

    /// Returns the number of bitmap blocks, if this many can be.
    pub(crate) fn bitmaps(&self) -> Result<usize> {
        bitmaps(self.nr_blocks).ok_or(Error::Invalid("number of metadata blocks out of range"))
    }
}

/// Returns how many bitmap blocks `nr_blocks` blocks take, if a metadata space map can have them.
pub(crate) fn bitmaps(nr_blocks: u64) -> Option<usize> {
    let bitmaps = nr_blocks.div_ceil(ENTRIES_PER_BITMAP);
    (1..=MAX_BITMAPS)
        .contains(&bitmaps)
        .then_some(bitmaps as usize)
}

/// What the index knows about one bitmap block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Where the bitmap is.
    pub(crate) block: u64,
    /// Entries with count zero, out of all, also of those behind the end of the device.
    pub(crate) nr_free: u32,
    /// No entry below this one is free.
    pub(crate) none_free_before: u32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DiskIndexEntry {
    block: U64,
    nr_free: U32,
    none_free_before: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DiskIndex {
    checksum: U32,
    padding: U32,
    number: U64,
    entries: [DiskIndexEntry; MAX_BITMAPS as usize],
}

/// Returns the entries of an index block.
pub(crate) fn index_entries(block: &Block) -> impl Iterator<Item = IndexEntry> + '_ {
    let index: &DiskIndex = zerocopy::transmute_ref!(block);
    index.entries.iter().map(|entry| IndexEntry {
        block: entry.block.get(),
        nr_free: entry.nr_free.get(),
        none_free_before: entry.none_free_before.get(),
    })
}

/// Writes the entries of an index block; `block` is zeroed.
pub(crate) fn put_index_entries(block: &mut Block, entries: impl Iterator<Item = IndexEntry>) {
    let index: &mut DiskIndex = zerocopy::transmute_mut!(block);
    for (disk, entry) in index.entries.iter_mut().zip(entries) {
        *disk = DiskIndexEntry {
            block: entry.block.into(),
            nr_free: entry.nr_free.into(),
            none_free_before: entry.none_free_before.into(),
        };
    }
}

/// 32 counts; the lower of two bits is the high bit of a count.
type Counts = U64;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DiskBitmap {
    checksum: U32,
    padding: U32,
    number: U64,
    counts: [Counts; COUNT_WORDS],
}

/// Words of 32 counts in a bitmap block.
pub(crate) const COUNT_WORDS: usize = 510;

/// Returns the counts of a bitmap block, 32 to a word.
pub(crate) fn bitmap_words(block: &Block) -> impl Iterator<Item = u64> + '_ {
    let bitmap: &DiskBitmap = zerocopy::transmute_ref!(block);
    bitmap.counts.iter().map(|word| word.get())
}

/// Writes the counts of a bitmap block; `block` is zeroed.
pub(crate) fn put_bitmap_words(block: &mut Block, words: &[u64]) {
    let bitmap: &mut DiskBitmap = zerocopy::transmute_mut!(block);
    for (disk, &word) in bitmap.counts.iter_mut().zip(words) {
        disk.set(word);
    }
}

const _: () = {
    assert!(ROOT_SIZE == 32 && ROOT_SIZE <= ROOT_FIELD_SIZE);
    assert!(size_of::<DiskIndex>() == BLOCK_SIZE);
    assert!(offset_of!(DiskIndex, number) == 8 && offset_of!(DiskIndex, entries) == 16);
    assert!(size_of::<DiskBitmap>() == BLOCK_SIZE);
    assert!(offset_of!(DiskBitmap, number) == 8 && offset_of!(DiskBitmap, counts) == 16);
    assert!(COUNT_WORDS as u64 * 32 == ENTRIES_PER_BITMAP);
    assert!(MAX_BLOCKS == 4_161_600);
};

#[cfg(test)]
mod tests;
