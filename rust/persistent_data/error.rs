// SPDX-License-Identifier: GPL-2.0

//! What can go wrong, and which errno mainline gives for it.

use crate::block::BlockKind;
use crate::block::Problem;
use kernel::alloc::AllocError;
use kernel::fmt;

/// A result of this crate.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The device failed.
    Io {
        /// The first block of the I/O.
        block: u64,
        /// The errno of the device.
        error: kernel::error::Error,
    },
    /// A block is not what it should be.
    Corrupt {
        /// The kind of block that was expected.
        kind: &'static str,
        /// The block.
        block: u64,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Something that must be there is not: a key of a tree, an entry of an array.
    NoData,
    /// No block is free.
    NoSpace,
    /// No memory.
    NoMemory,
    /// A value that the caller or the superblock gave makes no sense.
    Invalid(&'static str),
}

impl Error {
    /// Returns an error about the contents of a block.
    pub(crate) fn corrupt(kind: &'static BlockKind, block: u64, problem: Problem) -> Self {
        Self::Corrupt {
            kind: kind.name,
            block,
            problem,
        }
    }

    /// Returns an error about a field of a block.
    pub(crate) fn field(
        kind: &'static BlockKind,
        block: u64,
        name: &'static str,
        found: u64,
    ) -> Self {
        Self::corrupt(kind, block, Problem::Field { name, found })
    }

    /// Returns the errno that mainline gives.
    pub fn errno(self) -> kernel::error::Error {
        // By number, as the kernel crate of Linux 7.2 does not name all of them.
        const ENOMEM: i32 = 12;
        const ENOTBLK: i32 = 15;
        const EINVAL: i32 = 22;
        const ENOSPC: i32 = 28;
        const ENODATA: i32 = 61;
        const EILSEQ: i32 = 84;
        let errno = match self {
            Self::Io { error, .. } => return error,
            Self::Corrupt { problem, .. } => match problem {
                Problem::Number { .. } => ENOTBLK,
                Problem::Checksum { .. } | Problem::Field { .. } => EILSEQ,
                Problem::Unsupported { .. } | Problem::Kind { .. } => EINVAL,
            },
            Self::NoData => ENODATA,
            Self::NoSpace => ENOSPC,
            Self::NoMemory => ENOMEM,
            Self::Invalid(_) => EINVAL,
        };
        kernel::error::Error::from_errno(-errno)
    }
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        Self::NoMemory
    }
}

impl From<Error> for kernel::error::Error {
    fn from(error: Error) -> Self {
        error.errno()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { block, error } => {
                write!(f, "I/O error {} at block {block}", error.to_errno())
            }
            Self::Corrupt { kind, block, .. } => {
                write!(f, "{kind} validator check failed for block {block}")
            }
            Self::NoData => f.write_str("no data"),
            Self::NoSpace => f.write_str("no free blocks"),
            Self::NoMemory => f.write_str("out of memory"),
            Self::Invalid(what) => f.write_str(what),
        }
    }
}
