// SPDX-License-Identifier: GPL-2.0

//! Host stand-in for the part of the `kernel` crate that the library crates use.
//!
//! It offers the same names with the same signatures, and nothing more. Allocations can be made
//! to fail on a countdown ([`alloc::fail_after`]), so that `ENOMEM` paths get tests.

pub mod alloc;
pub mod error;
pub mod fmt;
pub mod print;
pub mod sync;

/// What library crates import, as from the kernel's own prelude.
pub mod prelude {
    pub use crate::alloc::flags::*;
    pub use crate::alloc::AllocError;
    pub use crate::alloc::KBox;
    pub use crate::alloc::KVVec;
    pub use crate::alloc::KVec;
    pub use crate::error::code::*;
    pub use crate::error::Error;
    pub use crate::error::Result;
    pub use crate::{fmt, pr_debug, pr_err, pr_info, pr_warn};
    pub use core::pin::Pin;
}
