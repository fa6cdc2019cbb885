// SPDX-License-Identifier: GPL-2.0

//! A toy volume: every structure is there, and everything is so small that each journal wraps and
//! each queue stalls within a few dozen writes.

use crate::device::Kind;
use sim::pattern;
use uds::format::geometry::Shape;
use vdo::format::geometry::Geometry;
use vdo::format::index::IndexMemory;
use vdo::format::layout::Parameters;
use vdo::format::recovery_journal;
use vdo::format::slab_journal;
use vdo::format::summary;
use vdo::format::super_block::State;
use vdo::format::super_block::SuperBlock;
use vdo::format::DepotLayout;
use vdo::format::Pbn;
use vdo::format::SlabConfig;
use vdo::format::BLOCK_SIZE;

/// Sectors of a block.
pub const BLOCK_SECTORS: u64 = 8;

/// What a toy volume is made of.
#[derive(Clone, Debug)]
pub struct Toy {
    /// Where everything is.
    pub layout: Layout,
    /// Its logical size in blocks.
    pub logical_blocks: u64,
    /// Entries of a recovery journal block.
    pub journal_shape: recovery_journal::Shape,
    /// Entries of a slab journal block.
    pub slab_journal_shape: slab_journal::Shape,
    /// Frames of the page cache.
    pub cache_pages: usize,
    /// The age in journal blocks at which pages are written.
    pub max_age: u64,
    /// How large the index is, if there is one.
    pub index_shape: Option<Shape>,
}

/// Where everything is.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The nonce.
    pub nonce: u64,
    /// The super block.
    pub data_start: Pbn,
    /// Roots of the block map.
    pub roots: u32,
    /// Slabs.
    pub slabs: u32,
    /// The sizes of a slab.
    pub slab: SlabConfig,
    /// Blocks of the recovery journal.
    pub journal_blocks: u64,
}

impl Layout {
    /// Returns the slabs.
    pub fn depot(&self) -> DepotLayout {
        DepotLayout {
            first_block: self.data_start + 1 + u64::from(self.roots),
            slab_count: self.slabs,
            slab: self.slab,
        }
    }

    /// Returns the first block of the recovery journal.
    pub fn journal(&self) -> Pbn {
        self.depot().last_block()
    }

    /// Returns the first block of the slab summary.
    pub fn summary(&self) -> Pbn {
        self.journal() + self.journal_blocks
    }

    /// Returns the number of blocks.
    pub fn physical_blocks(&self) -> u64 {
        self.summary() + u64::from(summary::BLOCKS)
    }

    /// Returns what a block is for, as far as its place tells.
    pub fn kind(&self, pbn: Pbn) -> Kind {
        let depot = self.depot();
        if pbn == 0 {
            Kind::Geometry
        } else if pbn < self.data_start {
            Kind::Index
        } else if pbn == self.data_start {
            Kind::SuperBlock
        } else if pbn < depot.first_block {
            Kind::Interior
        } else if pbn >= self.summary() {
            Kind::Summary
        } else if pbn >= self.journal() {
            Kind::Journal
        } else if depot.is_data_block(pbn) {
            Kind::Data
        } else if (pbn - depot.first_block) % u64::from(self.slab.blocks)
            < u64::from(self.slab.data_blocks + self.slab.reference_blocks)
        {
            Kind::Counts
        } else {
            Kind::SlabJournal
        }
    }

    /// Returns the sectors of the slabs.
    pub fn slab_sectors(&self) -> std::ops::Range<u64> {
        let depot = self.depot();
        depot.first_block * BLOCK_SECTORS..depot.last_block() * BLOCK_SECTORS
    }

    /// Returns this layout with more slabs.
    pub fn grown(mut self, slabs: u32) -> Self {
        self.slabs += slabs;
        self
    }
}

impl Default for Toy {
    fn default() -> Self {
        Self {
            layout: Layout {
                nonce: 0x0006_60BD_330B_E58D,
                data_start: 2,
                roots: 3,
                slabs: 4,
                slab: slab(32, 10, 4),
                journal_blocks: 8,
            },
            // Leaf pages of trees 0, 1 and 2, and again.
            logical_blocks: 6 * 812 + 100,
            journal_shape: recovery_journal::Shape {
                entries_per_sector: 1,
            },
            slab_journal_shape: slab_journal::Shape { full: 7, data: 8 },
            cache_pages: 2,
            max_age: 3,
            index_shape: None,
        }
    }
}

/// Returns a slab with a journal of so many blocks, in which `spare` blocks have room for the
/// changes that the recovery journal may hold and the slab journal lacks.
///
/// As in large volumes, a slab journal never has all of its blocks but one in use before the first
/// count is written: the place of its next block would be 0, which means "never used".
pub fn slab(blocks: u32, journal_blocks: u32, spare: u32) -> SlabConfig {
    let blocking = journal_blocks - 3 - spare;
    SlabConfig {
        blocks,
        data_blocks: blocks - journal_blocks - 1,
        reference_blocks: 1,
        journal_blocks,
        flushing: blocking.div_ceil(2),
        blocking,
        scrubbing: blocking + 1,
    }
}

/// A toy of an index: four chapters, of sixteen names each.
const INDEX: Shape = Shape {
    page_size: 4096,
    page_records: 8,
    record_pages: 2,
    chapters: 4,
    sparse_chapters: 0,
    sample_rate: 0,
};

impl Toy {
    /// Returns this toy with an index.
    pub fn with_index(mut self) -> Self {
        let blocks = uds::format::Geometry::of_shape(INDEX)
            .expect("an index")
            .total_blocks();
        self.index_shape = Some(INDEX);
        self.layout.data_start = 1 + blocks;
        self
    }

    /// Returns what a formatter is told.
    pub fn parameters(&self) -> Parameters {
        let Layout { slab, .. } = self.layout;
        Parameters {
            nonce: self.layout.nonce,
            uuid: *b"a toy of a store",
            physical_blocks: self.layout.physical_blocks(),
            logical_blocks: Some(self.logical_blocks),
            slab_blocks: slab.blocks,
            slab_journal_blocks: slab.journal_blocks,
            recovery_journal_blocks: self.layout.journal_blocks,
            roots: self.layout.roots,
            index_memory: IndexMemory::QUARTER,
            sparse: false,
            index_blocks: Some(self.layout.data_start - 1),
        }
    }

    /// Returns geometry block and super block of a new volume.
    pub fn blocks(&self) -> (Geometry, SuperBlock) {
        let (geometry, mut super_block) = self.parameters().plan().expect("a volume that fits");
        // The thresholds reckon with larger journals.
        super_block.depot.slab = self.layout.slab;
        assert_eq!(super_block.depot, self.layout.depot());
        (geometry, super_block)
    }

    /// Returns a device with a new volume, and with junk wherever the formatter does not write;
    /// there is room for `slabs` more slabs.
    pub fn formatted(&self, slabs: u32) -> Vec<u8> {
        let mut image = self.junk(slabs);
        let layout = &self.layout;
        let roots = layout.data_start + 1..layout.depot().first_block;
        let journal = layout.journal()..layout.summary();
        for pbn in (1..2).chain(roots).chain(journal) {
            block_mut(&mut image, pbn).fill(0);
        }
        let (geometry, super_block) = self.blocks();
        super_block.encode(block_mut(&mut image, layout.data_start));
        geometry.encode(block_mut(&mut image, 0));
        image
    }

    /// Returns this toy with the sizes that the super block of an image says.
    ///
    /// # Errors
    ///
    /// What is wrong with the super block.
    pub fn found(&self, image: &[u8]) -> Result<Self, String> {
        let found = super_block(image)?;
        let mut toy = self.clone();
        toy.logical_blocks = found.logical_blocks;
        toy.layout.slabs = found.depot.slab_count;
        Ok(toy)
    }

    /// Returns a device of junk that has room for `slabs` more slabs than the volume.
    pub fn junk(&self, slabs: u32) -> Vec<u8> {
        let blocks = self.layout.grown(slabs).physical_blocks();
        pattern::run(pattern::JUNK, 0, blocks * BLOCK_SECTORS)
    }
}

/// Returns the bytes of a block in an image.
pub fn block(image: &[u8], pbn: Pbn) -> &[u8; BLOCK_SIZE] {
    let start = pbn as usize * BLOCK_SIZE;
    image[start..start + BLOCK_SIZE]
        .try_into()
        .expect("a block has the size of a block")
}

/// As [`block`], for writing.
pub fn block_mut(image: &mut [u8], pbn: Pbn) -> &mut [u8; BLOCK_SIZE] {
    let start = pbn as usize * BLOCK_SIZE;
    (&mut image[start..start + BLOCK_SIZE])
        .try_into()
        .expect("a block has the size of a block")
}

/// Returns the super block of an image.
///
/// # Errors
///
/// What is wrong with it.
pub fn super_block(image: &[u8]) -> Result<SuperBlock, String> {
    let geometry = Geometry::decode(block(image, 0)).map_err(|fault| format!("{fault:?}"))?;
    let blocks = (image.len() / BLOCK_SIZE) as u64;
    let at = geometry.device_block(geometry.data_start);
    let at = at.filter(|&at| at < blocks).ok_or("no super block")?;
    let super_block = SuperBlock::decode(block(image, at)).map_err(|fault| format!("{fault:?}"))?;
    super_block
        .check(&geometry)
        .map_err(|error| format!("{error:?}"))?;
    Ok(super_block)
}

/// Does what an administrator does to a volume that is read-only: asks for a rebuild.
///
/// # Errors
///
/// What is wrong with the super block.
pub fn force_rebuild(image: &mut [u8]) -> Result<(), String> {
    let mut found = super_block(image)?;
    if found.state == State::ReadOnly {
        found.state = State::ForceRebuild;
        let pbn = Geometry::decode(block(image, 0))
            .map_err(|fault| format!("{fault:?}"))?
            .data_start;
        found.encode(block_mut(image, pbn));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_toy_passes_the_checks_of_a_load() {
        let toy = Toy::default();
        let image = toy.formatted(3);
        let super_block = super_block(&image).expect("a volume");
        assert_eq!(super_block.depot, toy.layout.depot());
        assert_eq!(super_block.partitions.journal.start, toy.layout.journal());
        assert_eq!(super_block.partitions.summary.start, toy.layout.summary());
        assert_eq!(toy.layout.kind(toy.layout.journal()), Kind::Journal);
        let depot = toy.layout.depot();
        assert_eq!(toy.layout.kind(depot.pbn(1, 20)), Kind::Data);
        assert_eq!(toy.layout.kind(depot.reference_block(1, 0)), Kind::Counts);
        assert_eq!(
            toy.layout.kind(depot.journal_block(1, 3)),
            Kind::SlabJournal
        );
    }
}
