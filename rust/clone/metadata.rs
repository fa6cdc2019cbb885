// SPDX-License-Identifier: GPL-2.0

//! The metadata device: the superblock, and the bitset of hydrated regions that it leads to.
//!
//! # Order of writes
//!
//! A commit makes the bits that are set in memory true on disk:
//! 1. each dirty bitmap block is taken (dirty mark first, then its words) and staged;
//! 2. the destination is flushed: what the bits promise is on stable storage;
//! 3. the metadata blocks are written, and flushed;
//! 4. the superblock is written, and flushed.
//!
//! A crash before step 4 leaves the old bitmap, whose blocks steps 1 to 3 did not touch. It knows
//! fewer hydrated regions, and the source still has their data: bits are only ever added.
//!
//! A superblock that is found may have come from a write, or before a flush, that failed, and not be
//! on stable storage. The blocks of the one before it are free then, and may be what a crash goes
//! back to: so the device is flushed before the first commit writes anything.

use crate::geometry::Geometry;
use crate::region_map::RegionMap;
use crate::superblock;
use crate::superblock::Superblock;
use core::future::Future;
use core::pin::pin;
use kernel::prelude::*;
use persistent_data::bitset;
use persistent_data::bitset::Bitset;
use persistent_data::cache::BlockCache;
use persistent_data::space_map::Root;
use persistent_data::space_map::MAX_BLOCKS;
use persistent_data::transaction::TransactionManager;
use persistent_data::Block;
use persistent_data::Error as MetadataError;
use runtime::disk::Disk;
use runtime::stack::apart;
use runtime::stack::boxed;
use runtime::sync::Arc;

/// How much of the metadata device is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Blocks in use.
    pub used: u64,
    /// Blocks that the space map knows.
    pub total: u64,
}

/// Blocks without which there is no space map: the superblock, its index, its overflow tree.
const BLOCKS_MIN: u64 = 3;

/// Metadata that is open.
pub(crate) struct Metadata<D: Disk> {
    manager: TransactionManager<D>,
    bitset: Bitset,
    geometry: Geometry,
    /// Whether the superblock is known to be on stable storage.
    settled: bool,
}

/// Which step of a commit failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitError {
    /// The flush of the destination.
    Flush(Error),
    /// Anything about the metadata.
    Metadata(Error),
}

impl From<MetadataError> for CommitError {
    fn from(error: MetadataError) -> Self {
        CommitError::Metadata(error.into())
    }
}

impl<D: Disk> Metadata<D> {
    /// Opens the metadata of a device of `geometry`.
    pub(crate) async fn open(mut cache: BlockCache<D>, geometry: &Geometry) -> Result<KBox<Self>> {
        let superblock = match cache.read(0, &superblock::KIND).await {
            Ok(block) => Superblock::decode(block),
            Err(error) => {
                pr_err!("Failed to read_lock superblock\n");
                return Err(error.into());
            }
        };
        if (superblock.region_size, superblock.length)
            != (geometry.region_size(), geometry.length())
        {
            report_mismatch();
            return Err(EINVAL);
        }
        let root = superblock.space_map_root;
        let opened = boxed(|| TransactionManager::open(cache, root, MAX_BLOCKS)).await?;
        let mut manager = opened.inspect_err(|_| pr_err!("dm_tm_open_with_sm failed\n"))?;
        let (bitset_root, regions) = (superblock.bitset_root, geometry.regions());
        let bitset = boxed(|| Bitset::open(&mut manager, bitset_root, regions)).await??;
        Self::new(manager, bitset, geometry, false)
    }

    /// Returns what a format of the device behind `cache` would take.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the device cannot be a metadata device at all, `ENOSPC` if what a format takes,
    /// and one commit of everything, do not fit.
    pub(crate) fn space_when_formatted(
        cache: &BlockCache<D>,
        geometry: &Geometry,
    ) -> Result<Space> {
        let total = cache.blocks().min(MAX_BLOCKS);
        if total < BLOCKS_MIN {
            return Err(EINVAL);
        }
        let size = bitset::size(geometry.regions(), total);
        if total < size.needed {
            pr_err!(
                "Failed to resize on-disk bitset to {} entries\n",
                geometry.regions()
            );
            return Err(ENOSPC);
        }
        Ok(Space {
            used: size.used,
            total,
        })
    }

    /// Formats a blank device: nothing is hydrated.
    pub(crate) async fn format(cache: BlockCache<D>, geometry: &Geometry) -> Result<KBox<Self>> {
        let mut manager = boxed(|| TransactionManager::format(cache)).await??;
        let bitset = boxed(|| Bitset::create(&mut manager, geometry.regions())).await??;
        let mut metadata = Self::new(manager, bitset, geometry, true)?;
        boxed(|| metadata.write()).await??;
        Ok(metadata)
    }

    #[inline(never)]
    fn new(
        manager: TransactionManager<D>,
        bitset: Bitset,
        geometry: &Geometry,
        settled: bool,
    ) -> Result<KBox<Self>> {
        let geometry = *geometry;
        Ok(KBox::new(
            Self {
                manager,
                bitset,
                geometry,
                settled,
            },
            GFP_KERNEL,
        )?)
    }

    /// Drops all that is open and changed.
    pub(crate) fn into_cache(self) -> BlockCache<D> {
        self.manager.into_cache()
    }

    /// Goes on with `disk`, another handle of the same device.
    pub(crate) fn set_disk(&mut self, disk: Arc<D>) {
        self.manager.set_disk(disk);
    }

    /// Reads and checks the bitset.
    pub(crate) async fn check(&mut self) -> Result {
        let checked = self.bitset.check(&mut self.manager).await;
        Self::loaded(checked)
    }

    /// Reads and checks the bitset, and has `map` take it over.
    pub(crate) async fn load(&mut self, map: &RegionMap) -> Result {
        let mut batch = Batch::default();
        let sink = |index, word| batch.load(map, index, word);
        let loaded = self.bitset.load(&mut self.manager, sink).await;
        Self::loaded(loaded)?;
        batch.load_all(map);
        Ok(())
    }

    fn loaded(result: Result<(), MetadataError>) -> Result {
        result.inspect_err(|_| pr_err!("Failed to load on-disk region map\n"))?;
        Ok(())
    }

    /// Commits every region of `map` that is marked dirty. `flush` puts the destination's data on
    /// stable storage; it is called once a transaction. Without a dirty region it is called, too:
    /// who asked for the commit was promised the flush. (The commit before may have written what was
    /// set while it ran, and flushed too early for who asked then.)
    pub(crate) async fn commit<F>(
        &mut self,
        map: &RegionMap,
        mut flush: impl FnMut() -> F,
    ) -> Result<(), CommitError>
    where
        F: Future<Output = Result> + Send,
    {
        if !self.settled {
            self.manager.cache().flush().await?;
            self.settled = true;
        }
        let mut next = map.take_dirty_block(0);
        // One round unless the device is too small to hold all that has changed beside the old.
        loop {
            let mut staged = false;
            while let Some(block) = next {
                if !self.bitset.can_stage(&self.manager) {
                    break;
                }
                let mut batch = Batch::default();
                let word = |index| batch.word(map, index);
                apart(pin!(self.bitset.stage(&mut self.manager, block, word))).await?;
                staged = true;
                next = map.take_dirty_block(block + 1);
            }
            if next.is_some() && !staged {
                return Err(CommitError::Metadata(ENOSPC));
            }
            flush().await.map_err(CommitError::Flush)?;
            if staged {
                apart(pin!(self.write())).await?;
            }
            if next.is_none() {
                return Ok(());
            }
        }
    }

    /// Writes what is staged, and the superblock last.
    async fn write(&mut self) -> Result<(), MetadataError> {
        let (region_size, length) = (self.geometry.region_size(), self.geometry.length());
        let bitset_root = self.bitset.root();
        let fill = |block: &mut Block, root: &Root| {
            let space_map_root = *root;
            Superblock {
                space_map_root,
                region_size,
                length,
                bitset_root,
            }
            .encode(block);
        };
        self.manager.commit(&superblock::KIND, fill).await
    }

    /// Returns how much of the device is in use.
    pub(crate) fn space(&self) -> Space {
        Space {
            used: self.manager.nr_used(),
            total: self.manager.nr_blocks(),
        }
    }
}

/// Logs that a table and the metadata do not belong together.
pub(crate) fn report_mismatch() {
    pr_err!("Region and/or target size don't match the ones in metadata\n");
}

/// Words in a batch.
const BATCH_WORDS: usize = 64;

/// Words of the bitset on their way between the map, which is entered once a batch, and a block,
/// which wants them one by one.
struct Batch {
    first: u64,
    len: usize,
    words: [u64; BATCH_WORDS],
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            first: 0,
            len: 0,
            words: [0; BATCH_WORDS],
        }
    }
}

impl Batch {
    /// Returns word `index` of `map`; the words behind it are usually asked for next.
    #[inline]
    fn word(&mut self, map: &RegionMap, index: u64) -> u64 {
        let at = index.wrapping_sub(self.first);
        if at >= self.len as u64 {
            map.copy_words(index, &mut self.words);
            (self.first, self.len) = (index, BATCH_WORDS);
        }
        let at = index.wrapping_sub(self.first);
        self.words.get(at as usize).copied().unwrap_or(0)
    }

    /// Hands word `index` to `map`, some time before [`load_all`](Self::load_all) has returned.
    #[inline]
    fn load(&mut self, map: &RegionMap, index: u64, word: u64) {
        if index != self.first.wrapping_add(self.len as u64) || self.len == BATCH_WORDS {
            self.load_all(map);
            self.first = index;
        }
        if let Some(slot) = self.words.get_mut(self.len) {
            *slot = word;
            self.len += 1;
        }
    }

    fn load_all(&mut self, map: &RegionMap) {
        if let Some(words) = self.words.get(..self.len) {
            map.load_words(self.first, words);
        }
        self.len = 0;
    }
}
