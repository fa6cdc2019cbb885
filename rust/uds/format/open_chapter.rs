// SPDX-License-Identifier: GPL-2.0

//! The open chapter in a save.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 10 | magic and version: `ALBOC02.00` |
//! | 10 | 4 | number of records |
//! | 14 | 32 each | records |
//!
//! Zeroes fill the last block. Before the first chapter is written after a save, its first block
//! is overwritten with zeroes: then a crash leads to a rebuild.

use super::fault::check;
use super::field::bytes;
use super::field::put;
use super::field::u32_at;
use super::Fault;

const NAME: &str = "saved open chapter";
const MAGIC: [u8; 5] = *b"ALBOC";
const VERSION: [u8; 5] = *b"02.00";

/// Bytes before the records.
pub const HEADER_SIZE: usize = 14;

/// Decodes the header: the number of records, of which there are at most `room`.
pub fn decode(header: &[u8; HEADER_SIZE], room: u32) -> Result<u32, Fault> {
    if bytes(header, 0) != MAGIC {
        return Err(Fault::Magic { name: NAME });
    }
    if bytes(header, 5) != VERSION {
        let [a, b, c, d, ..] = bytes::<5>(header, 5);
        let found = u32::from_be_bytes([a, b, c, d]).into();
        return Err(Fault::Version { name: NAME, found });
    }
    let records = u32_at(header, 10);
    check(records <= room, "number of records", records.into())?;
    Ok(records)
}

/// Encodes the header.
pub fn encode(records: u32) -> [u8; HEADER_SIZE] {
    let mut header = [0; HEADER_SIZE];
    put(&mut header, 0, MAGIC);
    put(&mut header, 5, VERSION);
    put(&mut header, 10, records.to_le_bytes());
    header
}

#[cfg(test)]
mod tests;
