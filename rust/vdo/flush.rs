// SPDX-License-Identifier: GPL-2.0

//! Flushes: everything that was acknowledged before one is on stable storage when it completes.
//!
//! What the journal has not committed yet it commits; that write is preceded by a flush of the
//! storage, so the data is there too. If there is nothing to commit the storage is flushed all the
//! same, and who comes meanwhile shares the next flush.

use crate::engine::Engine;
use crate::error::Error;
use crate::error::Result;
use crate::storage::Purpose;
use crate::world::World;
use core::pin::pin;
use kernel::prelude::*;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;

/// Whether the storage is being flushed, and who waits for that.
pub(crate) struct SharedFlush {
    monitor: Monitor<State>,
}

#[derive(Default)]
struct State {
    running: bool,
    /// Flushes that were begun.
    begun: u64,
}

/// Who waits: for the first flush that begins after it came.
struct Waiter {
    wants: Option<u64>,
    result: Option<Result>,
}

impl Rules for State {
    type Key = Waiter;

    fn left(&mut self, _: &Waiter, _: &mut Entries<'_, Waiter>) {}
}

enum Turn {
    Lead,
    Done(Result),
}

impl SharedFlush {
    pub(crate) fn new() -> Self {
        Self {
            monitor: Monitor::new(State::default()),
        }
    }
}

impl<W: World> Engine<W> {
    /// Serves a flush.
    ///
    /// # Errors
    ///
    /// `EIO` once a write that was acknowledged is lost; the error of the storage's own flush.
    pub async fn flush(&self) -> Result<(), kernel::error::Error> {
        self.count_flush_in();
        self.unsettled.settled().await;
        let result = self.make_stable().await;
        self.count_flush_done();
        result.map_err(Error::errno)
    }

    async fn make_stable(&self) -> Result {
        if self.lost.load_acquire() != 0 {
            return Err(Error::Errno(EIO));
        }
        let end = self.journal.end();
        if self.journal.committed() < end {
            return match self.journal.commit(end).await {
                // The entries will never be there: what they tell of is lost.
                Err(_) => {
                    self.lost.store_release(1);
                    Err(Error::Errno(EIO))
                }
                Ok(()) => Ok(()),
            };
        }
        self.flush_storage().await
    }

    /// Flushes the storage, alone or with others.
    pub(crate) async fn flush_storage(&self) -> Result {
        let monitor = &self.flushing.monitor;
        let entry = pin!(monitor.entry(Waiter {
            wants: None,
            result: None,
        }));
        loop {
            let turn = entry
                .as_ref()
                .wait(|turn| {
                    if let Some(result) = turn.key.result {
                        return Some(Turn::Done(result));
                    }
                    // Not the one that is under way: it does not cover what ended since.
                    turn.key.wants.get_or_insert(turn.state.begun);
                    if turn.state.running {
                        return None;
                    }
                    turn.state.running = true;
                    turn.state.begun += 1;
                    Some(Turn::Lead)
                })
                .await;
            if let Turn::Done(result) = turn {
                return result;
            }
            let (begun, result) = self.flush_once().await;
            entry.as_ref().with(|turn| {
                turn.state.running = false;
                turn.key.result = Some(result);
                let mut next = true;
                turn.others.wake_where(|waiter| {
                    if waiter.result.is_none() && waiter.wants.is_some_and(|wants| wants < begun) {
                        waiter.result = Some(result);
                        return true;
                    }
                    // One of those who came too late leads the next.
                    waiter.result.is_none() && core::mem::replace(&mut next, false)
                });
            });
        }
    }

    async fn flush_once(&self) -> (u64, Result) {
        let begun = self.flushing.monitor.with(|state, _| state.begun);
        let carrier = self.carrier.take().await;
        let (carrier, result) = self.storage.flush(Purpose::Data, carrier).await;
        self.carrier.give(carrier);
        (begun, result)
    }
}
