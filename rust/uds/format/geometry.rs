// SPDX-License-Identifier: GPL-2.0

//! How large an index is: everything follows from its memory, and whether it is sparse.
//!
//! An index remembers the records of its last chapters. A chapter is a number of pages that index
//! it and of pages of records. Which chapter a name is in, the volume index says, which is in
//! memory; of a sparse index it knows all names of the last few chapters, and of the others one in
//! 32, the samples.
//!
//! The arithmetic is mainline's. A [`Shape`] is what a configuration chooses; tests choose small
//! ones. [`Geometry`] has what follows from it.

use super::BLOCK_SIZE;
use super::RECORD_SIZE;
use crate::delta::bit_length;
use crate::delta::Code;

/// The number of a chapter since the index was created.
pub type Chapter = u64;

/// No chapter.
pub const NO_CHAPTER: Chapter = u64::MAX;

/// Bytes of a page.
pub const PAGE_SIZE: u32 = 32_768;

/// What the names of a chapter are spread over, on average.
pub const CHAPTER_MEAN_DELTA: u32 = 1 << 16;

/// What the names of the volume index are spread over, as configurations say it.
pub const VOLUME_MEAN_DELTA: u64 = 4096;

/// Bits of an address in the volume index.
pub const VOLUME_ADDRESS_BITS: u32 = 20;

/// Of so many names of a sparse index one is a sample.
pub const SAMPLE_RATE: u32 = 32;

/// How many chapters mainline's cache is for; configurations say so.
pub const CACHE_CHAPTERS: u32 = 7;

/// Bytes of an index page before its table of lists.
pub const INDEX_HEADER: u32 = 20;

/// Bits of a place in an index page.
pub const OFFSET_BITS: u32 = 19;

/// Bytes at the end of an index page.
pub const INDEX_GUARD: u32 = 7;

/// Blocks of the volume index' part of a save, beside what it needs.
const SAVE_EXTRA_BLOCKS: u64 = 16;

/// How much memory an index is to take, as a geometry block of vdo stores it.
///
/// A number of GiB up to 1024, or one of three fractions. Volumes that were converted from an older
/// layout have other values, which stand for the same with one chapter less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(pub i32);

impl Memory {
    /// Returns the record pages of a chapter, the chapters, and how many of them are missing.
    const fn parts(self) -> Option<(u32, u32, u32)> {
        Some(match self.0 {
            -256 => (64, 1024, 0),
            -512 => (128, 1024, 0),
            -768 => (192, 1024, 0),
            -1280 => (64, 1024, 1),
            -1536 => (128, 1024, 1),
            -1792 => (192, 1024, 1),
            gib @ 1..=1024 => (256, 1024 * gib as u32, 0),
            more @ 4097..=5120 => (256, 1024 * (more - 4096) as u32, 1),
            _ => return None,
        })
    }
}

/// What a configuration chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a page; whole blocks.
    pub page_size: u32,
    /// Records on a page.
    pub page_records: u32,
    /// Record pages of a chapter.
    pub record_pages: u32,
    /// Chapters of the volume.
    pub chapters: u32,
    /// How many of them are sparse; an index without any is dense.
    pub sparse_chapters: u32,
    /// Of so many names one is a sample; 0 for a dense index.
    pub sample_rate: u32,
}

impl Shape {
    /// Returns what mainline chooses.
    pub fn of(memory: Memory, sparse: bool) -> Option<Self> {
        let (record_pages, base, missing) = memory.parts()?;
        let (chapters, sparse_chapters, sample_rate) = if sparse {
            (10 * base, 19 * (base / 2), SAMPLE_RATE)
        } else {
            (base, 0, 0)
        };
        Some(Self {
            page_size: PAGE_SIZE,
            page_records: PAGE_SIZE / RECORD_SIZE as u32,
            record_pages,
            chapters: chapters - missing,
            sparse_chapters,
            sample_rate,
        })
    }

    /// Returns whether what follows from it can be computed, and fits where it has to.
    fn is_sound(&self) -> bool {
        let page = self.page_size;
        let records = u64::from(self.page_records) * u64::from(self.record_pages);
        let sparse_is_sound = match self.sample_rate {
            0 => self.sparse_chapters == 0,
            rate => u64::from(rate) <= records && self.sparse_chapters > 0,
        };
        page >= BLOCK_SIZE as u32
            && page <= PAGE_SIZE
            && page % BLOCK_SIZE as u32 == 0
            && (1..=page / RECORD_SIZE as u32).contains(&self.page_records)
            && (1..=256).contains(&self.record_pages)
            && records > 1
            && (2..=10 << 20).contains(&self.chapters)
            && self.sparse_chapters < self.chapters
            && sparse_is_sound
    }
}

/// Part of the volume index: all names of a dense index, or the samples, or the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubIndex {
    /// What its lists are marked with in a save.
    pub tag: u8,
    /// The records of a chapter that it knows.
    pub records: u64,
    /// The chapters that it covers.
    pub chapters: u64,
    /// The number of its delta lists.
    pub lists: u32,
    /// How entries are coded; the payload is the number of a chapter, as far as it fits.
    pub code: Code,
    /// Bits of a chapter's entries, on average.
    pub chapter_bits: u64,
    /// Bytes for lists.
    pub memory: u64,
    /// How many of these are to stay free.
    pub target_free: u64,
}

impl SubIndex {
    fn new(tag: u8, records: u64, chapters: u64) -> Option<Self> {
        // What was taken away from a converted volume does not count here.
        let whole = chapters + chapters % 2;
        let lists = (records.checked_mul(whole)? / 256).max(256);
        // Entries of old chapters stay for a while.
        let kept = whole + (whole / 256).max(2);
        let mean = (lists << VOLUME_ADDRESS_BITS).checked_div(records.checked_mul(kept)?)?;
        let mean = u32::try_from(mean).unwrap_or(u32::MAX);
        let code = Code::new(mean, bit_length(whole - 1));
        let chapter_bits = bits_of(records, code)?;
        let expected = chapter_bits.checked_mul(kept)? / 8;
        Some(Self {
            tag,
            records,
            chapters,
            lists: u32::try_from(lists).ok()?,
            code,
            chapter_bits,
            memory: expected.checked_mul(106)? / 100,
            target_free: expected / 20,
        })
    }

    /// Returns the bytes that a save has room for.
    fn save_bytes(&self) -> u64 {
        80 + 17 * u64::from(self.lists) + self.memory.next_multiple_of(1 << 16)
    }

    /// Returns address and list of a name by its [volume key](super::Name::volume_key).
    pub const fn place(&self, key: u64) -> (u32, u32) {
        let address = key & ((1 << VOLUME_ADDRESS_BITS) - 1);
        let list = (key >> VOLUME_ADDRESS_BITS).checked_rem(self.lists as u64);
        match list {
            Some(list) => (address as u32, list as u32),
            None => (address as u32, 0),
        }
    }
}

/// The parts of a volume index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubIndexes {
    /// All names.
    Dense(SubIndex),
    /// The names that are not samples, and the samples.
    Sparse(SubIndex, SubIndex),
}

/// Where the chapter is that was moved when a volume was converted; its place is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The chapter.
    pub chapter: Chapter,
    /// The slot that it is in; 0 if no chapter was moved.
    pub slot: u64,
}

/// How large an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// What the configuration chose.
    pub shape: Shape,
    /// What a conversion has moved.
    pub moved: Moved,
    /// The records of a chapter.
    pub records: u32,
    /// The index pages of a chapter.
    pub index_pages: u32,
    /// The number of a chapter's delta lists is two to the power of this.
    pub list_bits: u32,
    /// Bits of an address in the index of a chapter.
    pub address_bits: u32,
    /// How its entries are coded; the payload is the number of a record page.
    pub code: Code,
    /// The volume index.
    pub volume_index: SubIndexes,
}

impl Geometry {
    /// Returns the geometry of an index that takes so much memory; `None` if there is none.
    pub fn new(memory: Memory, sparse: bool) -> Option<Self> {
        Self::of_shape(Shape::of(memory, sparse)?)
    }

    /// Returns what follows from a shape; `None` if it makes no sense.
    pub fn of_shape(shape: Shape) -> Option<Self> {
        if !shape.is_sound() {
            return None;
        }
        let records = u64::from(shape.page_records) * u64::from(shape.record_pages);
        let list_bits = bit_length((records - 1) | 63) - 6;
        let code = Code::new(
            CHAPTER_MEAN_DELTA,
            bit_length(u64::from(shape.record_pages) - 1),
        );
        let volume_index = if shape.sparse_chapters == 0 {
            SubIndexes::Dense(SubIndex::new(b'm', records, shape.chapters.into())?)
        } else {
            let samples = records / u64::from(shape.sample_rate);
            let dense = shape.chapters - shape.sparse_chapters;
            SubIndexes::Sparse(
                SubIndex::new(b'd', records - samples, dense.into())?,
                SubIndex::new(b's', samples, shape.chapters.into())?,
            )
        };
        Some(Self {
            shape,
            moved: Moved::default(),
            records: records as u32,
            index_pages: index_pages(shape.page_size, bits_of(records, code)?, 1 << list_bits)?,
            list_bits,
            address_bits: 16 - list_bits + bit_length(records - 1),
            code,
            volume_index,
        })
    }

    /// Returns the number of a chapter's delta lists.
    pub const fn chapter_lists(&self) -> u32 {
        1 << self.list_bits
    }

    /// Returns address and list of a name by its [chapter key](super::Name::chapter_key).
    pub const fn chapter_place(&self, key: u64) -> (u32, u32) {
        let address = key & ((1 << self.address_bits) - 1);
        let list = (key >> self.address_bits) & ((1 << self.list_bits) - 1);
        (address as u32, list as u32)
    }

    /// Returns whether the volume index keeps the name with this
    /// [sample key](super::Name::sample_key) for as long as chapters last.
    pub const fn is_sample(&self, key: u16) -> bool {
        matches!((key as u32).checked_rem(self.shape.sample_rate), Some(0))
    }

    /// Returns blocks of a page.
    pub const fn page_blocks(&self) -> u64 {
        self.shape.page_size as u64 / BLOCK_SIZE as u64
    }

    /// Returns pages of a chapter.
    pub const fn chapter_pages(&self) -> u64 {
        self.index_pages as u64 + self.shape.record_pages as u64
    }

    /// Returns blocks of a chapter.
    pub const fn chapter_blocks(&self) -> u64 {
        self.chapter_pages() * self.page_blocks()
    }

    /// Returns blocks of all chapters, and of a page before them that nobody uses.
    pub const fn volume_blocks(&self) -> u64 {
        self.page_blocks() + self.chapter_blocks() * self.shape.chapters as u64
    }

    /// Returns the first block of a slot, from the start of the volume's region.
    pub const fn slot_block(&self, slot: u64) -> u64 {
        self.page_blocks() + self.chapter_blocks() * slot
    }

    /// Returns how many pages of a chapter the page map has an entry for.
    pub const fn mapped_pages(&self) -> u64 {
        self.index_pages as u64 - 1
    }

    /// Returns blocks of a saved page map.
    pub const fn page_map_blocks(&self) -> u64 {
        let bytes = 16 + 2 * self.shape.chapters as u64 * self.mapped_pages();
        bytes.div_ceil(BLOCK_SIZE as u64)
    }

    /// Returns blocks of a saved open chapter.
    pub const fn open_chapter_blocks(&self) -> u64 {
        let bytes = 14 + RECORD_SIZE as u64 * self.records as u64;
        bytes.div_ceil(BLOCK_SIZE as u64)
    }

    /// Returns blocks of a saved volume index.
    pub fn volume_index_blocks(&self) -> u64 {
        let bytes = match self.volume_index {
            SubIndexes::Dense(all) => all.save_bytes(),
            SubIndexes::Sparse(others, samples) => 12 + others.save_bytes() + samples.save_bytes(),
        };
        (bytes + 8).div_ceil(BLOCK_SIZE as u64) + SAVE_EXTRA_BLOCKS
    }

    /// Returns blocks of a save.
    pub fn save_blocks(&self) -> u64 {
        1 + self.volume_index_blocks() + self.page_map_blocks() + self.open_chapter_blocks()
    }

    /// Returns blocks of the whole region: two blocks of its own, chapters, two saves, a seal.
    pub fn total_blocks(&self) -> u64 {
        3 + self.volume_blocks() + 2 * self.save_blocks()
    }

    /// Returns the number of chapters of which the volume index knows all names.
    pub const fn dense_chapters(&self) -> u64 {
        self.shape.chapters as u64 - self.shape.sparse_chapters as u64
    }

    /// Returns whether a chapter was taken away by a conversion.
    pub const fn is_reduced(&self) -> bool {
        self.shape.chapters % 2 == 1
    }

    /// Returns the slot of a chapter.
    pub const fn slot_of(&self, chapter: Chapter) -> u64 {
        let slots = self.shape.chapters as u64;
        if !self.is_reduced() {
            return chapter % slots;
        }
        let Moved {
            chapter: moved,
            slot,
        } = self.moved;
        if chapter == moved {
            return slot;
        }
        if chapter > moved {
            let distance = chapter - moved;
            if distance > slot {
                distance % slots
            } else {
                distance - 1
            }
        } else {
            // Farther back nothing is left.
            slots.saturating_sub(moved - chapter)
        }
    }

    /// Returns whether a chapter is sparse while these are the oldest and the newest.
    pub const fn is_sparse(&self, chapter: Chapter, oldest: Chapter, newest: Chapter) -> bool {
        let dense = self.dense_chapters();
        self.shape.sparse_chapters > 0
            && newest.saturating_sub(oldest) >= dense
            && chapter.saturating_add(dense) <= newest
    }

    /// Returns the oldest chapter that is not forgotten while `newest` is the newest.
    pub const fn oldest_of(&self, newest: Chapter) -> Chapter {
        let Some(lost) = newest.checked_sub(self.shape.chapters as u64) else {
            return 0;
        };
        let Moved {
            chapter: moved,
            slot,
        } = self.moved;
        // The slot of the moved chapter is not the next one to be used.
        if slot > 0 && lost >= moved && lost < moved.saturating_add(slot) {
            lost + 2
        } else {
            lost + 1
        }
    }

    /// Returns how many chapters are forgotten when the newest becomes `newest`.
    pub const fn expired_by(&self, newest: Chapter) -> u64 {
        let Some(lost) = newest.checked_sub(self.shape.chapters as u64) else {
            return 0;
        };
        let Moved {
            chapter: moved,
            slot,
        } = self.moved;
        if slot > 0 && lost == moved {
            2
        } else if slot > 0 && lost == moved.saturating_add(slot) {
            0
        } else {
            1
        }
    }
}

/// Returns the bits that lists take with so many entries, a mean apart.
fn bits_of(entries: u64, code: Code) -> Option<u64> {
    let each = u64::from(code.payload_bits() + code.min_bits() + 1);
    Some(entries.checked_mul(each)? + entries / 2)
}

/// Returns the number of pages for lists of so many bits in all.
fn index_pages(page_size: u32, bits: u64, lists: u64) -> Option<u32> {
    let room = (u64::from(page_size - INDEX_HEADER) * 8)
        .checked_sub(u64::from(OFFSET_BITS) + bits / lists)?;
    let all = bits + u64::from(OFFSET_BITS) * lists;
    u32::try_from(all.checked_add(room.checked_sub(1)?)?.checked_div(room)?).ok()
}

#[cfg(test)]
mod tests;
