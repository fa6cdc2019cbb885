// SPDX-License-Identifier: GPL-2.0

//! Regions of blocks, read and written from one end to the other in large pieces.
//!
//! Saves are made of structures that know nothing of blocks. A [`Source`] and a [`Sink`] stand
//! between: bytes on one side, I/O of a whole buffer on the other.

use crate::error::Error;
use crate::error::Result;
use crate::format::Fault;
use crate::format::BLOCK_SIZE;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::PAGE_SECTORS;

/// Pages of a buffer that is worth its I/O: a MiB.
pub const PIECE_PAGES: usize = 256;

/// Blocks of a device, of which the first is the next to be read or written.
#[derive(Clone, Copy, Debug)]
struct Extent {
    block: u64,
    blocks: u64,
}

impl Extent {
    fn new(block: u64, blocks: u64) -> Self {
        Self { block, blocks }
    }

    /// Takes up to `blocks` off its start: the sector of the first, and the sectors.
    fn take(&mut self, blocks: usize) -> Option<(u64, u32)> {
        let blocks = (blocks as u64).min(self.blocks);
        let sector = self.block.checked_mul(PAGE_SECTORS)?;
        let sectors = u32::try_from(blocks * PAGE_SECTORS).ok()?;
        self.block += blocks;
        self.blocks -= blocks;
        (blocks > 0).then_some((sector, sectors))
    }
}

/// The bytes of a region, in order.
pub struct Source<'d, D: Disk> {
    disk: &'d D,
    rest: Extent,
    buffer: Option<D::Buffer>,
    /// The next byte of the buffer, and the end of what was read.
    at: usize,
    end: usize,
}

impl<'d, D: Disk> Source<'d, D> {
    /// Begins at `block`; `buffer` is as large as the pieces that are to be read.
    pub fn new(disk: &'d D, block: u64, blocks: u64, buffer: D::Buffer) -> Self {
        Self {
            disk,
            rest: Extent::new(block, blocks),
            buffer: Some(buffer),
            at: 0,
            end: 0,
        }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    ///
    /// Those of the device; also if the region has no more.
    pub async fn take(&mut self, mut out: &mut [u8]) -> Result {
        while !out.is_empty() {
            if self.at == self.end {
                self.refill().await?;
            }
            let copied = self.copy(out);
            out = out.get_mut(copied..).unwrap_or_default();
        }
        Ok(())
    }

    /// As [`take`](Self::take), of what has a constant size.
    pub async fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.take(&mut out).await?;
        Ok(out)
    }

    /// Reads the next bytes, as many as lie together; at least one.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub async fn take_some(&mut self) -> Result<&[u8]> {
        if self.at == self.end {
            self.refill().await?;
        }
        let at = self.at;
        let page = self.buffer.as_ref().and_then(|b| b.page(at / BLOCK_SIZE));
        let rest = page.and_then(|page| page.get(at % BLOCK_SIZE..));
        let rest = rest.ok_or(Error::Errno(EIO))?;
        self.at += rest.len();
        Ok(rest)
    }

    /// Copies what is there and fits, up to the end of a page; not nothing.
    fn copy(&mut self, out: &mut [u8]) -> usize {
        let page = self
            .buffer
            .as_ref()
            .and_then(|b| b.page(self.at / BLOCK_SIZE));
        let rest = page.and_then(|page| page.get(self.at % BLOCK_SIZE..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(out.len()).min(self.end - self.at);
        for (to, from) in out.iter_mut().zip(rest.get(..count).unwrap_or_default()) {
            *to = *from;
        }
        self.at += count;
        count
    }

    async fn refill(&mut self) -> Result {
        let buffer = self.buffer.take().ok_or(Error::Errno(EIO))?;
        let Some((sector, sectors)) = self.rest.take(buffer.pages()) else {
            self.buffer = Some(buffer);
            return Err(Fault::Field {
                name: "end of a region",
                found: self.rest.block,
            }
            .into());
        };
        let (buffer, result) = self.disk.read(sector, sectors, buffer).await;
        self.buffer = Some(buffer);
        result?;
        self.at = 0;
        self.end = sectors as usize * runtime::disk::SECTOR_SIZE;
        Ok(())
    }

    /// Returns the buffer.
    pub fn into_buffer(self) -> Option<D::Buffer> {
        self.buffer
    }
}

/// The bytes of a region, in order, as they come.
pub struct Sink<'d, D: Disk> {
    disk: &'d D,
    rest: Extent,
    buffer: Option<D::Buffer>,
    /// The next byte of the buffer.
    at: usize,
}

impl<'d, D: Disk> Sink<'d, D> {
    /// Begins at `block`; `buffer` is as large as the pieces that are to be written.
    pub fn new(disk: &'d D, block: u64, blocks: u64, buffer: D::Buffer) -> Self {
        Self {
            disk,
            rest: Extent::new(block, blocks),
            buffer: Some(buffer),
            at: 0,
        }
    }

    /// Writes the next bytes; they are on stable storage when [`finish`](Self::finish) has returned and
    /// the device has been flushed.
    ///
    /// # Errors
    ///
    /// Those of the device, and `ENOSPC` if the region has no more room.
    pub async fn put(&mut self, mut bytes: &[u8]) -> Result {
        while !bytes.is_empty() {
            let copied = self.copy(bytes);
            if copied == 0 {
                self.write_out().await?;
            }
            bytes = bytes.get(copied..).unwrap_or_default();
        }
        Ok(())
    }

    /// Copies what fits, up to the end of a page.
    fn copy(&mut self, bytes: &[u8]) -> usize {
        let at = self.at;
        let page = self
            .buffer
            .as_mut()
            .and_then(|buffer| buffer.page_mut(at / BLOCK_SIZE));
        let room = page.and_then(|page| page.get_mut(at % BLOCK_SIZE..));
        let room = room.unwrap_or_default();
        let count = room.len().min(bytes.len());
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.at += count;
        count
    }

    /// Writes the buffer, as far as it is filled.
    async fn write_out(&mut self) -> Result {
        let buffer = self.buffer.take().ok_or(Error::Errno(EIO))?;
        let blocks = self.at.div_ceil(BLOCK_SIZE);
        if blocks == 0 || blocks as u64 > self.rest.blocks {
            self.buffer = Some(buffer);
            return Err(ENOSPC.into());
        }
        let (sector, sectors) = self.rest.take(blocks).ok_or(Error::Errno(ENOSPC))?;
        let write = self
            .disk
            .write(sector, sectors, buffer, Durability::Volatile);
        let (buffer, result) = write.await;
        self.buffer = Some(buffer);
        self.at = 0;
        Ok(result?)
    }

    /// Fills the last block with zeroes, and writes what is left.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub async fn finish(&mut self) -> Result {
        let rest = self.at % BLOCK_SIZE;
        if rest > 0 {
            self.put(ZEROES.get(rest..).unwrap_or_default()).await?;
        }
        if self.at > 0 {
            self.write_out().await?;
        }
        Ok(())
    }

    /// Returns the buffer.
    pub fn into_buffer(self) -> Option<D::Buffer> {
        self.buffer
    }
}

static ZEROES: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];

#[cfg(test)]
mod tests;
