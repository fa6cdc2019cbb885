// SPDX-License-Identifier: GPL-2.0

//! The map from logical to physical blocks: trees of pages, in memory as far as they are needed.
//!
//! A page in memory holds the newest mappings, whether the journal has them yet or not. It knows
//! the oldest journal block that has a change of it which is not on disk, and holds that block; and
//! the newest journal entry that it contains, and is not written before that entry is committed.
//!
//! # Who changes a page
//!
//! 1. pins it, and reserves places in the journal;
//! 2. changes it, in the name of those places;
//! 3. fills the places, without having waited since it got them.
//!
//! # Durability
//!
//! The journal has a change before the page has it on disk ([`Log`] is the gate). The page has it
//! before the journal's block is overwritten ([`BlockMap::oldest_change`]; the journal puts a flush
//! between). A page that was never written is written twice, first as one that is not valid.
//!
//! # Where the leaf pages are
//!
//! A leaf page never moves, so a small directory remembers the places of those that were asked for
//! last, and the tree is not walked again. Interior pages stay in memory once they were read.

mod allocate;
mod directory;
mod overlay;
mod pages;

use crate::admin::statistics;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::block_map;
use crate::format::tree;
use crate::format::tree::Forest;
use crate::format::tree::Path;
use crate::format::tree::ROOT_HEIGHT;
use crate::format::DepotLayout;
use crate::format::Lbn;
use crate::format::Mapping;
use crate::format::Page;
use crate::format::Pbn;
use crate::format::Sequence;
use crate::health::Health;
use crate::storage::Storage;
use crate::world::World;
use directory::Directory;
use kernel::prelude::*;
use pages::Pages;
use persistent_data::shared_cache;
use persistent_data::shared_cache::Gate;
use persistent_data::shared_cache::Residence;
use persistent_data::shared_cache::SharedCache;
use persistent_data::shared_cache::Size;
use runtime::disk::Disk;
use runtime::pool::Pool;
use runtime::range_lock::RangeLock;
use runtime::sync::Arc;
use runtime::sync::AtomicU64;

pub use allocate::Allocator;
pub use allocate::Log;
pub use overlay::Overlay;
pub use persistent_data::shared_cache::Change;
pub use persistent_data::shared_cache::Prefetch;

/// A page that stays in memory until this is dropped.
pub type Pinned<'m, W> = shared_cache::Pinned<'m, Pages<W>>;

/// What a task needs that writes pages.
pub type Writer<W> = shared_cache::Writer<Pages<W>>;

/// Largest number of parts of the page cache; CPUs that use different parts do not meet.
const PARTS: usize = 16;

/// How many pages can be read at once without memory for more.
const LOADERS: usize = 32;

/// What a page of the block map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A page whose entries are the mappings of logical blocks.
    Leaf,
    /// A page whose entries are pages.
    Interior,
}

impl Kind {
    fn residence(self) -> Residence {
        match self {
            Self::Leaf => Residence::Evictable,
            Self::Interior => Residence::Kept,
        }
    }

    fn of_height(height: usize) -> Self {
        match height {
            0 => Self::Leaf,
            _ => Self::Interior,
        }
    }
}

/// What a block map is made for.
#[derive(Clone, Copy, Debug)]
pub struct BlockMapConfig {
    /// The first root page.
    pub root_origin: Pbn,
    /// The number of root pages.
    pub roots: u32,
    /// The nonce of the volume.
    pub nonce: u64,
    /// The logical size.
    pub logical_blocks: u64,
    /// How many tasks may allocate pages at once.
    pub workers: usize,
    /// Where data blocks are, which tree pages are, too.
    pub depot: DepotLayout,
    /// Leaf pages in memory.
    pub cache_pages: usize,
    /// Pages that are written at once.
    pub write_pages: usize,
}

/// The map from logical to physical blocks.
pub struct BlockMap<W: World> {
    cache: SharedCache<Pages<W>>,
    root_origin: Pbn,
    roots: u32,
    logical_blocks: AtomicU64,
    directory: Directory,
    /// Entries of interior pages whose page is being allocated.
    allocating: RangeLock,
    /// Who allocates a page has one of these: there are frames for so many.
    permits: Pool<Permit>,
    cache_pages: usize,
    write_pages: usize,
    /// For [`write_all`](Self::write_all).
    writer: Pool<Writer<W>>,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// When all pages are to be written, so many are in flight at once, or so many if there is less memory.
const ALL_PAGES: [usize; 2] = [2048, 256];

/// The right to allocate a page.
struct Permit;

/// Makes permits in a stack frame of their own.
#[inline(never)]
fn permits(count: usize) -> Result<Pool<Permit>> {
    let mut permits = KVec::with_capacity(count, GFP_KERNEL)?;
    for _ in 0..count.max(1) {
        permits.push(Permit, GFP_KERNEL)?;
    }
    Ok(Pool::new(permits))
}

/// An entry of an interior page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    page: Pbn,
    /// The height of the page.
    height: usize,
    slot: u16,
}

impl<W: World> BlockMap<W> {
    /// A change that the journal has already.
    const UNJOURNALED: Change = Change {
        oldest: 0,
        newest: 0,
    };

    /// Makes a block map of which nothing is in memory yet.
    ///
    /// # Errors
    ///
    /// No memory, or sizes that make no sense.
    pub fn new(
        config: BlockMapConfig,
        world: Arc<W>,
        storage: Arc<Storage<W::Disk>>,
        health: Arc<Health>,
    ) -> Result<Self> {
        let forest = Forest::new(config.roots, config.logical_blocks);
        forest.ok_or(Status::BadConfiguration)?;
        let pages = Pages::new(config.nonce, config.depot, world, storage, health);
        let size = Size {
            pages: config.cache_pages,
            parts: PARTS,
            loaders: LOADERS,
            // Who allocates a page has that, and waits for the one above.
            holders: config.workers,
        };
        let cache = SharedCache::new(pages, size)?;
        let mut writers = KVec::with_capacity(1, GFP_KERNEL)?;
        writers.push(cache.writer(config.write_pages)?, GFP_KERNEL)?;
        Ok(Self {
            cache,
            root_origin: config.root_origin,
            roots: config.roots,
            logical_blocks: AtomicU64::new(config.logical_blocks),
            directory: Directory::new(config.cache_pages)?,
            allocating: RangeLock::new(),
            permits: permits(config.workers)?,
            cache_pages: config.cache_pages,
            write_pages: config.write_pages,
            writer: Pool::new(writers),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        })
    }

    /// Returns true if no page is pinned, read, written or allocated.
    pub fn is_idle(&self) -> bool {
        self.cache.is_idle()
            && self.writer.is_full()
            && self.permits.is_full()
            && self.allocating.is_idle()
    }

    /// Returns the leaf page with this number, if it exists. Returns `None` if that cannot be said
    /// without waiting.
    ///
    /// # Errors
    ///
    /// As [`leaf`](Self::leaf).
    #[inline]
    pub fn try_leaf(&self, page_number: u64) -> Option<Result<Option<Pbn>>> {
        if let Some(pbn) = self.directory.get(page_number) {
            return Some(Ok(Some(pbn)));
        }
        self.try_walk(page_number)
    }

    fn try_walk(&self, page_number: u64) -> Option<Result<Option<Pbn>>> {
        let (path, mut place) = match self.path(page_number) {
            Ok(start) => start,
            Err(error) => return Some(Err(error)),
        };
        loop {
            let entry = self.cache.try_read(place.page, |page| place.entry(page))?;
            match self.cache.store().child(place, entry) {
                Ok(Some(child)) => match place.down(&path, child) {
                    Some(next) => place = next,
                    None => return Some(Ok(Some(self.found(page_number, child)))),
                },
                Ok(None) => return Some(Ok(None)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Returns the leaf page with this number, if it exists.
    ///
    /// # Errors
    ///
    /// An interior page cannot be read, or has an entry that makes no sense.
    pub async fn leaf(&self, page_number: u64) -> Result<Option<Pbn>> {
        if let Some(pbn) = self.directory.get(page_number) {
            return Ok(Some(pbn));
        }
        let (path, mut place) = self.path(page_number)?;
        loop {
            let page = self.pin(place.page, Kind::Interior).await?;
            let entry = page.read(|page| place.entry(page));
            match self.cache.store().child(place, entry)? {
                Some(child) => match place.down(&path, child) {
                    Some(next) => place = next,
                    None => return Ok(Some(self.found(page_number, child))),
                },
                None => return Ok(None),
            }
        }
    }

    /// Runs `read` with a page that is in memory; cheaper than to pin it.
    #[inline]
    pub fn try_read<R>(&self, pbn: Pbn, read: impl FnOnce(&Page) -> R) -> Option<R> {
        self.cache.try_read(pbn, read)
    }

    /// Pins a page that is in memory. Waits for nothing.
    pub fn try_pin(&self, pbn: Pbn) -> Option<Pinned<'_, W>> {
        self.cache.try_pin(pbn)
    }

    /// Pins a page.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is a page of another place.
    pub async fn pin(&self, pbn: Pbn, kind: Kind) -> Result<Pinned<'_, W>> {
        self.cache.pin(pbn, kind.residence()).await
    }

    /// Pins a leaf page, for somebody who has changed nothing yet.
    ///
    /// # Errors
    ///
    /// As [`pin`](Self::pin). A page of another place makes the volume read-only.
    pub async fn pin_leaf(&self, pbn: Pbn) -> Result<Pinned<'_, W>> {
        let health = self.cache.store().health();
        health.watch_look_up(self.pin(pbn, Kind::Leaf).await)
    }

    /// Returns the mapping of a block whose leaf page is `leaf`.
    ///
    /// # Errors
    ///
    /// As [`pin_leaf`](Self::pin_leaf).
    pub async fn mapping(&self, leaf: Option<Pbn>, lbn: Lbn) -> Result<Mapping> {
        let Some(pbn) = leaf else {
            return Ok(Mapping::UNMAPPED);
        };
        let (_, slot) = tree::leaf(lbn);
        if let Some(mapping) = self.try_read(pbn, |page| block_map::entry(page, slot)) {
            return Ok(mapping);
        }
        let page = self.pin_leaf(pbn).await?;
        Ok(page.read(|page| block_map::entry(page, slot)))
    }

    /// Returns true if a page is in memory, or on its way there.
    pub fn has(&self, pbn: Pbn) -> bool {
        self.cache.has(pbn)
    }

    /// Allocates what a task needs for [`prefetch`](Self::prefetch), of up to `pages` pages at once,
    /// and not of more than half the cache.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn prefetcher(&self, pages: usize) -> Result<Prefetch> {
        Ok(Prefetch::new(pages.min(self.cache_pages.div_ceil(2)))?)
    }

    /// Reads leaf pages that are not in memory, all at once, through `buffer`. Those that cannot be
    /// had now are left to [`pin`](Self::pin).
    pub async fn prefetch(
        &self,
        leaves: impl Iterator<Item = Pbn>,
        prefetch: &mut Prefetch,
        buffer: <W::Disk as Disk>::Buffer,
    ) -> <W::Disk as Disk>::Buffer {
        self.cache.prefetch(leaves, prefetch, buffer).await
    }

    /// Makes a page empty, whatever is on the storage; what it is in memory it stays. For recovery.
    ///
    /// # Errors
    ///
    /// No memory, or the volume is read-only.
    pub async fn create(&self, pbn: Pbn) -> Result {
        if let Some(vacancy) = self.cache.create(pbn, Residence::Evictable).await? {
            let store = self.cache.store();
            drop(vacancy.fill(Self::UNJOURNALED, |page| store.format(pbn, page)));
        }
        Ok(())
    }

    /// Shows these changes in all pages. For a volume that is read-only.
    pub fn show(&self, overlay: Overlay) {
        // Those that are in memory may have some of them: of a recovery that was aborted.
        let mut last = None;
        for pbn in overlay.pages() {
            if last.replace(pbn) == Some(pbn) {
                continue;
            }
            if let Some(page) = self.try_pin(pbn) {
                page.update(Self::UNJOURNALED, |page| overlay.apply(pbn, page));
            }
        }
        self.cache.store().show(overlay);
    }

    /// Any page may be one that lacks changes: no leaf page is found any more. For a volume that is
    /// read-only from its start.
    pub fn hide_all(&self) {
        self.cache.store().hide_all();
    }

    /// Returns the oldest journal block with a change that is not written.
    pub fn oldest_change(&self) -> Option<Sequence> {
        self.cache.oldest_change()
    }

    /// Has pages written that hold journal blocks before `sequence`. Waits for nothing.
    pub fn write_before(&self, sequence: Sequence) {
        self.cache.write_before(sequence);
    }

    /// Writes all pages with changes. They are on stable storage after the next flush.
    ///
    /// # Errors
    ///
    /// The volume is read-only, or has just become so.
    pub async fn write_all(&self, log: &impl Gate<Error>) -> Result {
        if self.oldest_change().is_none() {
            return Ok(());
        }
        let mut writer = self.writer.take().await;
        // Over storage that takes its time, it is what is in flight that counts.
        let large = |pages| self.cache.writer_now(pages).ok();
        let result = match ALL_PAGES.into_iter().find_map(large) {
            Some(mut large) => self.cache.write_all(&mut large, log).await,
            None => self.cache.write_all(&mut writer, log).await,
        };
        self.writer.give(writer);
        result
    }

    /// Allocates what a task needs for [`run_writer`](Self::run_writer).
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn writer(&self) -> Result<Writer<W>> {
        self.cache.writer(self.write_pages)
    }

    /// Writes pages that have to be written, until the map stops. Several tasks may do so.
    pub async fn run_writer(&self, writer: Writer<W>, log: &impl Gate<Error>) {
        self.cache.run_writer(writer, log).await;
    }

    /// Has no page written any more, and waits until none is being written: for a suspend that
    /// saves nothing.
    pub async fn pause(&self) {
        self.cache.pause().await;
    }

    /// Goes on after a pause.
    pub fn unpause(&self) {
        self.cache.unpause();
    }

    /// Goes on with a larger logical size.
    pub fn grow(&self, logical_blocks: u64) {
        self.logical_blocks.store_release(logical_blocks);
    }

    /// Goes on with more slabs.
    pub fn set_depot(&self, depot: DepotLayout) {
        self.cache.store().set_depot(depot);
    }

    /// Makes everybody who waits look again. Called when the volume has become read-only.
    pub fn wake_all(&self) {
        self.cache.wake_all();
    }

    /// Makes the writers end when there is nothing to write any more.
    pub fn stop(&self) {
        self.cache.stop();
    }

    /// Counts look-ups and changes of mappings.
    pub fn count_requests(&self, reads: u64, writes: u64) {
        if reads != 0 {
            self.reads.fetch_add(reads);
        }
        if writes != 0 {
            self.writes.fetch_add(writes);
        }
    }

    /// Returns what became of the leaf pages.
    pub fn statistics(&self) -> statistics::BlockMap {
        let counters = self.cache.counters(Residence::Evictable);
        // Gauges are bounded by the number of pages.
        let gauge = |value: u64| value as u32;
        statistics::BlockMap {
            dirty_pages: gauge(counters.dirty_pages - counters.outgoing_pages),
            clean_pages: gauge(counters.clean_pages),
            free_pages: gauge(counters.free_pages),
            failed_pages: 0,
            incoming_pages: gauge(counters.incoming_pages),
            outgoing_pages: gauge(counters.outgoing_pages),
            cache_pressure: gauge(counters.cache_pressure),
            read_count: self.reads.load_relaxed(),
            write_count: self.writes.load_relaxed(),
            failed_reads: counters.failed_reads,
            failed_writes: counters.failed_writes,
            reclaimed: counters.reclaimed,
            read_outgoing: counters.read_outgoing,
            found_in_cache: counters.found_in_cache,
            discard_required: counters.discard_required,
            wait_for_page: counters.wait_for_page,
            fetch_required: counters.fetch_required,
            pages_loaded: counters.pages_loaded,
            pages_saved: counters.pages_saved,
            flush_count: self.cache.flushes(),
        }
    }

    /// Returns the way to a leaf page, and the entry to look at first.
    fn path(&self, page_number: u64) -> Result<(Path, Place)> {
        self.cache.store().check_shown()?;
        let forest = Forest::new(self.roots, self.logical_blocks.load_acquire());
        let forest = forest.ok_or(Status::BadConfiguration)?;
        if page_number >= forest.leaf_pages() {
            return Err(Status::OutOfRange.into());
        }
        let path = forest.path(page_number);
        let root = Place {
            page: self.root_origin.saturating_add(path.tree.into()),
            height: ROOT_HEIGHT,
            slot: path.slot(ROOT_HEIGHT),
        };
        Ok((path, root))
    }

    fn found(&self, page_number: u64, leaf: Pbn) -> Pbn {
        self.directory.put(page_number, leaf);
        leaf
    }
}

#[cfg(test)]
mod tests;
