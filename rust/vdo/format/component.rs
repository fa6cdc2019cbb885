// SPDX-License-Identifier: GPL-2.0

//! The header that geometry block and components of the super block share, and what can be wrong
//! with what it heads.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 4 | component id |
//! | 4 | 8 | version: major, minor |
//! | 12 | 8 | size of what follows (in the geometry block: of everything) |

use super::field::put;
use super::field::u32_at;
use super::field::u64_at;
use crate::error::Error;
use crate::error::Status;
use core::fmt;

/// Bytes of a header.
pub(super) const HEADER_SIZE: usize = 20;

const MAJOR_AT: usize = 4;
const MINOR_AT: usize = 8;
const SIZE_AT: usize = 12;

/// A version: versions match if they are equal, nothing less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The major version.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
}

impl Version {
    pub(super) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    pub(super) fn decode(block: &[u8], at: usize) -> Self {
        Self {
            major: u32_at(block, at),
            minor: u32_at(block, at + 4),
        }
    }

    pub(super) fn encode(self, block: &mut [u8], at: usize) {
        put(block, at, self.major.to_le_bytes());
        put(block, at + 4, self.minor.to_le_bytes());
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The header of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u32,
    pub(super) version: Version,
    pub(super) size: u64,
}

impl Header {
    pub(super) fn decode(block: &[u8], at: usize) -> Self {
        Self {
            id: u32_at(block, at),
            version: Version {
                major: u32_at(block, at + MAJOR_AT),
                minor: u32_at(block, at + MINOR_AT),
            },
            size: u64_at(block, at + SIZE_AT),
        }
    }

    pub(super) fn encode(self, block: &mut [u8], at: usize) {
        put(block, at, self.id.to_le_bytes());
        self.version.encode(block, at + MAJOR_AT);
        put(block, at + SIZE_AT, self.size.to_le_bytes());
    }

    /// Checks the header found at `at` against this one; of its size, only that `accepts` likes it.
    pub(super) fn expect(
        self,
        name: &'static str,
        block: &[u8],
        at: usize,
        accepts: impl Fn(u64) -> bool,
    ) -> Result<(), Fault> {
        let found = Self::decode(block, at);
        if found.id != self.id {
            return Err(Fault::Id {
                name,
                expected: self.id,
                found: found.id,
            });
        }
        expect_version(name, self.version, found.version)?;
        if !accepts(found.size) {
            return Err(Fault::Size {
                name,
                expected: self.size,
                found: found.size,
            });
        }
        Ok(())
    }
}

/// Checks a version.
pub(super) fn expect_version(
    name: &'static str,
    expected: Version,
    found: Version,
) -> Result<(), Fault> {
    if found == expected {
        return Ok(());
    }
    Err(Fault::Version {
        name,
        expected,
        found,
    })
}

/// What is wrong with a geometry block or a super block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The magic number is another one.
    Magic,
    /// It is another component.
    Id {
        /// The component.
        name: &'static str,
        /// The id it should have.
        expected: u32,
        /// The id it has.
        found: u32,
    },
    /// It has another version.
    Version {
        /// The component.
        name: &'static str,
        /// The version it should have.
        expected: Version,
        /// The version it has.
        found: Version,
    },
    /// It has another size.
    Size {
        /// The component.
        name: &'static str,
        /// The size it should have.
        expected: u64,
        /// The size it has.
        found: u64,
    },
    /// The checksum does not match.
    Checksum {
        /// The checksum of what was read.
        computed: u32,
        /// The checksum found in the block.
        stored: u32,
    },
    /// A partition is missing, or more are there than the format has.
    Partitions,
    /// A partition is there twice.
    PartitionTwice {
        /// Its id.
        id: u8,
    },
    /// A field has an impossible value.
    Field {
        /// The name of the field.
        name: &'static str,
        /// Its value.
        found: u64,
    },
}

impl Fault {
    /// Returns the status code for it.
    pub fn status(self) -> Status {
        match self {
            Self::Magic => Status::BadMagic,
            Self::Id { .. } => Status::IncorrectComponent,
            Self::Version { .. } | Self::Size { .. } => Status::UnsupportedVersion,
            Self::Checksum { .. } => Status::ChecksumMismatch,
            Self::Partitions => Status::UnknownPartition,
            Self::PartitionTwice { .. } => Status::PartitionExists,
            Self::Field { .. } => Status::ParameterMismatch,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        fault.status().into()
    }
}

/// The text of a log line, to be followed by a colon and the error.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("magic number mismatch"),
            Self::Id {
                name,
                expected,
                found,
            } => write!(f, "{name} ID mismatch, expected {expected}, got {found}"),
            Self::Version {
                name,
                expected,
                found,
            } => write!(
                f,
                "{name} version mismatch, expected {expected}, got {found}"
            ),
            Self::Size {
                name,
                expected,
                found,
            } => write!(f, "{name} size mismatch, expected {expected}, got {found}"),
            Self::Checksum { computed, stored } => {
                write!(
                    f,
                    "checksum mismatch, expected {computed:#x}, got {stored:#x}"
                )
            }
            Self::Partitions => f.write_str("a partition is missing"),
            Self::PartitionTwice { id } => write!(f, "partition {id} is there twice"),
            Self::Field { name, found } => write!(f, "impossible {name} {found}"),
        }
    }
}
