// SPDX-License-Identifier: GPL-2.0

//! Chapters in memory: the open one, and the one before it until it is on disk.
//!
//! A chapter's records are in the order in which they came, with a hash table from names to them.
//! There are two tables: chapter `n` uses table `n % 2`, if it is in memory at all.

use crate::format::Chapter;
use crate::format::Metadata;
use crate::format::Name;
use crate::format::Record;
use crate::format::NO_CHAPTER;
use kernel::alloc::AllocError;
use kernel::prelude::*;
use runtime::sync::Lock;

/// The slot of a name that is not there.
const EMPTY: u32 = u32::MAX;

/// What became of a record that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is new; true if it was the last for which there was room.
    New(bool),
    /// The name was there; its metadata is what was given.
    Replaced,
    /// There is no room, or the chapter is another one.
    Refused,
}

/// The records of a chapter.
struct Table {
    chapter: Chapter,
    records: KVVec<Record>,
    slots: KVVec<u32>,
}

impl Table {
    fn new(records: usize) -> Result<Self, AllocError> {
        let slots = (2 * records).next_power_of_two();
        Ok(Self {
            chapter: NO_CHAPTER,
            records: KVVec::with_capacity(records, GFP_KERNEL)?,
            slots: KVVec::from_elem(EMPTY, slots, GFP_KERNEL)?,
        })
    }

    /// Returns the slot of a name, or the empty one where it would go; there always is one.
    fn find(&self, hash: usize, name: &Name) -> (usize, Option<usize>) {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash & mask;
        for _ in 0..self.slots.len() {
            let record = match self.slots.get(at) {
                None | Some(&EMPTY) => break,
                Some(&record) => record as usize,
            };
            if self.records.get(record).is_some_and(|r| r.name == *name) {
                return (at, Some(record));
            }
            at = (at + 1) & mask;
        }
        (at, None)
    }

    fn add(&mut self, hash: usize, record: Record, room: usize) -> Added {
        let (slot, found) = self.find(hash, &record.name);
        if let Some(old) = found.and_then(|found| self.records.get_mut(found)) {
            old.metadata = record.metadata;
            return Added::Replaced;
        }
        let number = self.records.len();
        if number >= room || self.records.push_within_capacity(record).is_err() {
            return Added::Refused;
        }
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = number as u32;
        }
        Added::New(number + 1 == room)
    }
}

/// The chapters in memory.
pub struct Chapters {
    tables: [Lock<Table>; 2],
    records: usize,
    seed: u64,
}

impl Chapters {
    /// Allocates both tables, for so many records each. The seed is something that users cannot know:
    /// else they could choose names that are slow to find.
    pub fn new(records: u32, seed: u64) -> Result<Self, AllocError> {
        let records = records as usize;
        Ok(Self {
            tables: [
                Lock::new(Table::new(records)?),
                Lock::new(Table::new(records)?),
            ],
            records,
            seed,
        })
    }

    fn table(&self, chapter: Chapter) -> &Lock<Table> {
        let [even, odd] = &self.tables;
        if chapter % 2 == 0 {
            even
        } else {
            odd
        }
    }

    fn with<R>(&self, chapter: Chapter, f: impl FnOnce(&mut Table) -> R) -> Option<R> {
        let table = self.table(chapter);
        table.with(|table| (table.chapter == chapter).then(|| f(table)))
    }

    fn hash(&self, name: &Name) -> usize {
        let all = u128::from_le_bytes(name.0);
        let mut hash = (all as u64 ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 32;
        hash = (hash ^ (all >> 64) as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (hash ^ (hash >> 32)) as usize
    }

    /// Begins a chapter, if its table is not in use.
    pub fn begin(&self, chapter: Chapter) -> bool {
        self.table(chapter).with(|table| {
            let is_free = table.chapter == NO_CHAPTER;
            if is_free {
                table.chapter = chapter;
            }
            is_free
        })
    }

    /// Returns whether a chapter is in memory.
    pub fn has(&self, chapter: Chapter) -> bool {
        self.with(chapter, |_| ()).is_some()
    }

    /// Returns how many records a chapter has.
    pub fn len(&self, chapter: Chapter) -> usize {
        self.with(chapter, |table| table.records.len()).unwrap_or(0)
    }

    /// Returns whether a chapter takes no more records.
    pub fn is_full(&self, chapter: Chapter) -> bool {
        self.len(chapter) >= self.records
    }

    /// Looks for a name in a chapter: `None` if that is not in memory.
    pub fn look_up(&self, chapter: Chapter, name: &Name) -> Option<Option<Metadata>> {
        let hash = self.hash(name);
        self.with(chapter, |table| {
            let (_, found) = table.find(hash, name);
            let record = found.and_then(|found| table.records.get(found));
            record.map(|record| record.metadata)
        })
    }

    /// Adds a record to a chapter, or changes it.
    pub fn add(&self, chapter: Chapter, record: Record) -> Added {
        let hash = self.hash(&record.name);
        self.with(chapter, |table| table.add(hash, record, self.records))
            .unwrap_or(Added::Refused)
    }

    /// Copies records of a chapter from number `first` on; returns how many there were.
    pub fn copy(&self, chapter: Chapter, first: usize, out: &mut [Record]) -> usize {
        let copied = self.with(chapter, |table| {
            let records = table.records.get(first..).unwrap_or_default();
            for (to, from) in out.iter_mut().zip(records) {
                *to = *from;
            }
            records.len().min(out.len())
        });
        copied.unwrap_or(0)
    }

    /// Forgets a chapter: its table is free again.
    pub fn end(&self, chapter: Chapter) {
        let table = self.table(chapter);
        // Nobody looks at the table while it is of no chapter that is: it is cleared without the lock.
        let taken = self.with(chapter, |table| {
            table.chapter = NO_CHAPTER - 1;
            table.records.clear();
            core::mem::take(&mut table.slots)
        });
        let Some(mut slots) = taken else {
            return;
        };
        slots.fill(EMPTY);
        table.with(|table| {
            table.slots = slots;
            table.chapter = NO_CHAPTER;
        });
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for table in &self.tables {
            let chapter = table.with(|table| table.chapter);
            if chapter != NO_CHAPTER {
                self.end(chapter);
            }
        }
    }
}

#[cfg(test)]
mod tests;
