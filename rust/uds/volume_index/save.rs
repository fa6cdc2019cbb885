// SPDX-License-Identifier: GPL-2.0

//! Writing the volume index into a save: as one zone, in pieces of any size.
//!
//! Nothing may change meanwhile. If something does, the save is not one, and says so.
//!
//! Mainline spreads the lists over as many zones as it runs with, each of which has its part of the
//! memory; it cannot use a save of which some zone's lists do not fit. Names are hashes, so zones are
//! equally full, unless somebody has made names that are not. Then the longest lists are left out
//! ([`limit`]).

use super::max_bits;
use super::stream::sparse_prefix;
use super::stream::Item;
use super::stream::ListsHeader;
use super::stream::SetHeader;
use super::stream::GUARD;
use super::stream::HEADER_SIZE;
use super::stream::ITEM_SIZE;
use super::stream::SPARSE_SIZE;
use super::Counts;
use super::Set;
use super::Shard;
use super::VolumeIndex;
use crate::delta::MAX_LIST_BITS;
use core::array;

/// Zones that mainline may run with.
const MAX_ZONES: usize = 16;

/// Lists that are written while a lock is held.
const STEP: u32 = 64;

/// The index has changed while it was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn;

/// Writes the volume index into a save.
#[derive(Debug)]
pub struct Saver {
    nonce: u64,
    part: Part,
    /// Bytes of the part that are written already.
    written: usize,
    bytes: u64,
    /// By set.
    plans: [Plan; 2],
}

/// What is saved of a set.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// Longer lists are left out.
    limit: u32,
    counts: Counts,
    changes: u64,
    bytes: u64,
}

/// What is written next: something of a set, from a list on.
#[derive(Clone, Copy, Debug)]
enum Part {
    Prefix,
    Header(usize),
    Bounds(usize, u32),
    ListsHeader(usize),
    Sizes(usize, u32),
    Lists(usize, u32),
    Guard,
    End,
}

/// Room for the next bytes of a save.
struct Sink<'a> {
    out: &'a mut [u8],
    at: usize,
    /// Bytes of what comes next that are written already.
    written: usize,
}

impl Sink<'_> {
    /// Writes what is left of `bytes`; false if there is no room for all of it.
    fn put(&mut self, bytes: &[u8]) -> bool {
        let rest = bytes.get(self.written..).unwrap_or_default();
        let room = self.out.get_mut(self.at..).unwrap_or_default();
        let count = rest.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        self.written = match count == rest.len() {
            true => 0,
            false => self.written + count,
        };
        count == rest.len()
    }

    /// The same of two pieces.
    fn put_both(&mut self, first: &[u8], second: &[u8]) -> bool {
        match self.written.checked_sub(first.len()) {
            Some(written) => self.written = written,
            None if self.put(first) => {}
            None => return false,
        }
        let is_done = self.put(second);
        if !is_done {
            self.written += first.len();
        }
        is_done
    }
}

impl Saver {
    /// Begins a save of a volume with this nonce.
    pub fn new(index: &VolumeIndex, nonce: u64) -> Self {
        let mut plans = [Plan::default(); 2];
        for (plan, set) in plans.iter_mut().zip(index.sets.iter()) {
            *plan = Plan::new(set);
        }
        let prefix = match index.sample_rate {
            0 => 0,
            _ => SPARSE_SIZE,
        };
        let lists: u64 = plans.iter().map(|plan| plan.bytes).sum();
        Self {
            nonce,
            part: match prefix {
                0 => Part::Header(0),
                _ => Part::Prefix,
            },
            written: 0,
            bytes: lists + (prefix + GUARD.len()) as u64,
            plans,
        }
    }

    /// Returns the bytes of the save.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the next bytes of the save to `out`. Returns how many they are: less than there is room for
    /// only at the end.
    ///
    /// # Errors
    ///
    /// If the index was changed since the save was begun.
    pub fn fill(&mut self, index: &VolumeIndex, out: &mut [u8]) -> Result<usize, Torn> {
        let mut sink = Sink {
            out,
            at: 0,
            written: self.written,
        };
        while !matches!(self.part, Part::End) && self.step(index, &mut sink)? {}
        self.written = sink.written;
        Ok(sink.at)
    }

    /// Writes a part; returns false if there was no room for all of it.
    fn step(&mut self, index: &VolumeIndex, sink: &mut Sink<'_>) -> Result<bool, Torn> {
        let set_of = |number: usize| index.sets.get(number).ok_or(Torn);
        let plan = |number: usize| self.plans.get(number).copied().unwrap_or_default();
        let next = match self.part {
            Part::Prefix => sink
                .put(&sparse_prefix(index.sample_rate))
                .then_some(Part::Header(0)),
            Part::Header(number) => {
                let header = set_header(set_of(number)?, self.nonce);
                sink.put(&header.encode())
                    .then_some(Part::Bounds(number, 0))
            }
            Part::Bounds(number, list) => {
                let set = set_of(number)?;
                let list = each_list(set, list, |shard, list| {
                    sink.put(&shard.bound(list).to_le_bytes())
                });
                self.part = Part::Bounds(number, list);
                (list >= set.geometry.lists).then_some(Part::ListsHeader(number))
            }
            Part::ListsHeader(number) => {
                let counts = plan(number).counts;
                let header = ListsHeader {
                    zone: 0,
                    zones: 1,
                    first: 0,
                    lists: set_of(number)?.geometry.lists,
                    entries: counts.entries,
                    collisions: counts.collisions,
                };
                sink.put(&header.encode()).then_some(Part::Sizes(number, 0))
            }
            Part::Sizes(number, list) => {
                let (set, plan) = (set_of(number)?, plan(number));
                let list = each_list(set, list, |shard, list| {
                    sink.put(&plan.bits(shard, list).to_le_bytes())
                });
                self.part = Part::Sizes(number, list);
                (list >= set.geometry.lists).then_some(match number + 1 < index.sets.len() {
                    true => Part::Header(number + 1),
                    false => Part::Lists(0, 0),
                })
            }
            Part::Lists(number, list) => {
                let (set, plan) = (set_of(number)?, plan(number));
                let tag = set.geometry.tag;
                let list = each_list(set, list, |shard, list| {
                    let bytes = plan.bits(shard, list).div_ceil(8);
                    let item = Item {
                        tag,
                        bit: 0,
                        bytes,
                        list,
                    };
                    let data = shard.bytes(list).get(..bytes.into()).unwrap_or_default();
                    bytes == 0 || sink.put_both(&item.encode(), data)
                });
                self.part = Part::Lists(number, list);
                if list >= set.geometry.lists && changes(set) != plan.changes {
                    return Err(Torn);
                }
                (list >= set.geometry.lists).then_some(match number + 1 < index.sets.len() {
                    true => Part::Lists(number + 1, 0),
                    false => Part::Guard,
                })
            }
            Part::Guard => sink.put(&GUARD).then_some(Part::End),
            Part::End => None,
        };
        if let Some(next) = next {
            self.part = next;
        }
        Ok(next.is_some())
    }
}

/// Runs `write` for the lists from `list` on, until it returns false; returns where that was.
fn each_list(set: &Set, list: u32, mut write: impl FnMut(&mut Shard, u32) -> bool) -> u32 {
    let mut list = list;
    while list < set.geometry.lists {
        let Some(shard) = set.shard(list) else { break };
        let end = set.next_shard(list).min(list.saturating_add(STEP));
        let stop = shard.with(|shard| (list..end).find(|list| !write(shard, *list)));
        if let Some(stop) = stop {
            return stop;
        }
        list = end;
    }
    list
}

fn set_header(set: &Set, nonce: u64) -> SetHeader {
    let (low, high) = match set.shards.first() {
        Some(shard) => shard.with(|shard| (shard.low, shard.high)),
        None => (0, 0),
    };
    SetHeader {
        nonce,
        low,
        high,
        first: 0,
        lists: set.geometry.lists,
    }
}

fn changes(set: &Set) -> u64 {
    let shards = set.shards.iter();
    shards.fold(0, |sum, shard| {
        sum.wrapping_add(shard.with(|shard| shard.changes))
    })
}

impl Plan {
    fn new(set: &Set) -> Self {
        let mut plan = Self {
            limit: limit(set),
            changes: changes(set),
            bytes: 2 * HEADER_SIZE as u64 + 10 * u64::from(set.geometry.lists),
            ..Self::default()
        };
        for shard in set.shards.iter() {
            plan.counts += shard.with(|shard| shard.counts);
        }
        let limit = plan.limit;
        each_list(set, 0, |shard, list| {
            let bits = shard.bits(list);
            if bits > limit {
                let left_out = shard.count(list);
                plan.counts.entries = plan.counts.entries.wrapping_sub(left_out.entries);
                plan.counts.collisions = plan.counts.collisions.wrapping_sub(left_out.collisions);
            } else if bits > 0 {
                plan.bytes += ITEM_SIZE as u64 + u64::from(bits.div_ceil(8));
            }
            true
        });
        plan
    }

    /// Returns the bits of a list, as they are saved.
    fn bits(&self, shard: &Shard, list: u32) -> u16 {
        match shard.bits(list) {
            bits if bits <= self.limit => bits as u16,
            _ => 0,
        }
    }
}

/// Returns how long lists may be for all to fit, whatever the number of zones.
fn limit(set: &Set) -> u32 {
    let mut limit = MAX_LIST_BITS as u32;
    while !fits(set, limit) {
        limit -= limit.div_ceil(8);
    }
    limit
}

/// Returns whether the lists that are not longer than `limit` fit.
fn fits(set: &Set, limit: u32) -> bool {
    // By number of zones: the bits in the current zone, and the first list of the next.
    let mut zones = [(0u64, 0u32); MAX_ZONES];
    let room: [_; MAX_ZONES] = array::from_fn(|zone| max_bits(&set.geometry, zone as u64 + 1));
    let mut fits = true;
    each_list(set, 0, |shard, list| {
        let bits = shard.bits(list);
        let bits = if bits <= limit { u64::from(bits) } else { 0 };
        for (((used, next), room), count) in zones.iter_mut().zip(room).zip(1..) {
            if list >= *next {
                *used = 0;
                *next = list.saturating_add(set.geometry.lists.div_ceil(count));
            }
            *used += bits;
            fits &= *used <= room;
        }
        fits
    });
    fits
}
