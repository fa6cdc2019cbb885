// SPDX-License-Identifier: GPL-2.0

//! In memory: which chapter a name is in.
//!
//! The volume index has one entry for each name that is remembered: in a delta list that bits of
//! the name choose, under an address that other bits are, with the low bits of the chapter's number. So an
//! answer is a *hint*: another name may have the same list and address. Only who comes second is kept with
//! its full name. The lists of a dense index are of all names. A sparse index has two sets of lists: one of
//! all names of the last chapters, but for the samples; one of the samples of all chapters.
//!
//! It is asked in batches ([`VolumeIndex::look_up`]). A request that has been answered remembers where
//! in its list the name is or would be, so that what follows ([`VolumeIndex::insert`],
//! [`VolumeIndex::re_point`]) does not look for it again, unless the list has changed.
//!
//! When a chapter is opened ([`VolumeIndex::open_chapter`]) the oldest one is forgotten, without
//! touching its entries. They go when their list is looked at next, or swept ([`VolumeIndex::sweep`]).
//!
//! Lists are spread over shards with a short lock each. Everything here is advice: what does not fit,
//! or finds no memory, or is damaged, is dropped and counted.
//!
//! | File | What it holds |
//! |---|---|
//! | [`shard`] | a range of lists: look-up and changes |
//! | [`guide`] | what spares decoding most of a list |
//! | [`store`] | their memory |
//! | [`merge`] | many names at once, for a rebuild |
//! | [`save`], [`load`], [`stream`] | the volume index in a save |

mod guide;
mod load;
mod merge;
mod save;
mod shard;
mod store;
mod stream;

pub use load::LoadError;
pub use load::Loader;
pub use merge::Known;
pub use save::Saver;

use crate::format::geometry::SubIndex;
use crate::format::geometry::SubIndexes;
use crate::format::Chapter;
use crate::format::Geometry;
use crate::format::Name;
use core::ops::AddAssign;
use kernel::alloc::Flags;
use kernel::prelude::*;
use runtime::sync::Lock;
use shard::Shard;
use shard::GROUP;
use store::Chunk;
use store::Shortage;

/// Lists of a shard, if there are enough for more than one.
const SHARD_LISTS: u32 = 1 << 14;

/// No more shards.
const MAX_SHARDS: u32 = 64;

/// What the index says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is not known.
    Absent,
    /// It, or another name, is in this chapter.
    Hint(Chapter),
    /// It was in this chapter when it was added.
    Exact(Chapter),
}

/// Where in its list a name is, or would be, as long as the list does not change.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: u32,
    base: u32,
    version: u16,
    changes: u64,
}

/// A name that is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The name.
    pub name: Name,
    /// What is known of it, after a look-up.
    pub answer: Answer,
    /// Which set of lists.
    set: u32,
    list: u32,
    address: u32,
    mark: Mark,
}

impl Request {
    /// Returns what requests are best sorted by: their lists.
    pub const fn order(&self) -> u64 {
        ((self.set as u64) << 32) | self.list as u64
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is made.
    Done,
    /// It is not, as something else is known of the name by now: see the request's answer.
    Changed,
    /// It is not: the list is full, or there is no memory, or the chapter is not remembered.
    Dropped,
}

/// What is in the index, and what was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries, also those of forgotten chapters that are still there.
    pub entries: u64,
    /// How many of them have a full name.
    pub collisions: u64,
    /// Entries that went since the index was opened.
    pub discarded: u64,
    /// Names that were not added because their list was full.
    pub overflows: u64,
    /// Names that were not added for want of memory.
    pub without_memory: u64,
    /// Lists that were emptied because they were damaged.
    pub damaged: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        // Each shard's numbers may be below zero; the sums are right.
        self.entries = self.entries.wrapping_add(other.entries);
        self.collisions = self.collisions.wrapping_add(other.collisions);
        self.discarded = self.discarded.wrapping_add(other.discarded);
        self.overflows = self.overflows.wrapping_add(other.overflows);
        self.without_memory = self.without_memory.wrapping_add(other.without_memory);
        self.damaged = self.damaged.wrapping_add(other.damaged);
    }
}

/// Where a sweep is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sweep {
    set: usize,
    list: u32,
}

/// A set of lists.
struct Set {
    geometry: SubIndex,
    /// Lists of a shard, as a power of two.
    shard_bits: u32,
    shards: KVVec<Lock<Shard>>,
}

impl Set {
    fn new(geometry: SubIndex, max_shards: u32) -> Result<Self> {
        let lists = geometry.lists.div_ceil(max_shards).next_power_of_two();
        let count = geometry.lists.div_ceil(lists);
        let mut shards = KVVec::with_capacity(count as usize, GFP_KERNEL)?;
        for number in 0..count {
            let first = number * lists;
            let shard = Shard::new(&geometry, first, lists.min(geometry.lists - first))?;
            shards.push(Lock::new(shard), GFP_KERNEL)?;
        }
        Ok(Self {
            geometry,
            shard_bits: lists.ilog2(),
            shards,
        })
    }

    /// Returns the shard of a list.
    fn shard(&self, list: u32) -> Option<&Lock<Shard>> {
        self.shards.get((list >> self.shard_bits) as usize)
    }

    /// Returns the list that comes after those of this one's shard.
    fn next_shard(&self, list: u32) -> u32 {
        let next = ((list >> self.shard_bits) + 1) << self.shard_bits;
        next.min(self.geometry.lists)
    }

    /// Does something in a shard that takes memory, which comes from outside the lock.
    fn with_memory<T>(
        &self,
        list: u32,
        flags: Flags,
        mut act: impl FnMut(&mut Shard) -> Result<T, Shortage>,
    ) -> Option<T> {
        let shard = self.shard(list)?;
        let mut done = shard.with(&mut act);
        // Others may take what was meant for this one.
        for _ in 0..3 {
            if done.is_ok() || done.as_ref().is_err_and(|why| *why == Shortage::Limit) {
                break;
            }
            let Ok(chunk) = Chunk::new(flags) else { break };
            let mut chunk = Some(chunk);
            done = shard.with(|shard| {
                chunk = chunk.take().and_then(|chunk| shard.give(chunk));
                act(shard)
            });
        }
        done.ok()
    }
}

/// Which chapter a name is in.
pub struct VolumeIndex {
    sets: KVec<Set>,
    /// Of so many names one is a sample; 0 if there are none.
    sample_rate: u32,
}

impl VolumeIndex {
    /// Returns an index without entries.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(geometry: &Geometry) -> Result<Self> {
        let lists = match geometry.volume_index {
            SubIndexes::Dense(all) => all.lists,
            SubIndexes::Sparse(others, _) => others.lists,
        };
        Self::with_shards(geometry, (lists / SHARD_LISTS).clamp(1, MAX_SHARDS))
    }

    /// The same, with about so many shards.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn with_shards(geometry: &Geometry, shards: u32) -> Result<Self> {
        let mut sets = KVec::with_capacity(2, GFP_KERNEL)?;
        match geometry.volume_index {
            SubIndexes::Dense(all) => sets.push(Set::new(all, shards)?, GFP_KERNEL)?,
            SubIndexes::Sparse(others, samples) => {
                sets.push(Set::new(others, shards)?, GFP_KERNEL)?;
                sets.push(Set::new(samples, shards)?, GFP_KERNEL)?;
            }
        }
        Ok(Self {
            sets,
            sample_rate: geometry.shape.sample_rate,
        })
    }

    /// Returns a request for a name, to be looked up.
    pub fn request(&self, name: Name) -> Request {
        let is_sample = u32::from(name.sample_key()).checked_rem(self.sample_rate) == Some(0);
        let set = u32::from(is_sample);
        let (address, list) = match self.sets.get(set as usize) {
            Some(set) => set.geometry.place(name.volume_key()),
            None => (0, 0),
        };
        Request {
            name,
            answer: Answer::Absent,
            set,
            list,
            address,
            mark: Mark {
                at: 0,
                base: 0,
                version: 0,
                changes: u64::MAX / 2,
            },
        }
    }

    fn set(&self, request: &Request) -> Option<&Set> {
        self.sets.get(request.set as usize)
    }

    /// Answers requests. Those for one shard are best next to each other: sorted by
    /// [`Request::order`].
    pub fn look_up(&self, requests: &mut [Request]) {
        let same_shard = |a: &Request, b: &Request| {
            let bits = self.set(a).map_or(0, |set| set.shard_bits);
            a.set == b.set && a.list >> bits == b.list >> bits
        };
        for run in requests.chunk_by_mut(same_shard) {
            for group in run.chunks_mut(GROUP) {
                let Some(first) = group.first() else { continue };
                let shard = self.set(first).and_then(|set| set.shard(first.list));
                if let Some(shard) = shard {
                    shard.with(|shard| shard.look_up(group));
                }
            }
        }
    }

    /// Adds a name that is in `chapter`, after a look-up. If there was a hint, it was of another
    /// name.
    pub fn insert(&self, request: &mut Request, chapter: Chapter) -> Outcome {
        self.insert_with(request, chapter, GFP_NOWAIT)
    }

    fn insert_with(&self, request: &mut Request, chapter: Chapter, flags: Flags) -> Outcome {
        let list = request.list;
        let Some(set) = self.set(request) else {
            return Outcome::Dropped;
        };
        let outcome = set.with_memory(list, flags, |shard| shard.insert(request, chapter));
        outcome.unwrap_or_else(|| {
            if let Some(shard) = set.shard(list) {
                shard.with(|shard| shard.counts.without_memory += 1);
            }
            Outcome::Dropped
        })
    }

    /// Says that a name is in `chapter` now, after a look-up that found it. A hint that is
    /// re-pointed was one of this name.
    pub fn re_point(&self, request: &mut Request, chapter: Chapter) -> Outcome {
        let shard = self.set(request).and_then(|set| set.shard(request.list));
        match shard {
            Some(shard) => shard.with(|shard| shard.re_point(request, chapter)),
            None => Outcome::Dropped,
        }
    }

    /// Forgets a name, after a look-up that found it. A hint was one of this name.
    pub fn remove(&self, request: &mut Request) -> Outcome {
        let shard = self.set(request).and_then(|set| set.shard(request.list));
        match shard {
            Some(shard) => shard.with(|shard| shard.remove(request)),
            None => Outcome::Dropped,
        }
    }

    /// Begins a chapter, whose number is larger than that of any before. The oldest one is forgotten,
    /// and some more if their entries take too much room.
    ///
    /// Returns how many were forgotten early, of those that the index covers.
    pub fn open_chapter(&self, newest: Chapter) -> u64 {
        let mut early = 0;
        for set in self.sets.iter() {
            let geometry = &set.geometry;
            let used: u64 = set
                .shards
                .iter()
                .map(|shard| shard.with(|shard| shard.used_bits))
                .sum();
            let covered = newest.saturating_sub(geometry.chapters.saturating_sub(1));
            let excess = used.checked_sub(max_bits(geometry, 1) + 1);
            let more = excess.map_or(0, |excess| {
                1 + (excess + 1).checked_div(geometry.chapter_bits).unwrap_or(0)
            });
            let low = covered.saturating_add(more).min(newest);
            early = early.max(low - covered);
            for shard in set.shards.iter() {
                shard.with(|shard| {
                    shard.low = shard.low.max(low);
                    shard.high = shard.high.max(newest);
                });
            }
        }
        early
    }

    /// Removes entries of forgotten chapters from some lists; returns true if no list is left.
    /// `sweep` says where to begin, and then where to go on.
    pub fn sweep(&self, sweep: &mut Sweep, lists: u32) -> bool {
        let mut left = lists;
        while left > 0 {
            let Some(set) = self.sets.get(sweep.set) else {
                *sweep = Sweep::default();
                return true;
            };
            let Some(shard) = set.shard(sweep.list) else {
                sweep.set += 1;
                sweep.list = 0;
                continue;
            };
            // Short, as nobody else gets at the shard meanwhile.
            let step = left.min(4 * GROUP as u32);
            let next = shard.with(|shard| shard.sweep(sweep.list, step));
            left = left.saturating_sub((next - sweep.list).max(1));
            sweep.list = next;
        }
        false
    }

    /// Gives every shard a reserve of memory, so that those who must not wait find some.
    pub fn top_up(&self, flags: Flags) {
        for shard in self.sets.iter().flat_map(|set| set.shards.iter()) {
            if shard.with(|shard| shard.has_spare()) {
                continue;
            }
            let Ok(chunk) = Chunk::new(flags) else { return };
            drop(shard.with(|shard| shard.give(chunk)));
        }
    }

    /// Returns what is in the index.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for shard in self.sets.iter().flat_map(|set| set.shards.iter()) {
            counts += shard.with(|shard| shard.counts);
        }
        counts
    }

    /// Returns the bytes that the index takes.
    pub fn memory(&self) -> u64 {
        let shards = self.sets.iter().flat_map(|set| set.shards.iter());
        shards.map(|shard| shard.with(|shard| shard.memory())).sum()
    }

    /// Returns the bits of all lists together.
    pub fn used_bits(&self) -> u64 {
        let shards = self.sets.iter().flat_map(|set| set.shards.iter());
        shards
            .map(|shard| shard.with(|shard| shard.used_bits))
            .sum()
    }
}

/// Returns how many bits the lists of each of so many zones may have, so that mainline has room for
/// them.
fn max_bits(geometry: &SubIndex, zones: u64) -> u64 {
    let zones = zones.max(1);
    let room = (geometry.memory / zones).next_multiple_of(1 << 16);
    room.saturating_sub(geometry.target_free / zones) * 8
}

#[cfg(test)]
mod tests;
