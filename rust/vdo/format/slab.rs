// SPDX-License-Identifier: GPL-2.0

//! What is where in a slab, and where the slabs are.
//!
//! A slab is data blocks, then the blocks of their reference counts, then its journal.

use super::reference;
use super::slab_journal;
use super::Mapping;
use super::Pbn;
use super::Sbn;
use super::SlabNumber;
use crate::error::Result;
use crate::error::Status;

/// Slabs that a volume can have.
pub const MAX_SLABS: u32 = 8192;

/// The largest slab of the format, in blocks.
pub const MAX_SLAB_BLOCKS: u32 = 1 << 23;

/// The smallest slab that formatters make, in blocks.
pub const MIN_SLAB_BLOCKS: u32 = 1 << 13;

/// Blocks of a slab journal, as formatters make it.
pub const SLAB_JOURNAL_BLOCKS: u32 = 224;

/// The smallest slab journal that is not full before the first count is written.
const MIN_JOURNAL_BLOCKS: u32 = 4;

/// Requests that mainline has in flight; the thresholds reckon with them.
const MAX_REQUESTS: u32 = 2048;

/// The sizes of a slab; all slabs of a volume are equal. All numbers are blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabConfig {
    /// The whole slab: a power of two.
    pub blocks: u32,
    /// Data blocks.
    pub data_blocks: u32,
    /// Blocks reserved for reference counts; large slabs leave the last one unused.
    pub reference_blocks: u32,
    /// The slab journal.
    pub journal_blocks: u32,
    /// From this length of the slab journal on, reference blocks are written early.
    pub flushing: u32,
    /// From this length of the slab journal on, new entries wait.
    pub blocking: u32,
    /// From this length of the slab journal on, the slab is scrubbed before the volume is used.
    pub scrubbing: u32,
}

impl SlabConfig {
    /// Returns how a slab of `blocks` blocks, `journal_blocks` of them its journal, is divided.
    pub fn new(blocks: u32, journal_blocks: u32) -> Result<Self> {
        if !blocks.is_power_of_two() || blocks > MAX_SLAB_BLOCKS || journal_blocks == 0 {
            return Err(Status::BadConfiguration.into());
        }
        let rest = blocks.checked_sub(journal_blocks);
        let rest = rest.ok_or(Status::BadConfiguration)?;
        let reference_blocks = rest.div_ceil(reference::COUNTS_PER_BLOCK);
        let data_blocks = rest.saturating_sub(reference_blocks);
        if data_blocks == 0 {
            return Err(Status::BadConfiguration.into());
        }

        let flushing = (3 * journal_blocks).div_ceil(4);
        let blocking = flushing + (journal_blocks - flushing) * 5 / 7;
        let extra = 1 + MAX_REQUESTS / u32::from(slab_journal::Shape::STANDARD.full);
        let scrubbing = match journal_blocks.checked_sub(extra) {
            Some(left) if left > 0 => left,
            _ => blocking,
        };
        Ok(Self {
            blocks,
            data_blocks,
            reference_blocks,
            journal_blocks,
            flushing,
            blocking: blocking.min(scrubbing),
            scrubbing,
        })
    }

    /// Returns how many reference blocks hold counts of data blocks.
    pub fn used_reference_blocks(&self) -> u32 {
        self.data_blocks.div_ceil(reference::COUNTS_PER_BLOCK)
    }

    /// Returns the binary logarithm of the size.
    pub fn shift(&self) -> u32 {
        self.blocks.checked_ilog2().unwrap_or(0)
    }

    /// Checks what all arithmetic here relies on.
    pub fn check(&self) -> Result {
        let used = u64::from(self.data_blocks)
            + u64::from(self.reference_blocks)
            + u64::from(self.journal_blocks);
        // New entries wait until the journal is shorter than `blocking`. (From `flushing` on counts
        // are written; in short journals mainline has that behind the others.)
        let thresholds = 0 < self.blocking
            && self.blocking <= self.scrubbing
            && self.scrubbing.max(self.flushing) <= self.journal_blocks;
        let sound = self.blocks.is_power_of_two()
            && self.blocks <= MAX_SLAB_BLOCKS
            && self.data_blocks > 0
            && self.journal_blocks >= MIN_JOURNAL_BLOCKS
            && thresholds
            && self.reference_blocks >= self.used_reference_blocks()
            && used <= self.blocks.into();
        if sound {
            Ok(())
        } else {
            Err(Status::BadConfiguration.into())
        }
    }
}

/// Where the slabs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepotLayout {
    /// The first block of slab 0.
    pub first_block: Pbn,
    /// The number of slabs.
    pub slab_count: u32,
    /// The sizes of each slab.
    pub slab: SlabConfig,
}

impl DepotLayout {
    /// Returns the block behind the last slab.
    pub fn last_block(&self) -> Pbn {
        self.origin(self.slab_count)
    }

    /// Returns the first block of a slab.
    pub fn origin(&self, slab: SlabNumber) -> Pbn {
        let offset = u64::from(slab) << self.slab.shift();
        self.first_block.saturating_add(offset)
    }

    /// Returns the slab of a data block and the block's number there; `None` for all other blocks.
    #[inline]
    pub fn slab_of(&self, pbn: Pbn) -> Option<(SlabNumber, Sbn)> {
        let offset = pbn.checked_sub(self.first_block)?;
        let slab = offset >> self.slab.shift();
        let sbn = (offset & u64::from(self.slab.blocks.saturating_sub(1))) as Sbn;
        (slab < self.slab_count.into() && sbn < self.slab.data_blocks)
            .then_some((slab as SlabNumber, sbn))
    }

    /// Returns whether this is a data block of a slab.
    pub fn is_data_block(&self, pbn: Pbn) -> bool {
        self.slab_of(pbn).is_some()
    }

    /// Returns how many data blocks of its slab there are from this one on; 0 if it is none.
    pub fn data_blocks_from(&self, pbn: Pbn) -> u64 {
        self.slab_of(pbn).map_or(0, |(_, sbn)| {
            self.slab.data_blocks.saturating_sub(sbn).into()
        })
    }

    /// Returns a mapping as it counts for the journal: one that makes no sense holds no block.
    #[inline]
    pub fn sound(&self, mapping: Mapping) -> Mapping {
        let sound =
            mapping.is_valid_location() && (mapping.pbn == 0 || self.is_data_block(mapping.pbn));
        if sound {
            mapping
        } else {
            Mapping::UNMAPPED
        }
    }

    /// Returns the PBN of a block of a slab.
    pub fn pbn(&self, slab: SlabNumber, sbn: Sbn) -> Pbn {
        self.origin(slab).saturating_add(sbn.into())
    }

    /// Returns the PBN of a reference block of a slab.
    pub fn reference_block(&self, slab: SlabNumber, index: u32) -> Pbn {
        self.pbn(slab, self.slab.data_blocks)
            .saturating_add(index.into())
    }

    /// Returns the PBN of a block of a slab's journal.
    pub fn journal_block(&self, slab: SlabNumber, index: u32) -> Pbn {
        self.reference_block(slab, self.slab.reference_blocks)
            .saturating_add(index.into())
    }

    /// Returns the number of data blocks of all slabs.
    pub fn data_blocks(&self) -> u64 {
        u64::from(self.slab_count) * u64::from(self.slab.data_blocks)
    }
}

#[cfg(test)]
mod tests;
