// SPDX-License-Identifier: GPL-2.0

//! The configuration: the second block of an index, which says what it was made for.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 10 | magic and version: `ALBIC06.02`; `ALBIC08.02` of a converted volume |
//! | 10 | 4 | record pages of a chapter |
//! | 14 | 4 | chapters |
//! | 18 | 4 | sparse chapters |
//! | 22 | 4 | chapters that mainline's cache is for |
//! | 26 | 4 | 0 |
//! | 30 | 4 | mean delta of the volume index |
//! | 34 | 4 | bytes of a page |
//! | 38 | 4 | of so many names one is a sample; 0 in a dense index |
//! | 42 | 8 | nonce of the user |
//! | 50 | 8 | `08.02`: the chapter that was moved |
//! | 58 | 8 | `08.02`: the slot that it was moved to |

use super::fault::check;
use super::field::bytes;
use super::field::put;
use super::field::u32_at;
use super::field::u64_at;
use super::geometry::Moved;
use super::geometry::CACHE_CHAPTERS;
use super::geometry::VOLUME_MEAN_DELTA;
use super::Block;
use super::Fault;
use super::Geometry;

const NAME: &str = "index configuration";
const MAGIC: [u8; 5] = *b"ALBIC";
const NORMAL: [u8; 5] = *b"06.02";
const CONVERTED: [u8; 5] = *b"08.02";

/// Fields of four bytes, with their names.
fn fields(geometry: &Geometry) -> [(&'static str, usize, u32); 7] {
    let shape = &geometry.shape;
    [
        ("number of record pages", 10, shape.record_pages),
        ("number of chapters", 14, shape.chapters),
        ("number of sparse chapters", 18, shape.sparse_chapters),
        ("number of chapters in the cache", 22, CACHE_CHAPTERS),
        ("mean delta", 30, VOLUME_MEAN_DELTA as u32),
        ("page size", 34, shape.page_size),
        ("sample rate", 38, shape.sample_rate),
    ]
}

/// Checks a configuration against the geometry that the user wants, and returns what a conversion
/// has moved.
pub fn decode(
    block: &Block,
    geometry: &Geometry,
    owner: u64,
    converted: bool,
) -> Result<Moved, Fault> {
    if bytes(block, 0) != MAGIC {
        return Err(Fault::Magic { name: NAME });
    }
    let version = if converted { CONVERTED } else { NORMAL };
    if bytes(block, 5) != version {
        let [a, b, c, d, ..] = bytes::<5>(block, 5);
        return Err(Fault::Version {
            name: NAME,
            found: u32::from_be_bytes([a, b, c, d]).into(),
        });
    }
    for (name, at, expected) in fields(geometry) {
        let found = u32_at(block, at);
        check(found == expected, name, found.into())?;
    }
    let found = u64_at(block, 42);
    if found != owner {
        return Err(Fault::Nonce {
            name: NAME,
            expected: owner,
            found,
        });
    }
    if !converted {
        return Ok(Moved::default());
    }
    let moved = Moved {
        chapter: u64_at(block, 50),
        slot: u64_at(block, 58),
    };
    let slots = u64::from(geometry.shape.chapters);
    check(moved.slot < slots, "slot of the moved chapter", moved.slot)?;
    Ok(moved)
}

/// Encodes a configuration.
pub fn encode(block: &mut Block, geometry: &Geometry, owner: u64, converted: bool) {
    block.fill(0);
    put(block, 0, MAGIC);
    put(block, 5, if converted { CONVERTED } else { NORMAL });
    for (_, at, value) in fields(geometry) {
        put(block, at, value.to_le_bytes());
    }
    put(block, 42, owner.to_le_bytes());
    if converted {
        put(block, 50, geometry.moved.chapter.to_le_bytes());
        put(block, 58, geometry.moved.slot.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
