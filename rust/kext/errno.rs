// SPDX-License-Identifier: GPL-2.0

//! Error codes that the kernel crate of 7.2 does not name.
//!
//! Functions, because no constructor of `Error` that both kernels have is `const`.

use kernel::bindings;
use kernel::error::Error;

/// Operation not supported.
pub fn eopnotsupp() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as i32))
}
