// SPDX-License-Identifier: GPL-2.0

//! Errors, as `kernel::error` has them.

use core::fmt;

/// An errno.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(i32);

/// A result with an errno.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

impl Error {
    /// Creates the error of a negative errno; any other number is `EINVAL`, as in the kernel.
    pub fn from_errno(errno: i32) -> Error {
        if (-4095..0).contains(&errno) {
            Error(errno)
        } else {
            code::EINVAL
        }
    }

    /// Returns the negative errno.
    pub fn to_errno(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({})", self.0)
    }
}

impl From<crate::alloc::AllocError> for Error {
    fn from(_: crate::alloc::AllocError) -> Error {
        code::ENOMEM
    }
}

/// The errnos that the kernel crate of Linux 7.2 names.
#[expect(missing_docs, reason = "errno names")]
pub mod code {
    use super::Error;

    pub const EPERM: Error = Error(-1);
    pub const ENOENT: Error = Error(-2);
    pub const EIO: Error = Error(-5);
    pub const E2BIG: Error = Error(-7);
    pub const EAGAIN: Error = Error(-11);
    pub const ENOMEM: Error = Error(-12);
    pub const EBUSY: Error = Error(-16);
    pub const EEXIST: Error = Error(-17);
    pub const ENODEV: Error = Error(-19);
    pub const EINVAL: Error = Error(-22);
    pub const ENOSPC: Error = Error(-28);
    pub const EROFS: Error = Error(-30);
    pub const ERANGE: Error = Error(-34);
    pub const EOVERFLOW: Error = Error(-75);
}
