// SPDX-License-Identifier: GPL-2.0

//! Random numbers.

use kernel::bindings;

/// Returns bits that nobody can guess.
pub fn bits() -> u64 {
    // SAFETY: May be called in any context.
    unsafe { bindings::get_random_u64() }
}

/// Returns a new random identifier.
pub fn uuid() -> [u8; 16] {
    let mut uuid = [0; 16];
    // SAFETY: The function writes 16 bytes.
    unsafe { bindings::generate_random_uuid(uuid.as_mut_ptr()) };
    uuid
}
