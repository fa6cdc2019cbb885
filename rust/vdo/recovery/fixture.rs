// SPDX-License-Identifier: GPL-2.0

//! What the tests of recovery share: rings made by hand.

use super::Volume;
use crate::fixture::world::storage;
use crate::fixture::world::TestWorld;
use crate::format::metadata_type;
use crate::format::recovery_journal;
use crate::format::recovery_journal::Header;
use crate::format::recovery_journal::Shape;
use crate::format::DepotLayout;
use crate::format::Mapping;
use crate::format::Operation;
use crate::format::Page;
use crate::format::Partition;
use crate::format::Pbn;
use crate::format::RecoveryEntry;
use crate::format::Sequence;
use crate::format::SlabConfig;
use crate::journal::Counters;
use crate::storage::Storage;
use core::future::Future;
use runtime::sync::Arc;
use sim::disk::SimDisk;
use sim::executor::Executor;
use std::vec;
use std::vec::Vec;

pub(super) const ORIGIN: Pbn = 10;
pub(super) const SIZE: u64 = 32;
pub(super) const NONCE: u64 = 77;
pub(super) const RECOVERIES: u8 = 3;
/// One entry in a sector: 7 in a block.
pub(super) const SHAPE: Shape = Shape {
    entries_per_sector: 1,
};
pub(super) const FULL: u16 = 7;
pub(super) const FIRST_DATA: Pbn = 64;
const BLOCKS: u64 = 256;

/// A disk in the making.
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    pub(super) heads: (Sequence, Sequence),
}

/// A disk on which recovery is tried.
pub(super) struct Rig {
    pub(super) world: sim::world::World,
    pub(super) log: Arc<TestWorld>,
    pub(super) storage: Arc<Storage<SimDisk>>,
}

pub(super) fn volume() -> Volume {
    Volume {
        origin: ORIGIN,
        size: SIZE,
        shape: SHAPE,
        nonce: NONCE,
        recovery_count: RECOVERIES,
        journal_start: 1,
        counters: Counters {
            logical_blocks_used: 1,
            block_map_data_blocks: 2,
        },
        roots: Partition {
            start: 3,
            blocks: 2,
        },
        depot: DepotLayout {
            first_block: FIRST_DATA,
            slab_count: 1,
            slab: SlabConfig {
                blocks: 128,
                data_blocks: 120,
                reference_blocks: 1,
                journal_blocks: 4,
                flushing: 2,
                blocking: 3,
                scrubbing: 4,
            },
        },
    }
}

pub(super) fn data(page: Pbn, slot: u16, new: Pbn) -> RecoveryEntry {
    RecoveryEntry {
        operation: Operation::Data,
        page,
        slot,
        new: if new == 0 {
            Mapping::UNMAPPED
        } else {
            Mapping::plain(new)
        },
        old: Mapping::UNMAPPED,
    }
}

pub(super) fn child(page: Pbn, slot: u16, new: Pbn) -> RecoveryEntry {
    RecoveryEntry {
        operation: Operation::BlockMap,
        ..data(page, slot, new)
    }
}

impl Image {
    /// An empty disk; the next blocks get these heads.
    pub(super) fn new(heads: (Sequence, Sequence)) -> Self {
        Self {
            bytes: vec![0; BLOCKS as usize * 4096],
            heads,
        }
    }

    pub(super) fn page(&mut self, pbn: Pbn) -> &mut Page {
        let at = pbn as usize * 4096;
        (&mut self.bytes[at..at + 4096]).try_into().unwrap()
    }

    /// Returns the block at the place of this sequence.
    pub(super) fn block(&mut self, sequence: Sequence) -> &mut Page {
        self.page(ORIGIN + sequence % SIZE)
    }

    pub(super) fn header(&self, sequence: Sequence, count: usize) -> Header {
        Header {
            block_map_head: self.heads.0,
            slab_journal_head: self.heads.1,
            sequence,
            nonce: NONCE,
            metadata_type: metadata_type::RECOVERY_JOURNAL,
            entry_count: count as u16,
            logical_blocks_used: 1000,
            block_map_data_blocks: 50,
            check_byte: recovery_journal::check_byte(sequence, SIZE),
            recovery_count: RECOVERIES,
        }
    }

    /// Writes a block with these entries.
    pub(super) fn put(&mut self, sequence: Sequence, entries: &[RecoveryEntry]) -> &mut Self {
        let header = self.header(sequence, entries.len());
        let page = self.block(sequence);
        page.fill(0);
        for (index, entry) in (0..).zip(entries) {
            recovery_journal::put_entry(page, SHAPE, index, entry);
        }
        recovery_journal::seal(page, SHAPE, &header);
        self
    }

    /// Writes a block with this many entries of data.
    pub(super) fn fill(&mut self, sequence: Sequence, count: u16) -> &mut Self {
        let entries: Vec<_> = (0..count)
            .map(|slot| data(FIRST_DATA + 90, slot, FIRST_DATA + u64::from(slot)))
            .collect();
        self.put(sequence, &entries)
    }

    /// Writes full blocks.
    pub(super) fn fill_all(&mut self, sequences: impl IntoIterator<Item = Sequence>) -> &mut Self {
        for sequence in sequences {
            self.fill(sequence, FULL);
        }
        self
    }

    pub(super) fn rig(&self) -> Rig {
        let world = sim::world::World::new(1);
        let disk = world.add_disk("disk", self.bytes.clone());
        disk.set_latency(1..50);
        Rig {
            log: TestWorld::new(&world),
            storage: storage(&disk),
            world,
        }
    }
}

impl Rig {
    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut executor = Executor::new(&self.world);
        let task = executor.spawn("test", future);
        executor.run_task(&task).unwrap()
    }

    pub(super) fn page(&self, pbn: Pbn) -> Page {
        let at = pbn as usize * 4096;
        self.world.images()[0][at..at + 4096].try_into().unwrap()
    }
}
