// SPDX-License-Identifier: GPL-2.0

//! A page of the block map, of any height.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | version, 4.1 |
//! | 8 | 8 | nonce of the volume |
//! | 16 | 8 | PBN of this page |
//! | 24 | 8 | unused, may be anything on old volumes |
//! | 32 | 1 | initialized, 0 or 1 |
//! | 33 | 3 | unused |
//! | 36 | 5 * 812 | entries, see [`Mapping`] |
//!
//! There is no checksum. A new page is written twice, first with `initialized` 0: until the second
//! write has begun, a page that was torn counts as empty, and the journal still has its entries.

use super::field::bytes;
use super::field::put;
use super::field::u32_at;
use super::field::u64_at;
use super::field::u8_at;
use super::mapping::MAPPING_SIZE;
use super::Mapping;
use super::Page;
use super::Pbn;
use super::BLOCK_SIZE;
use core::ops::Range;

/// Entries in a page.
pub const ENTRIES: u16 = 812;

const MAJOR: u32 = 4;
const MINOR: u32 = 1;

const MAJOR_AT: usize = 0;
const MINOR_AT: usize = 4;
const NONCE_AT: usize = 8;
const PBN_AT: usize = 16;
const INITIALIZED_AT: usize = 32;
const ENTRIES_AT: usize = 36;

const _: () = assert!(ENTRIES_AT + ENTRIES as usize * MAPPING_SIZE == BLOCK_SIZE);

/// What a page that was read is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Never written whole, or of another volume: counts as empty.
    Invalid,
    /// A page of this volume, but of another place.
    Bad {
        /// Where the page says that it belongs.
        pbn: Pbn,
    },
    /// A page of this volume at its place.
    Valid,
}

/// Tells what the page that was read from `pbn` is good for.
pub fn validate(page: &Page, nonce: u64, pbn: Pbn) -> Validity {
    if u32_at(page, MAJOR_AT) != MAJOR
        || u32_at(page, MINOR_AT) != MINOR
        || u64_at(page, NONCE_AT) != nonce
        || !is_initialized(page)
    {
        return Validity::Invalid;
    }
    match u64_at(page, PBN_AT) {
        found if found == pbn => Validity::Valid,
        found => Validity::Bad { pbn: found },
    }
}

/// A nonce that differs in no more bits from ours is ours, damaged. Nonces are times: of two
/// volumes that were made on a device soon after each other, not many more bits differ.
const DAMAGED_BITS: u32 = 1;

/// Tells a damaged page from one that was never written: of an invalid page that says it is
/// initialized, and in its place, either version or nonce is right and the other one nearly.
pub fn is_damaged(page: &Page, nonce: u64, pbn: Pbn) -> bool {
    let version = u32_at(page, MAJOR_AT) == MAJOR && u32_at(page, MINOR_AT) == MINOR;
    let distance = (u64_at(page, NONCE_AT) ^ nonce).count_ones();
    let damaged = match version {
        true => distance != 0 && distance <= DAMAGED_BITS,
        false => distance == 0,
    };
    damaged && is_initialized(page) && u64_at(page, PBN_AT) == pbn
}

/// Makes an empty page of `page`, which is not initialized yet.
pub fn format_page(page: &mut Page, nonce: u64, pbn: Pbn) {
    page.fill(0);
    put(page, MAJOR_AT, MAJOR.to_le_bytes());
    put(page, MINOR_AT, MINOR.to_le_bytes());
    put(page, NONCE_AT, nonce.to_le_bytes());
    put(page, PBN_AT, pbn.to_le_bytes());
}

/// Returns whether a page is initialized. (Any value but 0 counts, as in mainline.)
pub fn is_initialized(page: &Page) -> bool {
    u8_at(page, INITIALIZED_AT) != 0
}

/// Says whether a page is initialized.
pub fn set_initialized(page: &mut Page, initialized: bool) {
    put(page, INITIALIZED_AT, [initialized.into()]);
}

/// Returns an entry; there is nothing behind the last one.
pub fn entry(page: &Page, slot: u16) -> Mapping {
    Mapping::decode(bytes(page, entry_at(slot)))
}

/// Changes an entry; nothing happens behind the last one.
pub fn set_entry(page: &mut Page, slot: u16, mapping: Mapping) {
    put(page, entry_at(slot), mapping.encode());
}

/// Returns all entries, in order.
pub fn entries(page: &Page) -> impl Iterator<Item = Mapping> + '_ {
    entries_of(page, 0..ENTRIES).map(|(_, entry)| entry)
}

/// Returns the entries of some slots, with the slot of each.
pub fn entries_of(page: &Page, slots: Range<u16>) -> impl Iterator<Item = (u16, Mapping)> + '_ {
    let places = page.get(entry_at(slots.start)..entry_at(slots.end));
    let places = places.unwrap_or_default().chunks_exact(MAPPING_SIZE);
    slots
        .zip(places)
        .map(|(slot, place)| (slot, Mapping::decode(bytes(place, 0))))
}

/// Makes the entries of some slots those of blocks that are not mapped.
pub fn unmap(page: &mut Page, slots: Range<u16>) {
    if let Some(places) = page.get_mut(entry_at(slots.start)..entry_at(slots.end)) {
        places.fill(0);
    }
}

const _: () = assert!(Mapping::UNMAPPED.bits() == 0);

fn entry_at(slot: u16) -> usize {
    ENTRIES_AT + slot as usize * MAPPING_SIZE
}

#[cfg(test)]
mod tests;
