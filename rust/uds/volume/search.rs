// SPDX-License-Identifier: GPL-2.0

//! Looking for a name on pages that are in memory. Nobody waits here; no block is pinned.

use super::Volume;
use super::Wanted;
use crate::delta::Found;
use crate::delta::List;
use crate::delta::MAX_LIST_BITS;
use crate::error::Error;
use crate::format::index_page::Header;
use crate::format::index_page::BOUNDS_SIZE;
use crate::format::record_page;
use crate::format::record_page::Step;
use crate::format::Block;
use crate::format::Fault;
use crate::format::Metadata;
use crate::format::BLOCK_SIZE;
use kernel::prelude::*;
use runtime::disk::Disk;

/// Why a search cannot go on.
pub(super) enum Gap {
    /// This block is not in memory.
    Block(u64),
    /// The chapter is bad.
    Bad(Error),
}

impl From<Fault> for Gap {
    fn from(fault: Fault) -> Self {
        Self::Bad(fault.into())
    }
}

/// Room for a delta list, and some bytes behind it.
pub struct ListMemory(KVVec<u8>);

impl ListMemory {
    /// Allocates it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> crate::error::Result<Self> {
        let size = MAX_LIST_BITS.div_ceil(8) + 16;
        Ok(Self(KVVec::from_elem(0, size, GFP_KERNEL)?))
    }

    /// Without memory.
    pub const fn none() -> Self {
        Self(KVVec::new())
    }
}

impl<D: Disk> Volume<D> {
    /// Returns the page of records that a name may be on.
    pub(super) fn search_index(
        &self,
        wanted: &Wanted,
        memory: &mut ListMemory,
    ) -> Result<Option<u32>, Gap> {
        if self.is_bad(wanted.chapter) {
            return Ok(None);
        }
        let page_size = self.geometry.shape.page_size;
        let (address, list) = self.geometry.chapter_place(wanted.name.chapter_key());
        let key = self.index_key(wanted);
        let header = self.read(key, |page| Header::decode(page, page_size, self.nonce()))??;
        let (byte, shift) = header.place_of_bounds(list).ok_or(Fault::Field {
            name: "lists of a page",
            found: header.first_list.into(),
        })?;
        let mut bounds = [0; BOUNDS_SIZE];
        self.copy(key, byte, &mut bounds)?;
        let (start, end) = header.bounds(bounds, shift, page_size)?;
        let byte = start / 8;
        let end = end - 8 * byte;
        let damaged = Fault::Field {
            name: "list of a page",
            found: list.into(),
        };
        let bytes = memory.0.get_mut(..end.div_ceil(8)).ok_or(damaged)?;
        self.copy(key, byte, bytes)?;
        let list = List::new(&memory.0, start % 8, end).ok_or(damaged)?;
        let search = list.search(&self.geometry.code, address, &wanted.name);
        match search.map_err(|_| damaged)?.found {
            Found::Nothing => Ok(None),
            Found::Plain(page) | Found::Collision(page) => {
                if page < self.geometry.shape.record_pages {
                    Ok(Some(page))
                } else {
                    Err(damaged.into())
                }
            }
        }
    }

    /// Looks for a name on the page of records that it may be on.
    pub(super) fn search_records(&self, wanted: &Wanted) -> Result<Option<Metadata>, Gap> {
        let Some(key) = self.record_key(wanted) else {
            return Ok(None);
        };
        let records = self.geometry.shape.page_records;
        let mut step = Step::At(0);
        // Each step goes further back on the page, and the last of a block to another one.
        while let Step::At(at) = step {
            let first = at - at % record_page::BLOCK_RECORDS;
            let block = key + u64::from(first / record_page::BLOCK_RECORDS);
            step = self.read(block, |block| {
                record_page::walk(&wanted.name, records, at, block)
            })?;
        }
        match step {
            Step::Found(metadata) => Ok(Some(metadata)),
            _ => Ok(None),
        }
    }

    /// Copies bytes of a page that begins with block `key`.
    fn copy(&self, key: u64, mut byte: usize, mut out: &mut [u8]) -> Result<(), Gap> {
        while !out.is_empty() {
            let block = key + (byte / BLOCK_SIZE) as u64;
            let start = byte % BLOCK_SIZE;
            let count = out.len().min(BLOCK_SIZE - start);
            let (now, later) = out.split_at_mut(count);
            self.read(block, |block| {
                if let Some(from) = block.get(start..start + count) {
                    now.copy_from_slice(from);
                }
            })?;
            byte += count;
            out = later;
        }
        Ok(())
    }

    /// Does something with a block.
    fn read<R>(&self, key: u64, read: impl FnOnce(&Block) -> R) -> Result<R, Gap> {
        self.cache.try_read(key, read).ok_or(Gap::Block(key))
    }
}
