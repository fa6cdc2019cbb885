// SPDX-License-Identifier: GPL-2.0

//! The task that hands committed entries to the depot.

use super::ring::Seat;
use super::Apply;
use super::Journal;
use crate::error::Error;
use crate::format::JournalPoint;
use crate::format::StoredEntry;
use crate::world::World;
use core::pin::pin;
use kernel::prelude::*;
use runtime::sync::Arc;

type Entries = KVec<(JournalPoint, StoredEntry)>;

impl<W: World> Journal<W> {
    /// The applier: applies committed entries, in order, until the journal stops.
    pub async fn run_applier(journal: Arc<Self>, depot: Arc<impl Apply>) {
        let Some(mut batch) = journal.batch.with(Option::take) else {
            return;
        };
        while journal.next_committed(&mut batch).await {
            match depot.apply(&batch).await {
                Ok(()) => journal.monitor.with(|ring, tasks| {
                    ring.add_applied(batch.len() as u64, tasks);
                }),
                Err(error) => journal.fail_to_apply(error),
            }
        }
        batch.clear();
        journal.batch.with(|own| *own = Some(batch));
    }

    /// Waits for entries; returns false when the journal stops.
    async fn next_committed(&self, batch: &mut Entries) -> bool {
        batch.clear();
        let seat = pin!(self.seat(Seat::Applier));
        seat.as_ref()
            .wait(|turn| {
                if turn.state.stopping {
                    return Some(false);
                }
                if self.health.is_read_only() {
                    return None;
                }
                turn.state.take_committed(batch);
                (!batch.is_empty()).then_some(true)
            })
            .await
    }

    fn fail_to_apply(&self, error: Error) {
        if error != Error::READ_ONLY {
            self.health.enter_read_only(error);
        }
        self.wake_all();
    }
}
