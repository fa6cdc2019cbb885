// SPDX-License-Identifier: GPL-2.0

//! A limit on how often the log is written.

/// Returns false if too much was logged of late.
pub fn ratelimit() -> bool {
    // SAFETY: May be called in any context.
    unsafe { dm_bindings::dmox_ratelimit() }
}
