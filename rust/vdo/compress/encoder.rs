// SPDX-License-Identifier: GPL-2.0

//! Makes a fragment of a block, or says that it does not pay.
//!
//! Data that does not compress costs as much as data that does, for nothing. So a fragment may be no
//! longer than what could share a block with others that have been seen of late; and after some
//! blocks in a row that gave nothing only one of several is tried, until one succeeds again.

use crate::format::compressed::FRAGMENTS_SIZE;
use crate::format::Page;
use crate::world::Compressor;
use kernel::prelude::*;

/// After so many blocks in a row that gave no fragment ...
const PATIENCE: u32 = 32;

/// ... one of so many is tried.
const SAMPLE: u32 = 16;

/// Fragments of at most this size find another of their kind to share a block with.
const HALF: usize = FRAGMENTS_SIZE / 2;

/// Makes fragments of the blocks of one batch after the other.
pub struct Encoder<C> {
    compressor: C,
    fragment: KVec<u8>,
    /// Blocks in a row that gave no fragment.
    failed: u32,
    /// The size of the smallest fragment of the batch before, and of this one.
    smallest: [usize; 2],
}

impl<C: Compressor> Encoder<C> {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(compressor: C) -> Result<Self> {
        Ok(Self {
            compressor,
            fragment: KVec::from_elem(0, FRAGMENTS_SIZE, GFP_KERNEL)?,
            failed: 0,
            smallest: [0; 2],
        })
    }

    /// Begins with another batch.
    pub fn begin(&mut self) {
        let [before, now] = &mut self.smallest;
        *before = core::mem::replace(now, FRAGMENTS_SIZE);
    }

    /// Makes a fragment of a block; `None` if that does not pay, or was not tried.
    pub fn encode(&mut self, block: &Page, acceleration: u32) -> Option<&[u8]> {
        if self.failed >= PATIENCE && self.failed % SAMPLE != 0 {
            self.failed = self.failed.wrapping_add(1);
            return None;
        }
        let limit = self.limit();
        let into = self.fragment.get_mut(..limit)?;
        match self.compressor.compress(block, into, acceleration) {
            Some(size) => {
                self.failed = 0;
                let [_, now] = &mut self.smallest;
                *now = size.min(*now);
                self.fragment.get(..size)
            }
            None => {
                self.failed = self.failed.wrapping_add(1);
                None
            }
        }
    }

    /// Returns the size up to which a fragment may find others to share a block with.
    fn limit(&self) -> usize {
        let [before, now] = self.smallest;
        FRAGMENTS_SIZE.saturating_sub(before.min(now)).max(HALF)
    }
}

#[cfg(test)]
mod tests;
