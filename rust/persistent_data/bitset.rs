// SPDX-License-Identifier: GPL-2.0

//! Sets of bits: arrays of 64-bit words, lowest bit first.
//!
//! Bits behind the end of the last word mean nothing; they are written as zeros.

mod size;

pub use size::size;
pub use size::Size;

use crate::array::max_entries;
use crate::array::Array;
use crate::btree;
use crate::btree::BlockRef;
use crate::error::Error;
use crate::error::Result;
use crate::transaction::TransactionManager;
use runtime::disk::Disk;

/// Bits in a word.
pub const BITS_PER_WORD: u64 = u64::BITS as u64;

/// Words in an array block.
pub const WORDS_PER_BLOCK: u64 = max_entries(size_of::<u64>()) as u64;

/// Bits in an array block.
pub const BITS_PER_BLOCK: u64 = WORDS_PER_BLOCK * BITS_PER_WORD;

/// A set of bits, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bitset {
    words: Array<u64>,
    bits: u64,
    /// Nodes on the path from the root to an array block.
    height: u32,
}

impl Bitset {
    /// Creates a set of `bits` zero bits.
    pub async fn create<D: Disk>(tm: &mut TransactionManager<D>, bits: u64) -> Result<Self> {
        let words = Array::create(tm, bits.div_ceil(BITS_PER_WORD), 0_u64).await?;
        Self::open(tm, words.root(), bits).await
    }

    /// Opens the set of `bits` bits at `root`. Reads one path of the tree.
    pub async fn open<D: Disk>(
        tm: &mut TransactionManager<D>,
        root: u64,
        bits: u64,
    ) -> Result<Self> {
        let height = btree::height::<BlockRef, D>(tm.cache(), root).await?;
        Ok(Self {
            words: Array::open(root, bits.div_ceil(BITS_PER_WORD)),
            bits,
            height,
        })
    }

    /// Returns the root block.
    pub fn root(&self) -> u64 {
        self.words.root()
    }

    /// Returns the number of bits.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// Returns the number of array blocks, each with [`BITS_PER_BLOCK`] bits.
    pub fn blocks(&self) -> u64 {
        self.words.blocks()
    }

    /// Returns the most metadata blocks that [`Bitset::stage`] takes.
    pub fn stage_cost(&self) -> u64 {
        1 + u64::from(self.height)
    }

    /// Returns true if one more block can be staged and the transaction still be committed.
    pub fn can_stage<D: Disk>(&self, tm: &TransactionManager<D>) -> bool {
        // The root moves only once in a transaction.
        tm.blocks_left() + u64::from(tm.is_new(self.root())) >= self.stage_cost()
    }

    /// Calls `sink` with every word and its index, in any order. Bits behind the end are zero.
    pub async fn load<D: Disk>(
        &self,
        tm: &mut TransactionManager<D>,
        mut sink: impl FnMut(u64, u64),
    ) -> Result {
        let bits = self.bits;
        self.words
            .load(tm, |at, word| sink(at, word & mask(at, bits)))
            .await
    }

    /// Reads and checks the whole set.
    pub async fn check<D: Disk>(&self, tm: &mut TransactionManager<D>) -> Result {
        self.words.check(tm).await
    }

    /// Replaces the words of array block `block` by `word(index)`, without reading them.
    pub async fn stage<D: Disk>(
        &mut self,
        tm: &mut TransactionManager<D>,
        block: u64,
        mut word: impl FnMut(u64) -> u64,
    ) -> Result {
        let bits = self.bits;
        self.words
            .stage(tm, block, |at| word(at) & mask(at, bits))
            .await
    }

    /// Returns bit `bit`.
    pub async fn get<D: Disk>(&self, tm: &mut TransactionManager<D>, bit: u64) -> Result<bool> {
        self.in_range(bit)?;
        let word = self.words.get(tm, bit / BITS_PER_WORD).await?;
        Ok((word >> (bit % BITS_PER_WORD)) & 1 != 0)
    }

    /// Sets bit `bit` to `value`.
    pub async fn set<D: Disk>(
        &mut self,
        tm: &mut TransactionManager<D>,
        bit: u64,
        value: bool,
    ) -> Result {
        self.in_range(bit)?;
        let at = bit / BITS_PER_WORD;
        let one = 1 << (bit % BITS_PER_WORD);
        let word = self.words.get(tm, at).await?;
        self.words
            .set(tm, at, if value { word | one } else { word & !one })
            .await
    }

    fn in_range(&self, bit: u64) -> Result {
        if bit < self.bits {
            Ok(())
        } else {
            Err(Error::NoData)
        }
    }
}

/// Returns the bits of word `at` that a set of `bits` bits has.
#[inline]
fn mask(at: u64, bits: u64) -> u64 {
    match bits.saturating_sub(at * BITS_PER_WORD) {
        0 => 0,
        left if left >= BITS_PER_WORD => u64::MAX,
        left => (1 << left) - 1,
    }
}

#[cfg(test)]
mod tests;
