// SPDX-License-Identifier: GPL-2.0

//! The tasks that bring entries to the storage.

use super::ring::work::Batch;
use super::ring::work::Heads;
use super::ring::work::Work;
use super::ring::Seat;
use super::Holds;
use super::Journal;
use crate::error::Error;
use crate::error::Result;
use crate::format::recovery_journal;
use crate::format::Sequence;
use crate::storage::Purpose;
use crate::world::Level;
use crate::world::World;
use core::pin::pin;
use runtime::clock::Timer;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::sync::Arc;

type BufferOf<W> = <<W as World>::Disk as Disk>::Buffer;

impl<W: World> Journal<W> {
    /// The writer: writes what is to be committed, until the journal stops.
    pub async fn run_writer(journal: Arc<Self>, holds: Arc<impl Holds>) {
        let Some(mut buffer) = journal.buffer.with(Option::take) else {
            return;
        };
        let mut opened = 0;
        while let Some(work) = journal.next_work().await {
            let result;
            (buffer, result) = journal.work(work, &*holds, &mut opened, buffer).await;
            if result.is_err() {
                journal.wake_all();
            }
        }
        journal.buffer.with(|own| *own = Some(buffer));
    }

    async fn next_work(&self) -> Option<Work> {
        let seat = pin!(self.seat(Seat::Writer));
        seat.as_ref()
            .wait(|turn| {
                if turn.state.stopping {
                    return Some(None);
                }
                if self.health.is_read_only() {
                    return None;
                }
                turn.state.next_work().map(Some)
            })
            .await
    }

    async fn work(
        &self,
        work: Work,
        holds: &impl Holds,
        opened: &mut Sequence,
        buffer: BufferOf<W>,
    ) -> (BufferOf<W>, Result) {
        let mut done = (buffer, Ok(()));
        match work {
            Work::Write(batch) => {
                let heads = heads(&batch, holds);
                for sequence in batch.first.max(*opened + 1)..=batch.last() {
                    holds.block_opened(sequence);
                    *opened = sequence;
                }
                done = self.write(&batch, heads, done.0).await;
            }
            Work::Look(Some(batch)) => {
                let heads = heads(&batch, holds);
                #[cfg(test)]
                if self.flaw == super::Flaw::EarlyReuse {
                    self.monitor
                        .with(|ring, tasks| ring.forget_head(heads, tasks));
                }
                if heads.oldest() > self.head() {
                    done = self.write(&batch, heads, done.0).await;
                }
            }
            Work::Look(None) => {}
        }
        let hurry = self.monitor.with(|ring, tasks| {
            ring.end_write(tasks);
            ring.hurry_before()
        });
        if let Some(before) = hurry {
            holds.hurry(before);
        }
        done
    }

    async fn write(
        &self,
        batch: &Batch,
        heads: Heads,
        mut buffer: BufferOf<W>,
    ) -> (BufferOf<W>, Result) {
        for (index, sequence) in (batch.first..=batch.last()).enumerate() {
            if let Some(page) = buffer.page_mut(index) {
                self.monitor
                    .with(|ring, _| ring.build(batch, sequence, heads, page));
            }
        }
        self.monitor
            .with(|ring, _| ring.statistics.blocks.written += batch.blocks);
        #[cfg(test)]
        if self.flaw == super::Flaw::EarlyCommit {
            self.monitor
                .with(|ring, tasks| ring.commit(batch, heads, tasks));
        }
        let position = recovery_journal::position(batch.first, self.size);
        let pbn = self.origin.load_acquire().saturating_add(position);
        let (buffer, result) = self
            .storage
            .write(
                Purpose::Journal,
                pbn,
                batch.blocks as u32,
                buffer,
                0,
                self.durability(),
            )
            .await;
        match result {
            Ok(()) => self
                .monitor
                .with(|ring, tasks| ring.commit(batch, heads, tasks)),
            Err(error) => self.fail(batch.first, error),
        }
        (buffer, result)
    }

    #[cfg(not(test))]
    fn durability(&self) -> Durability {
        Durability::Ordered
    }

    #[cfg(test)]
    fn durability(&self) -> Durability {
        match self.flaw {
            super::Flaw::NoPreflush => Durability::Stable,
            _ => Durability::Ordered,
        }
    }

    fn fail(&self, sequence: Sequence, error: Error) {
        self.world.log(
            Level::Error,
            format_args!("cannot write recovery journal block {sequence}: {error}"),
        );
        self.health.enter_read_only(error);
    }

    /// The timer: ends the wait of entries for company, until the journal stops.
    pub async fn run_timer(journal: Arc<Self>) {
        let Some(mut timer) = journal.timer.with(Option::take) else {
            return;
        };
        while journal.timer_is_needed().await {
            timer.sleep(journal.commit_delay_ms).await;
            journal.monitor.with(|ring, tasks| {
                ring.tick();
                ring.wake_writer(tasks);
            });
        }
        journal.timer.with(|own| *own = Some(timer));
    }

    async fn timer_is_needed(&self) -> bool {
        let seat = pin!(self.seat(Seat::Timer));
        seat.as_ref()
            .wait(|turn| {
                if turn.state.stopping {
                    return Some(false);
                }
                if self.health.is_read_only() {
                    return None;
                }
                turn.state.needs_timer().then_some(true)
            })
            .await
    }
}

/// Returns how far the heads can go now, for the headers of `batch`.
///
/// Every entry that is not committed yet is held by its page, or comes later than the batch. What
/// is not applied no slab journal holds yet: the batch knows where that begins, as of a moment
/// before the depot is asked.
fn heads(batch: &Batch, holds: &impl Holds) -> Heads {
    let slab_journal = holds.slab_journals().unwrap_or(batch.cap);
    Heads {
        block_map: holds.block_map().unwrap_or(batch.cap).min(batch.cap),
        slab_journal: slab_journal.min(batch.applied).min(batch.cap),
    }
}
