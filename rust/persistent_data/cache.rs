// SPDX-License-Identifier: GPL-2.0

//! A fixed number of blocks in memory, between a user and its device.
//!
//! A block is validated when it is brought in, under the [`BlockKind`] that the user expects; it
//! is sealed (own number, checksum) in the I/O buffer when it is written. In between the user
//! changes it freely. Changed blocks are written in ascending order, consecutive ones with one
//! I/O.
//!
//! # Invariants
//!
//! - The last [`RECENT`] blocks that were touched are in memory; a user that works on a handful of
//!   blocks at once needs no pins.
//! - A changed block stays in memory until it has been written. When no frame is clean, all are
//!   written: the user changes only blocks whose contents on disk nobody needs, so it does not
//!   matter when they are written, as long as it is before the flush that the user asks for.
//!
//! All memory is taken when the cache is created.

mod frames;
mod stream;

use crate::block::Block;
use crate::block::BlockKind;
use crate::block::Problem;
use crate::block::BLOCK_SECTORS;
use crate::error::Error;
use crate::error::Result;
use frames::Frames;
use kernel::prelude::KVVec;
use kernel::prelude::EIO;
use kernel::prelude::GFP_KERNEL;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::sync::Arc;

/// The last so many blocks that were touched are not evicted.
///
/// Twice what an operation on a tree holds at once: a parent, three children, a map block.
pub const RECENT: usize = 16;

/// The fewest frames of a cache: what is recent, and as much again to choose from.
pub const MIN_FRAMES: usize = 2 * RECENT;

/// How much memory a cache takes.
#[derive(Clone, Copy, Debug)]
pub struct CacheSize {
    /// The number of blocks held; at least [`MIN_FRAMES`].
    pub frames: usize,
    /// The number of blocks of the largest I/O.
    pub io_pages: usize,
}

/// A fixed number of blocks in memory.
pub struct BlockCache<D: Disk> {
    disk: Arc<D>,
    /// The size of the device in blocks.
    blocks: u64,
    /// The buffer for all I/O; away while an I/O runs.
    io: Option<D::Buffer>,
    frames: Frames,
    /// Scratch: the frames that a write-back is about to write.
    order: KVVec<u32>,
    /// Scratch: the blocks that a bulk read is about to read.
    wanted: KVVec<stream::Wanted>,
}

impl<D: Disk> BlockCache<D> {
    /// Creates an empty cache for `disk`.
    pub fn new(disk: Arc<D>, size: CacheSize) -> Result<Self> {
        if size.frames < MIN_FRAMES || size.io_pages == 0 {
            return Err(Error::Invalid("cache too small"));
        }
        let io = disk.buffer(size.io_pages).map_err(|_| Error::NoMemory)?;
        Ok(Self {
            blocks: disk.sectors() / BLOCK_SECTORS,
            disk,
            io: Some(io),
            frames: Frames::new(size.frames)?,
            order: KVVec::with_capacity(size.frames, GFP_KERNEL)?,
            wanted: KVVec::with_capacity(stream::MAX_WANTED, GFP_KERNEL)?,
        })
    }

    /// Goes on with `disk`, another handle of the same device.
    pub fn set_disk(&mut self, disk: Arc<D>) {
        self.blocks = disk.sectors() / BLOCK_SECTORS;
        self.disk = disk;
    }

    /// Returns the size of the device in blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Gives the device back.
    pub fn into_disk(self) -> Arc<D> {
        self.disk
    }

    /// Returns true if all bytes of `block` are zero.
    pub async fn is_zeroed(&mut self, block: u64) -> Result<bool> {
        self.read_io(block, 1).await?;
        Ok(self.io_page(0, block)?.iter().all(|&byte| byte == 0))
    }

    /// Returns `block`, which is read and validated if it is not in memory.
    pub async fn read(&mut self, block: u64, kind: &'static BlockKind) -> Result<&Block> {
        let frame = self.bring_in(block, kind).await?;
        self.frames.page(frame)
    }

    /// Returns `block` for changing. Its contents on disk may be replaced at any time from now on.
    pub async fn modify(&mut self, block: u64, kind: &'static BlockKind) -> Result<&mut Block> {
        let frame = self.bring_in(block, kind).await?;
        self.frames.page_for_change(frame)
    }

    /// Returns `block`, all zero and to be written, whatever it was before.
    pub async fn zeroed(&mut self, block: u64, kind: &'static BlockKind) -> Result<&mut Block> {
        let frame = self.frame_for(block, kind).await?;
        let page = self.frames.page_for_change(frame)?;
        page.fill(0);
        Ok(page)
    }

    /// Makes `to` a copy of `from`, to be written, whatever it was before.
    pub async fn copy(&mut self, from: u64, to: u64, kind: &'static BlockKind) -> Result {
        self.bring_in(from, kind).await?;
        let target = self.frame_for(to, kind).await?;
        // Finding a frame for `to` did not evict `from`, which is recent.
        let source = self
            .frames
            .find(from)
            .ok_or(Error::Invalid("block evicted too early"))?;
        self.frames.copy(source, target)
    }

    /// Forgets `block`, and any change made to it: nobody needs it any more.
    pub fn forget(&mut self, block: u64) {
        self.frames.forget(block);
    }

    /// Forgets all blocks, and all changes.
    pub fn forget_all(&mut self) {
        self.frames.forget_all();
    }

    /// Writes all changed blocks, then puts everything written so far on stable storage.
    pub async fn flush(&mut self) -> Result {
        self.write_back().await?;
        self.flush_device().await
    }

    /// Writes one block at once, then puts it on stable storage. `fill` gets it zeroed.
    pub async fn write_now(
        &mut self,
        block: u64,
        kind: &'static BlockKind,
        fill: impl FnOnce(&mut Block),
    ) -> Result {
        self.forget(block);
        let page = self.io_page_mut(0, block)?;
        page.fill(0);
        fill(page);
        (kind.seal)(page, block);
        self.write_io(block, 1).await?;
        self.flush_device().await
    }

    async fn flush_device(&mut self) -> Result {
        let buffer = self.io.take().ok_or(LOST)?;
        let (buffer, result) = self.disk.flush(buffer).await;
        self.io = Some(buffer);
        result.map_err(|error| Error::Io { block: 0, error })
    }

    /// Returns the frame that holds `block`, validated as `kind`.
    async fn bring_in(&mut self, block: u64, kind: &'static BlockKind) -> Result<u32> {
        if let Some(frame) = self.frames.find(block) {
            self.same_kind(frame, block, kind)?;
            self.frames.touch(frame);
            return Ok(frame);
        }
        self.make_room().await?;
        self.read_io(block, 1).await?;
        let page = self.io_page(0, block)?;
        (kind.verify)(page, block).map_err(|problem| Error::corrupt(kind, block, problem))?;
        let io = self
            .io
            .as_ref()
            .and_then(|buffer| buffer.page(0))
            .ok_or(LOST)?;
        let frame = self.frames.replace(block, kind)?;
        self.frames.load(frame, io)?;
        Ok(frame)
    }

    /// Returns a frame for `block` as `kind`, with undefined contents.
    async fn frame_for(&mut self, block: u64, kind: &'static BlockKind) -> Result<u32> {
        self.in_range(block, 1)?;
        if self.frames.find(block).is_none() {
            self.make_room().await?;
        }
        self.frames.replace(block, kind)
    }

    fn same_kind(&self, frame: u32, block: u64, kind: &'static BlockKind) -> Result {
        match self.frames.kind(frame) {
            Some(cached) if cached == kind => Ok(()),
            cached => {
                let cached = cached.map_or("nothing", |kind| kind.name);
                Err(Error::corrupt(kind, block, Problem::Kind { cached }))
            }
        }
    }

    /// Makes sure that a frame is empty.
    async fn make_room(&mut self) -> Result {
        if self.frames.make_room() {
            return Ok(());
        }
        self.write_back().await?;
        if self.frames.make_room() {
            Ok(())
        } else {
            Err(Error::NoMemory)
        }
    }

    /// Writes all changed blocks, in ascending order, neighbours together.
    async fn write_back(&mut self) -> Result {
        self.frames.changed(&mut self.order);
        let mut next = 0;
        while let Some(&frame) = self.order.get(next) {
            let first = self.frames.block(frame);
            let count = self.fill_io(next, first)?;
            self.write_io(first, count).await?;
            for &frame in self.order.iter().skip(next).take(count) {
                self.frames.mark_clean(frame);
            }
            next += count;
        }
        Ok(())
    }

    /// Puts the blocks that follow each other from `order[next]` on into the I/O buffer, sealed,
    /// and returns their number.
    fn fill_io(&mut self, next: usize, first: u64) -> Result<usize> {
        let buffer = self.io.as_mut().ok_or(LOST)?;
        let mut count = 0;
        for (number, &frame) in (first..).zip(self.order.iter().skip(next)) {
            if self.frames.block(frame) != number {
                break;
            }
            let Some(page) = buffer.page_mut(count) else {
                break;
            };
            let kind = self.frames.kind(frame).ok_or(LOST)?;
            page.copy_from_slice(self.frames.page(frame)?);
            (kind.seal)(page, number);
            count += 1;
        }
        Ok(count)
    }

    async fn read_io(&mut self, first: u64, count: usize) -> Result {
        let (sector, sectors) = self.in_range(first, count)?;
        let buffer = self.io.take().ok_or(LOST)?;
        let (buffer, result) = self.disk.read(sector, sectors, buffer).await;
        self.io = Some(buffer);
        result.map_err(|error| Error::Io {
            block: first,
            error,
        })
    }

    async fn write_io(&mut self, first: u64, count: usize) -> Result {
        let (sector, sectors) = self.in_range(first, count)?;
        let buffer = self.io.take().ok_or(LOST)?;
        let (buffer, result) = self
            .disk
            .write(sector, sectors, buffer, Durability::Volatile)
            .await;
        self.io = Some(buffer);
        result.map_err(|error| Error::Io {
            block: first,
            error,
        })
    }

    /// Returns the sectors of `count` blocks from `first` on, if the device has them.
    fn in_range(&self, first: u64, count: usize) -> Result<(u64, u32)> {
        let inside = first
            .checked_add(count as u64)
            .is_some_and(|end| end <= self.blocks);
        if !inside {
            return Err(Error::Io {
                block: first,
                error: EIO,
            });
        }
        let sectors = u32::try_from(count as u64 * BLOCK_SECTORS);
        Ok((
            first * BLOCK_SECTORS,
            sectors.map_err(|_| Error::Invalid("I/O too large"))?,
        ))
    }

    fn io_page(&self, index: usize, block: u64) -> Result<&Block> {
        let page = self.io.as_ref().and_then(|buffer| buffer.page(index));
        page.ok_or(Error::Io { block, error: EIO })
    }

    fn io_page_mut(&mut self, index: usize, block: u64) -> Result<&mut Block> {
        let page = self.io.as_mut().and_then(|buffer| buffer.page_mut(index));
        page.ok_or(Error::Io { block, error: EIO })
    }
}

/// The I/O buffer or a frame is not where it must be: a future was dropped before it was done.
const LOST: Error = Error::Invalid("an I/O was abandoned");

#[cfg(test)]
mod tests;
