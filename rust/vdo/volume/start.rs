// SPDX-License-Identifier: GPL-2.0

//! The start of a volume, by the state in which it was found.
//!
//! Nothing is written before it is clear that the volume can be understood. The super block that
//! ends a recovery or a rebuild makes the old journal void; until then all of it can be repeated.
//!
//! A volume with which something is wrong starts as one that is read-only, for good. Where there
//! only is no memory, or an I/O fails, the start is given up, and nothing says on disk that it
//! was tried: the next one may succeed.

use crate::block_map::Change;
use crate::block_map::Kind;
use crate::depot::Load;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::layout;
use crate::format::recovery_journal::Shape;
use crate::format::super_block::State;
use crate::format::super_block::SuperBlock;
use crate::format::Page;
use crate::format::Pbn;
use crate::format::Sequence;
use crate::journal::Counters;
use crate::journal::JournalStart;
use crate::recovery;
use crate::recovery::read_overlay;
use crate::recovery::rebuild;
use crate::recovery::replay;
use crate::recovery::Survey;
use crate::storage::Purpose;
use crate::volume::engine::counters_of;
use crate::volume::engine::Engine;
use crate::world::Level;
use crate::world::World;
use kernel::prelude::*;
use runtime::stack::boxed;

/// What a start found out.
struct Outcome {
    /// Where the journal goes on.
    tail: Sequence,
    counters: Counters,
    /// A recovery or a rebuild came to its end.
    recovered: bool,
    /// A rebuild was begun.
    rebuilt: bool,
}

impl<W: World> Engine<W> {
    /// Starts the volume, with a logical size that is not smaller than what it has. The tasks run.
    ///
    /// A volume that is damaged starts as one that is read-only.
    ///
    /// # Errors
    ///
    /// The volume can be recovered only by an older version; nothing was changed then. Or it cannot
    /// be rebuilt; or there is no memory, or an I/O fails. Nothing is written any more then, and
    /// another engine may try again.
    pub async fn start(&self, logical_blocks: u64) -> Result {
        let admin = self.admin.take().await;
        let found = self.super_block.get();
        let result = match found.state {
            _ if self.has_given_up() => {
                self.world.log(
                    Level::Error,
                    fmt!("The start was given up, and is tried again with another table only"),
                );
                Err(Status::InvalidAdminState.into())
            }
            _ if logical_blocks > layout::MAX_LOGICAL => Err(Status::OutOfRange.into()),
            State::ReadOnly => {
                let started = self.start_read_only(&found).await;
                // What cannot be stored shows all the same, as more of nothing.
                self.map.grow(logical_blocks.max(found.logical_blocks));
                match started {
                    Ok(()) => Ok(()),
                    Err(error) => self.give_up(error, "Start").await,
                }
            }
            _ => self.start_writable(&found, logical_blocks).await,
        };
        if result.is_ok() {
            self.set_suspended(false);
            self.session.resume();
        }
        self.admin.give(admin);
        result
    }

    async fn start_writable(&self, found: &SuperBlock, logical_blocks: u64) -> Result {
        let started = match self.prepare(found).await {
            Ok(outcome) => self.go(outcome, logical_blocks).await,
            Err(error) => Err(error),
        };
        let Err(error) = started else {
            return Ok(());
        };
        // Who waits for a task that has failed does not know why.
        let error = self.health.cause().unwrap_or(error);
        if found.state.needs_rebuild() {
            return self.give_up(error, "Rebuild").await;
        }
        let what = if found.state.needs_recovery() {
            "Recovery"
        } else {
            "Start"
        };
        if error.is_passing() {
            return self.give_up(error, what).await;
        }
        if found.state.needs_recovery() {
            self.world.log(Level::Error, fmt!("Recovery aborted"));
        }
        self.world.log(
            Level::Error,
            fmt!("Entering read-only mode due to load error: {error}"),
        );
        self.health.enter_read_only(error);
        if found.state.needs_recovery() || found.state == State::Recovering {
            // What was flushed is in the journal, and some of it only there.
            if let Err(error) = self.start_read_only(found).await {
                return self.give_up(error, what).await;
            }
        }
        Ok(())
    }

    /// Gives up a start: whoever tries again, on the same storage, finds nothing on its way there.
    async fn give_up(&self, error: Error, what: &str) -> Result {
        self.world.log(
            Level::Error,
            fmt!("{what} aborted, the next start tries it again: {error}"),
        );
        self.given_up.store_release(1);
        self.health.stop_writing(error);
        self.wake_all();
        self.map.pause().await;
        self.depot.pause().await;
        Err(error)
    }

    /// Returns whether a start was given up: what is in memory is of no use then.
    pub fn has_given_up(&self) -> bool {
        self.given_up.load_acquire() != 0
    }

    /// Brings block map, slabs and journal into a state from which the volume can go on.
    async fn prepare(&self, found: &SuperBlock) -> Result<Outcome> {
        let load = match found.state {
            State::New => Load::New,
            // Mainline may have gone on with it and left the state as it was.
            State::Recovering if self.has_journal(found).await? => {
                return self.recover(found).await
            }
            State::Recovering => Load::Recovering,
            state if state.needs_recovery() => return self.recover(found).await,
            state if state.needs_rebuild() => return self.rebuild(found).await,
            _ => Load::Clean,
        };
        self.depot.load(load).await?;
        Ok(Outcome {
            tail: found.journal_start,
            counters: counters_of(found),
            recovered: false,
            rebuilt: false,
        })
    }

    /// Returns whether the journal of a volume that seems to have been stopped in order is known to
    /// go on.
    ///
    /// # Errors
    ///
    /// That cannot be found out: to take the journal for one that ends would lose what was flushed.
    async fn has_journal(&self, found: &SuperBlock) -> Result<bool> {
        let volume = volume_of(found, self.tuning().journal_shape);
        let survey = boxed(|| Survey::new(&*self.world, &self.storage, &volume)).await??;
        Ok(survey.extent.is_some())
    }

    async fn recover(&self, found: &SuperBlock) -> Result<Outcome> {
        self.world.log(
            Level::Warning,
            fmt!("Device was dirty, rebuilding reference counts"),
        );
        let volume = volume_of(found, self.tuning().journal_shape);
        let survey = boxed(|| Survey::new(&*self.world, &self.storage, &volume)).await??;
        self.depot.load(Load::Crashed).await?;
        boxed(|| {
            replay::recover(
                &*self.world,
                &self.storage,
                &volume,
                &survey,
                self,
                &*self.depot,
            )
        })
        .await??;
        Ok(Outcome {
            tail: survey.next,
            counters: survey.counters,
            recovered: true,
            rebuilt: false,
        })
    }

    async fn rebuild(&self, found: &SuperBlock) -> Result<Outcome> {
        self.world.log(
            Level::Warning,
            fmt!("Rebuilding reference counts to clear read-only mode"),
        );
        self.depot.load(Load::Rebuild).await?;
        let volume = volume_of(found, self.tuning().journal_shape);
        let (world, storage, depot) = (&*self.world, &*self.storage, &*self.depot);
        let rebuilt = boxed(|| rebuild::rebuild(world, storage, &volume, found, depot));
        let (tail, counters) = rebuilt.await??;
        let counts = found.state == State::ForceRebuild;
        Ok(Outcome {
            tail,
            counters,
            recovered: counts,
            rebuilt: counts,
        })
    }

    /// Says on disk that the volume is in use, and lets it be used.
    async fn go(&self, outcome: Outcome, logical_blocks: u64) -> Result {
        let old = self.super_block.get();
        self.super_block
            .write(|block| {
                block.state = State::Dirty;
                // What the journal blocks are stamped with has to change with every recovery.
                block.complete_recoveries = block
                    .complete_recoveries
                    .wrapping_add(outcome.recovered.into());
                block.read_only_recoveries = block
                    .read_only_recoveries
                    .wrapping_add(outcome.rebuilt.into());
                block.journal_start = outcome.tail;
                block.logical_blocks_used = outcome.counters.logical_blocks_used;
                block.block_map_data_blocks = outcome.counters.block_map_data_blocks;
                block.zone_count = 1;
                block.logical_blocks = logical_blocks.max(block.logical_blocks);
            })
            .await?;
        if logical_blocks > old.logical_blocks {
            self.map.grow(logical_blocks);
        }
        let start = JournalStart {
            tail: outcome.tail,
            counters: outcome.counters,
        };
        self.journal
            .open(start, self.super_block.get().recovery_count());
        if outcome.recovered {
            let done = if outcome.rebuilt {
                "Read-only rebuild complete"
            } else {
                "Rebuild complete"
            };
            self.world.log(Level::Info, fmt!("{done}"));
        }
        let recovers = self.depot.start().await?;
        if recovers {
            self.world.log(Level::Info, fmt!("Entering recovery mode"));
        }
        // Who waits for the start asks at once whether the volume runs.
        self.set_suspended(false);
        self.started.send(recovers);
        Ok(())
    }

    /// Serves reads. What was flushed before the volume became read-only is in its journal, and is
    /// shown; nothing is written. Where what the journal has cannot be found out, reads fail: what
    /// is on the storage may be older than what was flushed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    async fn start_read_only(&self, found: &SuperBlock) -> Result {
        let volume = volume_of(found, self.tuning().journal_shape);
        let shown = boxed(|| self.show_journal(&volume)).await;
        let shown = shown.map_err(Error::from).and_then(|result| result);
        if let Err(error) = shown {
            self.map.hide_all();
            if error == Error::Errno(ENOMEM) {
                return shown;
            }
            self.world.log(
                Level::Error,
                fmt!(
                    "Recovery journal cannot be shown on the read-only volume, all reads will \
                     fail: {error}"
                ),
            );
        }
        Ok(())
    }

    async fn show_journal(&self, volume: &recovery::Volume) -> Result {
        let survey = Survey::new(&*self.world, &self.storage, volume).await?;
        let point = self.depot.latest_point_on_disk().await;
        survey.check_slab_point(&*self.world, point)?;
        self.world.log(
            Level::Info,
            fmt!("Showing {} recovery entries", survey.entries),
        );
        let overlay = read_overlay(&self.storage, volume, &survey).await?;
        self.map.show(overlay);
        Ok(())
    }
}

/// Returns what recovery has to know.
fn volume_of(found: &SuperBlock, shape: Shape) -> recovery::Volume {
    recovery::Volume {
        origin: found.partitions.journal.start,
        size: found.recovery_journal_size,
        shape,
        nonce: found.nonce,
        recovery_count: found.recovery_count(),
        journal_start: found.journal_start,
        counters: counters_of(found),
        roots: found.roots(),
        depot: found.depot,
    }
}

impl<W: World> replay::Pages for Engine<W> {
    async fn create(&self, pbn: Pbn) -> Result {
        self.map.create(pbn).await
    }

    async fn update(
        &self,
        pbn: Pbn,
        kind: Kind,
        mut change: impl FnMut(&mut Page) + Send,
    ) -> Result {
        let page = self.map.pin(pbn, kind).await?;
        page.update(
            Change {
                oldest: 0,
                newest: 0,
            },
            |page| change(page),
        );
        Ok(())
    }

    async fn write_all(&self) -> Result {
        self.map.write_all(&*self.journal).await?;
        self.flusher.flush_storage(Purpose::Metadata).await
    }
}
