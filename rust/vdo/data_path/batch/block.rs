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
    /// What is to become of it.
    pub(crate) fate: Fate,
}

/// What is to become of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is known yet.
    Open,
    /// It is a block of zeroes.
    Zero,
    /// Its data is in this page of the buffer, and has no place yet.
    Data(usize),
    /// Its data is in a page of the buffer, and has a place that was allocated for it.
    Placed(usize, Pbn),
    /// Its data is in a page of the buffer; another block of the batch, which is stored there, has
    /// the same, and this one a claim on it.
    Same(usize, Pbn),
    /// Its data is in a page of the buffer, and was found there before; it has a claim on that.
    Shared(usize, Mapping),
    /// Its data is in a page of the buffer, and a fragment of this compressed block of the batch, in this
    /// slot; nobody knows yet where that will be.
    Fragment(usize, usize, u8),
    /// Its data is in a page of the buffer, and a fragment of a compressed block of the batch, which is
    /// stored there; it has a claim on that.
    Packed(usize, Mapping),
    /// Its data is in a page of the buffer, and on its way to the storage with another batch, which is
    /// waited for. If it was promised a place, that is kept for it.
    Awaits(usize, Option<Pbn>),
    /// Its data is in a page of the buffer, and a fragment of it is [parked](crate::data_path::packer):
    /// somebody else records it.
    Parked(usize),
    /// Its request fails, and says why.
    Failed,
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
    /// Returns the page of the buffer that has its data.
    pub(crate) fn page(&self) -> Option<usize> {
        match self.fate {
            Fate::Data(page)
            | Fate::Placed(page, _)
            | Fate::Same(page, _)
            | Fate::Shared(page, _)
            | Fate::Fragment(page, ..)
            | Fate::Awaits(page, _)
            | Fate::Packed(page, _)
            | Fate::Parked(page) => Some(page),
            Fate::Open | Fate::Zero | Fate::Failed => None,
        }
    }

    /// Returns where it is to be found from now on, if that is known.
    pub(crate) fn mapping(&self) -> Option<Mapping> {
        match self.fate {
            Fate::Zero => Some(Mapping::ZERO),
            Fate::Placed(_, pbn) | Fate::Same(_, pbn) => Some(Mapping::plain(pbn)),
            Fate::Shared(_, mapping) | Fate::Packed(_, mapping) => Some(mapping),
            Fate::Open
            | Fate::Data(_)
            | Fate::Fragment(..)
            | Fate::Awaits(..)
            | Fate::Parked(_)
            | Fate::Failed => None,
        }
    }

    /// Returns true if it is nowhere, and nobody else sees to it.
    pub(crate) fn has_failed(&self) -> bool {
        self.mapping().is_none() && !matches!(self.fate, Fate::Awaits(..) | Fate::Parked(_))
    }

    /// Returns true if the whole block is written.
    pub(crate) fn is_whole(&self) -> bool {
        self.part == (0..BLOCK_SIZE)
    }
}

/// Returns the page of the first block, if the others' pages follow it.
pub(super) fn first_page(blocks: &[Block]) -> Option<usize> {
    let first = blocks.first()?.page()?;
    let mut pages = (first..).zip(blocks);
    pages
        .all(|(page, block)| block.page() == Some(page))
        .then_some(first)
}
