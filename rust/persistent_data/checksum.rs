// SPDX-License-Identifier: GPL-2.0

//! CRC-32C (Castagnoli): the kernel's, which uses what the CPU has, or a plain one on the host.

#[cfg(not(MODULE))]
mod slicing;

/// Continues the checksum `crc` over `bytes`, without inverting anything at either end.
///
/// The usual CRC-32C is `!update(!0, bytes)`; the formats here leave out the final inversion.
pub fn update(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(MODULE)]
    return kext::crc32c::crc32c(crc, bytes);
    #[cfg(not(MODULE))]
    return slicing::update(crc, bytes);
}

#[cfg(test)]
mod tests;
