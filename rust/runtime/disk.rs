// SPDX-License-Identifier: GPL-2.0

//! Block devices, as far as a core may know them.

use core::future::Future;
use kernel::prelude::*;

/// Bytes in a sector, the unit of every address and length here.
pub const SECTOR_SIZE: usize = 512;

/// Bytes in a page, the unit in which buffers are laid out.
pub const PAGE_SIZE: usize = 4096;

/// Sectors in a page.
pub const PAGE_SECTORS: u64 = (PAGE_SIZE / SECTOR_SIZE) as u64;

/// One page of a buffer.
pub type Page = [u8; PAGE_SIZE];

/// Memory that a device reads into and writes from, with all that one I/O needs beside it.
///
/// Buffers are allocated when a table is loaded; an I/O takes one by value and gives it back, so
/// it needs no allocation, and nobody can touch the memory while a device does.
pub trait Buffer: Send + Sized + 'static {
    /// Returns the number of pages.
    fn pages(&self) -> usize;

    /// Returns page `index`, or `None` behind the last one.
    fn page(&self, index: usize) -> Option<&Page>;

    /// Returns page `index` for writing, or `None` behind the last one, and while a view exists.
    fn page_mut(&mut self, index: usize) -> Option<&mut Page>;

    /// Copies page `from` to page `to`, if both are there and no view exists.
    fn copy_page(&mut self, from: usize, to: usize);

    /// What [`view`](Self::view) returns.
    type View: View;

    /// Returns a view of the content, which can be read while a device writes it to the medium.
    fn view(&self) -> Self::View;

    /// Returns true while a view exists. Reading into the buffer fails with `EBUSY` then.
    fn is_viewed(&self) -> bool;
}

/// The content of a [`Buffer`], for others to read.
pub trait View: Clone + Send + Sync + 'static {
    /// Returns page `index`, or `None` behind the last one.
    fn page(&self, index: usize) -> Option<&Page>;
}

/// What a write promises when it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The data is on stable storage after the next flush that is issued after the completion.
    Volatile,
    /// The data is on stable storage (FUA).
    Stable,
    /// As `Stable`, and every write that completed before this one was issued is on stable
    /// storage before any of this one's data is (PREFLUSH and FUA).
    Ordered,
}

/// Some pages of a buffer, and the sectors that they are read from or written to.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The first sector.
    pub sector: u64,
    /// The number of sectors.
    pub sectors: u32,
    /// The first page.
    pub page: usize,
    /// What became of it; `EIO` before it was tried.
    pub result: Result,
}

impl Part {
    /// Returns a part of which nothing has become yet.
    pub fn new(sector: u64, sectors: u32, page: usize) -> Self {
        Self {
            sector,
            sectors,
            page,
            result: Err(EIO),
        }
    }
}

/// Returns the first error among these parts.
///
/// # Errors
///
/// That one.
pub fn result_of(parts: &[Part]) -> Result {
    parts.iter().try_for_each(|part| part.result)
}

/// A block device.
///
/// `sector` counts from the start of the device, `sectors` is at most what the buffer holds.
/// Every operation gives the buffer back, also when it failed. An operation that is dropped
/// before it has completed leaks its buffer.
///
/// # Errors
///
/// A failed I/O gives the errno of its block status. The content of the buffer after a failed
/// read, and of the sectors after a failed write, is undefined.
pub trait Disk: Send + Sync + 'static {
    /// The memory that this device does I/O with.
    type Buffer: Buffer;

    /// Returns the size of the device in sectors.
    fn sectors(&self) -> u64;

    /// Returns the sectors of a logical block: every operation begins and ends at a multiple.
    fn block_sectors(&self) -> u32 {
        1
    }

    /// Allocates a buffer of `pages` pages. May sleep: called when a table is loaded, not later.
    fn buffer(&self, pages: usize) -> Result<Self::Buffer>;

    /// As [`buffer`](Self::buffer), of which so many parts can be on their way at once.
    fn buffer_of_parts(&self, pages: usize, parts: usize) -> Result<Self::Buffer> {
        let _ = parts;
        self.buffer(pages)
    }

    /// As [`buffer_of_parts`](Self::buffer_of_parts), at any time: fails rather than wait for memory.
    fn buffer_now(&self, pages: usize, parts: usize) -> Result<Self::Buffer> {
        self.buffer_of_parts(pages, parts)
    }

    /// Reads `sectors` sectors into `buffer`, from its page `page` on.
    fn read_into(
        &self,
        sector: u64,
        sectors: u32,
        buffer: Self::Buffer,
        page: usize,
    ) -> impl Future<Output = (Self::Buffer, Result)> + Send;

    /// Writes `sectors` sectors from `buffer`, from its page `page` on.
    fn write_from(
        &self,
        sector: u64,
        sectors: u32,
        buffer: Self::Buffer,
        page: usize,
        durability: Durability,
    ) -> impl Future<Output = (Self::Buffer, Result)> + Send;

    /// Reads `sectors` sectors into the start of `buffer`.
    fn read(
        &self,
        sector: u64,
        sectors: u32,
        buffer: Self::Buffer,
    ) -> impl Future<Output = (Self::Buffer, Result)> + Send {
        self.read_into(sector, sectors, buffer, 0)
    }

    /// Writes `sectors` sectors from the start of `buffer`.
    fn write(
        &self,
        sector: u64,
        sectors: u32,
        buffer: Self::Buffer,
        durability: Durability,
    ) -> impl Future<Output = (Self::Buffer, Result)> + Send {
        self.write_from(sector, sectors, buffer, 0, durability)
    }

    /// Reads parts of a buffer that do not overlap, as many at once as it was made for. Leaves with
    /// each part what became of it.
    fn read_parts(
        &self,
        mut buffer: Self::Buffer,
        parts: &mut [Part],
    ) -> impl Future<Output = Self::Buffer> + Send {
        async move {
            for part in parts {
                let read = self.read_into(part.sector, part.sectors, buffer, part.page);
                (buffer, part.result) = read.await;
            }
            buffer
        }
    }

    /// Writes parts of a buffer, as many at once as it was made for. Leaves with each part what
    /// became of it. What is written is not stable.
    fn write_parts(
        &self,
        mut buffer: Self::Buffer,
        parts: &mut [Part],
    ) -> impl Future<Output = Self::Buffer> + Send {
        async move {
            for part in parts {
                let Part {
                    sector,
                    sectors,
                    page,
                    ..
                } = *part;
                let write = self.write_from(sector, sectors, buffer, page, Durability::Volatile);
                (buffer, part.result) = write.await;
            }
            buffer
        }
    }

    /// Puts every write that completed before this call on stable storage. The buffer lends its
    /// I/O resources only; its content stays.
    fn flush(&self, buffer: Self::Buffer) -> impl Future<Output = (Self::Buffer, Result)> + Send;
}
