// SPDX-License-Identifier: GPL-2.0

//! Pages of the block map, on their way from and to the storage.

use super::Overlay;
use super::Place;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::block_map;
use crate::format::block_map::Validity;
use crate::format::tree::Path;
use crate::format::DepotLayout;
use crate::format::Mapping;
use crate::format::MappingState;
use crate::format::Page;
use crate::format::Pbn;
use crate::health::Health;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::world::Repeated;
use crate::world::World;
use kernel::prelude::*;
use persistent_data::shared_cache::Origin;
use persistent_data::shared_cache::Residence;
use persistent_data::shared_cache::Store;
use runtime::disk::Disk;
use runtime::disk::Part;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;
use runtime::sync::Lock;

/// What the page cache knows of its pages.
pub struct Pages<W: World> {
    nonce: u64,
    depot: DepotLayout,
    /// Slabs are added while the volume is in use.
    slabs: AtomicU32,
    world: Arc<W>,
    storage: Arc<Storage<W::Disk>>,
    health: Arc<Health>,
    /// What pages lack on the storage, where it cannot be written.
    overlay: Lock<Overlay>,
    hides_all: AtomicU32,
    /// Done wrong on purpose: new pages are said to be valid in their first version.
    #[cfg(test)]
    breaks_first_writes: AtomicU32,
}

impl Place {
    pub(super) fn entry(self, page: &Page) -> Mapping {
        block_map::entry(page, self.slot)
    }

    /// Returns the entry to look at in page `child`, which this one names; `None` in a leaf page.
    pub(super) fn down(self, path: &Path, child: Pbn) -> Option<Self> {
        let height = self.height.checked_sub(1).filter(|&height| height > 0)?;
        Some(Self {
            page: child,
            height,
            slot: path.slot(height),
        })
    }
}

impl<W: World> Pages<W> {
    pub(super) fn new(
        nonce: u64,
        depot: DepotLayout,
        world: Arc<W>,
        storage: Arc<Storage<W::Disk>>,
        health: Arc<Health>,
    ) -> Self {
        Self {
            nonce,
            depot,
            slabs: AtomicU32::new(depot.slab_count),
            world,
            storage,
            health,
            overlay: Lock::new(Overlay::default()),
            hides_all: AtomicU32::new(0),
            #[cfg(test)]
            breaks_first_writes: AtomicU32::new(0),
        }
    }

    /// From now on, pages are shown with these changes.
    pub(super) fn show(&self, mut overlay: Overlay) {
        // What was there before is freed without the lock.
        self.overlay.with(|own| core::mem::swap(own, &mut overlay));
    }

    /// Any page may be one that lacks changes.
    pub(super) fn hide_all(&self) {
        self.hides_all.store_release(1);
    }

    /// Fails if any page may lack changes.
    pub(super) fn check_shown(&self) -> Result {
        match self.hides_all.load_acquire() {
            0 => Ok(()),
            _ => Err(Status::CorruptJournal.into()),
        }
    }

    #[cfg(test)]
    pub(super) fn break_first_writes(&self) {
        self.breaks_first_writes.store_release(1);
    }

    pub(super) fn set_depot(&self, depot: DepotLayout) {
        self.slabs.store_release(depot.slab_count);
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Makes an empty page.
    pub(super) fn format(&self, pbn: Pbn, page: &mut Page) {
        block_map::format_page(page, self.nonce, pbn);
        block_map::set_initialized(page, true);
    }

    /// Logs an I/O that failed, as mainline does, which numbers leaf pages 3 and others 4.
    fn log_failed(&self, what: &str, residence: Residence, block: u64, result: Result) -> Result {
        if let Err(error) = result {
            let number = match residence {
                Residence::Evictable => 3,
                Residence::Kept => 4,
            };
            self.world.log_repeated(
                Repeated::PageIo,
                fmt!(
                    "Completing {what} vio of type {number} for physical block {block} with \
                     error: {error}"
                ),
            );
        }
        result
    }

    fn log_failed_parts(&self, what: &str, residence: Residence, parts: &[Part]) {
        for part in parts {
            let result = part.result.map_err(Error::from);
            let _ = self.log_failed(what, residence, self.storage.block(part), result);
        }
    }

    /// Returns the page that an entry of an interior page names, if it names one.
    ///
    /// # Errors
    ///
    /// The entry makes no sense.
    pub(super) fn child(&self, place: Place, entry: Mapping) -> Result<Option<Pbn>> {
        if entry == Mapping::UNMAPPED {
            return Ok(None);
        }
        let depot = DepotLayout {
            slab_count: self.slabs.load_acquire(),
            ..self.depot
        };
        if entry.state == MappingState::UNCOMPRESSED && depot.is_data_block(entry.pbn) {
            return Ok(Some(entry.pbn));
        }
        let Place { page, height, slot } = place;
        let error = Error::from(Status::BadMapping);
        self.world.log_repeated(
            Repeated::BadTree,
            fmt!(
                "Entry {slot} of block map page {page}, at height {height}, is PBN {} with state \
                 {}: {error}",
                entry.pbn,
                entry.state.bits()
            ),
        );
        Err(error)
    }
}

fn purpose(residence: Residence) -> Purpose {
    match residence {
        Residence::Evictable => Purpose::PageCache,
        Residence::Kept => Purpose::Metadata,
    }
}

impl<W: World> Store for Pages<W> {
    type Buffer = <W::Disk as Disk>::Buffer;
    type Error = Error;

    fn buffer(&self, pages: usize) -> Result<Self::Buffer> {
        self.storage.buffer_of_parts(pages, pages)
    }

    fn buffer_now(&self, pages: usize) -> Result<Self::Buffer> {
        self.storage.buffer_now(pages, pages)
    }

    async fn read(
        &self,
        block: u64,
        residence: Residence,
        buffer: Self::Buffer,
    ) -> (Self::Buffer, Result) {
        let purpose = purpose(residence);
        let (buffer, result) = self.storage.read(purpose, block, 1, buffer, 0).await;
        (buffer, self.log_failed("read", residence, block, result))
    }

    fn part(&self, block: u64, blocks: u32, page: usize) -> Part {
        self.storage.part(block, blocks, page)
    }

    async fn read_parts(
        &self,
        residence: Residence,
        buffer: Self::Buffer,
        parts: &mut [Part],
    ) -> Self::Buffer {
        let purpose = purpose(residence);
        let buffer = self.storage.read_parts(purpose, buffer, parts).await;
        self.log_failed_parts("read", residence, parts);
        buffer
    }

    async fn write_parts(
        &self,
        residence: Residence,
        buffer: Self::Buffer,
        parts: &mut [Part],
    ) -> Self::Buffer {
        let purpose = purpose(residence);
        let buffer = self.storage.write_parts(purpose, buffer, parts).await;
        self.log_failed_parts("write", residence, parts);
        buffer
    }

    async fn flush(&self, buffer: Self::Buffer) -> (Self::Buffer, Result) {
        self.storage.flush(Purpose::PageCache, buffer).await
    }

    fn loaded(&self, block: u64, residence: Residence, page: &mut Page) -> Result<Origin> {
        let is_new = self.overlay.with(|overlay| overlay.creates(block));
        let origin = match is_new {
            true => {
                self.format(block, page);
                Origin::Fresh
            }
            false => self.found(block, residence, page)?,
        };
        self.overlay.with(|overlay| overlay.apply(block, page));
        Ok(origin)
    }

    fn set_valid(&self, page: &mut Page, valid: bool) {
        #[cfg(test)]
        let valid = valid || self.breaks_first_writes.load_acquire() != 0;
        block_map::set_initialized(page, valid);
    }

    fn check(&self) -> Result {
        self.health.check()
    }

    fn failed(&self, error: Error) {
        let _ = self.health.watch::<()>(Err(error));
    }
}

impl<W: World> Pages<W> {
    /// Looks at a page that was read: makes an empty one of it if there was none.
    fn found(&self, block: u64, residence: Residence, page: &mut Page) -> Result<Origin> {
        match block_map::validate(page, self.nonce, block) {
            Validity::Valid => return Ok(Origin::Written),
            // Mainline takes it for an empty page, and what it maps is lost.
            Validity::Invalid if block_map::is_damaged(page, self.nonce, block) => {
                let error = Error::from(Status::BadPage);
                self.world.log_repeated(
                    Repeated::BadPage,
                    fmt!("Block map page {block} is damaged: {error}"),
                );
                return Err(error);
            }
            Validity::Invalid => {}
            Validity::Bad { pbn } => {
                let error = Error::from(Status::BadPage);
                self.world.log_repeated(
                    Repeated::BadPage,
                    fmt!("Expected page {block} but got page {pbn} instead: {error}"),
                );
                if residence == Residence::Evictable {
                    return Err(error);
                }
            }
        }
        self.format(block, page);
        Ok(Origin::Fresh)
    }
}
