// SPDX-License-Identifier: GPL-2.0

//! What is on disk: one file per structure, each a codec that believes nothing it reads.
//!
//! The format is described in `Documentation/vdo-format.md`. Everything is little-endian and
//! packed. Sizes that a volume or the simulator may choose (blocks in a slab, entries in a block)
//! are values that the functions take, not constants.
//!
//! | File | Structure |
//! |---|---|
//! | [`geometry`], [`super_block`] | where the volume is and what it is; the only blocks with a checksum |
//! | [`layout`], [`index`] | how a volume is laid out, and how large the index is |
//! | [`slab`] | what is where in a slab |
//! | [`block_map`], [`tree`] | a page of the block map; which page and slot an LBN has |
//! | [`recovery_journal`], [`slab_journal`] | a block of either journal |
//! | [`mod@reference`], [`summary`] | reference counts; what is known of each slab without reading it |
//! | [`compressed`] | a block that holds several compressed ones |

pub mod block_map;
pub mod checksum;
pub mod component;
pub mod compressed;
pub mod geometry;
pub mod index;
pub mod layout;
pub mod mapping;
pub mod point;
pub mod recovery_journal;
pub mod reference;
pub mod slab;
pub mod slab_journal;
pub mod summary;
pub mod super_block;
pub mod tree;

mod field;

#[cfg(test)]
mod vectors;

pub use component::Fault;
pub use geometry::Geometry;
pub use index::IndexMemory;
pub use layout::Partition;
pub use layout::Partitions;
pub use mapping::Mapping;
pub use mapping::MappingState;
pub use point::JournalPoint;
pub use recovery_journal::Operation;
pub use recovery_journal::RecoveryEntry;
pub use recovery_journal::References;
pub use recovery_journal::StoredEntry;
pub use slab::DepotLayout;
pub use slab::SlabConfig;
pub use summary::SummaryEntry;
pub use super_block::State;
pub use super_block::SuperBlock;

/// A logical block number, in units of 4096 bytes.
pub type Lbn = u64;

/// A physical block number: 36 bits. In mappings, 0 stands for no block.
pub type Pbn = u64;

/// A sequence number of a journal block: 48 bits.
pub type Sequence = u64;

/// The number of a slab.
pub type SlabNumber = u32;

/// The number of a block in its slab: 23 bits.
pub type Sbn = u32;

/// A block in memory.
pub type Page = runtime::disk::Page;

/// Bytes in a block.
pub const BLOCK_SIZE: usize = runtime::disk::PAGE_SIZE;

/// Bytes in a sector, the unit that a device writes whole or not at all.
pub const SECTOR_SIZE: usize = runtime::disk::SECTOR_SIZE;

/// Sectors in a block.
pub const BLOCK_SECTORS: usize = BLOCK_SIZE / SECTOR_SIZE;

/// No PBN has more bits.
pub const PBN_BITS: u32 = 36;

/// Sequence numbers are below this.
pub const MAX_SEQUENCE: Sequence = 1 << 48;

/// What the blocks of journals say they are.
pub mod metadata_type {
    /// A recovery journal block of the old format.
    pub const RECOVERY_JOURNAL_OLD: u8 = 1;
    /// A slab journal block.
    pub const SLAB_JOURNAL: u8 = 2;
    /// A recovery journal block.
    pub const RECOVERY_JOURNAL: u8 = 3;
}
