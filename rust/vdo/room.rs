// SPDX-License-Identifier: GPL-2.0

//! What is tried before "out of space" is said.
//!
//! A block that was overwritten is free when the journal has committed that and the counts have
//! been changed; a slab that waits to be scrubbed may have free blocks.

use crate::engine::Engine;
use crate::world::World;

/// The attempts of one request.
pub(crate) struct Room<'e, W: World> {
    engine: &'e Engine<W>,
    applied: bool,
}

impl<W: World> Engine<W> {
    /// Returns a fresh set of attempts.
    pub(crate) fn room(&self) -> Room<'_, W> {
        Room {
            engine: self,
            applied: false,
        }
    }
}

impl<W: World> Room<'_, W> {
    /// Makes room, as far as possible. Returns false if there is nothing more to try.
    pub(crate) async fn make(&mut self) -> bool {
        if !self.applied {
            self.applied = true;
            let end = self.engine.journal.end();
            if self.engine.journal.applied(end).await.is_err() {
                return false;
            }
            return true;
        }
        // Whoever waits for slabs may find that others have taken what there was.
        let scrubbed = self.engine.depot.wait_for_scrubbed().await == Ok(true);
        self.applied = !scrubbed;
        scrubbed
    }
}
