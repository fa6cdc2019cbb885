// SPDX-License-Identifier: GPL-2.0

//! The storage of a volume, by physical block.
//!
//! Physical block numbers count from the start of the device, less an offset that old volumes
//! have. The device itself can be exchanged for another handle of the same while the volume is
//! suspended.

use crate::error::Error;
use crate::error::Result;
use crate::format::Pbn;
use kernel::prelude::EIO;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::Part;
use runtime::sync::Arc;
use runtime::sync::AtomicU64;
use runtime::sync::Lock;

/// Sectors in a block.
pub const BLOCK_SECTORS: u64 = 8;

/// What an I/O is for; it is counted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Data of users.
    Data,
    /// Metadata, but for the next two.
    Metadata,
    /// The recovery journal.
    Journal,
    /// Leaf pages of the block map.
    PageCache,
}

/// The storage of a volume.
pub struct Storage<D> {
    disk: Lock<Arc<D>>,
    /// Sectors of a logical block of the device, a power of two.
    granularity: AtomicU64,
    /// The physical block that is the device's first.
    offset: Pbn,
    submitted: [Counts; 4],
    completed: [Counts; 4],
}

/// How many I/Os there were, of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounts {
    /// Reads; blocks of them, for data.
    pub read: u64,
    /// Writes; blocks of them, for data.
    pub write: u64,
    /// Flushes without data.
    pub empty_flush: u64,
    /// Flushes, also those before a write.
    pub flush: u64,
    /// Writes to stable storage.
    pub fua: u64,
}

struct Counts {
    read: AtomicU64,
    write: AtomicU64,
    empty_flush: AtomicU64,
    flush: AtomicU64,
    fua: AtomicU64,
}

impl Counts {
    fn new() -> Self {
        Self {
            read: AtomicU64::new(0),
            write: AtomicU64::new(0),
            empty_flush: AtomicU64::new(0),
            flush: AtomicU64::new(0),
            fua: AtomicU64::new(0),
        }
    }

    fn load(&self) -> IoCounts {
        IoCounts {
            read: self.read.load_relaxed(),
            write: self.write.load_relaxed(),
            empty_flush: self.empty_flush.load_relaxed(),
            flush: self.flush.load_relaxed(),
            fua: self.fua.load_relaxed(),
        }
    }

    fn count_write(&self, units: u64, durability: Durability) {
        self.write.fetch_add(units);
        if durability != Durability::Volatile {
            self.fua.fetch_add(1);
        }
        if durability == Durability::Ordered {
            self.flush.fetch_add(1);
        }
    }
}

impl<D: Disk> Storage<D> {
    /// Makes the storage of a volume whose physical block `offset` is the first of `disk`.
    pub fn new(disk: Arc<D>, offset: Pbn) -> Self {
        let counts = || core::array::from_fn(|_| Counts::new());
        Self {
            granularity: AtomicU64::new(disk.block_sectors().into()),
            disk: Lock::new(disk),
            offset,
            submitted: counts(),
            completed: counts(),
        }
    }

    /// Goes on with `disk`, another handle of the same device.
    pub fn set_disk(&self, disk: Arc<D>) {
        self.granularity.store_relaxed(disk.block_sectors().into());
        // The old one is dropped outside of the lock.
        drop(self.disk.with(|own| core::mem::replace(own, disk)));
    }

    /// Returns the device.
    pub fn disk(&self) -> Arc<D> {
        self.disk.with(|disk| disk.clone())
    }

    /// Returns the number behind the last physical block.
    pub fn end(&self) -> Pbn {
        (self.disk().sectors() / BLOCK_SECTORS).saturating_add(self.offset)
    }

    /// Returns the sector of `pbn` on the device, for bios that are sent there directly.
    ///
    /// # Errors
    ///
    /// `EIO` if there is none.
    pub fn sector(&self, pbn: Pbn) -> Result<u64> {
        let block = pbn.checked_sub(self.offset);
        block
            .and_then(|block| block.checked_mul(BLOCK_SECTORS))
            .ok_or(Error::Errno(EIO))
    }

    /// Returns true if the device can read `sectors` sectors from any sector on that is as far
    /// behind the start of a block as `sector` is.
    pub fn can_read(&self, sector: u64, sectors: u64) -> bool {
        (sector | sectors) & self.granularity.load_relaxed().wrapping_sub(1) == 0
    }

    /// Allocates a buffer of `pages` pages. May sleep.
    pub fn buffer(&self, pages: usize) -> Result<D::Buffer> {
        Ok(self.disk().buffer(pages)?)
    }

    /// As [`buffer`](Self::buffer), of which so many parts can be on their way at once.
    pub fn buffer_of_parts(&self, pages: usize, parts: usize) -> Result<D::Buffer> {
        Ok(self.disk().buffer_of_parts(pages, parts)?)
    }

    /// Returns the part of a buffer from page `page` on that belongs to `blocks` blocks from `pbn`
    /// on, for [`read_parts`](Self::read_parts) and [`write_parts`](Self::write_parts). Blocks that
    /// are not on the device fail there.
    pub fn part(&self, pbn: Pbn, blocks: u32, page: usize) -> Part {
        let sector = self
            .sector(pbn)
            .unwrap_or(u64::MAX / BLOCK_SECTORS * BLOCK_SECTORS);
        Part::new(sector, sectors(blocks), page)
    }

    /// Returns the first block of a part.
    pub fn block(&self, part: &Part) -> Pbn {
        (part.sector / BLOCK_SECTORS).saturating_add(self.offset)
    }

    /// As [`buffer_of_parts`](Self::buffer_of_parts); fails rather than wait for memory.
    pub fn buffer_now(&self, pages: usize, parts: usize) -> Result<D::Buffer> {
        Ok(self.disk().buffer_now(pages, parts)?)
    }

    /// Reads `blocks` blocks from `pbn` on into `buffer`, from its page `page` on.
    pub async fn read(
        &self,
        purpose: Purpose,
        pbn: Pbn,
        blocks: u32,
        buffer: D::Buffer,
        page: usize,
    ) -> (D::Buffer, Result) {
        let sector = match self.sector(pbn) {
            Ok(sector) => sector,
            Err(error) => return (buffer, Err(error)),
        };
        let units = units(purpose, blocks);
        self.submitted(purpose).read.fetch_add(units);
        let disk = self.disk();
        let (buffer, result) = disk.read_into(sector, sectors(blocks), buffer, page).await;
        self.completed(purpose).read.fetch_add(units);
        (buffer, result.map_err(Error::from))
    }

    /// Writes `blocks` blocks from `pbn` on from `buffer`, from its page `page` on.
    pub async fn write(
        &self,
        purpose: Purpose,
        pbn: Pbn,
        blocks: u32,
        buffer: D::Buffer,
        page: usize,
        durability: Durability,
    ) -> (D::Buffer, Result) {
        let sector = match self.sector(pbn) {
            Ok(sector) => sector,
            Err(error) => return (buffer, Err(error)),
        };
        let units = units(purpose, blocks);
        self.submitted(purpose).count_write(units, durability);
        let disk = self.disk();
        let (buffer, result) = disk
            .write_from(sector, sectors(blocks), buffer, page, durability)
            .await;
        self.completed(purpose).count_write(units, durability);
        (buffer, result.map_err(Error::from))
    }

    /// Reads parts of a buffer, all at once; leaves the result with each.
    pub async fn read_parts(
        &self,
        purpose: Purpose,
        buffer: D::Buffer,
        parts: &mut [Part],
    ) -> D::Buffer {
        let units = units_of(purpose, parts);
        self.submitted(purpose).read.fetch_add(units);
        let disk = self.disk();
        let buffer = disk.read_parts(buffer, parts).await;
        self.completed(purpose).read.fetch_add(units);
        buffer
    }

    /// Writes parts of a buffer, all at once; leaves the result with each. They are on stable
    /// storage after the next flush.
    pub async fn write_parts(
        &self,
        purpose: Purpose,
        buffer: D::Buffer,
        parts: &mut [Part],
    ) -> D::Buffer {
        let units = units_of(purpose, parts);
        self.submitted(purpose)
            .count_write(units, Durability::Volatile);
        let disk = self.disk();
        let buffer = disk.write_parts(buffer, parts).await;
        self.completed(purpose)
            .count_write(units, Durability::Volatile);
        buffer
    }

    /// Puts every write that completed before this call on stable storage.
    pub async fn flush(&self, purpose: Purpose, buffer: D::Buffer) -> (D::Buffer, Result) {
        for counts in [self.submitted(purpose), self.completed(purpose)] {
            counts.empty_flush.fetch_add(1);
            counts.flush.fetch_add(1);
        }
        let disk = self.disk();
        let (buffer, result) = disk.flush(buffer).await;
        (buffer, result.map_err(Error::from))
    }

    /// Counts data blocks that a user's own bio reads.
    pub fn count_data_read(&self, blocks: u64) {
        self.submitted(Purpose::Data).read.fetch_add(blocks);
        self.completed(Purpose::Data).read.fetch_add(blocks);
    }

    /// Returns how many I/Os were submitted, and completed.
    pub fn counts(&self, purpose: Purpose) -> (IoCounts, IoCounts) {
        (
            self.submitted(purpose).load(),
            self.completed(purpose).load(),
        )
    }

    fn submitted(&self, purpose: Purpose) -> &Counts {
        let [data, metadata, journal, page_cache] = &self.submitted;
        match purpose {
            Purpose::Data => data,
            Purpose::Metadata => metadata,
            Purpose::Journal => journal,
            Purpose::PageCache => page_cache,
        }
    }

    fn completed(&self, purpose: Purpose) -> &Counts {
        let [data, metadata, journal, page_cache] = &self.completed;
        match purpose {
            Purpose::Data => data,
            Purpose::Metadata => metadata,
            Purpose::Journal => journal,
            Purpose::PageCache => page_cache,
        }
    }
}

/// Data is counted by the block, whatever batches were made of it; metadata by the I/O.
fn units(purpose: Purpose, blocks: u32) -> u64 {
    match purpose {
        Purpose::Data => blocks.into(),
        _ => 1,
    }
}

fn units_of(purpose: Purpose, parts: &[Part]) -> u64 {
    let blocks = |part: &Part| part.sectors / BLOCK_SECTORS as u32;
    parts.iter().map(|part| units(purpose, blocks(part))).sum()
}

fn sectors(blocks: u32) -> u32 {
    blocks.saturating_mul(BLOCK_SECTORS as u32)
}
