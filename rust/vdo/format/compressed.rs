// SPDX-License-Identifier: GPL-2.0

//! A block that holds up to 14 compressed ones.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | version, 1.0 |
//! | 8 | 2 * 14 | sizes of the fragments, 0 for those that are not there |
//! | 36 | 4060 | fragments, back to back: each a raw LZ4 block of 4096 bytes |

use super::component::Version;
use super::field::put;
use super::field::u16_at;
use super::mapping::MAX_FRAGMENTS;
use super::Page;
use super::BLOCK_SIZE;
use crate::error::Result;
use crate::error::Status;

const VERSION: Version = Version::new(1, 0);

const SIZES_AT: usize = 8;
const FRAGMENTS_AT: usize = SIZES_AT + 2 * MAX_FRAGMENTS as usize;

/// Bytes for fragments.
pub const FRAGMENTS_SIZE: usize = BLOCK_SIZE - FRAGMENTS_AT;

const _: () = assert!(FRAGMENTS_SIZE == 4060);

/// Returns whether the block says that it is a compressed one.
pub fn is_compressed(page: &Page) -> bool {
    Version::decode(page, 0) == VERSION
}

/// Returns a fragment, which may be empty.
pub fn fragment(page: &Page, slot: u8) -> Result<&[u8]> {
    if !is_compressed(page) || slot >= MAX_FRAGMENTS {
        return Err(Status::InvalidFragment.into());
    }
    let mut offset = 0;
    for before in 0..slot {
        offset += size(page, before);
        if offset >= FRAGMENTS_SIZE {
            return Err(Status::InvalidFragment.into());
        }
    }
    let start = FRAGMENTS_AT + offset;
    let fragment = page.get(start..start + size(page, slot));
    fragment.ok_or(Status::InvalidFragment.into())
}

/// A compressed block that is being made, in a page that its owner has.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    fragments: u8,
    bytes: u16,
}

impl Builder {
    /// No block yet.
    pub const EMPTY: Self = Self {
        fragments: 0,
        bytes: 0,
    };

    /// Makes `page` a compressed block without fragments.
    pub fn new(page: &mut Page) -> Self {
        page.fill(0);
        VERSION.encode(page, 0);
        Self::EMPTY
    }

    /// Returns how many fragments it has.
    pub fn fragments(&self) -> u8 {
        self.fragments
    }

    /// Returns how many bytes there is room for; none if it has all fragments that it can have.
    pub fn room(&self) -> usize {
        match self.fragments < MAX_FRAGMENTS {
            true => FRAGMENTS_SIZE.saturating_sub(self.bytes.into()),
            false => 0,
        }
    }

    /// Adds a fragment, and returns its slot; `None` if there is no room for it.
    pub fn add(&mut self, page: &mut Page, fragment: &[u8]) -> Option<u8> {
        if self.fragments >= MAX_FRAGMENTS || fragment.len() > self.room() {
            return None;
        }
        let (slot, at) = (self.fragments, FRAGMENTS_AT + usize::from(self.bytes));
        let place = page.get_mut(at..at + fragment.len())?;
        place.copy_from_slice(fragment);
        let size = fragment.len() as u16;
        put(page, SIZES_AT + 2 * usize::from(slot), size.to_le_bytes());
        self.fragments += 1;
        self.bytes += size;
        Some(slot)
    }
}

/// Packs fragments into a block; returns false, and leaves a useless block, if they do not fit.
pub fn pack(page: &mut Page, fragments: &[&[u8]]) -> bool {
    let mut block = Builder::new(page);
    let mut fragments = fragments.iter();
    fragments.all(|fragment| block.add(page, fragment).is_some())
}

fn size(page: &Page, slot: u8) -> usize {
    u16_at(page, SIZES_AT + 2 * usize::from(slot)).into()
}

#[cfg(test)]
mod tests;
