// SPDX-License-Identifier: GPL-2.0

//! The blocks of a batch, and how they are grouped: by leaf page, and by run on the storage.

use crate::format::Lbn;
use crate::format::Mapping;
use crate::format::Pbn;
use crate::format::BLOCK_SIZE;
use core::ops::Range;

/// A block of a batch.
pub(crate) struct Block {
    pub(crate) lbn: Lbn,
    /// The slot in its leaf page.
    pub(crate) slot: u16,
    /// Its leaf page among those of the batch.
    pub(crate) leaf: usize,
    /// The bytes that are written.
    pub(crate) part: Range<usize>,
    /// The page of the buffer that holds it.
    pub(crate) page: Option<usize>,
    /// Where it is to be found from now on, if that is known.
    pub(crate) new: Option<Mapping>,
}

/// A leaf page that a batch changes.
pub(crate) struct Leaf {
    pub(crate) page_number: u64,
    pub(crate) pbn: Option<Pbn>,
    /// Its blocks in the batch.
    pub(crate) blocks: Range<usize>,
}

/// A block that is written in part: what it held so far is read before.
#[derive(Clone, Copy)]
pub(crate) struct Partial {
    /// Its request.
    pub(crate) request: usize,
    /// Its place among the blocks of the batch.
    pub(crate) block: usize,
    /// Where it is so far.
    pub(crate) old: Mapping,
}

/// A run of blocks that hold pages of the buffer.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) start: Pbn,
    pub(crate) blocks: u32,
    pub(crate) page: usize,
    pub(crate) tries: u32,
}

impl Stored {
    /// Returns the two halves of a run of more than one block.
    pub(crate) fn halves(&self) -> (Self, Self) {
        let blocks = self.blocks / 2;
        let second = Self {
            start: self.start.saturating_add(blocks.into()),
            blocks: self.blocks - blocks,
            page: self.page + blocks as usize,
            ..*self
        };
        (Self { blocks, ..*self }, second)
    }
}

impl Block {
    /// Returns true if the whole block is written.
    pub(crate) fn is_whole(&self) -> bool {
        self.part == (0..BLOCK_SIZE)
    }
}

/// Returns the page of the first block, if the others' pages follow it.
pub(super) fn first_page(blocks: &[Block]) -> Option<usize> {
    let first = blocks.first()?.page?;
    let mut pages = (first..).zip(blocks);
    pages
        .all(|(page, block)| block.page == Some(page))
        .then_some(first)
}
