// SPDX-License-Identifier: GPL-2.0

//! Start, suspend, resume, and the way into read-only mode.
//!
//! On disk a volume is `Dirty` from before its first change until after its last one. A start
//! that finds anything else than a volume that was stopped in order makes it one first.

use crate::error::Result;
use crate::error::Status;
use crate::format::super_block::State;
use crate::storage::Purpose;
use crate::volume::engine::Engine;
use crate::world::Level;
use crate::world::World;
use kernel::prelude::*;

impl<W: World> Engine<W> {
    /// Suspends the volume: everything that was acknowledged is on stable storage then. With
    /// `save` the volume is left as one that was stopped in order. No bio is under way.
    ///
    /// Errors lead to read-only mode; a suspend always succeeds.
    pub async fn suspend(&self, save: bool) {
        let admin = self.admin.take().await;
        self.flusher.settled().await;
        // Also of what nobody waits for any more.
        self.writer.askers.settled().await;
        let saves = save && !self.health.is_read_only();
        self.session.suspend(saves).await;
        if !self.is_started() || self.health.is_protected() {
            self.admin.give(admin);
            return;
        }
        // Fails in read-only mode only, where nothing is written any more.
        let drained = self.journal.drain().await.is_ok();
        let flushed = self.flusher.flush_storage(Purpose::Data).await;
        self.counters.flush_of_suspend();
        if drained {
            let _ = self.health.watch(flushed);
        }
        let _ = self.depot.stop_scrubbing().await;
        if save && !self.health.is_read_only() {
            let saved = self.save().await;
            let _ = self.health.watch(saved);
        }
        // Whoever moves the storage now, or grows the volume, must find nothing on its way there.
        self.map.pause().await;
        self.depot.pause().await;
        // What they gave up last may have had the journal write its heads.
        let _ = self.journal.drain().await;
        self.set_suspended(true);
        self.admin.give(admin);
    }

    /// Writes everything that is only in memory, and says so.
    async fn save(&self) -> Result {
        self.map.write_all(&*self.journal).await?;
        self.depot.save().await?;
        let journal_start = self.journal.close_block()?;
        let counters = self.journal.counters();
        let state = if self.depot.is_recovering() {
            State::Recovering
        } else {
            State::Clean
        };
        self.super_block
            .write(|block| {
                block.state = state;
                block.journal_start = journal_start;
                block.logical_blocks_used = counters.logical_blocks_used;
                block.block_map_data_blocks = counters.block_map_data_blocks;
            })
            .await
    }

    /// Goes on after a suspend, before the first bio.
    ///
    /// # Errors
    ///
    /// The super block cannot be written.
    pub async fn resume(&self) -> Result {
        let admin = self.admin.take().await;
        self.health.set_protected(false);
        self.set_suspended(false);
        let result = if self.health.is_read_only() {
            // Not an error: reads are served.
            self.save_read_only().await;
            Ok(())
        } else {
            self.mark_dirty().await
        };
        if result.is_ok() {
            self.map.unpause();
            self.depot.unpause();
            self.depot.resume_scrubbing();
            self.session.resume();
        }
        self.admin.give(admin);
        self.health.watch(result)
    }

    /// Goes on after a suspend, for reading only: nothing is written before the next
    /// [`resume`](Self::resume).
    ///
    /// # Errors
    ///
    /// The volume was not left as one that was stopped in order: pages of the block map that are
    /// only in memory could not make room for others.
    pub async fn resume_protected(&self) -> Result {
        let admin = self.admin.take().await;
        let is_saved = self.super_block.get().state != State::Dirty;
        let result = match is_saved || self.health.is_read_only() {
            true => {
                // For whoever writes of his own accord it goes on being suspended.
                self.health.set_protected(true);
                Ok(())
            }
            false => Err(Status::InvalidAdminState.into()),
        };
        self.admin.give(admin);
        result
    }

    /// Says on disk that the volume is in use, before anything is changed.
    pub(crate) async fn mark_dirty(&self) -> Result {
        if self.super_block.get().state == State::Dirty {
            return Ok(());
        }
        self.super_block
            .write(|block| block.state = State::Dirty)
            .await
    }

    /// Sees to what must happen when the volume becomes read-only; ends when the engine stops.
    pub async fn run_guard(engine: kernel::sync::Arc<Self>) {
        while let Some(error) = engine.health.failed().await {
            if engine.has_given_up() {
                continue;
            }
            let text = match engine.health.is_lasting() {
                true => "Unrecoverable error, entering read-only mode",
                false => "Entering read-only mode until the next start",
            };
            engine.world.log(Level::Error, fmt!("{text}: {error}"));
            engine.wake_all();
            engine.world.event();
            let admin = engine.admin.take().await;
            engine.session.suspend(false).await;
            if !engine.is_suspended() && engine.is_started() {
                engine.save_read_only().await;
            }
            engine.admin.give(admin);
        }
    }

    /// Says on disk that the volume is read-only, unless it says so already, or need not be after a
    /// restart.
    async fn save_read_only(&self) {
        if !self.health.is_lasting() || self.super_block.get().state == State::ReadOnly {
            return;
        }
        let journal_start = self.journal.head();
        let counters = self.journal.counters();
        let written = self
            .super_block
            .write(|block| {
                block.state = State::ReadOnly;
                block.journal_start = journal_start;
                block.logical_blocks_used = counters.logical_blocks_used;
                block.block_map_data_blocks = counters.block_map_data_blocks;
            })
            .await;
        if let Err(error) = written {
            self.world
                .log(Level::Error, fmt!("super block save failed: {error}"));
        }
    }
}
