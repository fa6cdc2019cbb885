// SPDX-License-Identifier: GPL-2.0

//! Making the pages of a chapter that is full.
//!
//! The entries of its index are sorted once, by list and address, and then written out: what would
//! have come of adding one after the other. Of equal addresses the first to come is the plain entry,
//! and the others follow it, the last first.
//!
//! What does not fit is left out: entries that would make a list too long, and lists at the end if the
//! pages are full. That takes names that somebody has chosen; their records are not found then.

use crate::delta::Fresh;
use crate::delta::Writer;
use crate::delta::MAX_LIST_BITS;
use crate::format::field::put;
use crate::format::index_page;
use crate::format::record_page;
use crate::format::Chapter;
use crate::format::Geometry;
use crate::format::Name;
use crate::format::Record;
use crate::format::RECORD_SIZE;
use crate::sort::radix_sort;
use crate::sort::COUNTERS;
use kernel::alloc::AllocError;
use kernel::prelude::*;

/// Bits for the number of a record in its chapter, in a key.
const NUMBER_BITS: u32 = 18;

/// What is needed to make a chapter's pages; used again for each.
pub struct Press {
    geometry: Geometry,
    /// The entries: list, address, number of the record.
    keys: KVVec<u64>,
    scratch: KVVec<u64>,
    counters: KBox<[u32; COUNTERS]>,
    /// The bits of each list.
    sizes: KVVec<u16>,
    /// The entry with which the next list begins, and that list.
    next_key: usize,
    next_list: usize,
    /// Entries that were left out.
    dropped: usize,
}

/// A page of an index that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// The first list on the page.
    pub first_list: u32,
    /// How many there are.
    pub lists: u32,
}

impl Press {
    /// Allocates what chapters of this geometry need.
    pub fn new(geometry: &Geometry) -> Result<Self, AllocError> {
        let records = geometry.records as usize;
        Ok(Self {
            geometry: *geometry,
            keys: KVVec::with_capacity(records, GFP_KERNEL)?,
            scratch: KVVec::from_elem(0, records, GFP_KERNEL)?,
            counters: counters()?,
            sizes: KVVec::from_elem(0, geometry.chapter_lists() as usize, GFP_KERNEL)?,
            next_key: 0,
            next_list: 0,
            dropped: 0,
        })
    }

    /// Begins a chapter.
    pub fn begin(&mut self) {
        self.keys.clear();
        self.sizes.fill(0);
        self.next_key = 0;
        self.next_list = 0;
        self.dropped = 0;
    }

    /// Adds the next record.
    pub fn add(&mut self, name: &Name) {
        let (address, list) = self.geometry.chapter_place(name.chapter_key());
        let place = (u64::from(list) << self.geometry.address_bits) | u64::from(address);
        let key = (place << NUMBER_BITS) | self.keys.len() as u64;
        // There is room for all that a chapter can have.
        let _ = self.keys.push_within_capacity(key);
    }

    /// Sorts what was added.
    pub fn sort(&mut self) {
        let bits = self.geometry.list_bits + self.geometry.address_bits;
        let Some(scratch) = self.scratch.get_mut(..self.keys.len()) else {
            return;
        };
        radix_sort(
            &mut self.keys,
            scratch,
            &mut self.counters,
            NUMBER_BITS,
            bits,
        );
        self.measure();
    }

    /// Returns how many entries were left out so far.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Determines the size of each list, and leaves out what makes one too long.
    fn measure(&mut self) {
        let mut kept = 0;
        let mut start = 0;
        while let Some(key) = self.keys.get(start) {
            let list = self.list_of(*key);
            let rest = self.keys.get(start..).unwrap_or_default();
            let count = rest
                .iter()
                .take_while(|k| self.list_of(**k) == list)
                .count();
            let entries = rest.get(..count).unwrap_or_default();
            let mut bits = self.bits_of(entries);
            let mut left = count;
            if bits > MAX_LIST_BITS {
                (left, bits) = self.shorten(start, count);
            }
            for at in 0..left {
                if let Some(key) = self.keys.get(start + at).copied() {
                    self.set_key(kept + at, key);
                }
            }
            if let Some(size) = self.sizes.get_mut(list) {
                *size = bits as u16;
            }
            self.dropped += count - left;
            kept += left;
            start += count;
        }
        self.keys.truncate(kept);
    }

    fn set_key(&mut self, at: usize, key: u64) {
        if let Some(place) = self.keys.get_mut(at) {
            *place = key;
        }
    }

    fn list_of(&self, key: u64) -> usize {
        (key >> NUMBER_BITS >> self.geometry.address_bits) as usize
    }

    fn address_of(&self, key: u64) -> u32 {
        (key >> NUMBER_BITS) as u32 & ((1 << self.geometry.address_bits) - 1)
    }

    /// Returns the bits of a list with these entries.
    fn bits_of(&self, entries: &[u64]) -> usize {
        let code = &self.geometry.code;
        let mut bits = 0;
        let mut before = None;
        for key in entries {
            let address = self.address_of(*key);
            bits += match before {
                Some(before) if before == address => code.collision_bits(),
                before => code.plain_bits(address - before.unwrap_or(0)),
            };
            before = Some(address);
        }
        bits
    }

    /// Leaves out what would have made a list too long when it came. Returns how many entries are
    /// left, at the start of their old place, and their bits.
    #[cold]
    fn shorten(&mut self, start: usize, count: usize) -> (usize, usize) {
        let code = self.geometry.code;
        let end = start + count;
        // In the order in which they came; the scratch has those that stay, sorted.
        let number = |key: &u64| *key & ((1 << NUMBER_BITS) - 1);
        if let Some(entries) = self.keys.get_mut(start..end) {
            runtime::sort::sort_by_key(entries, number);
        }
        let mut kept = 0;
        let mut bits = 0;
        for at in start..end {
            let Some(key) = self.keys.get(at).copied() else {
                break;
            };
            let address = self.address_of(key);
            let stay = self.scratch.get(..kept).unwrap_or_default();
            let place = stay.partition_point(|other| *other < key);
            let before = place.checked_sub(1).and_then(|at| stay.get(at));
            let before = before.map(|key| self.address_of(*key));
            let after = stay.get(place).map(|key| self.address_of(*key));
            let base = before.unwrap_or(0);
            let more = if before == Some(address) {
                code.collision_bits()
            } else {
                let nearer = after.map_or(0, |after| {
                    code.plain_bits(after - base) - code.plain_bits(after - address)
                });
                code.plain_bits(address - base) - nearer
            };
            if bits + more > MAX_LIST_BITS {
                continue;
            }
            bits += more;
            if let Some(scratch) = self.scratch.get_mut(place..=kept) {
                scratch.rotate_right(1);
                if let Some(first) = scratch.first_mut() {
                    *first = key;
                }
            }
            kept += 1;
        }
        for at in 0..kept {
            if let Some(key) = self.scratch.get(at).copied() {
                self.set_key(start + at, key);
            }
        }
        (kept, bits)
    }

    /// Makes the next page of the index. `name_of` says the names of records that share an address.
    pub fn index_page(
        &mut self,
        nonce: u64,
        chapter: Chapter,
        is_last: bool,
        page: &mut [u8],
        mut name_of: impl FnMut(usize) -> Name,
    ) -> Made {
        let first = self.next_list;
        let lists = self.choose(page.len() as u32, is_last);
        page.fill(0);
        let sizes = self.sizes.get(first..first + lists).unwrap_or_default();
        let at = index_page::begin(page, nonce, chapter, first as u32, sizes);
        let mut writer = Writer::new(page, at);
        for list in first..first + lists {
            self.write_list(list, &mut writer, &mut name_of);
        }
        self.next_list = first + lists;
        Made {
            first_list: first as u32,
            lists: lists as u32,
        }
    }

    /// Returns how many lists go on the next page, after leaving out what has to be.
    fn choose(&mut self, page_size: u32, is_last: bool) -> usize {
        let first = self.next_list;
        loop {
            let rest = self.sizes.get(first..).unwrap_or_default();
            let fit = index_page::lists_that_fit(rest, page_size);
            if fit == rest.len() || fit > 0 && !is_last {
                return fit;
            }
            // The first that does not fit goes, or the nearest before it that has something.
            let tried = rest.get(..=fit).unwrap_or_default();
            let Some(list) = tried.iter().rposition(|size| *size > 0) else {
                return fit;
            };
            if let Some(size) = self.sizes.get_mut(first + list) {
                *size = 0;
            }
        }
    }

    fn write_list(
        &mut self,
        list: usize,
        writer: &mut Writer<'_>,
        name_of: &mut impl FnMut(usize) -> Name,
    ) {
        let start = self.next_key;
        let rest = self.keys.get(start..).unwrap_or_default();
        let count = rest
            .iter()
            .take_while(|k| self.list_of(**k) == list)
            .count();
        self.next_key += count;
        if self.sizes.get(list).is_none_or(|size| *size == 0) {
            self.dropped += count;
            return;
        }
        let entries = rest.get(..count).unwrap_or_default();
        let code = self.geometry.code;
        let number = |key: u64| (key & ((1 << NUMBER_BITS) - 1)) as usize;
        let page_records = self.geometry.shape.page_records;
        let fresh = |key: u64, delta, name| Fresh {
            payload: number(key) as u32 / page_records,
            delta,
            name,
        };
        let mut base = 0;
        for equals in entries.chunk_by(|a, b| a >> NUMBER_BITS == b >> NUMBER_BITS) {
            let Some((first, later)) = equals.split_first() else {
                continue;
            };
            let address = self.address_of(*first);
            writer.push(&code, &fresh(*first, address - base, None));
            for key in later.iter().rev() {
                let name = name_of(number(*key));
                writer.push(&code, &fresh(*key, 0, Some(name)));
            }
            base = address;
        }
    }
}

#[inline(never)]
fn counters() -> Result<KBox<[u32; COUNTERS]>, AllocError> {
    KBox::new([0; COUNTERS], GFP_KERNEL)
}

/// Bits for the number of a record on its page, in a key.
const PLACE_BITS: u32 = 10;

/// Bits of a name by which records are sorted first.
const NAME_BITS: u32 = 22;

impl Press {
    /// Makes a page of records. To be called when the chapter's index is made.
    pub fn record_page(&mut self, records: &[Record], page: &mut [u8]) {
        page.fill(0);
        self.sort_by_name(records);
        let order = record_page::in_order(self.keys.len() as u32);
        for (at, key) in order.zip(self.keys.iter()) {
            if let Some(record) = record_of(records, *key) {
                put(page, at as usize * RECORD_SIZE, record.encode());
            }
        }
    }

    /// Leaves in the keys the numbers of records in the order of their names.
    fn sort_by_name(&mut self, records: &[Record]) {
        let mask = (1 << PLACE_BITS) - 1;
        self.keys.clear();
        for (number, record) in (0..=mask).zip(records) {
            let key = record.name.volume_key() & !mask | number;
            // There is room for a whole chapter.
            let _ = self.keys.push_within_capacity(key);
        }
        let count = self.keys.len();
        if let Some(scratch) = self.scratch.get_mut(..count) {
            let shift = u64::BITS - NAME_BITS;
            radix_sort(
                &mut self.keys,
                scratch,
                &mut self.counters,
                shift,
                NAME_BITS,
            );
        }
        // Names are spread evenly: few have so many bits in common, unless somebody has chosen them.
        let name = |key: &u64| record_of(records, *key).map(|record| record.name);
        let mut patience = 4 * count;
        for end in 1..count {
            let sorted = self.keys.get_mut(..=end).unwrap_or_default();
            for at in (1..=end).rev() {
                let is_sorted = match (sorted.get(at - 1), sorted.get(at)) {
                    (Some(a), Some(b)) => name(a) <= name(b),
                    _ => true,
                };
                if is_sorted {
                    break;
                }
                sorted.swap(at - 1, at);
                patience = patience.saturating_sub(1);
            }
            if patience == 0 {
                runtime::sort::sort_by_key(&mut self.keys, name);
                return;
            }
        }
    }
}

fn record_of(records: &[Record], key: u64) -> Option<&Record> {
    records.get((key & ((1 << PLACE_BITS) - 1)) as usize)
}

#[cfg(test)]
mod tests;
