// SPDX-License-Identifier: GPL-2.0

//! LZ4, by the kernel's own routines.

use kernel::prelude::*;

/// Decompresses a raw block; it must fill `to`.
///
/// # Errors
///
/// `EIO` if it does not, or is no such block.
pub fn decompress(from: &[u8], to: &mut [u8]) -> Result {
    let (from_len, to_len) = (c_int::try_from(from.len())?, c_int::try_from(to.len())?);
    // SAFETY: Both pointers are valid for their lengths, and the function checks its input.
    let len = unsafe {
        dm_bindings::LZ4_decompress_safe(
            from.as_ptr().cast(),
            to.as_mut_ptr().cast(),
            from_len,
            to_len,
        )
    };
    if len == to_len {
        Ok(())
    } else {
        Err(EIO)
    }
}
