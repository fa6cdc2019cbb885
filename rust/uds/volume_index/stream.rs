// SPDX-License-Identifier: GPL-2.0

//! The volume index in a save: one stream for each zone, which is a range of the lists of each set.
//!
//! A sparse index has first
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | `MI6-0001` |
//! | 8 | 4 | of so many names one is a sample |
//!
//! Then, for each set of lists:
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | `MI5-0005` |
//! | 8 | 8 | nonce of the volume |
//! | 16 | 8 | the oldest chapter that is remembered |
//! | 24 | 8 | the newest one |
//! | 32 | 4 | first list of the zone |
//! | 36 | 4 | number of its lists, n |
//! | 40 | 8 n | bound of each list: no entry is of an older chapter |
//! | 40 + 8 n | 8 | `DI-00002` |
//! | | 4, 4 | number of the zone, and of zones |
//! | | 4, 4 | first list, and number of lists, again |
//! | | 8, 8 | entries; how many of them are collisions |
//! | 80 + 8 n | 2 n | bits of each list |
//!
//! Then, for each list that is not empty, set after set:
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 1 | `m`, the only set; or `d`, names that are no samples; or `s`, samples |
//! | 1 | 1 | where the list begins in the data: 0 to 7 bits |
//! | 2 | 2 | bytes of data |
//! | 4 | 4 | the list |
//! | 8 | | data |
//!
//! and in the end a `z` and seven zero bytes.

use crate::format::field::bytes;
use crate::format::field::put;
use crate::format::field::u32_at;
use crate::format::field::u64_at;
use crate::format::Chapter;

/// What a save of a sparse index begins with.
pub(super) const SPARSE_MAGIC: [u8; 8] = *b"MI6-0001";
const SET_MAGIC: [u8; 8] = *b"MI5-0005";
const LISTS_MAGIC: [u8; 8] = *b"DI-00002";

/// Bytes of what a save of a sparse index begins with.
pub(super) const SPARSE_SIZE: usize = 12;
/// Bytes of either header of a set.
pub(super) const HEADER_SIZE: usize = 40;
/// Bytes before the data of a list.
pub(super) const ITEM_SIZE: usize = 8;
/// What a stream ends with, as large as what is before the data of a list.
pub(super) const GUARD: [u8; ITEM_SIZE] = [b'z', 0, 0, 0, 0, 0, 0, 0];

/// Returns what a save of a sparse index begins with.
pub(super) fn sparse_prefix(sample_rate: u32) -> [u8; SPARSE_SIZE] {
    let mut prefix = [0; SPARSE_SIZE];
    put(&mut prefix, 0, SPARSE_MAGIC);
    put(&mut prefix, 8, sample_rate.to_le_bytes());
    prefix
}

/// What a set of lists begins with: a range of lists, and the chapters they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetHeader {
    pub(super) nonce: u64,
    pub(super) low: Chapter,
    pub(super) high: Chapter,
    pub(super) first: u32,
    pub(super) lists: u32,
}

impl SetHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut header = [0; HEADER_SIZE];
        put(&mut header, 0, SET_MAGIC);
        put(&mut header, 8, self.nonce.to_le_bytes());
        put(&mut header, 16, self.low.to_le_bytes());
        put(&mut header, 24, self.high.to_le_bytes());
        put(&mut header, 32, self.first.to_le_bytes());
        put(&mut header, 36, self.lists.to_le_bytes());
        header
    }

    /// Returns `None` if this is something else.
    pub(super) fn decode(header: &[u8]) -> Option<Self> {
        (bytes(header, 0) == SET_MAGIC).then(|| Self {
            nonce: u64_at(header, 8),
            low: u64_at(header, 16),
            high: u64_at(header, 24),
            first: u32_at(header, 32),
            lists: u32_at(header, 36),
        })
    }
}

/// What comes between the bounds of lists and their sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListsHeader {
    pub(super) zone: u32,
    pub(super) zones: u32,
    pub(super) first: u32,
    pub(super) lists: u32,
    pub(super) entries: u64,
    pub(super) collisions: u64,
}

impl ListsHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut header = [0; HEADER_SIZE];
        put(&mut header, 0, LISTS_MAGIC);
        put(&mut header, 8, self.zone.to_le_bytes());
        put(&mut header, 12, self.zones.to_le_bytes());
        put(&mut header, 16, self.first.to_le_bytes());
        put(&mut header, 20, self.lists.to_le_bytes());
        put(&mut header, 24, self.entries.to_le_bytes());
        put(&mut header, 32, self.collisions.to_le_bytes());
        header
    }

    /// Returns `None` if this is something else.
    pub(super) fn decode(header: &[u8]) -> Option<Self> {
        (bytes(header, 0) == LISTS_MAGIC).then(|| Self {
            zone: u32_at(header, 8),
            zones: u32_at(header, 12),
            first: u32_at(header, 16),
            lists: u32_at(header, 20),
            entries: u64_at(header, 24),
            collisions: u64_at(header, 32),
        })
    }
}

/// What comes before the data of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) tag: u8,
    pub(super) bit: u8,
    pub(super) bytes: u16,
    pub(super) list: u32,
}

impl Item {
    pub(super) const fn encode(self) -> [u8; ITEM_SIZE] {
        let [a, b] = self.bytes.to_le_bytes();
        let [c, d, e, f] = self.list.to_le_bytes();
        [self.tag, self.bit, a, b, c, d, e, f]
    }

    pub(super) const fn decode(item: [u8; ITEM_SIZE]) -> Self {
        let [tag, bit, a, b, c, d, e, f] = item;
        Self {
            tag,
            bit,
            bytes: u16::from_le_bytes([a, b]),
            list: u32::from_le_bytes([c, d, e, f]),
        }
    }
}
