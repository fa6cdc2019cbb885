// SPDX-License-Identifier: GPL-2.0

//! The geometry block: block 0 of the device, which says where everything else is.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | magic, `dmvdo001` |
//! | 8 | 20 | header: id 5, version 5.0 or 4.0, size 101 or 93: of all up to the checksum |
//! | 28 | 4 | unused: kept as it is |
//! | 32 | 8 | nonce |
//! | 40 | 16 | uuid |
//! | 56 | 8 | offset of the device against PBNs; version 4.0 has no such field |
//! | 64 | 12 | region 0, the index: id, first PBN |
//! | 76 | 12 | region 1, the data: id, first PBN, which is the super block's |
//! | 88 | 4 | memory of the index |
//! | 92 | 4 | unused |
//! | 96 | 1 | the index is sparse |
//! | 97 | 4 | checksum of all before |
//!
//! It is written when a volume is made, and never again.

use super::checksum::crc32;
use super::component::Fault;
use super::component::Header;
use super::component::Version;
use super::component::HEADER_SIZE;
use super::field::bytes;
use super::field::put;
use super::field::u32_at;
use super::field::u64_at;
use super::field::u8_at;
use super::index::IndexMemory;
use super::Page;
use super::Pbn;

const MAGIC: [u8; 8] = *b"dmvdo001";
const ID: u32 = 5;

const HEADER_AT: usize = 8;
const UNUSED_AT: usize = HEADER_AT + HEADER_SIZE;
const NONCE_AT: usize = 32;
const UUID_AT: usize = 40;
/// Version 5.0 has the offset of the device here, version 4.0 what comes behind it.
const OFFSET_AT: usize = 56;
const OFFSET_SIZE: usize = 8;

/// Offsets of version 4.0.
const INDEX_ID_AT: usize = OFFSET_AT;
const INDEX_START_AT: usize = INDEX_ID_AT + 4;
const DATA_ID_AT: usize = INDEX_START_AT + 8;
const DATA_START_AT: usize = DATA_ID_AT + 4;
const MEMORY_AT: usize = DATA_START_AT + 8;
const SPARSE_AT: usize = MEMORY_AT + 8;
const CHECKSUM_AT: usize = SPARSE_AT + 1;
const SIZE: usize = CHECKSUM_AT + 4;

const _: () = assert!(SIZE == 93 && SIZE + OFFSET_SIZE == 101);

/// The ids of the two regions: index, data.
pub const REGION_IDS: [u32; 2] = [0, 1];

/// The version of a geometry block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryVersion {
    /// 4.0: PBNs are blocks of the device.
    V4,
    /// 5.0.
    V5,
}

impl GeometryVersion {
    const fn header(self) -> Header {
        let (major, size) = match self {
            Self::V4 => (4, SIZE),
            Self::V5 => (5, SIZE + OFFSET_SIZE),
        };
        Header {
            id: ID,
            version: Version::new(major, 0),
            size: size as u64,
        }
    }

    /// Returns the distance to the fields behind the offset of the device.
    const fn shift(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V5 => OFFSET_SIZE,
        }
    }
}

/// The content of the geometry block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The version; a volume keeps its own.
    pub version: GeometryVersion,
    /// Arbitrary; the super block has a copy.
    pub unused: u32,
    /// What tells blocks of this volume from those of others.
    pub nonce: u64,
    /// The name of the volume.
    pub uuid: [u8; 16],
    /// A block is at `pbn - bio_offset` on the device (but for this one).
    pub bio_offset: u64,
    /// What the regions say they are: [`REGION_IDS`], but mainline does not look.
    pub region_ids: [u32; 2],
    /// The first block of the index.
    pub index_start: Pbn,
    /// The super block.
    pub data_start: Pbn,
    /// The memory of the index.
    pub index_memory: IndexMemory,
    /// 1 if the index is sparse.
    pub sparse: u8,
}

impl Geometry {
    /// Decodes a geometry block.
    pub fn decode(page: &Page) -> Result<Self, Fault> {
        if bytes(page, 0) != MAGIC {
            return Err(Fault::Magic);
        }
        let version = match Header::decode(page, HEADER_AT).version.major {
            0..=4 => GeometryVersion::V4,
            _ => GeometryVersion::V5,
        };
        let header = version.header();
        header.expect("geometry", page, HEADER_AT, |size| size == header.size)?;

        let shift = version.shift();
        let checksum_at = CHECKSUM_AT + shift;
        let computed = crc32(page.get(..checksum_at).unwrap_or_default());
        let stored = u32_at(page, checksum_at);
        if computed != stored {
            return Err(Fault::Checksum { computed, stored });
        }
        Ok(Self {
            version,
            unused: u32_at(page, UNUSED_AT),
            nonce: u64_at(page, NONCE_AT),
            uuid: bytes(page, UUID_AT),
            bio_offset: match version {
                GeometryVersion::V4 => 0,
                GeometryVersion::V5 => u64_at(page, OFFSET_AT),
            },
            region_ids: [
                u32_at(page, INDEX_ID_AT + shift),
                u32_at(page, DATA_ID_AT + shift),
            ],
            index_start: u64_at(page, INDEX_START_AT + shift),
            data_start: u64_at(page, DATA_START_AT + shift),
            index_memory: IndexMemory(u32_at(page, MEMORY_AT + shift)),
            sparse: u8_at(page, SPARSE_AT + shift),
        })
    }

    /// Encodes a geometry block; the offset of the device is lost in version 4.0.
    pub fn encode(&self, page: &mut Page) {
        page.fill(0);
        put(page, 0, MAGIC);
        self.version.header().encode(page, HEADER_AT);
        put(page, UNUSED_AT, self.unused.to_le_bytes());
        put(page, NONCE_AT, self.nonce.to_le_bytes());
        put(page, UUID_AT, self.uuid);
        if self.version == GeometryVersion::V5 {
            put(page, OFFSET_AT, self.bio_offset.to_le_bytes());
        }
        let shift = self.version.shift();
        let [index_id, data_id] = self.region_ids;
        put(page, INDEX_ID_AT + shift, index_id.to_le_bytes());
        put(page, INDEX_START_AT + shift, self.index_start.to_le_bytes());
        put(page, DATA_ID_AT + shift, data_id.to_le_bytes());
        put(page, DATA_START_AT + shift, self.data_start.to_le_bytes());
        put(page, MEMORY_AT + shift, self.index_memory.0.to_le_bytes());
        put(page, SPARSE_AT + shift, [self.sparse]);
        let checksum_at = CHECKSUM_AT + shift;
        let checksum = crc32(page.get(..checksum_at).unwrap_or_default());
        put(page, checksum_at, checksum.to_le_bytes());
    }

    /// Returns the block of the device that has this PBN (not for the geometry block).
    pub fn device_block(&self, pbn: Pbn) -> Option<u64> {
        pbn.checked_sub(self.bio_offset)
    }

    /// Checks what loading relies on.
    pub fn check(&self) -> Result<(), Fault> {
        let first = self.bio_offset.checked_add(1);
        if first.is_none_or(|first| self.index_start < first) {
            return Err(Fault::Field {
                name: "index start",
                found: self.index_start,
            });
        }
        if self.data_start <= self.index_start || self.data_start >= super::layout::MAX_PHYSICAL {
            return Err(Fault::Field {
                name: "data start",
                found: self.data_start,
            });
        }
        Ok(())
    }
}

/// Returns whether a device is blank, so that loading it formats it: block 0 has only zeroes.
pub fn is_blank(page: &Page) -> bool {
    page.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests;
