// SPDX-License-Identifier: GPL-2.0

//! The page map: which index page of a chapter a delta list is on.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | magic, with the version: `ALBIPM02` |
//! | 8 | 8 | the chapter that it was changed for last |
//! | 16 | 2 each | last list of each index page of each slot, but for the last page of a slot |

use super::field::bytes;
use super::field::put;
use super::field::u16_at;
use super::field::u64_at;
use super::Chapter;
use super::Fault;
use super::Geometry;
use kernel::alloc::AllocError;
use kernel::prelude::*;

const NAME: &str = "index page map";
const MAGIC: [u8; 8] = *b"ALBIPM02";

/// Bytes before the entries.
pub const HEADER_SIZE: usize = 16;

/// Which index page of a chapter a delta list is on.
pub struct PageMap {
    /// The chapter that it was changed for last.
    pub updated: Chapter,
    /// The last list of each page, slot by slot.
    entries: KVVec<u16>,
    /// How many there are of each slot.
    of_slot: usize,
}

impl PageMap {
    /// Allocates an empty one.
    pub fn new(geometry: &Geometry) -> Result<Self, AllocError> {
        let of_slot = geometry.mapped_pages() as usize;
        let slots = geometry.shape.chapters as usize;
        Ok(Self {
            updated: 0,
            entries: KVVec::from_elem(0, slots * of_slot, GFP_KERNEL)?,
            of_slot,
        })
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.updated = 0;
        self.entries.fill(0);
    }

    fn slot(&self, slot: u64) -> &[u16] {
        let start = (slot as usize).saturating_mul(self.of_slot);
        let end = start.saturating_add(self.of_slot);
        self.entries.get(start..end).unwrap_or_default()
    }

    /// Returns the index page of a slot that a list is on.
    pub fn page_of(&self, slot: u64, list: u32) -> u32 {
        let is_before = |last: &&u16| u32::from(**last) < list;
        self.slot(slot).iter().take_while(is_before).count() as u32
    }

    /// Notes the last list of an index page of a slot; of the last page nothing is kept.
    pub fn set(&mut self, slot: u64, page: u32, last_list: u16) {
        if page as usize >= self.of_slot {
            return;
        }
        let at = (slot as usize).saturating_mul(self.of_slot) + page as usize;
        if let Some(entry) = self.entries.get_mut(at) {
            *entry = last_list;
        }
    }

    /// Returns the bytes of the entries.
    pub fn entry_bytes(&self) -> usize {
        2 * self.entries.len()
    }

    /// Encodes what comes before the entries.
    pub fn encode_header(&self) -> [u8; HEADER_SIZE] {
        let mut header = [0; HEADER_SIZE];
        put(&mut header, 0, MAGIC);
        put(&mut header, 8, self.updated.to_le_bytes());
        header
    }

    /// Decodes what comes before the entries.
    pub fn decode_header(&mut self, header: &[u8; HEADER_SIZE]) -> Result<(), Fault> {
        if bytes(header, 0) != MAGIC {
            return Err(Fault::Magic { name: NAME });
        }
        self.updated = u64_at(header, 8);
        Ok(())
    }

    /// Encodes entries from number `first` on, as many as fit; returns how many.
    pub fn encode(&self, first: usize, out: &mut [u8]) -> usize {
        let entries = self.entries.get(first..).unwrap_or_default();
        let room = out.len() / 2;
        for (chunk, entry) in out.chunks_exact_mut(2).zip(entries) {
            put(chunk, 0, entry.to_le_bytes());
        }
        room.min(entries.len())
    }

    /// Decodes entries from number `first` on.
    pub fn decode(&mut self, first: usize, bytes: &[u8]) {
        let entries = self.entries.get_mut(first..).unwrap_or_default();
        for (entry, chunk) in entries.iter_mut().zip(bytes.chunks_exact(2)) {
            *entry = u16_at(chunk, 0);
        }
    }
}

#[cfg(test)]
mod tests;
