// SPDX-License-Identifier: GPL-2.0

//! Changes to metadata that become real all at once.
//!
//! A transaction is everything between two writes of the superblock. A block that the superblock
//! on disk reaches is never changed: its first change in a transaction moves it to a new place
//! ([`TransactionManager::shadow`]), which changes its parent, and so on up to the superblock. A
//! change therefore runs from a root downwards.
//!
//! An operation that fails in the middle leaves structures in memory that must not reach the
//! disk. So each operation is framed by `enter` and `leave`; one that never leaves (it failed, or
//! its future was dropped) makes every later commit fail. The way back is
//! [`TransactionManager::into_cache`] and opening what is on disk.

use crate::block::Block;
use crate::block::BlockKind;
use crate::btree;
use crate::btree::Scratch;
use crate::cache::BlockCache;
use crate::error::Error;
use crate::error::Result;
use crate::space_map::Root;
use crate::space_map::SpaceMap;
use crate::space_map::MAX_BLOCKS;
use runtime::disk::Disk;
use runtime::sync::Arc;

/// The block of the superblock.
pub const SUPERBLOCK: u64 = 0;

/// Changes to the metadata on one device that become real all at once.
pub struct TransactionManager<D: Disk> {
    cache: BlockCache<D>,
    map: SpaceMap,
    /// Operations that have begun and not ended.
    open_operations: u32,
    /// Where tree nodes are redistributed.
    scratch: Scratch,
}

/// A block that may be changed, and whether it came from one that others still use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// The block that may be changed.
    pub block: u64,
    /// True if the original lives on: whatever the block refers to has one more parent now.
    pub shared: bool,
}

impl<D: Disk> TransactionManager<D> {
    /// Opens existing metadata. Reads the index block of the space map, nothing else.
    ///
    /// # Errors
    ///
    /// `Invalid` if the space map claims more than `limit` blocks, or an impossible number.
    pub async fn open(mut cache: BlockCache<D>, root: Root, limit: u64) -> Result<Self> {
        if root.nr_blocks > limit {
            return Err(Error::Invalid("more metadata blocks than the device has"));
        }
        let map = SpaceMap::open(&mut cache, root).await?;
        Self::new(cache, map)
    }

    /// Starts the first transaction of a device whose contents do not matter, with an empty space
    /// map. Nothing is written before the commit.
    ///
    /// # Errors
    ///
    /// `NoSpace` if not even the space map fits.
    pub async fn format(cache: BlockCache<D>) -> Result<Self> {
        let map = SpaceMap::format(cache.blocks().min(MAX_BLOCKS))?;
        let overflow = map.root().overflow;
        let mut manager = Self::new(cache, map)?;
        btree::init_empty::<u32, D>(&mut manager, overflow).await?;
        Ok(manager)
    }

    fn new(cache: BlockCache<D>, map: SpaceMap) -> Result<Self> {
        Ok(Self {
            cache,
            map,
            open_operations: 0,
            scratch: Scratch::new()?,
        })
    }

    /// Goes on with `disk`, another handle of the same device.
    pub fn set_disk(&mut self, disk: Arc<D>) {
        self.cache.set_disk(disk);
    }

    /// Drops all changes since the last commit and everything that is in memory.
    pub fn into_cache(self) -> BlockCache<D> {
        let mut cache = self.cache;
        cache.forget_all();
        cache
    }

    /// Returns the number of blocks that the space map manages.
    pub fn nr_blocks(&self) -> u64 {
        self.map.root().nr_blocks
    }

    /// Returns the number of blocks in use at the last commit and handed out since.
    pub fn nr_used(&self) -> u64 {
        self.map.nr_used()
    }

    /// Returns how many blocks operations may still take, so that the commit has what it needs.
    pub fn blocks_left(&self) -> u64 {
        self.map.blocks_left()
    }

    /// Returns true if something was changed since the last commit.
    pub fn is_changed(&self) -> bool {
        self.map.is_changed()
    }

    /// Makes all changes real: writes every changed block and flushes, then writes the superblock
    /// and flushes. `fill` gets the superblock zeroed, and the root of the space map.
    ///
    /// After an error it is unknown which superblock the device has; both states are sound.
    pub async fn commit(
        &mut self,
        superblock: &'static BlockKind,
        fill: impl FnOnce(&mut Block, &Root),
    ) -> Result {
        if self.open_operations != 0 {
            return Err(Error::Invalid("an earlier operation failed"));
        }
        self.enter();
        self.store_overflow().await?;
        self.map.store(&mut self.cache).await?;
        self.cache.flush().await?;
        let root = self.map.root();
        self.cache
            .write_now(SUPERBLOCK, superblock, |block| fill(block, root))
            .await?;
        self.map.committed();
        self.leave();
        Ok(())
    }

    /// Brings the overflow tree up to date.
    async fn store_overflow(&mut self) -> Result {
        while let Some(change) = self.map.take_overflow() {
            let root = self.map.root().overflow;
            let root = if change.count >= crate::space_map::bitmap::MANY {
                btree::insert(self, root, change.block, &change.count)
                    .await?
                    .root
            } else {
                btree::remove::<u32, D>(self, root, change.block)
                    .await?
                    .root
            };
            self.map.set_overflow_root(root);
        }
        Ok(())
    }

    /// An operation that changes several blocks begins.
    pub(crate) fn enter(&mut self) {
        self.open_operations = self.open_operations.saturating_add(1);
    }

    /// The operation has succeeded.
    pub(crate) fn leave(&mut self) {
        self.open_operations = self.open_operations.saturating_sub(1);
    }

    /// Returns the cache, for operations that only read: lookups and cursors.
    pub fn cache(&mut self) -> &mut BlockCache<D> {
        &mut self.cache
    }

    /// Returns the scratch memory of tree operations, and the cache.
    pub(crate) fn scratch(&mut self) -> (&mut Scratch, &mut BlockCache<D>) {
        (&mut self.scratch, &mut self.cache)
    }

    /// Returns `block` for reading.
    pub async fn read(&mut self, block: u64, kind: &'static BlockKind) -> Result<&Block> {
        self.cache.read(block, kind).await
    }

    /// Returns `block`, a new or shadowed one, for changing.
    pub async fn modify(&mut self, block: u64, kind: &'static BlockKind) -> Result<&mut Block> {
        self.only_new(block)?;
        self.cache.modify(block, kind).await
    }

    /// Returns `block`, a new or shadowed one, zeroed for changing.
    pub async fn rewrite(&mut self, block: u64, kind: &'static BlockKind) -> Result<&mut Block> {
        self.only_new(block)?;
        self.cache.zeroed(block, kind).await
    }

    /// Hands out a block with count one and undefined contents.
    pub async fn allocate(&mut self) -> Result<u64> {
        self.map.allocate(&mut self.cache).await
    }

    /// Adds a reference to `block`.
    pub async fn inc(&mut self, block: u64) -> Result {
        self.map.inc(&mut self.cache, block).await
    }

    /// Takes a reference to `block` away; the block is free if it was the last.
    pub async fn dec(&mut self, block: u64) -> Result<bool> {
        self.map.dec(&mut self.cache, block).await
    }

    /// Returns the number of references to `block`.
    pub async fn count(&mut self, block: u64) -> Result<u32> {
        self.map.count(&mut self.cache, block).await
    }

    /// Returns true if `block` was free at the last commit and is in use now.
    pub fn is_new(&self, block: u64) -> bool {
        self.map.is_new(block)
    }

    /// Returns true if `block` may be changed where it is: it was free at the last commit, and
    /// has one parent.
    pub async fn is_own(&mut self, block: u64) -> Result<bool> {
        Ok(self.map.is_new(block) && self.count(block).await? == 1)
    }

    /// Returns a block with the contents of `block` that may be changed, and gives up one
    /// reference to `block`. The caller stores the new number into the parent.
    pub async fn shadow(&mut self, block: u64, kind: &'static BlockKind) -> Result<Shadow> {
        if self.is_own(block).await? {
            return Ok(Shadow {
                block,
                shared: false,
            });
        }
        let copy = self.allocate().await?;
        self.cache.copy(block, copy, kind).await?;
        let last = self.dec(block).await?;
        Ok(Shadow {
            block: copy,
            shared: !last,
        })
    }

    fn only_new(&self, block: u64) -> Result {
        if self.map.is_new(block) {
            Ok(())
        } else {
            Err(Error::Invalid(
                "change of a block that the superblock reaches",
            ))
        }
    }
}

#[cfg(test)]
mod tests;
