// SPDX-License-Identifier: GPL-2.0

//! The slab summary in memory: what goes to disk with the next write of its blocks.
//!
//! Only the committer changes it while the volume runs, and what it puts in may be on disk as soon
//! as what is on disk by then allows it.

use crate::error::Result;
use crate::format::summary;
use crate::format::summary::SummaryEntry;
use crate::format::summary::BLOCKS_PER_COPY;
use crate::format::Page;
use crate::format::Pbn;
use crate::format::SlabConfig;
use crate::format::SlabNumber;
use crate::format::BLOCK_SIZE;
use kernel::prelude::KVVec;
use kernel::prelude::GFP_KERNEL;
use runtime::sync::AtomicU64;
use runtime::sync::Lock;

/// Blocks of a copy of the summary.
pub(super) const BLOCKS: u32 = BLOCKS_PER_COPY;

/// The slab summary in memory.
pub(super) struct Summary {
    origin: AtomicU64,
    bytes: Lock<KVVec<u8>>,
}

impl Summary {
    /// A summary of slabs that were never used.
    pub(super) fn new(origin: Pbn, slab: &SlabConfig) -> Result<Self> {
        let bytes = BLOCKS as usize * BLOCK_SIZE;
        let this = Self {
            origin: AtomicU64::new(origin),
            bytes: Lock::new(KVVec::from_elem(0, bytes, GFP_KERNEL)?),
        };
        this.reset(slab);
        Ok(this)
    }

    /// Says of all slabs that they were never used.
    pub(super) fn reset(&self, slab: &SlabConfig) {
        let unused = SummaryEntry::unused(slab).encode();
        self.bytes.with(|bytes| {
            for entry in bytes.chunks_exact_mut(summary::ENTRY_SIZE) {
                entry.copy_from_slice(&unused);
            }
        });
    }

    /// Returns the block of a copy on disk.
    pub(super) fn pbn(&self, copy: u32, block: u32) -> Pbn {
        let index = u64::from(copy) * u64::from(BLOCKS) + u64::from(block);
        self.origin.load_acquire().saturating_add(index)
    }

    /// The summary has been moved.
    pub(super) fn set_origin(&self, origin: Pbn) {
        self.origin.store_release(origin);
    }

    pub(super) fn get(&self, slab: SlabNumber) -> Option<SummaryEntry> {
        let at = slab as usize * summary::ENTRY_SIZE;
        self.bytes
            .with(|bytes| bytes.get(at..)?.first_chunk().copied())
            .map(SummaryEntry::decode)
    }

    pub(super) fn set(&self, slab: SlabNumber, entry: SummaryEntry) {
        let at = slab as usize * summary::ENTRY_SIZE;
        self.bytes.with(|bytes| {
            if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
                *place = entry.encode();
            }
        });
    }

    /// Copies a block of a copy.
    pub(super) fn copy_block(&self, block: u32, page: &mut Page) {
        let start = block as usize * BLOCK_SIZE;
        self.bytes.with(|bytes| {
            if let Some(from) = bytes.get(start..).and_then(|rest| rest.first_chunk()) {
                *page = *from;
            }
        });
    }
}
