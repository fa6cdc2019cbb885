// SPDX-License-Identifier: GPL-2.0

//! Stand-in for the engine until it is there: no bio succeeds.

use crate::bios::UserBio;
use crate::bios::UserRead;
use crate::world::KernelWorld;
use kernel::prelude::*;
use kernel::sync::Arc;
use platform::disk::KernelDisk;
use platform::executor::Executor;
use runtime::sync::Lock;
use vdo::error::Result as VdoResult;
use vdo::format::super_block::SuperBlock;
use vdo::open::Opened;
use vdo::statistics::Statistics;
use vdo::storage::Storage;
use vdo::table::Settings;

pub(crate) struct Engine {
    world: KernelWorld,
    storage: Storage<KernelDisk>,
    found: Lock<SuperBlock>,
}

impl Engine {
    pub(crate) fn new(
        world: KernelWorld,
        disk: Arc<KernelDisk>,
        opened: &Opened,
        _: &Settings,
    ) -> VdoResult<Self> {
        Ok(Self {
            world,
            storage: Storage::new(disk, opened.geometry.bio_offset),
            found: Lock::new(opened.super_block),
        })
    }

    pub(crate) fn spawn(&self, _: &Executor) -> Result {
        Ok(())
    }

    pub(crate) fn world(&self) -> &KernelWorld {
        &self.world
    }

    pub(crate) fn disk(&self) -> Arc<KernelDisk> {
        self.storage.disk()
    }

    pub(crate) fn set_disk(&self, disk: Arc<KernelDisk>) {
        self.storage.set_disk(disk);
    }

    pub(crate) fn submit(&self, bio: UserBio) {
        drop(bio);
    }

    pub(crate) async fn read(&self, _: &mut UserRead<'_>) -> Result {
        Err(EIO)
    }

    pub(crate) async fn flush(&self) -> Result {
        Ok(())
    }

    pub(crate) async fn start(&self, logical_blocks: u64) -> VdoResult {
        self.grow_logical(logical_blocks).await
    }

    pub(crate) async fn resume(&self) -> VdoResult {
        Ok(())
    }

    pub(crate) async fn suspend(&self, _: bool) {}

    pub(crate) fn check_physical_growth(&self, blocks: u64) -> VdoResult {
        let found = self.found.with(|found| *found);
        vdo::format::layout::grown(&found, blocks).map(|_| ())
    }

    pub(crate) async fn grow_logical(&self, blocks: u64) -> VdoResult {
        self.found.with(|found| found.logical_blocks = blocks);
        Ok(())
    }

    pub(crate) async fn grow_physical(&self, blocks: u64) -> VdoResult {
        let found = self.found.with(|found| *found);
        let grown = vdo::format::layout::grown(&found, blocks)?;
        self.found.with(|found| *found = grown);
        Ok(())
    }

    pub(crate) fn stop(&self) {}

    pub(crate) fn is_read_only(&self) -> bool {
        false
    }

    pub(crate) fn is_recovering(&self) -> bool {
        false
    }

    pub(crate) fn physical_blocks(&self) -> u64 {
        self.found.with(|found| found.physical_blocks)
    }

    pub(crate) fn logical_blocks(&self) -> u64 {
        self.found.with(|found| found.logical_blocks)
    }

    pub(crate) fn used_blocks(&self) -> u64 {
        self.found.with(|found| {
            let depot = &found.depot;
            let data = u64::from(depot.slab.data_blocks) * u64::from(depot.slab_count);
            found.physical_blocks.saturating_sub(data)
        })
    }

    pub(crate) fn statistics(&self, all: &mut Statistics) {
        all.overhead_blocks_used = self.used_blocks();
        all.allocator.slab_count = self.found.with(|found| found.depot.slab_count).into();
        all.recovery_percentage = 100;
    }
}
