// SPDX-License-Identifier: GPL-2.0

//! Rate limits for log messages.

use kernel::prelude::*;

/// Returns false if line `number` was logged too often of late. What was not logged is counted, and
/// told of later under `name`.
///
/// A module numbers those of its lines that are limited, from 0 on; each number has a limit of its
/// own, as each call site has in C.
pub fn ratelimit(number: u32, name: &'static CStr) -> bool {
    // SAFETY: May be called in any context; the name is a string that is never gone.
    unsafe { dm_bindings::dmox_ratelimit(number, name.as_char_ptr()) }
}
