// SPDX-License-Identifier: GPL-2.0

//! Volumes that become larger, while they are suspended.
//!
//! What moves is copied to its new place before the super block says that it is there: a crash
//! finds the old volume or the new one. New and old places do not overlap. Whatever fails before
//! that changes nothing, and behind it nothing fails.

use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::layout;
use crate::format::layout::Partition;
use crate::format::Pbn;
use crate::storage::Purpose;
use crate::volume::engine::Engine;
use crate::world::Level;
use crate::world::World;
use kernel::prelude::*;
use runtime::disk::Durability;

/// Blocks that are copied by one I/O.
const COPY_BLOCKS: u32 = 256;

impl<W: World> Engine<W> {
    /// Checks whether the volume could grow to `physical_blocks`; changes nothing.
    ///
    /// # Errors
    ///
    /// Too few blocks more, too many slabs, or the volume is recovering or read-only.
    pub fn check_physical_growth(&self, physical_blocks: u64) -> Result {
        self.health.check()?;
        if self.depot.is_recovering() {
            return Err(Status::RetryAfterRebuild.into());
        }
        layout::grown(&self.super_block.get(), physical_blocks).map(|_| ())
    }

    /// Grows the logical size, while the volume is suspended.
    ///
    /// # Errors
    ///
    /// There are too many blocks, the volume is read-only, or the super block cannot be written.
    pub async fn grow_logical(&self, logical_blocks: u64) -> Result {
        if logical_blocks > layout::MAX_LOGICAL {
            return Err(Status::OutOfRange.into());
        }
        if self.health.is_read_only() {
            self.world.log(
                Level::Error,
                fmt!(
                    "Can't grow logical size of a read-only VDO: {}",
                    Error::READ_ONLY
                ),
            );
            return Err(Error::READ_ONLY);
        }
        self.world
            .log(Level::Info, fmt!("Resizing logical to {logical_blocks}"));
        let written = self
            .super_block
            .write(|block| block.logical_blocks = logical_blocks)
            .await;
        self.health.watch(written)?;
        self.map.grow(logical_blocks);
        self.world
            .log(Level::Info, fmt!("Logical blocks now {logical_blocks}"));
        Ok(())
    }

    /// Grows the physical size, while the volume is suspended.
    ///
    /// # Errors
    ///
    /// As [`check_physical_growth`](Self::check_physical_growth), or those of reads and writes.
    pub async fn grow_physical(&self, physical_blocks: u64) -> Result {
        self.check_physical_growth(physical_blocks)?;
        let old = self.super_block.get();
        let new = layout::grown(&old, physical_blocks)?;
        let moved = [
            (old.partitions.journal, new.partitions.journal),
            (old.partitions.summary, new.partitions.summary),
        ];
        let room = self.depot.room_to_grow(new.depot.slab_count)?;
        for (from, to) in moved {
            self.copy(from, to.start).await?;
        }
        let written = self
            .super_block
            .write(|block| {
                block.physical_blocks = new.physical_blocks;
                block.partitions = new.partitions;
                block.depot = new.depot;
                block.last_block = new.last_block;
            })
            .await;
        self.health.watch(written)?;
        self.journal.set_origin(new.partitions.journal.start);
        let grown = self.depot.grow(room, new.partitions.summary.start);
        self.health.watch(grown)?;
        self.map.set_depot(new.depot);
        self.world.log(
            Level::Info,
            fmt!(
                "Physical block count was {}, now {physical_blocks}",
                old.physical_blocks
            ),
        );
        Ok(())
    }

    async fn copy(&self, from: Partition, to: Pbn) -> Result {
        let mut buffer = self.storage.buffer(COPY_BLOCKS as usize)?;
        let mut done = 0;
        while done < from.blocks {
            let blocks = (from.blocks - done).min(COPY_BLOCKS.into()) as u32;
            let result;
            (buffer, result) = self
                .storage
                .read(Purpose::Metadata, from.start + done, blocks, buffer, 0)
                .await;
            result?;
            let result;
            (buffer, result) = self
                .storage
                .write(
                    Purpose::Metadata,
                    to + done,
                    blocks,
                    buffer,
                    0,
                    Durability::Volatile,
                )
                .await;
            result?;
            done += u64::from(blocks);
        }
        Ok(())
    }
}
