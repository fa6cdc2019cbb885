// SPDX-License-Identifier: GPL-2.0

//! The blocks of the journal that are in memory: their entries, and what these add up to.

use super::ring::work::Batch;
use super::ring::work::Heads;
use super::Counters;
use super::JournalConfig;
use crate::error::Result;
use crate::error::Status;
use crate::format::metadata_type;
use crate::format::recovery_journal;
use crate::format::recovery_journal::Header;
use crate::format::recovery_journal::ENTRY_SIZE;
use crate::format::JournalPoint;
use crate::format::Operation;
use crate::format::Page;
use crate::format::RecoveryEntry;
use crate::format::Sequence;
use core::num::NonZeroU64;
use core::ops::Range;
use kernel::prelude::*;

/// What the entries of a block add up to, and those of all blocks before.
#[derive(Clone, Copy, Default)]
struct Block {
    before: Counters,
    logical: i32,
    pages: i32,
}

impl Block {
    fn after(&self) -> Counters {
        self.before.plus(self.logical, self.pages)
    }
}

impl Counters {
    fn plus(self, logical: i32, pages: i32) -> Self {
        let plus = |count: u64, change: i32| count.saturating_add_signed(change.into());
        Self {
            logical_blocks_used: plus(self.logical_blocks_used, logical),
            block_map_data_blocks: plus(self.block_map_data_blocks, pages),
        }
    }
}

/// The last blocks, each at `sequence % blocks`.
pub(super) struct Memory {
    per_block: NonZeroU64,
    /// The number of blocks, less one; that is a power of two.
    mask: u64,
    /// By block: its entries, encoded.
    entries: KVVec<[u8; ENTRY_SIZE]>,
    blocks: KVec<Block>,
}

impl Memory {
    pub(super) fn new(config: &JournalConfig, per_block: NonZeroU64) -> Result<Self> {
        if !config.memory_blocks.is_power_of_two() || config.memory_blocks < 2 {
            return Err(Status::BadConfiguration.into());
        }
        let blocks = config.memory_blocks as usize;
        let entries = blocks.saturating_mul(per_block.get() as usize);
        Ok(Self {
            per_block,
            mask: config.memory_blocks - 1,
            entries: KVVec::from_elem([0; ENTRY_SIZE], entries, GFP_KERNEL)?,
            blocks: KVec::from_elem(Block::default(), blocks, GFP_KERNEL)?,
        })
    }

    /// Returns the number of blocks.
    pub(super) fn blocks(&self) -> u64 {
        self.mask + 1
    }

    fn index_of(&self, sequence: Sequence) -> usize {
        (sequence & self.mask) as usize
    }

    fn block(&self, sequence: Sequence) -> Option<&Block> {
        self.blocks.get(self.index_of(sequence))
    }

    fn block_mut(&mut self, sequence: Sequence) -> Option<&mut Block> {
        let index = self.index_of(sequence);
        self.blocks.get_mut(index)
    }

    fn range_of(&self, point: JournalPoint) -> Range<usize> {
        let per_block = self.per_block.get() as usize;
        let start = self.index_of(point.sequence) * per_block;
        start + usize::from(point.entry)..start + per_block
    }

    /// Returns the entries of a block from `point` on.
    pub(super) fn entries(&self, point: JournalPoint) -> &[[u8; ENTRY_SIZE]] {
        self.entries.get(self.range_of(point)).unwrap_or(&[])
    }

    fn entries_mut(&mut self, point: JournalPoint) -> &mut [[u8; ENTRY_SIZE]] {
        let range = self.range_of(point);
        self.entries.get_mut(range).unwrap_or(&mut [])
    }

    /// Makes room for a block.
    pub(super) fn open(&mut self, sequence: Sequence) {
        if let Some(block) = self.block_mut(sequence) {
            block.logical = 0;
            block.pages = 0;
        }
    }

    /// Says what all entries before a block add up to.
    pub(super) fn set_before(&mut self, sequence: Sequence, before: Counters) {
        if let Some(block) = self.block_mut(sequence) {
            block.before = before;
        }
    }

    /// As [`set_before`](Self::set_before), where the block before is here still, and full.
    pub(super) fn continue_from_previous(&mut self, sequence: Sequence) {
        let previous = self.block(sequence.saturating_sub(1)).copied();
        if let Some(previous) = previous {
            self.set_before(sequence, previous.after());
        }
    }

    /// Stores entries from `point` on, which may reach into the next blocks, and adds to
    /// `counters` what they add up to.
    pub(super) fn fill(
        &mut self,
        mut point: JournalPoint,
        entries: &[RecoveryEntry],
        counters: &mut Counters,
    ) {
        let per_block = self.per_block.get() as usize;
        let mut rest = entries;
        while !rest.is_empty() {
            let room = per_block.saturating_sub(point.entry.into());
            let (now, later) = rest.split_at(room.min(rest.len()));
            let (mut logical, mut pages) = (0, 0);
            for (place, entry) in self.entries_mut(point).iter_mut().zip(now) {
                *place = entry.encode();
                match entry.operation {
                    Operation::Data => {
                        logical += i32::from(entry.new.is_mapped());
                        logical -= i32::from(entry.old.is_mapped());
                    }
                    Operation::BlockMap => pages += 1,
                }
            }
            if let Some(block) = self.block_mut(point.sequence) {
                block.logical += logical;
                block.pages += pages;
            }
            *counters = counters.plus(logical, pages);
            point = JournalPoint::new(point.sequence + 1, 0);
            rest = later;
        }
    }

    /// Makes the block with this sequence as it is written, as far as `batch` goes.
    pub(super) fn build(
        &self,
        config: &JournalConfig,
        batch: &Batch,
        sequence: Sequence,
        heads: Heads,
        page: &mut Page,
    ) {
        let start = sequence.saturating_mul(self.per_block.get());
        let count = batch.end.saturating_sub(start).min(self.per_block.get()) as u16;
        let entries = self.entries(JournalPoint::new(sequence, 0));
        let entries = entries.get(..count.into()).unwrap_or(entries);
        recovery_journal::put_encoded(page, config.shape, entries);
        let before = self
            .block(sequence)
            .map_or(Counters::default(), |b| b.before);
        let header = Header {
            block_map_head: heads.block_map,
            slab_journal_head: heads.slab_journal,
            sequence,
            nonce: config.nonce,
            metadata_type: metadata_type::RECOVERY_JOURNAL,
            entry_count: count,
            logical_blocks_used: before.logical_blocks_used,
            block_map_data_blocks: before.block_map_data_blocks,
            check_byte: recovery_journal::check_byte(sequence, config.size),
            recovery_count: config.recovery_count,
        };
        recovery_journal::seal(page, config.shape, &header);
    }
}
