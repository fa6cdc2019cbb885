// SPDX-License-Identifier: GPL-2.0

//! A set of slabs with which somebody has to do something: a line in which none stands twice.

use crate::error::Result;
use crate::format::SlabNumber;
use kernel::prelude::KVec;
use kernel::prelude::GFP_KERNEL;

/// A set of slabs.
pub(super) struct SlabSet {
    words: KVec<u64>,
    len: u32,
    /// The word from which on the next one is looked for, so that none waits for ever.
    next: usize,
}

impl SlabSet {
    /// Creates an empty set for slabs below `slabs`.
    pub(super) fn new(slabs: u32) -> Result<Self> {
        Ok(Self {
            words: KVec::from_elem(0, slabs.div_ceil(u64::BITS) as usize, GFP_KERNEL)?,
            len: 0,
            next: 0,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a slab.
    pub(super) fn insert(&mut self, slab: SlabNumber) {
        let bit = 1 << (slab % u64::BITS);
        if let Some(word) = self.words.get_mut((slab / u64::BITS) as usize) {
            if *word & bit == 0 {
                *word |= bit;
                self.len += 1;
            }
        }
    }

    /// Takes a slab out.
    pub(super) fn pop(&mut self) -> Option<SlabNumber> {
        if self.len == 0 {
            return None;
        }
        let start = self.next.min(self.words.len());
        let (before, after) = self.words.split_at_mut(start);
        let words = (start..).zip(after).chain((0..).zip(before));
        for (index, word) in words {
            if *word != 0 {
                let bit = word.trailing_zeros();
                *word &= *word - 1;
                self.len -= 1;
                self.next = if *word == 0 { index + 1 } else { index };
                return Some(index as u32 * u64::BITS + bit);
            }
        }
        None
    }

    /// Takes over what is in `other`, a set for fewer slabs.
    pub(super) fn take_over(&mut self, other: &mut Self) {
        while let Some(slab) = other.pop() {
            self.insert(slab);
        }
    }
}
