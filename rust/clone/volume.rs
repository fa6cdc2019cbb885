// SPDX-License-Identifier: GPL-2.0

//! What outlives a table: the region map, the metadata, and the mode.
//!
//! # Life
//!
//! [`Volume::load`] checks everything that is on the metadata device, takes all memory, and writes
//! nothing. [`Volume::activate`], called when the first table over it resumes, formats a blank
//! device or reads the bitmap. A table that replaces another one on the same metadata shares its
//! volume and so finds every bit that was ever set, committed or not: nothing is read twice.

use crate::commit::CommitQueue;
use crate::geometry::Geometry;
use crate::metadata;
use crate::metadata::CommitError;
use crate::metadata::Metadata;
use crate::metadata::Space;
use crate::region_map::RegionMap;
use core::fmt;
use core::future::Future;
use core::pin::pin;
use kernel::prelude::*;
use persistent_data::cache::BlockCache;
use persistent_data::cache::CacheSize;
use runtime::disk::Disk;
use runtime::pool::Pool;
use runtime::stack::apart;
use runtime::stack::boxed;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;
use runtime::sync::AtomicU64;
use runtime::sync::Lock;

/// Memory of the block cache: 1 MiB of blocks, and buffers of 1 MiB.
const CACHE_SIZE: CacheSize = CacheSize {
    frames: 256,
    io_pages: 256,
};

/// What the metadata allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything.
    ReadWrite,
    /// A metadata error: what is in memory is served, nothing can be recorded any more.
    ReadOnly,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::ReadWrite => "rw",
            Mode::ReadOnly => "ro",
        })
    }
}

/// A volume: the metadata, and what it says.
pub struct Volume<D: Disk> {
    pub(crate) geometry: Geometry,
    pub(crate) map: RegionMap,
    pub(crate) commits: CommitQueue,
    /// Whether the metadata device was blank when it was loaded.
    blank: bool,
    read_only: AtomicU32,
    /// Set once a commit, or the load, has found every region hydrated.
    complete: AtomicU32,
    /// Set once `map` holds what the metadata says.
    loaded: AtomicU32,
    used: AtomicU64,
    total: AtomicU64,
    /// The handle of the metadata device that the store uses.
    disk: Lock<Option<Arc<D>>>,
    /// The metadata; who has it taken may do I/O on it.
    store: Pool<Store<D>>,
}

/// The metadata, as far as it is open.
enum Store<D: Disk> {
    /// Not in use; the cache is left from the load, if that was the last user.
    Closed(Option<BlockCache<D>>),
    /// In use. On the heap: it is handed around, and stacks are small.
    Open(KBox<Metadata<D>>),
}

impl<D: Disk> Volume<D> {
    /// Checks the metadata on `disk` for a device of `geometry`. Writes nothing.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the metadata is of another geometry, `ENOSPC` if a blank device is too small,
    /// `EROFS` if it is blank and `read_only`, `ENOMEM`, and what reading and checking gives.
    pub async fn load(disk: Arc<D>, geometry: Geometry, read_only: bool) -> Result<Self> {
        let map = RegionMap::new(geometry.regions())?;
        let mut cache = BlockCache::new(disk.clone(), CACHE_SIZE)?;
        let blank = cache.is_zeroed(0).await?;
        let space;
        if blank {
            if read_only {
                return Err(EROFS);
            }
            space = Metadata::space_when_formatted(&cache, &geometry)?;
        } else {
            let mut metadata = boxed(|| Metadata::open(cache, &geometry)).await??;
            boxed(|| metadata.check()).await??;
            space = metadata.space();
            cache = KBox::into_inner(metadata).into_cache();
        }
        let mut stores = KVec::with_capacity(1, GFP_KERNEL)?;
        stores.push(Store::Closed(Some(cache)), GFP_KERNEL)?;
        Ok(Self {
            geometry,
            map,
            commits: CommitQueue::new(),
            blank,
            read_only: AtomicU32::new(0),
            complete: AtomicU32::new(0),
            loaded: AtomicU32::new(0),
            used: AtomicU64::new(space.used),
            total: AtomicU64::new(space.total),
            disk: Lock::new(Some(disk)),
            store: Pool::new(stores),
        })
    }

    /// Makes the volume ready for use by the table that resumes, whose metadata device is `disk`.
    ///
    /// The first time this formats a blank device, or reads the bitmap. Later it hands on what is
    /// in memory; a volume that had become read-only is opened anew and has all its bits written
    /// by the next commit, but not for a mapping that is `read_only`: it makes no commits, and
    /// leaves everything as it is for one that does.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and `EIO` if the device cannot be formatted.
    pub async fn activate(&self, disk: Arc<D>, read_only: bool) -> Result {
        let store = self.store.take().await;
        let same = self
            .disk
            .with(|current| matches!(current, Some(current) if Arc::ptr_eq(current, &disk)));
        let opened = match store {
            // The same table resumes. What it was told before holds, a fall to read-only too.
            Store::Open(metadata) if same => Ok(metadata),
            Store::Open(mut metadata) if read_only || self.mode() == Mode::ReadWrite => {
                metadata.set_disk(disk.clone());
                Ok(metadata)
            }
            Store::Open(metadata) => {
                let cache = KBox::into_inner(metadata).into_cache();
                self.open(Some(cache), disk.clone(), read_only).await
            }
            Store::Closed(cache) => self.open(cache, disk.clone(), read_only).await,
        };
        let (store, result) = match opened {
            Ok(metadata) => (Store::Open(metadata), Ok(())),
            Err(error) => (Store::Closed(None), Err(error)),
        };
        let before = self.disk.with(|current| current.replace(disk));
        self.store.give(store);
        drop(before);
        result
    }

    /// Opens the metadata, or formats it, and brings it and the map in line.
    async fn open(
        &self,
        cache: Option<BlockCache<D>>,
        disk: Arc<D>,
        read_only: bool,
    ) -> Result<KBox<Metadata<D>>> {
        let mut cache = match cache {
            Some(mut cache) => {
                cache.set_disk(disk);
                cache
            }
            None => BlockCache::new(disk, CACHE_SIZE)?,
        };
        // A device that was not blank when it was loaded is not ours to format.
        let format = self.blank && !self.is_loaded() && cache.is_zeroed(0).await?;
        let mut metadata = if format {
            boxed(|| Metadata::format(cache, &self.geometry)).await??
        } else {
            boxed(|| Metadata::open(cache, &self.geometry)).await??
        };
        if self.is_loaded() {
            // Memory knows at least what the disk knows.
            if !read_only {
                self.map.set_all_dirty();
                self.read_only.store_release(0);
            }
        } else {
            boxed(|| metadata.load(&self.map)).await??;
            self.complete.store_relaxed(self.map.is_complete().into());
            self.loaded.store_release(1);
            self.map.shrink();
        }
        self.note_space(&metadata);
        Ok(metadata)
    }

    /// The table whose metadata device is `disk` goes away. If the volume still uses that handle,
    /// because no other table was activated, it lets go of it; the bits stay.
    pub async fn release(&self, disk: &Arc<D>) {
        let store = self.store.take().await;
        let in_use = |current: &mut Arc<D>| Arc::ptr_eq(current, disk);
        let released = self.disk.with(|current| current.take_if(in_use));
        if released.is_some() {
            self.store.give(Store::Closed(None));
            drop(store);
        } else {
            self.store.give(store);
        }
    }

    /// Returns true if a table over the volume has been active: memory knows what the disk knows.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load_acquire() != 0
    }

    /// Checks that a table of `geometry` can use the volume.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the metadata is of another geometry.
    pub fn check_geometry(&self, geometry: &Geometry) -> Result {
        if *geometry == self.geometry {
            return Ok(());
        }
        metadata::report_mismatch();
        Err(EINVAL)
    }

    /// Returns the geometry.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Returns the region map.
    pub fn map(&self) -> &RegionMap {
        &self.map
    }

    /// Returns the mode.
    pub fn mode(&self) -> Mode {
        if self.read_only.load_acquire() == 0 {
            Mode::ReadWrite
        } else {
            Mode::ReadOnly
        }
    }

    /// The metadata cannot be written any more. Returns true if that is news.
    pub(crate) fn set_read_only(&self) -> bool {
        self.read_only.swap(1) == 0
    }

    /// For who has made a commit: returns true the first time that everything is hydrated and
    /// committed.
    pub(crate) fn is_newly_complete(&self) -> bool {
        // In this order: what has been counted by now is announced by now, or was committed.
        self.map.is_complete() && !self.map.is_changed() && self.complete.swap(1) == 0
    }

    /// Returns how much of the metadata device is in use.
    pub fn space(&self) -> Space {
        Space {
            used: self.used.load_relaxed(),
            total: self.total.load_relaxed(),
        }
    }

    fn note_space(&self, metadata: &Metadata<D>) {
        let space = metadata.space();
        self.used.store_relaxed(space.used);
        self.total.store_relaxed(space.total);
    }

    /// Commits every bit that was set before the call. `flush` puts the destination's data on
    /// stable storage; it is called once a transaction, and once if there is nothing to write.
    pub(crate) async fn commit<F>(&self, flush: impl FnMut() -> F) -> Result<(), CommitError>
    where
        F: Future<Output = Result> + Send,
    {
        self.map.take_changed();
        let mut store = self.store.take().await;
        let result = match &mut store {
            Store::Open(metadata) => apart(pin!(metadata.commit(&self.map, flush))).await,
            _ => Err(CommitError::Metadata(EIO)),
        };
        match (&result, &store) {
            (Ok(()), Store::Open(metadata)) => self.note_space(metadata),
            // What was taken is not on disk; a later table may get it there.
            _ => self.map.set_all_dirty(),
        }
        self.store.give(store);
        result
    }
}
