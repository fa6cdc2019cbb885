// SPDX-License-Identifier: GPL-2.0

//! Whether blocks are compressed, how hard, and what has come of it.

use crate::admin::statistics::Statistics;
use runtime::sync::AtomicU32;
use runtime::sync::AtomicU64;

/// Of a volume: whether blocks are compressed, how hard, and what has come of it.
pub(crate) struct Switch {
    /// The acceleration of the compressor; 0 while nothing is compressed.
    acceleration: AtomicU32,
    blocks: AtomicU64,
    fragments: AtomicU64,
}

impl Switch {
    /// Nothing is compressed.
    pub(crate) fn new() -> Self {
        Self {
            acceleration: AtomicU32::new(0),
            blocks: AtomicU64::new(0),
            fragments: AtomicU64::new(0),
        }
    }

    /// Compresses from now on, with this acceleration from 1 on; or no more.
    pub(crate) fn set(&self, acceleration: Option<u32>) {
        self.acceleration.store_relaxed(acceleration.unwrap_or(0));
    }

    /// Returns the acceleration, if blocks are to be compressed.
    pub(crate) fn acceleration(&self) -> Option<u32> {
        let acceleration = self.acceleration.load_relaxed();
        (acceleration > 0).then_some(acceleration)
    }

    /// So many fragments were put into so many compressed blocks.
    pub(crate) fn packed(&self, fragments: u64, blocks: u64) {
        self.fragments.fetch_add(fragments);
        self.blocks.fetch_add(blocks);
    }

    /// Fills in what is counted here.
    pub(crate) fn put(&self, statistics: &mut Statistics) {
        let packer = &mut statistics.packer;
        packer.compressed_fragments_written = self.fragments.load_relaxed();
        packer.compressed_blocks_written = self.blocks.load_relaxed();
    }
}
