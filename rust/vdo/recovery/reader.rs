// SPDX-License-Identifier: GPL-2.0

//! Reads the blocks of the ring, many with one I/O, and several I/Os at once.
//!
//! A block that the storage does not deliver hides none of its neighbours.

use super::Volume;
use crate::error::Error;
use crate::error::Result;
use crate::format::recovery_journal;
use crate::format::recovery_journal::Header;
use crate::format::Page;
use crate::format::Sequence;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::storage::BLOCK_SECTORS;
use core::ops::Range;
use kernel::prelude::*;
use runtime::disk::result_of;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Part;

/// Blocks that are read at once.
const READ_BLOCKS: u64 = PARTS as u64 * PART_BLOCKS;

/// Blocks of an I/O.
const PART_BLOCKS: u64 = 256;

/// I/Os at once.
const PARTS: usize = 16;

/// Reads the blocks of the ring.
pub(super) struct Reader<'a, D: Disk> {
    storage: &'a Storage<D>,
    volume: &'a Volume,
    buffer: Option<D::Buffer>,
    /// The positions whose blocks are in the buffer.
    held: Range<u64>,
    /// Which of them could not be read, if any.
    unreadable: KVec<u64>,
}

/// Words of a bit for each block of the buffer.
const WORDS: usize = (READ_BLOCKS / 64) as usize;

impl<'a, D: Disk> Reader<'a, D> {
    pub(super) fn new(storage: &'a Storage<D>, volume: &'a Volume) -> Result<Self> {
        let pages = volume.size.min(READ_BLOCKS) as usize;
        Ok(Self {
            storage,
            volume,
            buffer: Some(storage.buffer_of_parts(pages, PARTS)?),
            held: 0..0,
            unreadable: KVec::from_elem(0, WORDS, GFP_KERNEL)?,
        })
    }

    /// Returns the block at a position of the ring.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(super) async fn at(&mut self, position: u64) -> Result<&Page> {
        if !self.held.contains(&position) {
            self.load(position).await?;
        }
        let index = (position - self.held.start) as usize;
        let word = self.unreadable.get(index / 64).copied().unwrap_or(0);
        if (word >> (index % 64)) & 1 == 1 {
            return Err(Error::Errno(EIO));
        }
        let page = self.buffer.as_ref().and_then(|buffer| buffer.page(index));
        page.ok_or(Error::Errno(EIO))
    }

    /// Returns the block where `sequence` has its place, and its header if it has that sequence
    /// and is valid.
    pub(super) async fn block(&mut self, sequence: Sequence) -> Result<(&Page, Option<Header>)> {
        let volume = self.volume;
        let position = recovery_journal::position(sequence, volume.size);
        let page = self.at(position).await?;
        let header = volume.header(page);
        let header = header.filter(|header| header.sequence == sequence);
        Ok((page, header))
    }

    async fn load(&mut self, position: u64) -> Result {
        let blocks = (self.volume.size - position).min(READ_BLOCKS);
        self.held = position..position + blocks;
        self.unreadable.fill(0);
        let mut parts = [Part::new(0, 0, 0); PARTS];
        let count = blocks.div_ceil(PART_BLOCKS) as usize;
        let parts = parts.get_mut(..count).unwrap_or_default();
        for (start, part) in (0..blocks).step_by(PART_BLOCKS as usize).zip(&mut *parts) {
            let blocks = (blocks - start).min(PART_BLOCKS) as u32;
            let pbn = self.volume.origin.saturating_add(position + start);
            *part = self.storage.part(pbn, blocks, start as usize);
        }
        self.read(parts).await?;
        for part in parts.iter().filter(|part| part.result.is_err()) {
            self.read_one_by_one(*part).await?;
        }
        Ok(())
    }

    /// Reads blocks of which one cannot be read, each by itself.
    async fn read_one_by_one(&mut self, part: Part) -> Result {
        let blocks = part.sectors / BLOCK_SECTORS as u32;
        let first = self.storage.block(&part);
        for index in 0..blocks {
            let page = part.page.saturating_add(index as usize);
            let mut one = [self
                .storage
                .part(first.saturating_add(index.into()), 1, page)];
            self.read(&mut one).await?;
            if result_of(&one).is_err() {
                if let Some(word) = self.unreadable.get_mut(page / 64) {
                    *word |= 1 << (page % 64);
                }
            }
        }
        Ok(())
    }

    async fn read(&mut self, parts: &mut [Part]) -> Result {
        let buffer = self.buffer.take().ok_or(Error::Errno(EIO))?;
        let read = self.storage.read_parts(Purpose::Journal, buffer, parts);
        self.buffer = Some(read.await);
        Ok(())
    }
}

impl Volume {
    /// Returns the header of a block, if the volume wrote it since its last recovery.
    pub(super) fn header(&self, page: &Page) -> Option<Header> {
        let header = Header::decode(page);
        header
            .is_valid(self.nonce, self.recovery_count, self.shape)
            .then_some(header)
    }
}
