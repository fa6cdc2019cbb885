// SPDX-License-Identifier: GPL-2.0

//! Where a logical block is: five bytes.
//!
//! | Byte | Bits | Field |
//! |---|---|---|
//! | 0 | 3..0 | state: 0 unmapped, 1 uncompressed, 2..15 compressed, fragment slot 0..13 |
//! | 0 | 7..4 | PBN, bits 35..32 |
//! | 1..4 | | PBN, bits 31..0 |

use super::Pbn;

/// Bytes of a mapping.
pub const MAPPING_SIZE: usize = 5;

/// Fragments that a compressed block can have.
pub const MAX_FRAGMENTS: u8 = 14;

/// How a block is stored: unmapped, as it is, or as a fragment of a compressed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MappingState(u8);

impl MappingState {
    /// Not mapped.
    pub const UNMAPPED: Self = Self(0);

    /// Stored as it is.
    pub const UNCOMPRESSED: Self = Self(1);

    /// Returns the state of a fragment; `None` if no compressed block has this slot.
    pub const fn fragment(slot: u8) -> Option<Self> {
        if slot < MAX_FRAGMENTS {
            Some(Self(slot + 2))
        } else {
            None
        }
    }

    /// Returns the state of these four bits; `None` if there are more.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 16 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// Returns the four bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns whether the state is one of a fragment.
    pub const fn is_compressed(self) -> bool {
        self.0 >= 2
    }

    /// Returns the slot of a fragment.
    pub const fn slot(self) -> Option<u8> {
        self.0.checked_sub(2)
    }
}

/// Where a logical block is stored, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mapping {
    /// The block; 0 for the zero block and for nothing.
    pub pbn: Pbn,
    /// How it is stored.
    pub state: MappingState,
}

impl Mapping {
    /// Nothing is stored.
    pub const UNMAPPED: Self = Self {
        pbn: 0,
        state: MappingState::UNMAPPED,
    };

    /// Zeroes were written: takes no block, but counts as used.
    pub const ZERO: Self = Self {
        pbn: 0,
        state: MappingState::UNCOMPRESSED,
    };

    /// Returns the mapping of a block that is stored as it is.
    pub const fn plain(pbn: Pbn) -> Self {
        Self {
            pbn,
            state: MappingState::UNCOMPRESSED,
        }
    }

    /// Returns the mapping of a fragment; `None` if no compressed block has this slot.
    pub fn fragment(pbn: Pbn, slot: u8) -> Option<Self> {
        let state = MappingState::fragment(slot)?;
        Some(Self { pbn, state })
    }

    /// Returns whether something was written here: data, or zeroes.
    pub const fn is_mapped(self) -> bool {
        self.state.0 != 0
    }

    /// Returns whether PBN and state fit each other. Whether the PBN is a data block, the layout
    /// of the volume says.
    pub const fn is_valid_location(self) -> bool {
        match self.pbn {
            0 => !self.state.is_compressed(),
            _ => self.is_mapped(),
        }
    }

    /// Decodes a mapping; all bytes are one, but not each is a valid location.
    pub const fn decode(bytes: [u8; MAPPING_SIZE]) -> Self {
        let [a, b, c, d, e] = bytes;
        Self::from_bits(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]))
    }

    /// Encodes a mapping. Of the PBN, the lower 36 bits are stored.
    pub const fn encode(self) -> [u8; MAPPING_SIZE] {
        let [a, b, c, d, e, ..] = self.bits().to_le_bytes();
        [a, b, c, d, e]
    }

    /// Returns the mapping whose bytes make this number, the first one lowest.
    pub(super) const fn from_bits(bits: u64) -> Self {
        Self {
            pbn: ((bits & 0xf0) << 28) | ((bits >> 8) & 0xffff_ffff),
            state: MappingState((bits & 0xf) as u8),
        }
    }

    /// Returns the number that the bytes make.
    pub(super) const fn bits(self) -> u64 {
        let low = (self.pbn & 0xffff_ffff) << 8;
        low | ((self.pbn >> 28) & 0xf0) | self.state.0 as u64
    }
}

#[cfg(test)]
mod tests;
