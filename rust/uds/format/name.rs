// SPDX-License-Identifier: GPL-2.0

//! Names, and the numbers that are cut out of them; what is known of a name.
//!
//! | Bytes | Read as | Used for |
//! |---|---|---|
//! | 0..8 | big-endian | address (lower bits) and list (above them) in the volume index |
//! | 8..14 | big-endian | address and list in the index of a chapter |
//! | 14..16 | big-endian | whether a sparse index keeps the name for long: a sample |
//!
//! Names are hashes, so all these are evenly spread, unless somebody makes it otherwise: a hash may
//! not be cryptographic. Nothing but what is remembered depends on that.

/// Bytes of a name.
pub const NAME_SIZE: usize = 16;

/// Bytes of what is known of a name.
pub const METADATA_SIZE: usize = 16;

/// Bytes of a record.
pub const RECORD_SIZE: usize = NAME_SIZE + METADATA_SIZE;

/// A name: a hash of 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub [u8; NAME_SIZE]);

/// What is known of a name; opaque here.
pub type Metadata = [u8; METADATA_SIZE];

impl Name {
    /// Returns what the volume index cuts address and list out of: 64 bits.
    pub const fn volume_key(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Returns what the index of a chapter cuts address and list out of: 48 bits.
    pub const fn chapter_key(&self) -> u64 {
        let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, ..] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// Returns what says whether the name is a sample: 16 bits.
    pub const fn sample_key(&self) -> u16 {
        let [.., a, b] = self.0;
        u16::from_be_bytes([a, b])
    }
}

/// A name and what is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The name.
    pub name: Name,
    /// What is known of it.
    pub metadata: Metadata,
}

impl Record {
    /// Decodes a record.
    pub fn decode(bytes: &[u8; RECORD_SIZE]) -> Self {
        Self {
            name: Name(super::field::bytes(bytes, 0)),
            metadata: super::field::bytes(bytes, NAME_SIZE),
        }
    }

    /// Encodes a record.
    pub fn encode(&self) -> [u8; RECORD_SIZE] {
        let mut bytes = [0; RECORD_SIZE];
        super::field::put(&mut bytes, 0, self.name.0);
        super::field::put(&mut bytes, NAME_SIZE, self.metadata);
        bytes
    }
}
