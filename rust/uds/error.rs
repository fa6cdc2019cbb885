// SPDX-License-Identifier: GPL-2.0

//! What can go wrong.

use crate::format::Fault;
use core::fmt;
use kernel::alloc::AllocError;
use kernel::prelude::*;

/// The result of an operation on an index.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// An errno: of the storage, or `ENOMEM`.
    Errno(kernel::error::Error),
    /// What was read is not what it should be.
    Fault(Fault),
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

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(error) => write!(f, "error {}", error.to_errno()),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

/// The kernel's `fmt!` asks for a trait of its own.
#[cfg(MODULE)]
impl kernel::fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
