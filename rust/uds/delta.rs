// SPDX-License-Identifier: GPL-2.0

//! Delta lists: sorted numbers with a payload each, coded by their differences.

/// The widths of the parts of an entry.
///
/// A difference below `min_keys` is stored as it is, in `min_bits`. A larger one is `min_keys` plus
/// a multiple of `increment` plus a rest: `min_keys` plus the rest is stored, and behind it as many zero bits as the
/// multiple says, and a one. That is short for differences of which short ones are common: those
/// between random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    payload_bits: u32,
    min_bits: u32,
}

impl Code {
    /// The widest payload.
    pub const MAX_PAYLOAD_BITS: u32 = 24;

    /// For differences whose mean is `mean_delta`, from 1 to 65,536, and payloads of so many bits, at
    /// most [`Self::MAX_PAYLOAD_BITS`]. What is beyond is cut down.
    pub const fn new(mean_delta: u32, payload_bits: u32) -> Self {
        let mean = match mean_delta {
            0 => 1,
            mean if mean > 65_536 => 65_536,
            mean => mean as u64,
        };
        // The mean times the logarithm of 2, in whole numbers.
        let increment = ((836_158 * mean + 603_160) / 1_206_321) as u32;
        let min_bits = bit_length(increment as u64 + 1);
        Self {
            payload_bits: if payload_bits > Self::MAX_PAYLOAD_BITS {
                Self::MAX_PAYLOAD_BITS
            } else {
                payload_bits
            },
            min_bits,
        }
    }

    /// Returns the bits of a payload.
    pub const fn payload_bits(&self) -> u32 {
        self.payload_bits
    }

    /// Returns the bits of the shortest code of a difference.
    pub const fn min_bits(&self) -> u32 {
        self.min_bits
    }
}

/// Returns how many bits it takes to write a number; one for 0.
pub(crate) const fn bit_length(number: u64) -> u32 {
    match number {
        0 => 1,
        number => u64::BITS - number.leading_zeros(),
    }
}
