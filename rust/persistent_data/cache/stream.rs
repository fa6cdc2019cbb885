// SPDX-License-Identifier: GPL-2.0

//! Reading many blocks once, with large I/Os and without filling the cache.

use super::BlockCache;
use crate::block::Block;
use crate::block::BlockKind;
use crate::error::Error;
use crate::error::Result;
use runtime::disk::Buffer;
use runtime::disk::Disk;

/// The most blocks of one call: a tree node names at most 336.
pub(crate) const MAX_WANTED: usize = 512;

/// The most unwanted blocks that are read to join two I/Os into one.
const MAX_GAP: u64 = 8;

/// A block to read, and what the caller knows it by.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) block: u64,
    pub(crate) tag: u64,
}

impl<D: Disk> BlockCache<D> {
    /// Starts a new list of blocks to read.
    pub(crate) fn want_nothing(&mut self) {
        self.wanted.clear();
    }

    /// Adds a block to the list.
    pub(crate) fn want(&mut self, block: u64, tag: u64) -> Result {
        let added = self.wanted.push_within_capacity(Wanted { block, tag });
        added.map_err(|_| Error::Invalid("too many blocks at once"))
    }

    /// Reads and validates all blocks of the list, in any order, and hands each to `sink` with its
    /// tag and number. What is in memory is not read again; what is read is not kept.
    pub(crate) async fn read_wanted(
        &mut self,
        kind: &'static BlockKind,
        mut sink: impl FnMut(u64, u64, &Block) -> Result,
    ) -> Result {
        self.wanted.sort_unstable_by_key(|wanted| wanted.block);
        let mut next = 0;
        while let Some(&Wanted { block, tag }) = self.wanted.get(next) {
            if let Some(frame) = self.frames.find(block) {
                self.same_kind(frame, block, kind)?;
                sink(tag, block, self.frames.page(frame)?)?;
                next += 1;
                continue;
            }
            let (members, span) = self.next_run(next, block);
            self.read_io(block, span).await?;
            for wanted in self.wanted.iter().skip(next).take(members) {
                let page = self.io_page((wanted.block - block) as usize, wanted.block)?;
                (kind.verify)(page, wanted.block)
                    .map_err(|problem| Error::corrupt(kind, wanted.block, problem))?;
                sink(wanted.tag, wanted.block, page)?;
            }
            next += members;
        }
        Ok(())
    }

    /// Returns how many entries of the list from `next` on one I/O from `first` on serves, and how
    /// many blocks it reads.
    fn next_run(&self, next: usize, first: u64) -> (usize, usize) {
        let pages = self.io.as_ref().map_or(1, Buffer::pages) as u64;
        let (mut members, mut last) = (0, first);
        for wanted in self.wanted.iter().skip(next) {
            let near = wanted.block - last <= MAX_GAP + 1 && wanted.block - first < pages;
            if !near || self.frames.find(wanted.block).is_some() {
                break;
            }
            last = wanted.block;
            members += 1;
        }
        // At most `pages`, see above.
        (members, (last - first + 1) as usize)
    }
}
