// SPDX-License-Identifier: GPL-2.0

mod crash;
mod crowd;
mod life;

use super::*;
use crate::fixture::world::arc;
use crate::fixture::world::storage;
use crate::fixture::world::TestWorld;
use crate::format::summary;
use sim::disk::SimDisk;
use sim::executor::Executor;
use sim::executor::Outcome;
use std::vec;
use std::vec::Vec;

const SUMMARY: Pbn = 0;
const FIRST: Pbn = summary::BLOCKS as Pbn;
const NONCE: u64 = 0x1234_5678;

/// A volume of nothing but slabs.
#[derive(Clone, Copy)]
struct Toy {
    slab: SlabConfig,
    slabs: u32,
    shape: Shape,
    zone_count: u32,
}

impl Toy {
    /// Slabs of 32 blocks, a journal of 4.
    fn tiny() -> Self {
        Self {
            slab: SlabConfig::new(32, 4).unwrap(),
            slabs: 4,
            shape: Shape { full: 5, data: 7 },
            zone_count: 1,
        }
    }

    /// As `tiny`, with longer slab journals.
    fn small() -> Self {
        Self {
            slab: SlabConfig::new(64, 16).unwrap(),
            slabs: 3,
            ..Self::tiny()
        }
    }

    /// A slab with three reference blocks.
    fn wide() -> Self {
        Self {
            slab: SlabConfig {
                data_blocks: 8100,
                reference_blocks: 3,
                ..SlabConfig::new(8192, 16).unwrap()
            },
            slabs: 1,
            ..Self::tiny()
        }
    }

    fn layout(&self) -> DepotLayout {
        DepotLayout {
            first_block: FIRST,
            slab_count: self.slabs,
            slab: self.slab,
        }
    }

    fn blocks(&self) -> u64 {
        self.layout().last_block()
    }

    /// A disk full of what somebody left there.
    fn image(&self) -> Vec<u8> {
        vec![0xA5; self.blocks() as usize * 4096]
    }

    fn depot(&self, disk: &SimDisk) -> Depot<TestWorld> {
        let config = DepotConfig {
            layout: self.layout(),
            summary_origin: SUMMARY,
            zone_count: self.zone_count,
            nonce: NONCE,
            shape: self.shape,
            journal_pages: 3,
            io_pages: 4,
        };
        let world = TestWorld::of(disk.world());
        Depot::new(&config, &world, storage(disk), arc(Health::new(false))).unwrap()
    }
}

/// Starts the tasks of a depot.
fn spawn(executor: &Executor<'_>, depot: &Arc<Depot<TestWorld>>) {
    executor.spawn_daemon("committer", Depot::run_committer(depot.clone()));
    executor.spawn_daemon("references", Depot::run_reference_writer(depot.clone()));
    executor.spawn_daemon("scrubber", Depot::run_scrubber(depot.clone()));
}

/// Runs a task to its end.
fn run<T: 'static>(
    executor: &mut Executor<'static>,
    future: impl core::future::Future<Output = T> + 'static,
) -> T {
    let task = executor.spawn("test", future);
    match executor.run_task(&task) {
        Ok(value) => value,
        Err(Outcome::Stuck(tasks)) => panic!("stuck: {tasks:?}"),
        Err(outcome) => panic!("{outcome:?}"),
    }
}
