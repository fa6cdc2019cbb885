// SPDX-License-Identifier: GPL-2.0

//! Batches that were begun and have not reached the journal.
//!
//! A write is acknowledged before its data is on the storage; a flush must cover it all the same.
//! So a flush waits until every batch that was begun before it is settled: the journal has its
//! entries, or it has failed.
//!
//! Who waits does so in order of arrival, which is that of the numbers. Of those who may go on the
//! first one is woken, and each that leaves wakes the next: a crowd costs nobody else anything. Workers,
//! who are few and wait for what was begun before their own batches, have a list of their own.

use core::pin::pin;
use kernel::prelude::*;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;

/// The list of workers that wait.
const WORKERS: usize = 1;

/// The batches that are not settled.
pub struct Unsettled {
    monitor: Monitor<Batches>,
}

struct Batches {
    /// By worker: the number of its batch.
    numbers: KVec<Option<u64>>,
    next: u64,
}

impl Batches {
    /// Returns true if every batch with a smaller number is settled.
    fn settled_before(&self, number: u64) -> bool {
        self.numbers.iter().flatten().all(|&batch| batch >= number)
    }

    fn wake_first(&self, waiting: &mut Entries<'_, Option<u64>>) {
        waiting.wake_first_if(0, |number| {
            number.is_none_or(|number| self.settled_before(number))
        });
    }
}

impl Rules for Batches {
    type Key = Option<u64>;

    fn left(&mut self, _: &Option<u64>, rest: &mut Entries<'_, Option<u64>>) {
        self.wake_first(rest);
    }
}

/// A batch that is not settled; dropped, it is.
pub struct Batch<'u> {
    unsettled: &'u Unsettled,
    worker: usize,
}

impl Unsettled {
    /// For so many workers.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(workers: usize) -> Result<Self> {
        let mut numbers = KVec::with_capacity(workers, GFP_KERNEL)?;
        for _ in 0..workers {
            numbers.push(None, GFP_KERNEL)?;
        }
        Ok(Self {
            monitor: Monitor::with_lists(Batches { numbers, next: 0 }, WORKERS + 1)?,
        })
    }

    /// A worker begins a batch; before it acknowledges anything.
    pub fn begin(&self, worker: usize) -> Batch<'_> {
        self.monitor.with(|batches, _| {
            let number = batches.next;
            batches.next += 1;
            if let Some(own) = batches.numbers.get_mut(worker) {
                *own = Some(number);
            }
        });
        Batch {
            unsettled: self,
            worker,
        }
    }

    /// Waits until every batch is settled that was begun before that of a worker.
    pub async fn settled_before(&self, worker: usize) {
        let own = self
            .monitor
            .with(|batches, _| batches.numbers.get(worker).copied().flatten());
        let Some(number) = own else { return };
        let entry = pin!(self.monitor.entry_in(WORKERS, own));
        entry
            .as_ref()
            .wait(|turn| turn.state.settled_before(number).then_some(()))
            .await;
    }

    /// Returns true if every batch is settled.
    pub fn is_empty(&self) -> bool {
        self.monitor
            .with(|batches, _| batches.numbers.iter().all(Option::is_none))
    }

    /// Waits until every batch that was begun before is settled.
    pub async fn settled(&self) {
        let entry = pin!(self.monitor.entry(None));
        entry
            .as_ref()
            .wait(|turn| {
                let number = *turn.key.get_or_insert(turn.state.next);
                turn.state.settled_before(number).then_some(())
            })
            .await;
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.unsettled.monitor.with(|batches, waiting| {
            if let Some(own) = batches.numbers.get_mut(self.worker) {
                *own = None;
            }
            batches.wake_first(waiting);
            waiting.wake_where_in(WORKERS, |number| {
                number.is_none_or(|number| batches.settled_before(number))
            });
        });
    }
}

#[cfg(test)]
mod tests;
