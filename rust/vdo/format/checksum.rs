// SPDX-License-Identifier: GPL-2.0

//! The CRC-32 of the geometry block and the super block.
//!
//! It is Ethernet's, reflected, with the register starting at 0, not at all ones. It covers a few
//! hundred bytes when a volume starts and stops, so one portable implementation will do.

/// Remainders of all four-bit values.
const REMAINDERS: [u32; 16] = {
    let mut table = [0; 16];
    let mut value = 0;
    while value < 16 {
        let mut crc = value as u32;
        let mut bit = 0;
        while bit < 4 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        table[value] = crc;
        value += 1;
    }
    table
};

/// Returns the checksum of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 4) ^ REMAINDERS[(crc & 0xf) as usize];
    !bytes
        .iter()
        .fold(0, |crc, &byte| step(step(crc ^ u32::from(byte))))
}

#[cfg(test)]
mod tests;
