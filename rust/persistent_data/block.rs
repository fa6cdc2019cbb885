// SPDX-License-Identifier: GPL-2.0

//! A block of metadata, and what makes it trustworthy.
//!
//! Each block starts with a checksum and carries its own number, so that a block that was never
//! written, written halfway, or written to the wrong place is noticed when it is read. Both are
//! computed when a block goes to disk, and stale in memory.

use crate::checksum;
use kernel::fmt;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes;

/// Bytes in a block.
pub const BLOCK_SIZE: usize = runtime::disk::PAGE_SIZE;

/// Sectors in a block.
pub const BLOCK_SECTORS: u64 = runtime::disk::PAGE_SECTORS;

/// The bytes of a block.
pub type Block = runtime::disk::Page;

/// What a block is used for: how it is tested when it is read and finished when it is written.
///
/// A user of the cache adds its own kinds as statics. Two kinds differ if their names do.
pub struct BlockKind {
    /// The name, as it stands in log lines.
    pub name: &'static str,
    /// Tests a block that was read from block `number`. The first problem decides the error.
    pub verify: fn(block: &Block, number: u64) -> Result<(), Problem>,
    /// Puts number and checksum into a block that is about to be written to block `number`.
    pub seal: fn(block: &mut Block, number: u64),
}

impl PartialEq for BlockKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The block says that it is another one.
    Number {
        /// The number found in the block.
        found: u64,
        /// The number that the block was read from.
        expected: u64,
    },
    /// The checksum does not match.
    Checksum {
        /// The checksum of what was read.
        computed: u32,
        /// The checksum found in the block.
        stored: u32,
    },
    /// A field has an impossible value.
    Field {
        /// The name of the field.
        name: &'static str,
        /// Its value.
        found: u64,
    },
    /// A field has a value that this code does not know.
    Unsupported {
        /// The name of the field.
        name: &'static str,
        /// Its value.
        found: u64,
    },
    /// The block is in use as another kind of block.
    Kind {
        /// The name of the other kind.
        cached: &'static str,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { found, expected } => write!(f, "blocknr {found} != wanted {expected}"),
            Self::Checksum { computed, stored } => write!(f, "csum {computed} != wanted {stored}"),
            Self::Field { name, found } => write!(f, "impossible {name} {found}"),
            Self::Unsupported { name, found } => write!(f, "unsupported {name} {found}"),
            Self::Kind { cached } => write!(f, "already in use as {cached}"),
        }
    }
}

/// The checksum and self-location that the kinds of this library share.
///
/// The checksum is in the first four bytes and covers all others. Each kind mixes its own salt
/// into it, so that a block of one kind never passes as another.
#[derive(Clone, Copy)]
pub struct Stamp {
    /// What is mixed into the checksum.
    pub salt: u32,
    /// The offset at which the block's own number is stored.
    pub number_at: usize,
}

impl Stamp {
    /// Tests the block's own number.
    pub fn number(self, block: &Block, expected: u64) -> Result<(), Problem> {
        let stored = block
            .get(self.number_at..)
            .and_then(|rest| U64::read_from_prefix(rest).ok());
        match stored.map(|(number, _)| number.get()) {
            Some(found) if found == expected => Ok(()),
            found => Err(Problem::Number {
                found: found.unwrap_or(u64::MAX),
                expected,
            }),
        }
    }

    /// Tests the checksum.
    pub fn checksum(self, block: &Block) -> Result<(), Problem> {
        let computed = self.compute(block);
        let [a, b, c, d, ..] = *block;
        let stored = u32::from_le_bytes([a, b, c, d]);
        if computed == stored {
            Ok(())
        } else {
            Err(Problem::Checksum { computed, stored })
        }
    }

    /// Puts the block's own number and the checksum in.
    pub fn seal(self, block: &mut Block, number: u64) {
        let field = block
            .get_mut(self.number_at..)
            .and_then(|rest| U64::mut_from_prefix(rest).ok());
        if let Some((field, _)) = field {
            field.set(number);
        }
        let checksum = self.compute(block);
        if let Ok((field, _)) = U32::mut_from_prefix(block) {
            field.set(checksum);
        }
    }

    fn compute(self, block: &Block) -> u32 {
        checksum::update(!0, block.split_at(4).1) ^ self.salt
    }
}

#[cfg(test)]
mod tests;
