// SPDX-License-Identifier: GPL-2.0

//! A block of reference counts: one byte per data block of a slab.
//!
//! A block is eight sectors, each with a point of the slab journal in front (8 bytes) and 504
//! counts behind. The point is that of the last slab journal entry which the counts include. A
//! block is written with one point; differing points mean that the write was torn, and each sector
//! is then judged by its own.

use super::field::put;
use super::field::u64_at;
use super::JournalPoint;
use super::Page;
use super::Sbn;
use super::BLOCK_SECTORS;
use super::SECTOR_SIZE;

/// Counts in a sector.
pub const COUNTS_PER_SECTOR: u32 = 504;

/// Counts in a block.
pub const COUNTS_PER_BLOCK: u32 = COUNTS_PER_SECTOR * BLOCK_SECTORS as u32;

/// The highest count. A page of the block map always has it.
pub const MAX_COUNT: u8 = 254;

/// Allocated, but not referenced yet; free when it is read from disk.
pub const PROVISIONAL: u8 = 255;

const COUNTS_AT: usize = 8;

const _: () = assert!(COUNTS_AT + COUNTS_PER_SECTOR as usize == SECTOR_SIZE);

/// The counts of a block.
pub type Counts = [u8; COUNTS_PER_BLOCK as usize];

/// Returns the reference block that counts a data block, the sector in it, and the place there.
pub fn place(sbn: Sbn) -> (u32, usize, usize) {
    let in_block = sbn % COUNTS_PER_BLOCK;
    (
        sbn / COUNTS_PER_BLOCK,
        (in_block / COUNTS_PER_SECTOR) as usize,
        (in_block % COUNTS_PER_SECTOR) as usize,
    )
}

/// Takes the counts out of a block as they are, also provisional ones, and returns the commit
/// points of its sectors.
pub fn decode(page: &Page, counts: &mut Counts) -> [JournalPoint; BLOCK_SECTORS] {
    let mut points = [JournalPoint::NONE; BLOCK_SECTORS];
    let places = counts.chunks_exact_mut(COUNTS_PER_SECTOR as usize);
    let sectors = page.chunks_exact(SECTOR_SIZE);
    for ((sector, place), point) in sectors.zip(places).zip(&mut points) {
        *point = JournalPoint::unpack(u64_at(sector, 0));
        place.copy_from_slice(sector.split_at(COUNTS_AT).1);
    }
    points
}

/// Fills a block with counts, from the first on, and with one commit point. What `counts` lacks
/// is 0.
pub fn encode(page: &mut Page, counts: &[u8], point: JournalPoint) {
    let mut parts = counts.chunks(COUNTS_PER_SECTOR as usize);
    for sector in page.chunks_exact_mut(SECTOR_SIZE) {
        sector.fill(0);
        put(sector, 0, point.pack().to_le_bytes());
        let part = parts.next().unwrap_or_default();
        if let Some(places) = sector.get_mut(COUNTS_AT..COUNTS_AT + part.len()) {
            places.copy_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests;
