// SPDX-License-Identifier: GPL-2.0

//! The components of the super block behind its partitions.

use crate::format::component::Fault;
use crate::format::component::Header;
use crate::format::component::Version;
use crate::format::component::HEADER_SIZE;
use crate::format::field::put;
use crate::format::field::u64_at;
use crate::format::field::u8_at;
use crate::format::DepotLayout;
use crate::format::Pbn;
use crate::format::Sequence;
use crate::format::SlabConfig;

/// Returns the offset of the eight-byte field `index` of the component at `at`.
const fn field_at(at: usize, index: usize) -> usize {
    at + HEADER_SIZE + 8 * index
}

/// Returns field `index`, if it fits 32 bits.
fn narrow(block: &[u8], at: usize, index: usize, name: &'static str) -> Result<u32, Fault> {
    let found = u64_at(block, field_at(at, index));
    found.try_into().map_err(|_| Fault::Field { name, found })
}

fn put_field(block: &mut [u8], at: usize, index: usize, value: u64) {
    put(block, field_at(at, index), value.to_le_bytes());
}

/// The recovery journal.
pub(super) struct Journal {
    pub(super) start: Sequence,
    pub(super) logical_blocks_used: u64,
    pub(super) block_map_data_blocks: u64,
}

impl Journal {
    const HEADER: Header = Header {
        id: 2,
        version: Version::new(7, 0),
        size: 24,
    };

    pub(super) fn decode(block: &[u8], at: usize) -> Result<Self, Fault> {
        Self::HEADER.expect("recovery journal", block, at, |size| size == 24)?;
        Ok(Self {
            start: u64_at(block, field_at(at, 0)),
            logical_blocks_used: u64_at(block, field_at(at, 1)),
            block_map_data_blocks: u64_at(block, field_at(at, 2)),
        })
    }

    pub(super) fn encode(&self, block: &mut [u8], at: usize) {
        Self::HEADER.encode(block, at);
        put_field(block, at, 0, self.start);
        put_field(block, at, 1, self.logical_blocks_used);
        put_field(block, at, 2, self.block_map_data_blocks);
    }
}

/// The slab depot.
pub(super) struct Depot {
    pub(super) layout: DepotLayout,
    pub(super) last_block: Pbn,
    pub(super) zone_count: u8,
}

impl Depot {
    const HEADER: Header = Header {
        id: 3,
        version: Version::new(2, 0),
        size: 73,
    };
    const ZONE_COUNT: usize = 9;

    pub(super) fn decode(block: &[u8], at: usize) -> Result<Self, Fault> {
        Self::HEADER.expect("slab depot", block, at, |size| size == 73)?;
        let slab = SlabConfig {
            blocks: narrow(block, at, 0, "slab blocks")?,
            data_blocks: narrow(block, at, 1, "data blocks")?,
            reference_blocks: narrow(block, at, 2, "reference count blocks")?,
            journal_blocks: narrow(block, at, 3, "slab journal blocks")?,
            flushing: narrow(block, at, 4, "flushing threshold")?,
            blocking: narrow(block, at, 5, "blocking threshold")?,
            scrubbing: narrow(block, at, 6, "scrubbing threshold")?,
        };
        if !slab.blocks.is_power_of_two() {
            return Err(Fault::Field {
                name: "slab blocks",
                found: slab.blocks.into(),
            });
        }
        let first_block = u64_at(block, field_at(at, 7));
        let last_block = u64_at(block, field_at(at, 8));
        let slab_count = last_block.saturating_sub(first_block) >> slab.shift();
        Ok(Self {
            layout: DepotLayout {
                first_block,
                slab_count: slab_count.try_into().map_err(|_| Fault::Field {
                    name: "slab count",
                    found: slab_count,
                })?,
                slab,
            },
            last_block,
            zone_count: u8_at(block, field_at(at, Self::ZONE_COUNT)),
        })
    }

    pub(super) fn encode(&self, block: &mut [u8], at: usize) {
        Self::HEADER.encode(block, at);
        let slab = &self.layout.slab;
        let sizes = [
            slab.blocks,
            slab.data_blocks,
            slab.reference_blocks,
            slab.journal_blocks,
            slab.flushing,
            slab.blocking,
            slab.scrubbing,
        ];
        for (index, size) in sizes.into_iter().enumerate() {
            put_field(block, at, index, size.into());
        }
        put_field(block, at, 7, self.layout.first_block);
        put_field(block, at, 8, self.last_block);
        put(block, field_at(at, Self::ZONE_COUNT), [self.zone_count]);
    }
}

/// The block map. Its first two fields are of a kind of page that no volume has any more.
pub(super) struct BlockMap {
    pub(super) root_origin: Pbn,
    pub(super) root_count: u32,
}

impl BlockMap {
    const HEADER: Header = Header {
        id: 4,
        version: Version::new(2, 0),
        size: 32,
    };
    const FLAT_ORIGIN: u64 = 1;

    pub(super) fn decode(block: &[u8], at: usize) -> Result<Self, Fault> {
        Self::HEADER.expect("block map", block, at, |size| size == 32)?;
        let flat_origin = u64_at(block, field_at(at, 0));
        if flat_origin != Self::FLAT_ORIGIN {
            return Err(Fault::Field {
                name: "flat page origin",
                found: flat_origin,
            });
        }
        let flat_count = u64_at(block, field_at(at, 1));
        if flat_count != 0 {
            return Err(Fault::Field {
                name: "flat page count",
                found: flat_count,
            });
        }
        Ok(Self {
            root_origin: u64_at(block, field_at(at, 2)),
            root_count: narrow(block, at, 3, "root count")?,
        })
    }

    pub(super) fn encode(&self, block: &mut [u8], at: usize) {
        Self::HEADER.encode(block, at);
        put_field(block, at, 0, Self::FLAT_ORIGIN);
        put_field(block, at, 1, 0);
        put_field(block, at, 2, self.root_origin);
        put_field(block, at, 3, self.root_count.into());
    }
}
