// SPDX-License-Identifier: GPL-2.0

//! Error codes that the kernel crate of 7.2 does not name.
//!
//! Functions, because no constructor of `Error` that both kernels have is `const`.

use kernel::bindings;
use kernel::error::Error;

/// No data available: a structure ends too early.
pub fn enodata() -> Error {
    Error::from_errno(-(bindings::ENODATA as i32))
}

/// Illegal byte sequence: a checksum or a magic number is wrong.
pub fn eilseq() -> Error {
    Error::from_errno(-(bindings::EILSEQ as i32))
}

/// Operation not supported.
pub fn eopnotsupp() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as i32))
}
