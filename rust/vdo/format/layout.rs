// SPDX-License-Identifier: GPL-2.0

//! How a volume is laid out, and what a formatter writes.
//!
//! Behind the super block come, without gaps, the root pages of the block map, the slabs, the
//! recovery journal, and the slab summary. When a volume grows, the last two move to its new end.
//!
//! The super block stores the partitions as (behind a header)
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 + 8 | first and last free block, once; not looked at |
//! | 16 | 1 | number of partitions, 4 |
//! | 17 | 25 each | id, start, base (0), size; in any order, for mainline reverses it each time |

use super::component::Fault;
use super::component::Header;
use super::component::Version;
use super::component::HEADER_SIZE;
use super::field::put;
use super::field::u64_at;
use super::field::u8_at;
use super::geometry::Geometry;
use super::geometry::GeometryVersion;
use super::geometry::REGION_IDS;
use super::index;
use super::index::IndexMemory;
use super::slab::MAX_SLABS;
use super::summary;
use super::super_block::State;
use super::super_block::SuperBlock;
use super::tree;
use super::DepotLayout;
use super::Pbn;
use super::SlabConfig;
use crate::error::Result;
use crate::error::Status;
use kernel::prelude::*;

/// No volume has more physical blocks.
pub const MAX_PHYSICAL: u64 = 1 << super::PBN_BITS;

/// No volume has more logical blocks.
pub const MAX_LOGICAL: u64 = 1 << 40;

/// Trees of the block map.
pub const ROOTS: u32 = 60;

const HEADER: Header = Header {
    id: 1,
    version: Version::new(3, 0),
    size: 117,
};
const FIRST_FREE_AT: usize = 0;
const LAST_FREE_AT: usize = 8;
const COUNT_AT: usize = 16;
const PARTITIONS_AT: usize = 17;
const PARTITION_SIZE: usize = 25;
const START_AT: usize = 1;
const BLOCKS_AT: usize = 17;

const BLOCK_MAP: u8 = 0;
const DEPOT: u8 = 1;
const JOURNAL: u8 = 2;
const SUMMARY: u8 = 3;

/// A range of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The first block.
    pub start: Pbn,
    /// The number of blocks.
    pub blocks: u64,
}

impl Partition {
    /// Returns the block behind the last.
    pub fn end(&self) -> Pbn {
        self.start.saturating_add(self.blocks)
    }

    /// Returns whether this block is one of them.
    pub fn contains(&self, pbn: Pbn) -> bool {
        (self.start..self.end()).contains(&pbn)
    }
}

/// Where everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions {
    /// Not looked at by anybody; kept.
    pub first_free: Pbn,
    /// Not looked at by anybody; kept.
    pub last_free: Pbn,
    /// The root pages of the block map.
    pub block_map: Partition,
    /// The slabs, and what is left over behind them.
    pub depot: Partition,
    /// The recovery journal.
    pub journal: Partition,
    /// The slab summary.
    pub summary: Partition,
}

impl Partitions {
    /// Returns the partitions of a volume whose super block is at `data_start`.
    fn new(data_start: Pbn, physical_blocks: u64, roots: u32, journal: u64) -> Option<Self> {
        let block_map = Partition {
            start: data_start.checked_add(1)?,
            blocks: roots.into(),
        };
        let summary = Partition {
            start: physical_blocks.checked_sub(summary::BLOCKS.into())?,
            blocks: summary::BLOCKS.into(),
        };
        let journal = Partition {
            start: summary.start.checked_sub(journal)?,
            blocks: journal,
        };
        let depot = Partition {
            start: block_map.end(),
            blocks: journal.start.checked_sub(block_map.end())?,
        };
        Some(Self {
            first_free: journal.start,
            last_free: journal.start,
            block_map,
            depot,
            journal,
            summary,
        })
    }

    pub(super) fn decode(block: &[u8], at: usize) -> Result<Self, Fault> {
        HEADER.expect("layout", block, at, |size| size >= HEADER.size)?;
        let at = at + HEADER_SIZE;
        let mut found = [None; 4];
        if usize::from(u8_at(block, at + COUNT_AT)) != found.len() {
            return Err(Fault::Partitions);
        }
        for index in 0..found.len() {
            let at = at + PARTITIONS_AT + index * PARTITION_SIZE;
            let id = u8_at(block, at);
            let partition = Partition {
                start: u64_at(block, at + START_AT),
                blocks: u64_at(block, at + BLOCKS_AT),
            };
            let place = found.get_mut(usize::from(id)).ok_or(Fault::Partitions)?;
            if place.replace(partition).is_some() {
                return Err(Fault::PartitionTwice { id });
            }
        }
        let [Some(block_map), Some(depot), Some(journal), Some(summary)] = found else {
            return Err(Fault::Partitions);
        };
        Ok(Self {
            first_free: u64_at(block, at + FIRST_FREE_AT),
            last_free: u64_at(block, at + LAST_FREE_AT),
            block_map,
            depot,
            journal,
            summary,
        })
    }

    pub(super) fn encode(&self, block: &mut [u8], at: usize) {
        HEADER.encode(block, at);
        let at = at + HEADER_SIZE;
        put(block, at + FIRST_FREE_AT, self.first_free.to_le_bytes());
        put(block, at + LAST_FREE_AT, self.last_free.to_le_bytes());
        // In the order in which formatters write them.
        let partitions = [
            (DEPOT, self.depot),
            (JOURNAL, self.journal),
            (SUMMARY, self.summary),
            (BLOCK_MAP, self.block_map),
        ];
        put(block, at + COUNT_AT, [partitions.len() as u8]);
        for (index, (id, partition)) in partitions.into_iter().enumerate() {
            let at = at + PARTITIONS_AT + index * PARTITION_SIZE;
            put(block, at, [id]);
            put(block, at + START_AT, partition.start.to_le_bytes());
            put(block, at + BLOCKS_AT, partition.blocks.to_le_bytes());
        }
    }

    /// Checks that the partitions fill the volume behind its super block, each where it belongs.
    ///
    /// The tool that converts volumes of the old manager for LVM takes as many blocks from the start
    /// of the device as `bio_offset` says then, and from the physical size; the partitions stay.
    /// (Mainline has refused such volumes since it checks this.)
    pub fn check(&self, geometry: &Geometry, physical_blocks: u64) -> Result {
        let mut next = geometry.data_start.saturating_add(1);
        for partition in [self.block_map, self.depot, self.journal, self.summary] {
            if partition.start != next {
                return Err(Status::ParameterMismatch.into());
            }
            next = partition.end();
        }
        let converted = physical_blocks.checked_add(geometry.bio_offset);
        let fills = next == physical_blocks || Some(next) == converted;
        if !fills || next > MAX_PHYSICAL {
            return Err(Status::ParameterMismatch.into());
        }
        Ok(())
    }
}

/// What a formatter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The nonce: the time in microseconds, so that no two volumes on a device share one.
    pub nonce: u64,
    /// The name of the volume.
    pub uuid: [u8; 16],
    /// Physical blocks: of the whole device.
    pub physical_blocks: u64,
    /// Logical blocks; or else as many as can be filled with data that nothing can be saved of.
    pub logical_blocks: Option<u64>,
    /// Blocks of a slab.
    pub slab_blocks: u32,
    /// Blocks of a slab journal.
    pub slab_journal_blocks: u32,
    /// Blocks of the recovery journal.
    pub recovery_journal_blocks: u64,
    /// Trees of the block map.
    pub roots: u32,
    /// The memory of the index.
    pub index_memory: IndexMemory,
    /// Whether the index is sparse.
    pub sparse: bool,
    /// Blocks of the index; or else what the memory asks for.
    pub index_blocks: Option<u64>,
}

impl Parameters {
    /// Returns the number of blocks that are needed at least: everything, and one slab.
    pub fn minimum_blocks(&self) -> Result<u64> {
        let fixed = 2 + u64::from(self.roots) + u64::from(summary::BLOCKS);
        let blocks = self
            .index_size()?
            .checked_add(self.recovery_journal_blocks)
            .and_then(|sum| sum.checked_add(fixed))
            .and_then(|sum| sum.checked_add(self.slab_blocks.into()));
        blocks.ok_or(Status::OutOfRange.into())
    }

    /// Returns geometry block and super block of a new volume.
    ///
    /// A formatter zeroes the first block of the index, the root pages and the recovery journal,
    /// then writes the super block, and last the geometry block, which makes it a volume.
    pub fn plan(&self) -> Result<(Geometry, SuperBlock)> {
        if self.physical_blocks < self.minimum_blocks()? {
            return Err(Status::NoSpace.into());
        }
        if self.physical_blocks > MAX_PHYSICAL || !self.recovery_journal_blocks.is_power_of_two() {
            return Err(Status::OutOfRange.into());
        }
        let slab = SlabConfig::new(self.slab_blocks, self.slab_journal_blocks)?;
        let data_start = 1 + self.index_size()?;
        let partitions = Partitions::new(
            data_start,
            self.physical_blocks,
            self.roots,
            self.recovery_journal_blocks,
        )
        .ok_or(Status::NoSpace)?;
        let depot = depot(partitions.depot, slab)?;
        let logical_blocks = match self.logical_blocks {
            Some(blocks) => blocks,
            None => default_logical_blocks(&depot),
        };
        if logical_blocks > MAX_LOGICAL {
            return Err(Status::OutOfRange.into());
        }

        let geometry = Geometry {
            version: GeometryVersion::V5,
            unused: 0,
            nonce: self.nonce,
            uuid: self.uuid,
            bio_offset: 0,
            region_ids: REGION_IDS,
            index_start: 1,
            data_start,
            index_memory: self.index_memory,
            sparse: self.sparse.into(),
        };
        let super_block = SuperBlock {
            unused: 0,
            state: State::New,
            complete_recoveries: 0,
            read_only_recoveries: 0,
            logical_blocks,
            physical_blocks: self.physical_blocks,
            slab_size: self.slab_blocks.into(),
            recovery_journal_size: self.recovery_journal_blocks,
            slab_journal_blocks: self.slab_journal_blocks.into(),
            nonce: self.nonce,
            partitions,
            journal_start: 1,
            logical_blocks_used: 0,
            block_map_data_blocks: 0,
            depot,
            last_block: depot.last_block(),
            zone_count: 0,
            root_origin: partitions.block_map.start,
            root_count: self.roots,
        };
        Ok((geometry, super_block))
    }

    fn index_size(&self) -> Result<u64> {
        match self.index_blocks {
            Some(blocks) => Ok(blocks),
            None => Ok(index::blocks(self.index_memory, self.sparse).ok_or(EINVAL)?),
        }
    }
}

/// Returns the super block of a volume that has grown to `physical_blocks`. The recovery journal
/// and the slab summary are copied to where it says before it is written.
///
/// There must be a new slab at least, and the new places must not overlap the old ones.
pub fn grown(old: &SuperBlock, physical_blocks: u64) -> Result<SuperBlock> {
    if physical_blocks > MAX_PHYSICAL {
        return Err(Status::OutOfRange.into());
    }
    let old_partitions = &old.partitions;
    let moving = old_partitions
        .journal
        .blocks
        .saturating_add(old_partitions.summary.blocks);
    // Of a converted volume, the partitions reach farther than its physical size.
    let old_end = old_partitions.summary.end().max(old.physical_blocks);
    let increment = physical_blocks.checked_sub(old_end);
    if increment.is_none_or(|increment| increment < moving) {
        return Err(Status::IncrementTooSmall.into());
    }
    let mut partitions = *old_partitions;
    partitions.summary.start = physical_blocks.saturating_sub(partitions.summary.blocks);
    partitions.journal.start = partitions
        .summary
        .start
        .saturating_sub(partitions.journal.blocks);
    partitions.depot.blocks = partitions
        .journal
        .start
        .saturating_sub(partitions.depot.start);
    let depot = depot(partitions.depot, old.depot.slab)?;
    if depot.slab_count <= old.depot.slab_count {
        return Err(Status::IncrementTooSmall.into());
    }
    Ok(SuperBlock {
        physical_blocks,
        partitions,
        depot,
        last_block: depot.last_block(),
        ..*old
    })
}

/// Returns the slabs that fit a partition.
fn depot(partition: Partition, slab: SlabConfig) -> Result<DepotLayout> {
    let slab_count = partition.blocks >> slab.shift();
    if slab_count == 0 {
        return Err(Status::NoSpace.into());
    }
    match slab_count.try_into() {
        Ok(slab_count) if slab_count <= MAX_SLABS => Ok(DepotLayout {
            first_block: partition.start,
            slab_count,
            slab,
        }),
        _ => Err(Status::TooManySlabs.into()),
    }
}

/// Returns the logical size at which data without duplicates fills the slabs, together with the
/// pages that map it.
fn default_logical_blocks(depot: &DepotLayout) -> u64 {
    let data_blocks = depot.data_blocks();
    let roots = u64::from(ROOTS);
    let leaves = tree::pages_for(data_blocks).max(1);
    let mut level = leaves.div_ceil(roots);
    let mut pages = 0;
    for _ in 1..tree::ROOT_HEIGHT {
        level = tree::pages_for(level);
        pages += level * roots;
    }
    let left = data_blocks.saturating_sub(pages);
    left.saturating_sub(tree::pages_for(left))
}

#[cfg(test)]
mod tests;
