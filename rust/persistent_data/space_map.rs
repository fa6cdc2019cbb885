// SPDX-License-Identifier: GPL-2.0

//! The metadata space map: a reference count for every block of the device, and the allocator.
//!
//! The counts are kept in memory, two bits each, from the moment a bitmap block is first needed;
//! larger counts are in a B+tree on disk (the overflow tree). Nothing of that is written before a
//! commit. Then every changed bitmap gets a new place; as handing out places changes counts, that
//! goes on until no changed bitmap is left in an old place. Only then are they written.
//!
//! # Invariants
//!
//! - A block that was in use at the last commit is not handed out, whatever its count is now.
//! - A *new* block is one that was free at the last commit and is in use now. Only new blocks may
//!   be written.

pub(crate) mod bitmap;
mod format;

pub use format::Root;
pub use format::BITMAP;
pub use format::ENTRIES_PER_BITMAP;
pub use format::INDEX;
pub use format::MAX_BLOCKS;
pub use format::ROOT_FIELD_SIZE;
pub use format::ROOT_SIZE;

pub(crate) use format::bitmaps;

use crate::btree;
use crate::cache::BlockCache;
use crate::error::Error;
use crate::error::Result;
use bitmap::Bitmap;
use bitmap::MANY;
use format::IndexEntry;
use kernel::prelude::KVec;
use kernel::prelude::GFP_KERNEL;
use runtime::disk::Disk;

/// A count of three or more that the overflow tree does not know yet, or a smaller one that it
/// has to lose.
#[derive(Clone, Copy)]
pub(crate) struct Overflow {
    pub(crate) block: u64,
    pub(crate) count: u32,
}

/// The metadata space map.
pub(crate) struct SpaceMap {
    root: Root,
    bitmaps: KVec<Bitmap>,
    /// Where the search for a free block starts: behind the last one handed out.
    begin: u64,
    /// Blocks handed out since the last commit.
    handed_out: u64,
    /// Changes that the overflow tree lacks, by ascending block.
    overflow: KVec<Overflow>,
}

impl SpaceMap {
    /// Opens the space map at `root`. The bitmaps and the overflow tree are read when they are
    /// needed.
    pub(crate) async fn open<D: Disk>(cache: &mut BlockCache<D>, root: Root) -> Result<Self> {
        let count = root.bitmaps()?;
        let mut bitmaps = KVec::with_capacity(count, GFP_KERNEL)?;
        let index = cache.read(root.index, &INDEX).await?;
        for (at, entry) in (0..count).zip(format::index_entries(index)) {
            bitmaps.push(Bitmap::new(entry, entries(root.nr_blocks, at))?, GFP_KERNEL)?;
        }
        Ok(Self {
            root,
            bitmaps,
            begin: 0,
            handed_out: 0,
            overflow: KVec::new(),
        })
    }

    /// Creates the space map of an empty device, in which the superblock and the blocks of the
    /// space map itself are in use: index, root of the overflow tree, bitmaps, in this order.
    pub(crate) fn format(nr_blocks: u64) -> Result<Self> {
        let root = Root {
            nr_blocks,
            nr_allocated: 0,
            index: 1,
            overflow: 2,
        };
        let count = root.bitmaps()?;
        let first = root.overflow + 1;
        let begin = first + count as u64;
        if nr_blocks < begin {
            return Err(Error::NoSpace);
        }
        let mut bitmaps = KVec::with_capacity(count, GFP_KERNEL)?;
        for at in 0..count {
            let entry = IndexEntry {
                block: first + at as u64,
                nr_free: 0,
                none_free_before: 0,
            };
            let mut bitmap = Bitmap::new(entry, entries(nr_blocks, at))?;
            bitmap.load([].into_iter());
            bitmap.changed = true;
            bitmaps.push(bitmap, GFP_KERNEL)?;
        }
        let mut map = Self {
            root,
            bitmaps,
            begin,
            handed_out: 0,
            overflow: KVec::new(),
        };
        for block in 0..begin {
            map.set(block, 1)?;
        }
        Ok(map)
    }

    /// Returns the root as the next commit will write it.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Moves the root of the overflow tree.
    pub(crate) fn set_overflow_root(&mut self, block: u64) {
        self.root.overflow = block;
    }

    /// Returns true if a count was changed since the last commit.
    pub(crate) fn is_changed(&self) -> bool {
        self.bitmaps.iter().any(|bitmap| bitmap.changed)
    }

    /// Returns the blocks in use at the last commit and those handed out since.
    pub(crate) fn nr_used(&self) -> u64 {
        self.root.nr_allocated.saturating_add(self.handed_out)
    }

    /// Returns how many blocks may be handed out until the commit, what it takes itself aside.
    pub(crate) fn blocks_left(&self) -> u64 {
        let available: u64 = self
            .bitmaps
            .iter()
            .map(|bitmap| u64::from(bitmap.available))
            .sum();
        let movable = self
            .bitmaps
            .iter()
            .filter(|bitmap| !self.is_new(bitmap.entry.block))
            .count();
        let index = u64::from(!self.is_new(self.root.index));
        available.saturating_sub(movable as u64 + index)
    }

    /// Returns true if `block` was free at the last commit and is in use now.
    pub(crate) fn is_new(&self, block: u64) -> bool {
        let (at, entry) = locate(block);
        let bitmap = self.bitmaps.get(at).filter(|bitmap| bitmap.loaded);
        bitmap.is_some_and(|bitmap| bitmap.count(entry) != 0 && !bitmap.was_used(entry))
    }

    /// Hands out a block, with count one.
    pub(crate) async fn allocate<D: Disk>(&mut self, cache: &mut BlockCache<D>) -> Result<u64> {
        let begin = if self.begin < self.root.nr_blocks {
            self.begin
        } else {
            0
        };
        let found = match self.find(cache, begin, self.root.nr_blocks).await? {
            Some(block) => Some(block),
            None => self.find(cache, 0, begin).await?,
        };
        let block = found.ok_or(Error::NoSpace)?;
        self.set(block, 1)?;
        self.begin = block + 1;
        self.handed_out += 1;
        Ok(block)
    }

    /// Returns the count of `block`.
    pub(crate) async fn count<D: Disk>(
        &mut self,
        cache: &mut BlockCache<D>,
        block: u64,
    ) -> Result<u32> {
        let (at, entry) = self.load(cache, block).await?;
        let count = self.bitmaps.get(at).map_or(0, |bitmap| bitmap.count(entry));
        if count < MANY {
            return Ok(count);
        }
        if let Ok(at) = self
            .overflow
            .binary_search_by_key(&block, |change| change.block)
        {
            return Ok(self.overflow.get(at).map_or(MANY, |change| change.count));
        }
        let exact = btree::lookup::<u32, D>(cache, self.root.overflow, block).await?;
        exact
            .filter(|&count| count >= MANY)
            .ok_or_else(|| damaged(block, "overflow count"))
    }

    /// Adds a reference to `block`.
    pub(crate) async fn inc<D: Disk>(&mut self, cache: &mut BlockCache<D>, block: u64) -> Result {
        let count = self.count(cache, block).await?;
        let more = count
            .checked_add(1)
            .ok_or_else(|| damaged(block, "reference count"))?;
        self.change(block, count, more)
    }

    /// Takes a reference to `block` away. Returns true if it was the last.
    pub(crate) async fn dec<D: Disk>(
        &mut self,
        cache: &mut BlockCache<D>,
        block: u64,
    ) -> Result<bool> {
        let count = self.count(cache, block).await?;
        let less = count
            .checked_sub(1)
            .ok_or_else(|| damaged(block, "reference count"))?;
        self.change(block, count, less)?;
        if less == 0 {
            cache.forget(block);
        }
        Ok(less == 0)
    }

    /// Takes one change that the overflow tree lacks.
    pub(crate) fn take_overflow(&mut self) -> Option<Overflow> {
        self.overflow.pop()
    }

    /// Gives the index block and every changed bitmap a new place, and writes them to the cache.
    pub(crate) async fn store<D: Disk>(&mut self, cache: &mut BlockCache<D>) -> Result {
        if !self.is_changed() {
            return Ok(());
        }
        self.root.index = self.new_place(cache, self.root.index).await?;
        while let Some(at) = self.misplaced() {
            let old = self.bitmaps.get(at).map_or(0, |bitmap| bitmap.entry.block);
            let new = self.new_place(cache, old).await?;
            if let Some(bitmap) = self.bitmaps.get_mut(at) {
                bitmap.entry.block = new;
            }
        }
        for bitmap in self.bitmaps.iter_mut().filter(|bitmap| bitmap.changed) {
            bitmap.entry.nr_free = bitmap.nr_free();
            bitmap.entry.none_free_before = bitmap.first_free();
            let block = cache.zeroed(bitmap.entry.block, &BITMAP).await?;
            format::put_bitmap_words(block, bitmap.words());
        }
        let index = cache.zeroed(self.root.index, &INDEX).await?;
        format::put_index_entries(index, self.bitmaps.iter().map(|bitmap| bitmap.entry));
        Ok(())
    }

    /// The superblock that names this root is on disk.
    pub(crate) fn committed(&mut self) {
        self.handed_out = 0;
        for bitmap in self.bitmaps.iter_mut().filter(|bitmap| bitmap.changed) {
            bitmap.settle();
        }
    }

    /// Returns a changed bitmap whose place the last commit still uses.
    fn misplaced(&self) -> Option<usize> {
        let moves = |bitmap: &Bitmap| bitmap.changed && !self.is_new(bitmap.entry.block);
        self.bitmaps.iter().position(moves)
    }

    /// Returns `block` if it is new, else a new block that takes its place.
    async fn new_place<D: Disk>(&mut self, cache: &mut BlockCache<D>, block: u64) -> Result<u64> {
        if self.is_new(block) {
            return Ok(block);
        }
        // In this order: `block` may be free in a map that is damaged. It must not become its own
        // successor, as it would be free again after that, and had to be moved for ever.
        self.dec(cache, block).await?;
        self.allocate(cache).await
    }

    /// Returns the first block in `from..to` that may be handed out.
    async fn find<D: Disk>(
        &mut self,
        cache: &mut BlockCache<D>,
        from: u64,
        to: u64,
    ) -> Result<Option<u64>> {
        let mut block = from;
        while block < to {
            let (at, entry) = locate(block);
            let first = block - entry as u64;
            if self
                .bitmaps
                .get(at)
                .is_some_and(|bitmap| bitmap.available > 0)
            {
                self.load(cache, block).await?;
                let end = (to - first).min(ENTRIES_PER_BITMAP) as usize;
                let found = self
                    .bitmaps
                    .get(at)
                    .and_then(|b| b.find_available(entry, end));
                if let Some(entry) = found {
                    return Ok(Some(first + entry as u64));
                }
            }
            block = first + ENTRIES_PER_BITMAP;
        }
        Ok(None)
    }

    /// Brings the counts around `block` into memory; returns which bitmap and which entry it is.
    async fn load<D: Disk>(
        &mut self,
        cache: &mut BlockCache<D>,
        block: u64,
    ) -> Result<(usize, usize)> {
        if block >= self.root.nr_blocks {
            return Err(damaged(block, "block number"));
        }
        let (at, entry) = locate(block);
        let bitmap = self
            .bitmaps
            .get_mut(at)
            .ok_or_else(|| damaged(block, "block number"))?;
        if !bitmap.loaded {
            let place = bitmap.entry.block;
            bitmap.load(format::bitmap_words(cache.read(place, &BITMAP).await?));
            // Counts that contradict the index, or a superblock that is free, cannot be trusted
            // to say which blocks may be overwritten.
            if bitmap.nr_free() != bitmap.entry.nr_free || (at == 0 && bitmap.count(0) == 0) {
                bitmap.loaded = false;
                return Err(Error::field(
                    &BITMAP,
                    place,
                    "nr_free",
                    bitmap.nr_free().into(),
                ));
            }
        }
        Ok((at, entry))
    }

    /// Changes the count of `block`, whose bitmap is loaded.
    fn change(&mut self, block: u64, old: u32, new: u32) -> Result {
        if old >= MANY || new >= MANY {
            self.note_overflow(Overflow { block, count: new })?;
        }
        self.set(block, new)
    }

    fn set(&mut self, block: u64, count: u32) -> Result {
        let (at, entry) = locate(block);
        let bitmap = self
            .bitmaps
            .get_mut(at)
            .ok_or_else(|| damaged(block, "block number"))?;
        match (bitmap.count(entry), count) {
            (0, 1..) => self.root.nr_allocated = self.root.nr_allocated.saturating_add(1),
            (1.., 0) => self.root.nr_allocated = self.root.nr_allocated.saturating_sub(1),
            _ => {}
        }
        bitmap.set(entry, count.min(MANY));
        Ok(())
    }

    fn note_overflow(&mut self, change: Overflow) -> Result {
        match self
            .overflow
            .binary_search_by_key(&change.block, |other| other.block)
        {
            Ok(at) => {
                if let Some(entry) = self.overflow.get_mut(at) {
                    *entry = change;
                }
            }
            Err(at) => {
                self.overflow.push(change, GFP_KERNEL)?;
                if let Some(behind) = self.overflow.get_mut(at..) {
                    behind.rotate_right(1);
                }
            }
        }
        Ok(())
    }
}

/// Returns which bitmap and which entry of it counts `block`.
fn locate(block: u64) -> (usize, usize) {
    (
        (block / ENTRIES_PER_BITMAP) as usize,
        (block % ENTRIES_PER_BITMAP) as usize,
    )
}

/// Returns how many entries of bitmap `at` exist.
fn entries(nr_blocks: u64, at: usize) -> usize {
    let first = at as u64 * ENTRIES_PER_BITMAP;
    nr_blocks.saturating_sub(first).min(ENTRIES_PER_BITMAP) as usize
}

/// Returns the error for a count or a pointer that cannot be.
fn damaged(block: u64, name: &'static str) -> Error {
    Error::field(&BITMAP, block, name, block)
}

#[cfg(test)]
mod tests;
