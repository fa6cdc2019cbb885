// SPDX-License-Identifier: GPL-2.0

//! What must hold while nothing is under way: for the simulator, which asks after every suspend.
//!
//! What a request, a batch or a task keeps for good by mistake is missed by nobody for a long time;
//! here it is named.

use crate::format::block_map;
use crate::format::Page;
use crate::format::Pbn;
use crate::volume::engine::Engine;
use crate::world::World;

impl<W: World> Engine<W> {
    /// Returns what is still in somebody's hands though the volume is suspended. After a suspend
    /// that has `saved` everything, nothing may be in memory only, either.
    pub fn not_at_rest(&self, saved: bool) -> Option<&'static str> {
        let rests = [
            (self.inbox.is_empty(), "a request waits"),
            (self.writer.held_up.is_empty(), "a write is held up"),
            (self.writer.unsettled.is_empty(), "a batch is not settled"),
            (self.writer.packer.is_empty(), "a fragment is parked"),
            (self.writer.locks.is_idle(), "a block is claimed"),
            (self.writer.shown.is_empty(), "data is shown"),
            (self.writer.flights.is_empty(), "a name is in flight"),
            (self.writer.askers.is_idle(), "the index is asked"),
            (self.flusher.carrier.is_full(), "a flush has its carrier"),
            (self.reader.fragments.is_full(), "a read has a fragment"),
            (self.admin.is_full(), "somebody administers the volume"),
            (
                self.map.is_idle(),
                "a page of the block map is pinned, read or written",
            ),
        ];
        if let Some((_, what)) = rests.into_iter().find(|(rests, _)| !rests) {
            return Some(what);
        }
        if self.health.is_read_only() {
            // What is in memory only stays there.
            return None;
        }
        if !self.journal.is_drained() {
            return Some("the journal is not drained");
        }
        if saved && self.map.oldest_change().is_some() {
            return Some("a page of the block map is not written");
        }
        self.depot.not_at_rest(saved)
    }

    /// Compares what the leaf pages of the block map say with the entries of the journal: returns
    /// how many blocks are mapped by each, unless the pages are not known. `stored` returns a page
    /// that is not in memory.
    ///
    /// Nobody waits between the change of a page and its entries: at any time both must agree.
    pub fn mapped_blocks(
        &self,
        leaves: impl Iterator<Item = u64>,
        stored: impl Fn(Pbn) -> Page,
    ) -> Option<(u64, u64)> {
        let count = |page: &Page| {
            let entries = block_map::entries(page);
            entries.filter(|entry| entry.is_mapped()).count() as u64
        };
        let mut mapped = 0;
        for number in leaves {
            let Some(leaf) = self.map.try_leaf(number)?.ok()? else {
                continue;
            };
            mapped += match self.map.try_read(leaf, count) {
                Some(blocks) => blocks,
                None => count(&stored(leaf)),
            };
        }
        Some((mapped, self.journal.counters().logical_blocks_used))
    }

    /// Returns how many blocks are taken to which nothing refers yet.
    pub fn provisional_blocks(&self) -> u64 {
        self.depot.provisional_blocks()
    }
}
