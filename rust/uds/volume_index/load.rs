// SPDX-License-Identifier: GPL-2.0

//! Reading the volume index out of a save, which may be of any number of zones, in pieces of any
//! size.
//!
//! Nothing that is read is believed: a save that makes no sense is an error. What lists hold is not
//! looked at here, but when they are used.

use super::shard::Shard;
use super::stream::Item;
use super::stream::ListsHeader;
use super::stream::SetHeader;
use super::stream::GUARD;
use super::stream::HEADER_SIZE;
use super::stream::ITEM_SIZE;
use super::stream::SPARSE_MAGIC;
use super::stream::SPARSE_SIZE;
use super::Set;
use super::VolumeIndex;
use crate::format::fault::check;
use crate::format::field::bytes;
use crate::format::field::u32_at;
use crate::format::Chapter;
use crate::format::Fault;
use kernel::prelude::*;

/// Lists that are read while a lock is held.
const STEP: usize = 256;

/// No number of a chapter is near the largest number.
const MAX_CHAPTER: Chapter = 1 << 62;

/// Why a volume index was not loaded. What it holds by then is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// It is not one.
    Fault(Fault),
    /// There is no memory for it.
    NoMemory,
}

impl From<Fault> for LoadError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What comes next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Prefix,
    Header(usize),
    Bounds(usize, u32),
    ListsHeader(usize),
    Sizes(usize, u32),
    Item,
    /// The data of a list.
    Data {
        set: usize,
        item: Item,
        at: usize,
    },
    End,
}

/// What was read of a set.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The lists of the zone that is being read.
    first: u32,
    end: u32,
    low: Chapter,
    entries: u64,
    collisions: u64,
}

/// Reads the volume index out of a save.
pub struct Loader<'i> {
    index: &'i VolumeIndex,
    nonce: u64,
    zones: u32,
    zone: u32,
    part: Part,
    sets: [Progress; 2],
    high: Option<Chapter>,
    /// Lists of this zone that have bits, but no data yet.
    missing: u32,
    /// The beginning of what comes next, if it was cut.
    carry: [u8; HEADER_SIZE],
    carried: usize,
}

impl<'i> Loader<'i> {
    /// Loads into an index without entries from a save of so many zones.
    pub fn new(index: &'i VolumeIndex, nonce: u64, zones: u32) -> Self {
        Self {
            index,
            nonce,
            zones,
            zone: 0,
            part: Self::start(index),
            sets: [Progress::default(); 2],
            high: None,
            missing: 0,
            carry: [0; HEADER_SIZE],
            carried: 0,
        }
    }

    fn start(index: &VolumeIndex) -> Part {
        match index.sample_rate {
            0 => Part::Header(0),
            _ => Part::Prefix,
        }
    }

    /// Takes the next bytes of the current zone's stream. What is behind its end does not matter.
    ///
    /// # Errors
    ///
    /// If the save makes no sense, or there is no memory.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        let mut input = bytes;
        while self.part != Part::End && self.step(&mut input)? {}
        Ok(())
    }

    /// Returns whether the stream of the current zone is at its end.
    pub fn is_at_end(&self) -> bool {
        self.part == Part::End
    }

    /// The next bytes are those of the next zone.
    ///
    /// # Errors
    ///
    /// If the stream of the current zone is not at its end.
    pub fn next_zone(&mut self) -> Result<(), LoadError> {
        check(self.is_at_end(), "end of zone", self.zone.into())?;
        self.zone += 1;
        self.part = Self::start(self.index);
        Ok(())
    }

    /// Ends loading, after the last zone; returns the newest chapter.
    ///
    /// # Errors
    ///
    /// If something is missing.
    pub fn finish(self) -> Result<Chapter, LoadError> {
        check(self.is_at_end(), "end of zone", self.zone.into())?;
        check(self.zone + 1 == self.zones, "zones", self.zones.into())?;
        let high = self.high.unwrap_or(0);
        for (set, progress) in self.index.sets.iter().zip(&self.sets) {
            let lists = set.geometry.lists;
            check(progress.end == lists, "lists of a zone", lists.into())?;
            let mut used = 0;
            for shard in set.shards.iter() {
                used += shard.with(|shard| {
                    shard.low = progress.low;
                    shard.high = high;
                    shard.used_bits
                });
            }
            // The counts are for show; but what cannot be is not shown.
            let code = set.geometry.code;
            let most = used / u64::from(code.payload_bits() + code.min_bits()).max(1);
            if let Some(shard) = set.shards.first() {
                shard.with(|shard| {
                    shard.counts.entries = progress.entries.min(most);
                    shard.counts.collisions = progress.collisions.min(shard.counts.entries);
                });
            }
        }
        Ok(high)
    }

    fn set(&self, number: usize) -> Result<&'i Set, LoadError> {
        let set = self.index.sets.get(number);
        set.ok_or(LoadError::Fault(Fault::Magic {
            name: "volume index",
        }))
    }

    /// Returns the next `size` bytes, at the start of an array, once all are there.
    fn piece(&mut self, input: &mut &[u8], size: usize) -> Option<[u8; HEADER_SIZE]> {
        let count = size.saturating_sub(self.carried).min(input.len());
        let (taken, rest) = input.split_at_checked(count)?;
        *input = rest;
        let place = self.carry.get_mut(self.carried..self.carried + count)?;
        place.copy_from_slice(taken);
        self.carried += count;
        if self.carried < size {
            return None;
        }
        self.carried = 0;
        Some(self.carry)
    }

    /// Reads a field of `N` bytes of each list from `list` on, as far as the input goes; returns how
    /// far that was.
    fn table<const N: usize>(
        &mut self,
        input: &mut &[u8],
        number: usize,
        list: u32,
        mut read: impl FnMut(&mut Shard, u32, [u8; N]),
    ) -> Result<u32, LoadError> {
        let set = self.set(number)?;
        let end = self.sets.get(number).map_or(0, |progress| progress.end);
        let mut list = list;
        while list < end {
            let Some(shard) = set.shard(list) else { break };
            if self.carried > 0 || input.len() < N {
                let Some(piece) = self.piece(input, N) else {
                    break;
                };
                shard.with(|shard| read(shard, list, bytes(&piece, 0)));
                list += 1;
                continue;
            }
            let lists = set.next_shard(list).min(end) - list;
            let count = (lists as usize).min(input.len() / N).min(STEP);
            let (fields, rest) = input.split_at_checked(count * N).unwrap_or((&[], input));
            *input = rest;
            shard.with(|shard| {
                for field in fields.chunks_exact(N) {
                    read(shard, list, bytes(field, 0));
                    list += 1;
                }
            });
        }
        Ok(list)
    }

    /// Reads a part; returns false if it is not all there.
    fn step(&mut self, input: &mut &[u8]) -> Result<bool, LoadError> {
        let next = match self.part {
            Part::Prefix => match self.piece(input, SPARSE_SIZE) {
                Some(prefix) => {
                    check_prefix(&prefix, self.index.sample_rate)?;
                    Part::Header(0)
                }
                None => return Ok(false),
            },
            Part::Header(number) => match self.piece(input, HEADER_SIZE) {
                Some(header) => Part::Bounds(number, self.header(number, &header)?),
                None => return Ok(false),
            },
            Part::Bounds(number, list) => {
                let set = self.set(number)?;
                let low = self.sets.get(number).map_or(0, |progress| progress.low);
                let high = self.high.unwrap_or(0);
                // What is older than any chapter that a payload can stand for is as good as gone.
                let lowest = low.saturating_sub(1 << set.geometry.code.payload_bits());
                let list = self.table(input, number, list, |shard, list, field| {
                    let bound = Chapter::from_le_bytes(field);
                    shard.set_bound(list, bound.max(lowest).min(high));
                })?;
                match list < self.sets.get(number).map_or(0, |progress| progress.end) {
                    true => {
                        self.part = Part::Bounds(number, list);
                        return Ok(false);
                    }
                    false => Part::ListsHeader(number),
                }
            }
            Part::ListsHeader(number) => match self.piece(input, HEADER_SIZE) {
                Some(header) => Part::Sizes(number, self.lists_header(number, &header)?),
                None => return Ok(false),
            },
            Part::Sizes(number, list) => {
                let mut missing = 0;
                let list = self.table(input, number, list, |shard, list, field| {
                    let bits = u16::from_le_bytes(field);
                    missing += u32::from(bits > 0);
                    shard.expect(list, bits);
                })?;
                self.missing += missing;
                match list < self.sets.get(number).map_or(0, |progress| progress.end) {
                    true => {
                        self.part = Part::Sizes(number, list);
                        return Ok(false);
                    }
                    false if number + 1 < self.index.sets.len() => Part::Header(number + 1),
                    false => Part::Item,
                }
            }
            Part::Item => match self.piece(input, ITEM_SIZE) {
                Some(item) => self.item(bytes(&item, 0))?,
                None => return Ok(false),
            },
            Part::Data { set, item, at } => {
                let count = usize::from(item.bytes).saturating_sub(at).min(input.len());
                let (data, rest) = input.split_at_checked(count).unwrap_or((&[], input));
                *input = rest;
                let at = at + count;
                let is_whole = at >= item.bytes.into();
                if let Some(shard) = self.set(set)?.shard(item.list) {
                    shard.with(|shard| {
                        shard.receive(item.list, at - count, data);
                        if is_whole {
                            shard.received(item.list, item.bit.into());
                        }
                    });
                }
                if !is_whole {
                    self.part = Part::Data { set, item, at };
                    return Ok(false);
                }
                self.missing = self.missing.saturating_sub(1);
                Part::Item
            }
            Part::End => return Ok(false),
        };
        self.part = next;
        Ok(true)
    }

    /// Checks what a set begins with; returns its first list.
    fn header(&mut self, number: usize, header: &[u8]) -> Result<u32, LoadError> {
        let set = self.set(number)?;
        let name = "volume index";
        let header = SetHeader::decode(header).ok_or(Fault::Magic { name })?;
        if header.nonce != self.nonce {
            return Err(LoadError::Fault(Fault::Nonce {
                name,
                expected: self.nonce,
                found: header.nonce,
            }));
        }
        let high = *self.high.get_or_insert(header.high);
        check(header.high == high, "newest chapter", header.high)?;
        check(high < MAX_CHAPTER, "newest chapter", high)?;
        let chapters = high.checked_sub(header.low);
        let is_known =
            chapters.is_some_and(|chapters| chapters >> set.geometry.code.payload_bits() == 0);
        check(is_known, "oldest chapter", header.low)?;
        let Some(progress) = self.sets.get_mut(number) else {
            return Ok(0);
        };
        check(
            header.first == progress.end,
            "first list",
            header.first.into(),
        )?;
        let end = header.first.checked_add(header.lists);
        let end = end.filter(|end| *end <= set.geometry.lists);
        check(end.is_some(), "number of lists", header.lists.into())?;
        progress.first = header.first;
        progress.end = end.unwrap_or(0);
        progress.low = progress.low.max(header.low);
        Ok(header.first)
    }

    /// Checks what comes before the sizes of lists; returns the first list.
    fn lists_header(&mut self, number: usize, header: &[u8]) -> Result<u32, LoadError> {
        let header = ListsHeader::decode(header).ok_or(Fault::Magic {
            name: "delta index",
        })?;
        check(header.zone == self.zone, "zone", header.zone.into())?;
        check(header.zones == self.zones, "zones", header.zones.into())?;
        let Some(progress) = self.sets.get_mut(number) else {
            return Ok(0);
        };
        let lists = progress.end - progress.first;
        check(
            header.first == progress.first,
            "first list",
            header.first.into(),
        )?;
        check(
            header.lists == lists,
            "number of lists",
            header.lists.into(),
        )?;
        progress.entries = progress.entries.wrapping_add(header.entries);
        progress.collisions = progress.collisions.wrapping_add(header.collisions);
        Ok(header.first)
    }

    /// Checks what comes before the data of a list, and makes room for it.
    fn item(&mut self, item: [u8; ITEM_SIZE]) -> Result<Part, LoadError> {
        if item == GUARD {
            check(self.missing == 0, "end of lists", self.missing.into())?;
            return Ok(Part::End);
        }
        let item = Item::decode(item);
        let mut sets = self.index.sets.iter();
        let number = sets.position(|set| set.geometry.tag == item.tag);
        let number = number.ok_or(Fault::Field {
            name: "tag of a list",
            found: item.tag.into(),
        })?;
        let lists = self
            .sets
            .get(number)
            .map_or(0..0, |progress| progress.first..progress.end);
        check(lists.contains(&item.list), "list", item.list.into())?;
        check(item.bit < 8, "first bit of a list", item.bit.into())?;
        let set = self.set(number)?;
        let bits = set
            .shard(item.list)
            .and_then(|shard| shard.with(|shard| shard.expected(item.list)));
        let bytes = bits.map(|bits| (u32::from(item.bit) + bits).div_ceil(8));
        check(
            bytes == Some(item.bytes.into()),
            "bytes of a list",
            item.bytes.into(),
        )?;
        set.with_memory(item.list, GFP_KERNEL, |shard| {
            shard.make_room(item.list, 8 * usize::from(item.bytes))
        })
        .ok_or(LoadError::NoMemory)?;
        Ok(Part::Data {
            set: number,
            item,
            at: 0,
        })
    }
}

fn check_prefix(prefix: &[u8], sample_rate: u32) -> Result<(), Fault> {
    if bytes(prefix, 0) != SPARSE_MAGIC {
        return Err(Fault::Magic {
            name: "sparse volume index",
        });
    }
    let found = u32_at(prefix, 8);
    check(found == sample_rate, "sample rate", found.into())
}
