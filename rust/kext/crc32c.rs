// SPDX-License-Identifier: GPL-2.0

//! CRC-32C, by the kernel's own routine and the CPU's instructions where it has them.

/// Continues the checksum `crc` over `bytes`, without inversion at either end.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    // SAFETY: The pointer is valid for reads of as many bytes.
    unsafe { dm_bindings::crc32c(crc, bytes.as_ptr().cast(), bytes.len()) }
}
