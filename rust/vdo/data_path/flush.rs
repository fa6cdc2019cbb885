// SPDX-License-Identifier: GPL-2.0

//! Flushes: everything that was acknowledged before one is on stable storage when it completes.
//!
//! What the journal has not committed yet it commits; that write is preceded by a flush of the
//! storage, so the data is there too. Each flush waits for its own place in the journal, and not for
//! what came behind it; those that wait at once share a write.
//!
//! If there is nothing to commit the storage is flushed all the same. These flushes go in rounds: one
//! does the work, and those that have come before it began share what comes of it. Who comes later
//! waits for the next round. A round that has ended wakes the first
//! who waits, and who leaves wakes the next, so that a flush costs the same however many wait.

use crate::data_path::counters::Counters;
use crate::data_path::lost::Lost;
use crate::data_path::packer::Packer;
use crate::data_path::unsettled::Unsettled;
use crate::error::Error;
use crate::error::Result;
use crate::journal::Journal;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::world::World;
use core::future::Future;
use core::pin::pin;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::pool::Pool;
use runtime::sync::Arc;

/// The rounds of flushes, and who waits for one.
pub(crate) struct SharedFlush {
    monitor: Monitor<Rounds>,
}

#[derive(Default)]
struct Rounds {
    running: bool,
    /// Rounds that were begun.
    begun: u64,
    /// Rounds that have ended.
    ended: u64,
    /// The number of the last round that failed, counted from 0, and its error.
    failed: Option<(u64, Error)>,
}

impl Rounds {
    /// Returns what a flush is to do that came when `number` rounds had begun, if it need not wait.
    fn turn(&mut self, number: u64) -> Option<Turn> {
        if self.ended > number {
            // A later one says nothing about what was lost before.
            let failed = self.failed.filter(|&(failed, _)| failed >= number);
            return Some(Turn::Done(failed.map_or(Ok(()), |(_, error)| Err(error))));
        }
        if self.running {
            return None;
        }
        self.running = true;
        self.begun += 1;
        Some(Turn::Lead)
    }

    fn end(&mut self, result: Result) {
        if let Err(error) = result {
            self.failed = Some((self.ended, error));
        }
        self.ended += 1;
        self.running = false;
    }
}

impl Rules for Rounds {
    /// How many rounds had begun when the flush came: none of them covers it.
    type Key = Option<u64>;

    fn left(&mut self, _: &Option<u64>, rest: &mut Entries<'_, Option<u64>>) {
        rest.wake_first();
    }
}

enum Turn {
    Lead,
    Done(Result),
}

impl SharedFlush {
    pub(crate) fn new() -> Self {
        Self {
            monitor: Monitor::new(Rounds::default()),
        }
    }

    /// Runs `round`, or waits for one that somebody else begins after this call. Returns its result.
    async fn join(&self, round: impl Future<Output = Result>) -> Result {
        let entry = pin!(self.monitor.entry(None));
        let turn = entry
            .as_ref()
            .wait(|turn| {
                let number = *turn.key.get_or_insert(turn.state.begun);
                turn.state.turn(number)
            })
            .await;
        match turn {
            Turn::Done(result) => result,
            Turn::Lead => {
                let result = round.await;
                entry.as_ref().with(|turn| turn.state.end(result));
                result
            }
        }
    }
}

/// Serves flushes.
pub(crate) struct Flusher<W: World> {
    pub(crate) storage: Arc<Storage<W::Disk>>,
    pub(crate) journal: Arc<Journal<W>>,
    pub(crate) unsettled: Arc<Unsettled>,
    pub(crate) packer: Arc<Packer>,
    pub(crate) rounds: SharedFlush,
    /// Lends its I/O resources to flushes of the storage.
    pub(crate) carrier: Pool<<W::Disk as Disk>::Buffer>,
    pub(crate) lost: Arc<Lost>,
    pub(crate) counters: Arc<Counters>,
}

impl<W: World> Flusher<W> {
    /// Serves a flush.
    ///
    /// # Errors
    ///
    /// `EIO` once a write that was acknowledged is lost; the error of the storage's own flush.
    pub(crate) async fn flush(&self) -> Result<(), kernel::error::Error> {
        self.counters.flush_came();
        self.settled().await;
        let result = self.make_stable().await;
        self.counters.flush_done();
        result.map_err(Error::errno)
    }

    /// Waits until everything that was acknowledged before is in the journal, or lost.
    pub(crate) async fn settled(&self) {
        self.unsettled.settled().await;
        self.packer.write_all().await;
    }

    async fn make_stable(&self) -> Result {
        if self.lost.get() {
            return Err(Error::Errno(EIO));
        }
        let end = self.journal.end();
        if self.journal.committed() >= end {
            return self.rounds.join(self.flush_storage(Purpose::Data)).await;
        }
        self.journal.commit(end).await.map_err(|_| {
            // The entries will never be there: what they tell of is lost.
            self.lost.set();
            Error::Errno(EIO)
        })
    }

    /// Flushes the storage.
    pub(crate) async fn flush_storage(&self, purpose: Purpose) -> Result {
        let carrier = self.carrier.take().await;
        let (carrier, result) = self.storage.flush(purpose, carrier).await;
        self.carrier.give(carrier);
        result
    }
}

#[cfg(test)]
mod tests;
