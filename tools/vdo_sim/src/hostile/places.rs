// SPDX-License-Identifier: GPL-2.0

//! Where a volume has something to write, and whether it wrote elsewhere.

use crate::toy;
use sim::fault::Kind;
use sim::world::Record;
use std::ops::Range;
use vdo::format::geometry::Geometry;
use vdo::format::summary;
use vdo::format::super_block::SuperBlock;
use vdo::format::Pbn;
use vdo::format::BLOCK_SIZE;
use vdo::storage::BLOCK_SECTORS;

/// Where a volume has something to write.
pub(super) struct Places {
    bio_offset: u64,
    end: Pbn,
    ranges: Vec<Range<Pbn>>,
}

impl Places {
    /// Returns the places of the volume on an image, which is one.
    pub(super) fn of(image: &[u8]) -> Result<Self, String> {
        let geometry = Geometry::decode(toy::block(image, 0)).map_err(|fault| fault.to_string())?;
        let found = toy::super_block(image)?;
        Ok(Self {
            bio_offset: geometry.bio_offset,
            end: found.partitions.summary.end(),
            ranges: ranges(&geometry, &found),
        })
    }

    /// Checks what was written, from one image to another. A growth that is cut off leaves something
    /// behind the end.
    pub(super) fn check(
        mut self,
        before: &[u8],
        after: &[u8],
        log: &[Record],
        is_cut_off: bool,
    ) -> Result<(), String> {
        if before[..BLOCK_SIZE] != after[..BLOCK_SIZE] {
            return Err("the geometry block was written".to_owned());
        }
        // It may have grown.
        self.ranges.extend(Self::of(after)?.ranges);
        if is_cut_off {
            self.ranges.push(self.end..Pbn::MAX);
        }
        for record in log.iter().filter(|record| record.kind == Kind::Write) {
            let blocks = record.sector / BLOCK_SECTORS
                ..(record.sector + record.sectors).div_ceil(BLOCK_SECTORS);
            for block in blocks {
                let pbn = block + self.bio_offset;
                if block == 0 || !self.ranges.iter().any(|range| range.contains(&pbn)) {
                    return Err(format!("block {pbn} was written, where nothing is"));
                }
            }
        }
        Ok(())
    }
}

fn ranges(geometry: &Geometry, found: &SuperBlock) -> Vec<Range<Pbn>> {
    let roots = found.roots();
    let journal = found.partitions.journal.start;
    let summary = found.partitions.summary.start;
    let mut ranges = vec![
        geometry.data_start..geometry.data_start + 1,
        roots.start..roots.end(),
        journal..journal + found.recovery_journal_size,
        summary..summary + u64::from(summary::BLOCKS),
    ];
    let depot = found.depot;
    for slab in 0..depot.slab_count {
        let counts = depot.reference_block(slab, 0);
        let journal = depot.journal_block(slab, 0);
        ranges.push(depot.origin(slab)..depot.pbn(slab, depot.slab.data_blocks));
        ranges.push(counts..counts + u64::from(depot.slab.used_reference_blocks()));
        ranges.push(journal..journal + u64::from(depot.slab.journal_blocks));
    }
    ranges
}
