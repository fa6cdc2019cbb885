// SPDX-License-Identifier: GPL-2.0

//! Where the leaf pages are that were asked for last.
//!
//! A leaf page stays where it was allocated, so what was true once is true for good. Each page
//! number has one place in the table, which it shares with others. One word holds number and PBN,
//! so that neither is ever seen without the other.

use crate::error::Result;
use crate::format::Pbn;
use crate::format::PBN_BITS;
use kernel::prelude::*;
use runtime::sync::AtomicU64;

/// With fewer places, the part of a page number that tells the pages of a place apart would not
/// fit.
const MIN_BITS: u32 = 4;

/// Half a megabyte is enough for any working set.
const MAX_BITS: u32 = 16;

/// Where some leaf pages are.
pub(super) struct Directory {
    places: KVVec<AtomicU64>,
    bits: u32,
}

impl Directory {
    /// Creates an empty directory for about `pages` pages.
    pub(super) fn new(pages: usize) -> Result<Self> {
        let wanted = pages.max(1).checked_next_power_of_two();
        let bits = wanted.map_or(MAX_BITS, usize::ilog2);
        let bits = bits.clamp(MIN_BITS, MAX_BITS);
        let mut places = KVVec::with_capacity(1 << bits, GFP_KERNEL)?;
        for _ in 0..1_u32 << bits {
            places.push(AtomicU64::new(0), GFP_KERNEL)?;
        }
        Ok(Self { places, bits })
    }

    #[inline]
    pub(super) fn get(&self, page_number: u64) -> Option<Pbn> {
        let (place, tag) = self.place(page_number)?;
        let word = place.load_relaxed();
        let pbn = word & ((1 << PBN_BITS) - 1);
        (word >> PBN_BITS == tag && pbn != 0).then_some(pbn)
    }

    pub(super) fn put(&self, page_number: u64, pbn: Pbn) {
        if let Some((place, tag)) = self.place(page_number) {
            if tag >> (u64::BITS - PBN_BITS) == 0 && pbn >> PBN_BITS == 0 {
                place.store_relaxed((tag << PBN_BITS) | pbn);
            }
        }
    }

    #[inline]
    fn place(&self, page_number: u64) -> Option<(&AtomicU64, u64)> {
        let mask = self.places.len() - 1;
        let place = self.places.get(page_number as usize & mask)?;
        Some((place, page_number >> self.bits))
    }
}

#[cfg(test)]
mod tests;
