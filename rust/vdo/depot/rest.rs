// SPDX-License-Identifier: GPL-2.0

//! What must hold while nothing is under way.

use super::slab::Slab;
use super::slab::State;
use super::BufferOf;
use super::Depot;
use crate::format::SlabNumber;
use crate::world::World;

impl<W: World> Depot<W> {
    /// Returns what is not as it must be during a pause, after everything was `saved` or not.
    pub fn not_at_rest(&self, saved: bool) -> Option<&'static str> {
        let busy = self.desk.with(|work| work.not_at_rest(saved));
        if busy.is_some() {
            return busy;
        }
        if !self.scrubber.is_full() {
            return Some("the scrubber is at work");
        }
        (0..self.layout().slab_count).find_map(|number| self.slab_not_at_rest(number, saved))
    }

    fn slab_not_at_rest(&self, number: SlabNumber, saved: bool) -> Option<&'static str> {
        let known = self
            .allocator
            .with(|allocator| allocator.free_of(number))
            .unwrap_or(u32::MAX);
        let look = |slab: &mut Slab<BufferOf<W>>| match &slab.state {
            State::Scrubbing => Some("a slab is being scrubbed"),
            State::Ready(counts) if counts.tally().0 != counts.free() => {
                Some("a slab has lost count of its free blocks")
            }
            State::Ready(counts) if !counts.is_unclaimed() => Some("a block is claimed"),
            State::Ready(counts) if counts.free() != known => {
                Some("the allocator has lost count of the free blocks of a slab")
            }
            State::Ready(counts) if saved && !counts.is_clean() => Some("counts are not written"),
            _ if saved && !(slab.journal.entries() == 0 && slab.journal.is_settled()) => {
                Some("a slab journal is not written")
            }
            _ => None,
        };
        self.slab(number, look).ok()?
    }

    /// Returns how many blocks are provisional, of the slabs whose counts are known.
    pub fn provisional_blocks(&self) -> u64 {
        let of_slab = |number| {
            self.slab(number, |slab| {
                slab.counts().map_or(0, |counts| counts.tally().1)
            })
        };
        (0..self.layout().slab_count)
            .filter_map(|number| of_slab(number).ok())
            .map(u64::from)
            .sum()
    }
}
