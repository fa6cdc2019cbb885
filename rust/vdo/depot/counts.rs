// SPDX-License-Identifier: GPL-2.0

//! The reference counts of a slab in memory: one byte per data block.
//!
//! A reference that somebody is going to journal is claimed before. A claim on a free block makes it
//! provisional; of all others there is a number beside the counts ([`Claims`]). Whichever of the
//! references to a block comes first makes a provisional count 1; each later one takes a claim
//! away, for none comes that was not claimed. So the sum of count and claims, a provisional count
//! being one claim, never is more than a count can be, and nobody's reference fails.
//!
//! A reference block whose counts have changed since it was last written is dirty. It holds the
//! block of the slab journal that has the oldest of these changes.
//!
//! # Invariants
//!
//! - `free` is the number of counts that are 0; each block's `free` that of its own.
//! - A block stands in `dirty` exactly if its `hold` is not 0; holds rise along `dirty`.
//! - No block with a count of 0 is claimed; none has more claims and references than `MAX_COUNT`.
//! - `in_flight` is not behind the hold of any dirty block.

use super::allocate::Runs;
use super::claims::Claims;
use super::fits;
use super::ring::Ring;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::reference;
use crate::format::reference::COUNTS_PER_BLOCK;
use crate::format::reference::MAX_COUNT;
use crate::format::reference::PROVISIONAL;
use crate::format::slab_journal::Change;
use crate::format::JournalPoint;
use crate::format::Sbn;
use crate::format::Sequence;
use crate::format::SlabConfig;
use kernel::alloc::Flags;
use kernel::prelude::KVVec;

/// How many reference blocks a search for free blocks looks into before it lets go of the lock.
const SEARCH_BLOCKS: u32 = 4;

/// From so many blocks on, a run that has all of them is looked for in the same reference block
/// before shorter ones are taken.
const LONG: u32 = 16;

/// The reference counts of a slab.
pub(super) struct Counts {
    counts: KVVec<u8>,
    blocks: KVVec<Block>,
    /// The dirty blocks, oldest hold first.
    dirty: Ring<u32>,
    free: u32,
    /// All claims but those of provisional counts.
    claims: Claims,
    /// Where the search for free blocks goes on.
    cursor: Sbn,
    /// The oldest hold of the blocks that are being written.
    in_flight: Option<Sequence>,
    /// The last entry of the slab journal that the counts include.
    pub(super) applied: JournalPoint,
}

/// A reference block.
#[derive(Clone, Copy)]
struct Block {
    free: u16,
    /// The block of the slab journal with the oldest unwritten change; 0 if there is none.
    hold: Sequence,
}

/// What a search for free blocks has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Some; they are provisional now.
    Runs,
    /// Nothing yet.
    NotYet,
    /// Nothing up to the end of the slab; the next search starts from its start.
    End,
}

/// Returns what becomes of a count; `None` if that is not possible.
#[inline(always)]
pub(super) fn changed(count: u8, change: Change) -> Option<u8> {
    match (change, count) {
        (Change::Increment, 0 | PROVISIONAL) => Some(1),
        (Change::Increment, MAX_COUNT) => None,
        (Change::Increment, _) => Some(count + 1),
        (Change::BlockMapIncrement, 0 | PROVISIONAL) => Some(MAX_COUNT),
        (Change::BlockMapIncrement, _) => None,
        (Change::Decrement, 0 | PROVISIONAL) => None,
        (Change::Decrement, _) => Some(count - 1),
    }
}

impl Counts {
    /// Allocates the counts of a slab, all 0.
    pub(super) fn new(slab: &SlabConfig, flags: Flags) -> Result<Self> {
        let used = slab.used_reference_blocks();
        let mut blocks = KVVec::with_capacity(used as usize, flags)?;
        let mut left = slab.data_blocks;
        for _ in 0..used {
            let free = left.min(COUNTS_PER_BLOCK);
            left -= free;
            let free = free as u16;
            blocks.push(Block { free, hold: 0 }, flags)?;
        }
        Ok(Self {
            counts: KVVec::from_elem(0, slab.data_blocks as usize, flags)?,
            blocks,
            dirty: Ring::with_flags(used as usize, flags)?,
            free: slab.data_blocks,
            claims: Claims::default(),
            cursor: 0,
            in_flight: None,
            applied: JournalPoint::NONE,
        })
    }

    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// Counts anew: the free blocks, and the provisional ones.
    pub(super) fn tally(&self) -> (u32, u32) {
        let count = |wanted: u8| self.counts.iter().filter(|&&count| count == wanted).count();
        (count(0) as u32, count(PROVISIONAL) as u32)
    }

    /// Returns a count; `None` if there is no such data block.
    pub(super) fn get(&self, sbn: Sbn) -> Option<u8> {
        self.counts.get(sbn as usize).copied()
    }

    /// Sets a count, which is there.
    pub(super) fn set(&mut self, sbn: Sbn, count: u8) {
        let block = sbn / COUNTS_PER_BLOCK;
        let (Some(own), Some(block)) = (
            self.counts.get_mut(sbn as usize),
            self.blocks.get_mut(block as usize),
        ) else {
            return;
        };
        match (*own, count) {
            (0, 0) => {}
            (0, _) => {
                self.free -= 1;
                block.free -= 1;
            }
            (_, 0) => {
                self.free += 1;
                block.free += 1;
            }
            _ => {}
        }
        *own = count;
    }

    /// Makes a change that entry `point` of the slab journal records.
    ///
    /// # Errors
    ///
    /// `RefCountInvalid` if the count cannot change so; nothing has changed then.
    #[inline(always)]
    pub(super) fn change(&mut self, sbn: Sbn, change: Change, point: JournalPoint) -> Result {
        let index = sbn / COUNTS_PER_BLOCK;
        let (Some(count), Some(block)) = (
            self.counts.get_mut(sbn as usize),
            self.blocks.get_mut(index as usize),
        ) else {
            return Err(Error::Status(Status::OutOfRange));
        };
        let mut new = changed(*count, change).ok_or(Error::Status(Status::RefCountInvalid))?;
        if !self.claims.is_empty() {
            match (change, *count) {
                (Change::Decrement, _) if new == 0 && self.claims.take(sbn) => new = PROVISIONAL,
                (Change::Increment, 1..=MAX_COUNT) => {
                    self.claims.take(sbn);
                }
                (Change::Increment, PROVISIONAL) => self.claims.forget_stored(sbn),
                _ => {}
            }
        }
        if core::mem::replace(count, new) == 0 {
            self.free -= 1;
            block.free -= 1;
        } else if new == 0 {
            self.free += 1;
            block.free += 1;
        }
        if block.hold == 0 {
            block.hold = point.sequence;
            fits(self.dirty.push(index))?;
        }
        self.applied = point;
        Ok(())
    }

    /// A reference block becomes dirty because of block `hold` of the slab journal.
    fn touch(&mut self, index: u32, hold: Sequence) -> Result {
        if let Some(block) = self.blocks.get_mut(index as usize) {
            if block.hold == 0 {
                block.hold = hold;
                fits(self.dirty.push(index))?;
            }
        }
        Ok(())
    }

    /// All reference blocks become dirty because of block `hold` of the slab journal.
    pub(super) fn touch_all(&mut self, hold: Sequence) -> Result {
        for index in 0..self.blocks.len() as u32 {
            self.touch(index, hold)?;
        }
        Ok(())
    }

    /// Returns the number of dirty blocks.
    pub(super) fn dirty(&self) -> u32 {
        self.dirty.len() as u32
    }

    /// Returns whether the reference blocks on disk are as the counts are.
    pub(super) fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.in_flight.is_none()
    }

    /// Returns the oldest block of the slab journal with a change that is not on disk.
    pub(super) fn oldest_hold(&self) -> Option<Sequence> {
        let first = self.dirty.first();
        let oldest = first.and_then(|index| self.blocks.get(*index as usize));
        self.in_flight.or(oldest.map(|block| block.hold))
    }

    /// Takes the dirty block with the oldest hold, and copies its counts, to be written now.
    pub(super) fn pick(&mut self, counts: &mut reference::Counts) -> Option<u32> {
        let index = self.dirty.pop()?;
        if let Some(block) = self.blocks.get_mut(index as usize) {
            self.in_flight.get_or_insert(block.hold);
            block.hold = 0;
        }
        let own = self.block(index);
        let (to, rest) = counts.split_at_mut(own.len());
        to.copy_from_slice(own);
        rest.fill(0);
        Some(index)
    }

    /// Returns the counts of a reference block.
    fn block(&self, index: u32) -> &[u8] {
        let start = (index * COUNTS_PER_BLOCK) as usize;
        let end = self.counts.len().min(start + COUNTS_PER_BLOCK as usize);
        self.counts.get(start..end).unwrap_or_default()
    }

    /// Sets the counts of a reference block to what was read from disk: provisional ones are free.
    pub(super) fn load(&mut self, index: u32, counts: &reference::Counts) {
        let start = (index * COUNTS_PER_BLOCK) as usize;
        let end = self.counts.len().min(start + COUNTS_PER_BLOCK as usize);
        let (Some(own), Some(block)) = (
            self.counts.get_mut(start..end),
            self.blocks.get_mut(index as usize),
        ) else {
            return;
        };
        let mut free = 0;
        for (own, count) in own.iter_mut().zip(counts) {
            *own = if *count == PROVISIONAL { 0 } else { *count };
            free += u16::from(*own == 0);
        }
        self.free = self.free - u32::from(block.free) + u32::from(free);
        block.free = free;
    }

    /// All blocks that were picked are written.
    pub(super) fn written(&mut self) {
        self.in_flight = None;
    }

    /// Looks for `wanted` free blocks, behind those that were found before, in at most as many runs
    /// as there is room for, and makes them provisional.
    pub(super) fn find_runs(&mut self, wanted: u32, runs: &mut Runs) -> Found {
        let mut left = wanted.max(1);
        let mut searched = 0;
        let end = loop {
            if left == 0 || runs.is_full() {
                return Found::Runs;
            }
            let block = self.cursor / COUNTS_PER_BLOCK;
            let Some(free) = self.blocks.get(block as usize).map(|block| block.free) else {
                break Found::End;
            };
            let end = (block + 1) * COUNTS_PER_BLOCK;
            if free == 0 {
                self.cursor = end;
                continue;
            }
            if searched == SEARCH_BLOCKS {
                break Found::NotYet;
            }
            let end = end.min(self.counts.len() as u32);
            let counts = self.counts.get(self.cursor as usize..end as usize);
            let counts = counts.unwrap_or_default();
            let Some(first) = first_zero(counts) else {
                searched += 1;
                self.cursor = (block + 1) * COUNTS_PER_BLOCK;
                continue;
            };
            let looks_further = left >= LONG && left <= free.into();
            let rest = counts.get(first..).unwrap_or_default();
            let long = looks_further.then(|| first_zeroes(rest, left as usize));
            let further = long.flatten().unwrap_or(0) as u32;
            let first = self.cursor + first as u32;
            let length = self.take_run(first + further, left);
            // What was passed over for a longer run is found the next time.
            self.cursor = match further {
                0 => first + length,
                _ => first,
            };
            runs.push(first + further, length);
            left -= length;
        };
        if !runs.is_empty() {
            // The next search begins with what has ended this one.
            return Found::Runs;
        }
        if end == Found::End {
            self.cursor = 0;
        }
        end
    }

    /// Lets the search go on behind `end`, if it would come from `start` to there.
    pub(super) fn skip(&mut self, start: Sbn, end: Sbn) {
        if (start..end).contains(&self.cursor) {
            self.cursor = end;
        }
    }

    /// Makes free blocks provisional, from `start` on; returns how many.
    fn take_run(&mut self, start: Sbn, wanted: u32) -> u32 {
        let mut length = 0;
        while length < wanted && self.get(start + length) == Some(0) {
            self.set(start + length, PROVISIONAL);
            length += 1;
        }
        length
    }

    /// Claims a reference to a block that is not being written by anybody. One on a free block, with
    /// whatever it holds, makes it provisional. Returns false if that is not possible.
    pub(super) fn claim(&mut self, sbn: Sbn) -> bool {
        match self.get(sbn) {
            Some(0) => {
                self.set(sbn, PROVISIONAL);
                true
            }
            // Who has it may be writing it.
            Some(PROVISIONAL) if !self.claims.is_stored(sbn) => false,
            None => false,
            Some(_) => self.claim_more(sbn, 1) > 0,
        }
    }

    /// Claims up to `wanted` more references to a block of which the caller has one; returns how many
    /// it can have.
    pub(super) fn claim_more(&mut self, sbn: Sbn, wanted: u8) -> u8 {
        let own = match self.get(sbn) {
            None | Some(0) => return 0,
            Some(PROVISIONAL) => 1,
            Some(count) => count,
        };
        let room = MAX_COUNT
            .saturating_sub(own)
            .saturating_sub(self.claims.get(sbn));
        let claims = wanted.min(room);
        match claims > 0 && self.claims.add(sbn, claims).is_ok() {
            true => claims,
            false => 0,
        }
    }

    /// The data of these blocks is on the storage, and their entries are in the recovery journal, or
    /// it is known that the data was there before: from now on others can claim those, too, that are
    /// provisional still.
    pub(super) fn set_stored(&mut self, start: Sbn, blocks: u32) {
        for sbn in start..start.saturating_add(blocks) {
            if self.get(sbn) == Some(PROVISIONAL) {
                // Without memory others find it somewhat later.
                let _ = self.claims.set_stored(sbn);
            }
        }
    }

    /// Returns true if nobody is going to refer to any of the blocks.
    pub(super) fn is_unclaimed(&self) -> bool {
        self.claims.is_empty()
    }

    /// Gives back a claim on each of these blocks; returns how many of them are free now.
    pub(super) fn release(&mut self, start: Sbn, blocks: u32) -> u32 {
        let mut freed = 0;
        for sbn in start..start.saturating_add(blocks) {
            if !self.claims.is_empty() && self.claims.take(sbn) {
                continue;
            }
            if self.get(sbn) == Some(PROVISIONAL) {
                self.claims.forget_stored(sbn);
                self.set(sbn, 0);
                freed += 1;
            }
        }
        freed
    }

    /// Fails if what the head of this file says does not hold.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let free = self.counts.iter().filter(|count| **count == 0).count();
        assert_eq!(free, self.free as usize);
        for (sbn, count) in (0..).zip(&self.counts) {
            let claims = self.claims.get(sbn);
            match *count {
                0 => assert_eq!(claims, 0),
                PROVISIONAL => assert!(claims < MAX_COUNT),
                count => assert!(claims <= MAX_COUNT - count),
            }
        }
        let chunks = self.counts.chunks(COUNTS_PER_BLOCK as usize);
        for (chunk, block) in chunks.zip(&self.blocks) {
            let free = chunk.iter().filter(|count| **count == 0).count();
            assert_eq!(free, usize::from(block.free));
        }
        let dirty = self.blocks.iter().filter(|block| block.hold != 0).count();
        assert_eq!(dirty, self.dirty.len());
        let mut last = self.in_flight.unwrap_or(1);
        for index in 0..self.dirty.len() {
            let block = *self.dirty.get(index).unwrap();
            let hold = self.blocks[block as usize].hold;
            assert!(hold >= last, "holds rise: {hold} after {last}");
            last = hold;
        }
    }
}

/// Returns the index of the first 0.
fn first_zero(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut words = bytes.chunks_exact(8);
    let mut at = 0;
    for word in &mut words {
        let value = word
            .first_chunk()
            .map_or(0, |word| u64::from_le_bytes(*word));
        // The lowest of these bits is that of the first zero byte.
        let zeroes = value.wrapping_sub(LOW) & !value & HIGH;
        if zeroes != 0 {
            return Some(at + (zeroes.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let rest = words.remainder().iter().position(|byte| *byte == 0)?;
    Some(at + rest)
}

/// Returns the index of the first of `wanted` 0 in a row, if there are so many.
fn first_zeroes(bytes: &[u8], wanted: usize) -> Option<usize> {
    let mut at = 0_usize;
    loop {
        let window = bytes.get(at..at.saturating_add(wanted))?;
        match last_nonzero(window) {
            None => return Some(at),
            // Whatever there is in front of it is too short.
            Some(last) => at = at.saturating_add(last + 1),
        }
    }
}

/// Returns the index of the last byte that is not 0.
fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    let words = bytes.rchunks_exact(8);
    let rest = words.remainder();
    let mut end = bytes.len();
    for word in words {
        let value = word
            .first_chunk()
            .map_or(0, |word| u64::from_le_bytes(*word));
        if value != 0 {
            return Some(end - 1 - (value.leading_zeros() / 8) as usize);
        }
        end -= 8;
    }
    rest.iter().rposition(|byte| *byte != 0)
}

#[cfg(test)]
mod tests;
