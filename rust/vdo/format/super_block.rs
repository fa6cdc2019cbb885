// SPDX-License-Identifier: GPL-2.0

//! The super block: state, sizes and counters of a volume, in the first sector of its block.
//!
//! | Offset | Size | Part |
//! |---|---|---|
//! | 0 | 32 | header (id 0, 12.0, size 418), unused (of the geometry block), version of the volume, 67.0 |
//! | 32 | 76 | the volume: version, 41.0, state, counters, sizes, nonce |
//! | 108 | 137 | header (id 1, 3.0, size 117), the partitions: see [`Partitions`] |
//! | 245 | 44 | header (id 2, 7.0, size 24), the recovery journal |
//! | 289 | 93 | header (id 3, 2.0, size 73), the slab depot |
//! | 382 | 52 | header (id 4, 2.0, size 32), the block map |
//! | 434 | 4 | checksum of all before |
//!
//! The rest of the block means nothing. It is written with a flush before it and with FUA; a sector
//! is written whole or not at all, so there is always a good one.

mod components;

use super::checksum::crc32;
use super::component::expect_version;
use super::component::Fault;
use super::component::Header;
use super::component::Version;
use super::component::HEADER_SIZE;
use super::field::put;
use super::field::u32_at;
use super::field::u64_at;
use super::geometry::Geometry;
use super::layout;
use super::layout::Partition;
use super::layout::Partitions;
use super::recovery_journal;
use super::slab;
use super::summary;
use super::DepotLayout;
use super::Page;
use super::Pbn;
use super::Sequence;
use super::MAX_SEQUENCE;
use crate::error::Result;
use crate::error::Status;

const SUPER_BLOCK: Header = Header {
    id: 0,
    version: Version::new(12, 0),
    size: (SIZE - HEADER_SIZE) as u64,
};
const VOLUME_VERSION: Version = Version::new(67, 0);
const COMPONENT_VERSION: Version = Version::new(41, 0);

const UNUSED_AT: usize = HEADER_SIZE;
const VOLUME_VERSION_AT: usize = 24;
const COMPONENT_AT: usize = 32;
const STATE_AT: usize = 40;
const COMPLETE_RECOVERIES_AT: usize = 44;
const READ_ONLY_RECOVERIES_AT: usize = 52;
const LOGICAL_BLOCKS_AT: usize = 60;
const PHYSICAL_BLOCKS_AT: usize = 68;
const SLAB_SIZE_AT: usize = 76;
const RECOVERY_JOURNAL_SIZE_AT: usize = 84;
const SLAB_JOURNAL_BLOCKS_AT: usize = 92;
const NONCE_AT: usize = 100;
const LAYOUT_AT: usize = 108;
const JOURNAL_AT: usize = 245;
const DEPOT_AT: usize = 289;
const BLOCK_MAP_AT: usize = 382;
const CHECKSUM_AT: usize = 434;
const SIZE: usize = CHECKSUM_AT + 4;

const _: () = assert!(SIZE == 438 && SIZE <= super::SECTOR_SIZE);

/// The state of a volume on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In use; found when a volume starts, it means that it crashed.
    Dirty,
    /// Formatted, never used.
    New,
    /// Stopped in order.
    Clean,
    /// Something could not be repaired.
    ReadOnly,
    /// An administrator wants a rebuild from the block map.
    ForceRebuild,
    /// Stopped in order before all slabs were scrubbed.
    Recovering,
    /// As [`Self::Dirty`]; nobody writes it any more.
    Replaying,
    /// As [`Self::ForceRebuild`], but no recovery is counted; nobody writes it any more.
    RebuildForUpgrade,
}

impl State {
    /// Returns the state with this number. (Mainline takes unknown ones for clean.)
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Dirty,
            1 => Self::New,
            2 => Self::Clean,
            3 => Self::ReadOnly,
            4 => Self::ForceRebuild,
            5 => Self::Recovering,
            6 => Self::Replaying,
            7 => Self::RebuildForUpgrade,
            _ => return None,
        })
    }

    /// Returns the number on disk.
    pub const fn number(self) -> u32 {
        match self {
            Self::Dirty => 0,
            Self::New => 1,
            Self::Clean => 2,
            Self::ReadOnly => 3,
            Self::ForceRebuild => 4,
            Self::Recovering => 5,
            Self::Replaying => 6,
            Self::RebuildForUpgrade => 7,
        }
    }

    /// Returns whether the recovery journal must be replayed before the volume is used.
    pub const fn needs_recovery(self) -> bool {
        matches!(self, Self::Dirty | Self::Replaying)
    }

    /// Returns whether everything is to be rebuilt from the block map.
    pub const fn needs_rebuild(self) -> bool {
        matches!(self, Self::ForceRebuild | Self::RebuildForUpgrade)
    }
}

/// The content of a super block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuperBlock {
    /// A copy of the geometry block's.
    pub unused: u32,
    /// The state.
    pub state: State,
    /// Recoveries and rebuilds that came to their end.
    pub complete_recoveries: u64,
    /// Rebuilds that were begun.
    pub read_only_recoveries: u64,
    /// Logical blocks.
    pub logical_blocks: u64,
    /// The last PBN and one.
    pub physical_blocks: u64,
    /// Blocks of a slab, as the formatter was told; what counts is in `depot`.
    pub slab_size: u64,
    /// Blocks of the recovery journal: a power of two.
    pub recovery_journal_size: u64,
    /// Blocks of a slab journal, as the formatter was told.
    pub slab_journal_blocks: u64,
    /// The nonce, as in the geometry block.
    pub nonce: u64,
    /// The partitions.
    pub partitions: Partitions,
    /// Where the recovery journal goes on after a clean stop; else a sequence that no head of it
    /// is below.
    pub journal_start: Sequence,
    /// Mapped logical blocks, zero blocks included. Stale unless the volume was stopped in order.
    pub logical_blocks_used: u64,
    /// Block map pages in slabs. Stale unless the volume was stopped in order.
    pub block_map_data_blocks: u64,
    /// The slabs.
    pub depot: DepotLayout,
    /// The block behind the last slab, as stored.
    pub last_block: Pbn,
    /// The number of copies of the slab summary that are current; 0 before the first start.
    pub zone_count: u8,
    /// The root page of tree 0 of the block map.
    pub root_origin: Pbn,
    /// The number of trees.
    pub root_count: u32,
}

impl SuperBlock {
    /// Decodes a super block.
    ///
    /// What it says is used only after [`Self::check`]; only what this type cannot hold is
    /// refused here.
    pub fn decode(page: &Page) -> Result<Self, Fault> {
        // Log lines show this name.
        let name = "vdo_decode_super_block";
        SUPER_BLOCK.expect(name, page, 0, |size| (4..=SUPER_BLOCK.size).contains(&size))?;
        let computed = crc32(page.get(..CHECKSUM_AT).unwrap_or_default());
        let stored = u32_at(page, CHECKSUM_AT);
        if computed != stored {
            return Err(Fault::Checksum { computed, stored });
        }

        let version = Version::decode(page, VOLUME_VERSION_AT);
        expect_version("volume", VOLUME_VERSION, version)?;
        let version = Version::decode(page, COMPONENT_AT);
        expect_version("VDO component", COMPONENT_VERSION, version)?;
        let state = u32_at(page, STATE_AT);
        let state = State::from_number(state).ok_or(Fault::Field {
            name: "state",
            found: state.into(),
        })?;
        let partitions = Partitions::decode(page, LAYOUT_AT)?;
        let journal = components::Journal::decode(page, JOURNAL_AT)?;
        let depot = components::Depot::decode(page, DEPOT_AT)?;
        let block_map = components::BlockMap::decode(page, BLOCK_MAP_AT)?;
        Ok(Self {
            unused: u32_at(page, UNUSED_AT),
            state,
            complete_recoveries: u64_at(page, COMPLETE_RECOVERIES_AT),
            read_only_recoveries: u64_at(page, READ_ONLY_RECOVERIES_AT),
            logical_blocks: u64_at(page, LOGICAL_BLOCKS_AT),
            physical_blocks: u64_at(page, PHYSICAL_BLOCKS_AT),
            slab_size: u64_at(page, SLAB_SIZE_AT),
            recovery_journal_size: u64_at(page, RECOVERY_JOURNAL_SIZE_AT),
            slab_journal_blocks: u64_at(page, SLAB_JOURNAL_BLOCKS_AT),
            nonce: u64_at(page, NONCE_AT),
            partitions,
            journal_start: journal.start,
            logical_blocks_used: journal.logical_blocks_used,
            block_map_data_blocks: journal.block_map_data_blocks,
            depot: depot.layout,
            last_block: depot.last_block,
            zone_count: depot.zone_count,
            root_origin: block_map.root_origin,
            root_count: block_map.root_count,
        })
    }

    /// Encodes a super block.
    pub fn encode(&self, page: &mut Page) {
        page.fill(0);
        SUPER_BLOCK.encode(page, 0);
        put(page, UNUSED_AT, self.unused.to_le_bytes());
        VOLUME_VERSION.encode(page, VOLUME_VERSION_AT);
        COMPONENT_VERSION.encode(page, COMPONENT_AT);
        put(page, STATE_AT, self.state.number().to_le_bytes());
        let numbers = [
            (COMPLETE_RECOVERIES_AT, self.complete_recoveries),
            (READ_ONLY_RECOVERIES_AT, self.read_only_recoveries),
            (LOGICAL_BLOCKS_AT, self.logical_blocks),
            (PHYSICAL_BLOCKS_AT, self.physical_blocks),
            (SLAB_SIZE_AT, self.slab_size),
            (RECOVERY_JOURNAL_SIZE_AT, self.recovery_journal_size),
            (SLAB_JOURNAL_BLOCKS_AT, self.slab_journal_blocks),
            (NONCE_AT, self.nonce),
        ];
        for (at, number) in numbers {
            put(page, at, number.to_le_bytes());
        }
        self.partitions.encode(page, LAYOUT_AT);
        let journal = components::Journal {
            start: self.journal_start,
            logical_blocks_used: self.logical_blocks_used,
            block_map_data_blocks: self.block_map_data_blocks,
        };
        journal.encode(page, JOURNAL_AT);
        let depot = components::Depot {
            layout: self.depot,
            last_block: self.last_block,
            zone_count: self.zone_count,
        };
        depot.encode(page, DEPOT_AT);
        let block_map = components::BlockMap {
            root_origin: self.root_origin,
            root_count: self.root_count,
        };
        block_map.encode(page, BLOCK_MAP_AT);
        let checksum = crc32(page.get(..CHECKSUM_AT).unwrap_or_default());
        put(page, CHECKSUM_AT, checksum.to_le_bytes());
    }

    /// Returns what the journal blocks of this life of the volume are stamped with.
    pub fn recovery_count(&self) -> u8 {
        self.complete_recoveries as u8
    }

    /// Returns the root pages of the block map.
    pub fn roots(&self) -> Partition {
        Partition {
            start: self.root_origin,
            blocks: self.root_count.into(),
        }
    }

    /// Checks what loading the volume relies on.
    pub fn check(&self, geometry: &Geometry) -> Result {
        if self.nonce != geometry.nonce {
            return Err(Status::BadNonce.into());
        }
        self.check_sizes()?;
        self.partitions.check(geometry, self.physical_blocks)?;
        self.check_places()?;
        self.check_sequence()
    }

    /// As [`check`](Self::check), but not of where things are.
    pub fn check_numbers(&self) -> Result {
        self.check_sizes()?;
        self.check_sequence()
    }

    fn check_sequence(&self) -> Result {
        if self.journal_start >= MAX_SEQUENCE {
            return Err(Status::JournalOverflow.into());
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result {
        let field = |name, found| Err(Fault::Field { name, found }.into());
        if self.physical_blocks > layout::MAX_PHYSICAL {
            return field("physical blocks", self.physical_blocks);
        }
        if self.logical_blocks > layout::MAX_LOGICAL {
            return field("logical blocks", self.logical_blocks);
        }
        if !self.slab_size.is_power_of_two() || self.slab_size > slab::MAX_SLAB_BLOCKS.into() {
            return field("slab size", self.slab_size);
        }
        if self.slab_journal_blocks > self.slab_size {
            return field("slab journal blocks", self.slab_journal_blocks);
        }
        let journal = self.recovery_journal_size;
        if !journal.is_power_of_two() || journal < recovery_journal::MIN_BLOCKS {
            return field("recovery journal size", self.recovery_journal_size);
        }
        if u32::from(self.zone_count) > summary::COPIES {
            return field("zone count", self.zone_count.into());
        }
        self.depot.slab.check()?;
        // The summary has one byte for a place in a slab journal.
        if self.depot.slab.journal_blocks > 256 {
            return Err(Status::BadConfiguration.into());
        }
        if self.depot.slab_count > slab::MAX_SLABS {
            return Err(Status::TooManySlabs.into());
        }
        Ok(())
    }

    /// Checks that every component is where its partition is.
    fn check_places(&self) -> Result {
        let partitions = &self.partitions;
        let depot = self.depot.first_block >= partitions.depot.start
            && self.depot.last_block() <= self.last_block
            && self.last_block <= partitions.depot.end();
        let block_map = self.root_count > 0
            && self.root_origin == partitions.block_map.start
            && u64::from(self.root_count) <= partitions.block_map.blocks;
        let sizes = self.recovery_journal_size <= partitions.journal.blocks
            && partitions.summary.blocks >= summary::BLOCKS.into();
        if depot && block_map && sizes {
            Ok(())
        } else {
            Err(Status::ParameterMismatch.into())
        }
    }
}

#[cfg(test)]
mod tests;
