// SPDX-License-Identifier: GPL-2.0

//! What a simulated machine is made of.

use crate::flaw::Flaw;
use crate::space::Space;
use crate::toy::slab;
use crate::toy::Layout;
use crate::toy::Toy;
use crate::toy::BLOCK_SECTORS;
use sim::Model;
use sim::Rng;
use std::ops::Range;
use vdo::format::recovery_journal;
use vdo::format::slab_journal;
use vdo::format::Lbn;

/// Slabs that there is room for behind the volume.
const SPARE_SLABS: u32 = 3;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The volume.
    pub toy: Toy,
    /// The blocks that are used.
    pub space: Space,
    /// Workers of the engine.
    pub workers: usize,
    /// Workers beside them that take two blocks at most, when the others wait.
    pub small_workers: usize,
    /// Tasks that wait for blocks which others have.
    pub claimers: usize,
    /// Blocks in a batch, and so in a request.
    pub batch_blocks: usize,
    /// Journal blocks in memory.
    pub journal_memory_blocks: u64,
    /// Journal blocks in one write.
    pub journal_io_blocks: u64,
    /// Places in the journal that a request is given at once.
    pub journal_grant: usize,
    /// Blocks of slab journals that may be on their way.
    pub slab_journal_pages: usize,
    /// Pages of the buffers for metadata.
    pub io_pages: usize,
    /// Whether the volume shows sectors of 512 bytes.
    pub small_sectors: bool,
    /// Whether the storage can only read and write whole blocks of the volume.
    pub large_storage_blocks: bool,
    /// Whether tasks are preempted, as on several CPUs.
    pub preempted: bool,
    /// Whether there is an index, and it is used.
    pub deduplication: bool,
    /// Whether blocks are compressed.
    pub compression: bool,
    /// The rule that is broken.
    pub flaw: Option<Flaw>,
}

/// How a volume grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// By so many logical blocks.
    pub logical: u64,
    /// By so many slabs.
    pub slabs: u32,
    /// Whether everything is saved before.
    pub flush: bool,
}

/// Clusters on five leaf pages of three trees, two of them across the border of two pages.
const CLUSTERS: [Range<Lbn>; 5] = [0..8, 808..816, 1624..1628, 2436..2440, 4968..4972];

/// More than a slab has room for.
const TIGHT: [Range<Lbn>; 3] = [0..16, 806..820, 1624..1632];

impl Default for Plan {
    fn default() -> Self {
        Self {
            toy: Toy::default(),
            space: Space::new(&CLUSTERS),
            workers: 3,
            small_workers: 0,
            claimers: 2,
            batch_blocks: 8,
            journal_memory_blocks: 2,
            journal_io_blocks: 2,
            journal_grant: usize::MAX,
            slab_journal_pages: 4,
            io_pages: 4,
            small_sectors: false,
            large_storage_blocks: false,
            preempted: false,
            deduplication: false,
            compression: false,
            flaw: None,
        }
    }
}

impl Plan {
    /// Returns a plan by chance.
    pub fn random(rng: &mut Rng) -> Self {
        let journal_blocks = *rng.pick(&[8, 8, 16]);
        let entries_per_sector = 1 + rng.below(3) as u8;
        let journal_memory_blocks = *rng.pick(&[2, 2, 4]);
        // Each entry is two changes.
        let journal_shape = recovery_journal::Shape { entries_per_sector };
        let changes = 2 * journal_memory_blocks as u16 * journal_shape.entries_per_block();
        let spare = 2 + rng.below(3) as u32;
        let full = changes.div_ceil(spare as u16);
        let slab_journal_blocks = spare + 5 + rng.below(6) as u32;
        // Some volumes are too small for all that is written to them.
        let is_tight = rng.chance(1, 5);
        let slabs = match is_tight {
            true => 1,
            false => 2 + rng.below(4) as u32,
        };
        let toy = Toy {
            layout: Layout {
                slabs,
                slab: slab(*rng.pick(&[32, 32, 64]), slab_journal_blocks, spare),
                journal_blocks,
                ..Toy::default().layout
            },
            journal_shape,
            slab_journal_shape: slab_journal::Shape {
                full,
                data: full + rng.below(3) as u16,
            },
            cache_pages: *rng.pick(&[1, 1, 2, 2, 3, 4]),
            max_age: 1 + rng.below(4),
            ..Toy::default()
        };
        let clusters = match rng.below(4) {
            _ if is_tight => &TIGHT[..1 + rng.below(3) as usize],
            0 => &CLUSTERS[..1],
            1 => &CLUSTERS[..3],
            _ => &CLUSTERS[..],
        };
        let workers = 2 + rng.below(3) as usize;
        Self {
            toy,
            space: Space::new(clusters),
            workers,
            small_workers: workers % 3,
            claimers: 1 + workers % 2,
            batch_blocks: *rng.pick(&[8, 12, 24]),
            journal_memory_blocks,
            journal_io_blocks: 1 + rng.below(3),
            // One to three places at once: what is reserved in parts is often cut there.
            journal_grant: *rng.pick(&[usize::MAX, usize::MAX, 3, 2, 1]),
            slab_journal_pages: 2 + rng.below(8) as usize,
            io_pages: *rng.pick(&[1, 2, 8]),
            small_sectors: rng.chance(1, 3),
            large_storage_blocks: rng.chance(1, 4),
            preempted: false,
            deduplication: false,
            compression: false,
            flaw: None,
        }
    }

    /// Returns this plan with an index that is used.
    pub fn with_index(self) -> Self {
        Self {
            toy: self.toy.with_index(),
            deduplication: true,
            ..self
        }
    }

    /// Returns the device before the first boot: a new volume, and room behind it.
    pub fn image(&self) -> Vec<u8> {
        self.toy.formatted(SPARE_SLABS)
    }

    /// Returns what a new volume must show.
    pub fn model(&self) -> Model {
        Model::zeroed(self.space.sectors(), self.unit())
    }

    /// Returns the sectors of which requests are made, and which are always written together.
    pub fn unit(&self) -> u64 {
        match self.small_sectors {
            true => 1,
            false => BLOCK_SECTORS,
        }
    }
}
