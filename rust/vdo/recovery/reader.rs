// SPDX-License-Identifier: GPL-2.0

//! Reads the blocks of the ring, many with one I/O.

use super::Volume;
use crate::error::Error;
use crate::error::Result;
use crate::format::recovery_journal;
use crate::format::recovery_journal::Header;
use crate::format::Page;
use crate::format::Sequence;
use crate::storage::Purpose;
use crate::storage::Storage;
use core::ops::Range;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;

/// Blocks that are read at once.
const READ_BLOCKS: u64 = 256;

/// What becomes of blocks that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// They are errors.
    Fails,
    /// They count as missing.
    IsMissing,
}

/// Reads the blocks of the ring.
pub(super) struct Reader<'a, D: Disk> {
    storage: &'a Storage<D>,
    volume: &'a Volume,
    unreadable: Unreadable,
    buffer: Option<D::Buffer>,
    /// The positions whose blocks are in the buffer.
    held: Range<u64>,
}

impl<'a, D: Disk> Reader<'a, D> {
    pub(super) fn new(
        storage: &'a Storage<D>,
        volume: &'a Volume,
        unreadable: Unreadable,
    ) -> Result<Self> {
        let pages = volume.size.min(READ_BLOCKS) as usize;
        Ok(Self {
            storage,
            volume,
            unreadable,
            buffer: Some(storage.buffer(pages)?),
            held: 0..0,
        })
    }

    /// Returns the block at a position of the ring.
    pub(super) async fn at(&mut self, position: u64) -> Result<&Page> {
        if !self.held.contains(&position) {
            self.load(position).await?;
        }
        let index = (position - self.held.start) as usize;
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
        let result = self.read(position, blocks, 0).await;
        if result.is_ok() || self.unreadable == Unreadable::Fails {
            return result;
        }
        // One of them is bad: the others still count.
        for index in 0..blocks {
            let page = index as usize;
            if self.read(position + index, 1, page).await.is_err() {
                let page = self.buffer.as_mut().and_then(|own| own.page_mut(page));
                if let Some(page) = page {
                    page.fill(0);
                }
            }
        }
        Ok(())
    }

    async fn read(&mut self, position: u64, blocks: u64, page: usize) -> Result {
        let pbn = self.volume.origin.saturating_add(position);
        let buffer = self.buffer.take().ok_or(Error::Errno(EIO))?;
        let (buffer, result) = self
            .storage
            .read(Purpose::Journal, pbn, blocks as u32, buffer, page)
            .await;
        self.buffer = Some(buffer);
        result
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
