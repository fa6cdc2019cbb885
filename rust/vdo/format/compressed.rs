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

/// Packs fragments into a block; returns false, and leaves a useless block, if they do not fit.
pub fn pack(page: &mut Page, fragments: &[&[u8]]) -> bool {
    page.fill(0);
    VERSION.encode(page, 0);
    if fragments.len() > MAX_FRAGMENTS.into() {
        return false;
    }
    let mut at = FRAGMENTS_AT;
    for (slot, fragment) in fragments.iter().enumerate() {
        let Some(place) = page.get_mut(at..at.saturating_add(fragment.len())) else {
            return false;
        };
        place.copy_from_slice(fragment);
        put(
            page,
            SIZES_AT + 2 * slot,
            (fragment.len() as u16).to_le_bytes(),
        );
        at += fragment.len();
    }
    true
}

fn size(page: &Page, slot: u8) -> usize {
    u16_at(page, SIZES_AT + 2 * usize::from(slot)).into()
}

#[cfg(test)]
mod tests;
