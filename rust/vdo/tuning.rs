// SPDX-License-Identifier: GPL-2.0

//! Sizes that are not those of the volume: a test has small ones, the kernel those that serve best.

use crate::format::recovery_journal;
use crate::format::slab_journal;
use uds::format::geometry::Shape;

/// Sizes that are not those of the volume.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Workers with a whole batch; some of them, of two at least one, serve no discards.
    pub workers: usize,
    /// Workers for few blocks, who are called when the others wait for the storage.
    pub small_workers: usize,
    /// The most blocks of theirs.
    pub small_blocks: usize,
    /// Tasks that wait for blocks of writes that are held up.
    pub claimers: usize,
    /// Tasks that write fragments which had to wait for others.
    pub packers: usize,
    /// Blocks in a batch; a bio with data must fit.
    pub batch_blocks: usize,
    /// Reads of compressed blocks at once.
    pub fragment_reads: usize,
    /// Journal blocks in memory.
    pub journal_memory_blocks: u64,
    /// Journal blocks in one write.
    pub journal_io_blocks: u64,
    /// Places in the journal that a request is given at once.
    pub journal_grant: usize,
    /// How long journal entries wait for company.
    pub commit_delay_ms: u64,
    /// Leaf pages in memory.
    pub cache_pages: usize,
    /// A leaf page is written when its oldest change is so many journal blocks old.
    pub maximum_age: u64,
    /// Blocks of slab journals that may be on their way to the storage.
    pub slab_journal_pages: usize,
    /// Pages of the buffers for metadata.
    pub io_pages: usize,
    /// How many entries a journal block has.
    pub journal_shape: recovery_journal::Shape,
    /// How many entries a block of a slab journal has.
    pub slab_journal_shape: slab_journal::Shape,
    /// How large the index is; without it there is none.
    pub index_shape: Option<Shape>,
}
