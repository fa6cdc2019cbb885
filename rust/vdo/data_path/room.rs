// SPDX-License-Identifier: GPL-2.0

//! What is tried before "out of space" is said.
//!
//! A block that was overwritten is free when the journal has committed that and the counts have
//! been changed; a slab that waits to be scrubbed may have free blocks; and the storage may take what
//! it did not take before. What was acknowledged before may have its entries still to come: batches
//! that were begun earlier are waited for. They wait for nothing that a later one has, so there is
//! no circle.

use crate::data_path::write::Writer;
use crate::world::World;
use runtime::task::yield_now;

/// The attempts of one request.
pub(crate) struct Room<'w, W: World> {
    writer: &'w Writer<W>,
    worker: usize,
    applied: bool,
}

impl<W: World> Writer<W> {
    /// Returns a fresh set of attempts for the batch of a worker.
    pub(crate) fn room(&self, worker: usize) -> Room<'_, W> {
        Room {
            writer: self,
            worker,
            applied: false,
        }
    }
}

impl<W: World> Room<'_, W> {
    /// Makes room, as far as possible. Returns false if there is nothing more to try.
    pub(crate) async fn make(&mut self) -> bool {
        if !self.applied {
            self.applied = true;
            self.writer.unsettled.settled_before(self.worker).await;
            self.writer.packer.write_all().await;
            let end = self.writer.journal.end();
            if self.writer.journal.applied(end).await.is_err() {
                return false;
            }
            return true;
        }
        // Whoever waits for slabs may find that others have taken what there was.
        let scrubbed = self.writer.depot.wait_for_scrubbed().await == Ok(true);
        self.applied = !scrubbed;
        // They may have taken it and not said so yet: let them.
        yield_now().await;
        scrubbed || self.writer.set_aside.give_back(&self.writer.depot)
    }
}
