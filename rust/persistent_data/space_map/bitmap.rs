// SPDX-License-Identifier: GPL-2.0

//! The counts of one bitmap block in memory: as they are now, and as the last commit left them.
//!
//! A count takes two bits of a word of 32, the high bit below the low bit; three means "three or
//! more". An entry may be handed out if it is zero now and was zero at the last commit, for the
//! superblock on disk may still reach what was in use then.

use super::format::IndexEntry;
use super::format::COUNT_WORDS;
use super::format::ENTRIES_PER_BITMAP;
use crate::error::Result;
use kernel::prelude::KVVec;
use kernel::prelude::GFP_KERNEL;

/// The count that means "this many or more".
pub(crate) const MANY: u32 = 3;

/// The first bit of every entry of a word.
const LANES: u64 = 0x5555_5555_5555_5555;

/// Entries in a word.
const LANES_PER_WORD: usize = 32;

const ENTRIES: usize = ENTRIES_PER_BITMAP as usize;

/// The counts of one bitmap block.
pub(crate) struct Bitmap {
    /// Where the bitmap is on disk, and what the index says about it.
    pub(crate) entry: IndexEntry,
    /// True if the counts are in memory.
    pub(crate) loaded: bool,
    /// True if a count differs, or may differ, from what is on disk.
    pub(crate) changed: bool,
    /// Entries that may be handed out; until the counts are loaded, what the index says.
    pub(crate) available: u32,
    /// Entries that exist: the last bitmap covers more than the device has.
    entries: usize,
    /// Entries with count zero, out of all, and how many of them do not exist.
    free: u32,
    free_beyond: u32,
    now: KVVec<u64>,
    committed: KVVec<u64>,
}

impl Bitmap {
    /// Returns a bitmap that is not loaded, with room for its counts.
    pub(crate) fn new(entry: IndexEntry, entries: usize) -> Result<Self> {
        let missing = (ENTRIES - entries.min(ENTRIES)) as u32;
        Ok(Self {
            entry,
            loaded: false,
            changed: false,
            available: entry.nr_free.saturating_sub(missing).min(entries as u32),
            entries: entries.min(ENTRIES),
            free: entry.nr_free,
            free_beyond: missing,
            now: KVVec::from_elem(0, COUNT_WORDS, GFP_KERNEL)?,
            committed: KVVec::from_elem(0, COUNT_WORDS, GFP_KERNEL)?,
        })
    }

    /// Takes over the counts that are on disk.
    pub(crate) fn load(&mut self, words: impl Iterator<Item = u64>) {
        for (count, word) in self.now.iter_mut().zip(words) {
            *count = word;
        }
        self.loaded = true;
        self.free = self
            .now
            .iter()
            .map(|&word| (!used(word) & LANES).count_ones())
            .sum();
        self.committed.copy_from_slice(&self.now);
        let exist: u32 = (0..COUNT_WORDS)
            .map(|at| self.free_lanes(at).count_ones())
            .sum();
        self.free_beyond = self.free - exist;
        self.settle();
    }

    /// Notes that the counts are on disk.
    pub(crate) fn settle(&mut self) {
        self.committed.copy_from_slice(&self.now);
        self.changed = false;
        self.available = self.free.saturating_sub(self.free_beyond);
    }

    /// Returns the counts, 32 to a word.
    pub(crate) fn words(&self) -> &[u64] {
        &self.now
    }

    /// Returns the count of `entry`, [`MANY`] if it is that or more.
    pub(crate) fn count(&self, entry: usize) -> u32 {
        count(&self.now, entry)
    }

    /// Returns true if `entry` was in use at the last commit.
    pub(crate) fn was_used(&self, entry: usize) -> bool {
        count(&self.committed, entry) != 0
    }

    /// Sets the count of `entry`; [`MANY`] stands for that or more.
    pub(crate) fn set(&mut self, entry: usize, count: u32) {
        let old = self.count(entry);
        if let Some(word) = self.now.get_mut(entry / LANES_PER_WORD) {
            let shift = entry % LANES_PER_WORD * 2;
            let lane = u64::from((count >> 1) & 1) | (u64::from(count & 1) << 1);
            *word = (*word & !(3 << shift)) | (lane << shift);
            self.changed = true;
        }
        let available = u32::from(!self.was_used(entry));
        match (old, count) {
            (0, 1..) => {
                self.free = self.free.saturating_sub(1);
                self.available = self.available.saturating_sub(available);
            }
            (1.., 0) => {
                self.free += 1;
                self.available += available;
            }
            _ => {}
        }
    }

    /// Returns the first entry in `from..to` that may be handed out.
    pub(crate) fn find_available(&self, from: usize, to: usize) -> Option<usize> {
        let mut mask = u64::MAX << (from % LANES_PER_WORD * 2);
        for at in from / LANES_PER_WORD..COUNT_WORDS {
            let free = self.free_lanes(at) & mask;
            mask = u64::MAX;
            if free != 0 {
                let entry = at * LANES_PER_WORD + free.trailing_zeros() as usize / 2;
                return (entry < to).then_some(entry);
            }
            if (at + 1) * LANES_PER_WORD >= to {
                break;
            }
        }
        None
    }

    /// Returns how many entries have count zero, out of all.
    pub(crate) fn nr_free(&self) -> u32 {
        self.free
    }

    /// Returns the first entry with count zero, or their number if none has.
    pub(crate) fn first_free(&self) -> u32 {
        let words = (0..).zip(self.now.iter());
        let mut free = words.filter_map(|(at, &word)| {
            let free = !used(word) & LANES;
            (free != 0).then(|| at * LANES_PER_WORD as u32 + free.trailing_zeros() / 2)
        });
        free.next().unwrap_or(ENTRIES as u32)
    }

    /// Returns the lanes of word `at` that may be handed out.
    fn free_lanes(&self, at: usize) -> u64 {
        let (Some(&now), Some(&committed)) = (self.now.get(at), self.committed.get(at)) else {
            return 0;
        };
        let left = self.entries.saturating_sub(at * LANES_PER_WORD);
        let exist = if left >= LANES_PER_WORD {
            u64::MAX
        } else {
            (1 << (left * 2)) - 1
        };
        !(used(now) | used(committed)) & LANES & exist
    }
}

/// Returns the lanes of `word` whose count is not zero.
fn used(word: u64) -> u64 {
    (word | (word >> 1)) & LANES
}

fn count(words: &[u64], entry: usize) -> u32 {
    let lane = words
        .get(entry / LANES_PER_WORD)
        .map_or(0, |word| word >> (entry % LANES_PER_WORD * 2));
    ((lane as u32 & 1) << 1) | ((lane as u32 >> 1) & 1)
}

#[cfg(test)]
mod tests;
