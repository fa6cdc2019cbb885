// SPDX-License-Identifier: GPL-2.0

//! What can go wrong, by the numbers and words that administrators know from the log.

use core::fmt;
use kernel::alloc::AllocError;
use kernel::prelude::*;

/// The result of an operation on a volume.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// An errno: of the storage, or `ENOMEM`.
    Errno(kernel::error::Error),
    /// Something that an errno cannot say.
    Status(Status),
}

/// The internal status codes of vdo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// Not implemented.
    NotImplemented = 1464,
    /// Out of range.
    OutOfRange = 1465,
    /// Reference count would become invalid.
    RefCountInvalid = 1466,
    /// Out of space.
    NoSpace = 1467,
    /// Bad configuration option.
    BadConfiguration = 1468,
    /// Prior operation still in progress.
    ComponentBusy = 1469,
    /// Corrupt or incorrect page.
    BadPage = 1470,
    /// Unsupported component version.
    UnsupportedVersion = 1471,
    /// Component id mismatch in decoder.
    IncorrectComponent = 1472,
    /// Parameters have conflicting values.
    ParameterMismatch = 1473,
    /// No partition exists with a given id.
    UnknownPartition = 1474,
    /// A partition already exists with a given id.
    PartitionExists = 1475,
    /// Physical block growth of too few blocks.
    IncrementTooSmall = 1476,
    /// Incorrect checksum.
    ChecksumMismatch = 1477,
    /// A lock is held incorrectly.
    LockError = 1478,
    /// The device is in read-only mode.
    ReadOnly = 1479,
    /// The device is shutting down.
    ShuttingDown = 1480,
    /// Recovery journal corrupted.
    CorruptJournal = 1481,
    /// Exceeds maximum number of slabs supported.
    TooManySlabs = 1482,
    /// Compressed block fragment is invalid.
    InvalidFragment = 1483,
    /// Retry operation after rebuilding finishes.
    RetryAfterRebuild = 1484,
    /// Invalid page mapping.
    BadMapping = 1485,
    /// Bio creation failed.
    BioCreationFailed = 1486,
    /// Bad magic number.
    BadMagic = 1487,
    /// Bad nonce.
    BadNonce = 1488,
    /// Journal sequence number overflow.
    JournalOverflow = 1489,
    /// Invalid operation for current state.
    InvalidAdminState = 1490,
}

impl Status {
    /// Returns the name that goes with the number.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// Returns the text that goes with the number.
    pub fn text(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NotImplemented => ("VDO_NOT_IMPLEMENTED", "Not implemented"),
            Self::OutOfRange => ("VDO_OUT_OF_RANGE", "Out of range"),
            Self::RefCountInvalid => (
                "VDO_REF_COUNT_INVALID",
                "Reference count would become invalid",
            ),
            Self::NoSpace => ("VDO_NO_SPACE", "Out of space"),
            Self::BadConfiguration => ("VDO_BAD_CONFIGURATION", "Bad configuration option"),
            Self::ComponentBusy => ("VDO_COMPONENT_BUSY", "Prior operation still in progress"),
            Self::BadPage => ("VDO_BAD_PAGE", "Corrupt or incorrect page"),
            Self::UnsupportedVersion => {
                ("VDO_UNSUPPORTED_VERSION", "Unsupported component version")
            }
            Self::IncorrectComponent => (
                "VDO_INCORRECT_COMPONENT",
                "Component id mismatch in decoder",
            ),
            Self::ParameterMismatch => (
                "VDO_PARAMETER_MISMATCH",
                "Parameters have conflicting values",
            ),
            Self::UnknownPartition => (
                "VDO_UNKNOWN_PARTITION",
                "No partition exists with a given id",
            ),
            Self::PartitionExists => (
                "VDO_PARTITION_EXISTS",
                "A partition already exists with a given id",
            ),
            Self::IncrementTooSmall => (
                "VDO_INCREMENT_TOO_SMALL",
                "Physical block growth of too few blocks",
            ),
            Self::ChecksumMismatch => ("VDO_CHECKSUM_MISMATCH", "Incorrect checksum"),
            Self::LockError => ("VDO_LOCK_ERROR", "A lock is held incorrectly"),
            Self::ReadOnly => ("VDO_READ_ONLY", "The device is in read-only mode"),
            Self::ShuttingDown => ("VDO_SHUTTING_DOWN", "The device is shutting down"),
            Self::CorruptJournal => ("VDO_CORRUPT_JOURNAL", "Recovery journal corrupted"),
            Self::TooManySlabs => (
                "VDO_TOO_MANY_SLABS",
                "Exceeds maximum number of slabs supported",
            ),
            Self::InvalidFragment => (
                "VDO_INVALID_FRAGMENT",
                "Compressed block fragment is invalid",
            ),
            Self::RetryAfterRebuild => (
                "VDO_RETRY_AFTER_REBUILD",
                "Retry operation after rebuilding finishes",
            ),
            Self::BadMapping => ("VDO_BAD_MAPPING", "Invalid page mapping"),
            Self::BioCreationFailed => ("VDO_BIO_CREATION_FAILED", "Bio creation failed"),
            Self::BadMagic => ("VDO_BAD_MAGIC", "Bad magic number"),
            Self::BadNonce => ("VDO_BAD_NONCE", "Bad nonce"),
            Self::JournalOverflow => ("VDO_JOURNAL_OVERFLOW", "Journal sequence number overflow"),
            Self::InvalidAdminState => (
                "VDO_INVALID_ADMIN_STATE",
                "Invalid operation for current state",
            ),
        }
    }
}

impl Error {
    /// The device is in read-only mode.
    pub const READ_ONLY: Self = Self::Status(Status::ReadOnly);

    /// Returns the number that the log shows: of the status, or the negative errno.
    pub fn number(self) -> i32 {
        match self {
            Self::Errno(error) => error.to_errno(),
            Self::Status(status) => status as i32,
        }
    }

    /// Returns the errno for whoever asked.
    pub fn errno(self) -> kernel::error::Error {
        match self {
            Self::Errno(error) => error,
            Self::Status(Status::BadConfiguration) => EINVAL,
            Self::Status(Status::NoSpace) => ENOSPC,
            Self::Status(_) => EIO,
        }
    }

    /// Returns whether this may be gone at the next try, and says nothing about the volume: a lack of
    /// memory, or an I/O that failed for another reason than that the storage has lost the data.
    pub fn is_passing(self) -> bool {
        const ENODATA: i32 = -61;
        const EILSEQ: i32 = -84;
        match self {
            Self::Errno(error) => !matches!(error.to_errno(), ENODATA | EILSEQ),
            Self::Status(_) => false,
        }
    }

    /// Returns whether the log says that this number became an errno.
    pub fn is_mapping_logged(self) -> bool {
        match self {
            Self::Errno(_) => false,
            Self::Status(status) => !matches!(
                status,
                Status::BadConfiguration | Status::NoSpace | Status::ReadOnly
            ),
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<kernel::error::Error> for Error {
    fn from(error: kernel::error::Error) -> Self {
        Self::Errno(error)
    }
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        Self::Errno(ENOMEM)
    }
}

/// The text of the log: `VDO Status: Out of space (1467)`, `Input/output error (-5)`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "VDO Status: {}", status.text())?,
            Self::Errno(error) => f.write_str(match error.to_errno() {
                -2 => "No such file or directory",
                -5 => "Input/output error",
                -12 => "Cannot allocate memory",
                -16 => "Device or resource busy",
                -22 => "Invalid argument",
                -28 => "No space left on device",
                -30 => "Read-only file system",
                _ => "System error",
            })?,
        }
        write!(f, " ({})", self.number())
    }
}

/// The kernel's `fmt!` asks for a trait of its own.
#[cfg(MODULE)]
impl kernel::fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
