// SPDX-License-Identifier: GPL-2.0

//! Delta lists: sorted numbers with a payload each, coded by their differences.
//!
//! The volume index and the indexes of chapters are made of such lists. An entry says that some
//! name has an *address* (bits of the name), and in which chapter or on which page it is:
//!
//! ```text
//! payload | code of (address - address of the entry before) | full name, of a collision
//! ```
//!
//! Two names may have one address. The first to come is a plain entry; it stands for whoever asks
//! for the address. Each later one is a *collision*: a difference of 0, and the name, right behind
//! the plain entry and before the collisions that were there. If the plain entry goes, the first of
//! them becomes plain. The first entry of a list is always plain.
//!
//! The code takes a word of fixed width for most differences, and a row of zero bits behind it
//! for the larger ones ([`Code`]). A list has at most [`MAX_LIST_BITS`]. Lists may come from a disk and be
//! anything: whoever reads one gets an error ([`Damaged`]), or entries in order, and never looks
//! behind its end.
//!
//! | File | What it does |
//! |---|---|
//! | [`walk`] | decodes: entry by entry, or several lists in turns |
//! | [`search`] | where a name is in a list, or would be |
//! | [`edit`] | changes a list in its place |

mod bits;
pub mod edit;
pub mod search;
pub mod walk;

pub use edit::Splice;
pub use edit::Writer;
pub use search::Found;
pub use search::Query;
pub use search::Search;
pub use walk::Entry;
pub use walk::List;

use crate::format::name::Name;

/// No list is longer.
pub const MAX_LIST_BITS: usize = 65_535;

/// Bits of the name behind a collision.
pub const NAME_BITS: u32 = 128;

/// A list does not decode to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

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
    min_keys: u32,
    increment: u32,
}

impl Code {
    /// The widest payload.
    pub const MAX_PAYLOAD_BITS: u32 = 24;

    /// The largest mean. Mainline's is 65,536 at most; small indexes have larger ones.
    pub const MAX_MEAN: u32 = 1 << 20;

    /// For differences whose mean is `mean_delta`, from 1 to [`Self::MAX_MEAN`], and payloads of so
    /// many bits, at most [`Self::MAX_PAYLOAD_BITS`]. What is beyond is cut down.
    pub const fn new(mean_delta: u32, payload_bits: u32) -> Self {
        let mean = match mean_delta {
            0 => 1,
            mean if mean > Self::MAX_MEAN => Self::MAX_MEAN as u64,
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
            min_keys: (1 << min_bits) - increment,
            increment,
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

    /// Returns the bits of a plain entry.
    pub const fn plain_bits(&self, delta: u32) -> usize {
        let fixed = (self.payload_bits + self.min_bits) as usize;
        match delta.checked_sub(self.min_keys) {
            Some(rest) => fixed + 1 + (rest / self.increment) as usize,
            None => fixed,
        }
    }

    /// Returns the bits of a collision.
    pub const fn collision_bits(&self) -> usize {
        (self.payload_bits + self.min_bits + NAME_BITS) as usize
    }
}

/// Returns how many bits it takes to write a number; one for 0.
pub(crate) const fn bit_length(number: u64) -> u32 {
    match number {
        0 => 1,
        number => u64::BITS - number.leading_zeros(),
    }
}

/// An entry to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// The payload.
    pub payload: u32,
    /// The difference of its address to that of the entry before.
    pub delta: u32,
    /// The full name of a collision, whose difference is 0.
    pub name: Option<Name>,
}

impl Fresh {
    /// Returns the bits of the entry.
    pub const fn bits(&self, code: &Code) -> usize {
        match self.name {
            Some(_) => code.collision_bits(),
            None => code.plain_bits(self.delta),
        }
    }
}

const _: () = {
    let volume = Code::new(4080, 10);
    assert!(volume.increment == 2828 && volume.min_bits == 12 && volume.min_keys == 1268);
    let chapter = Code::new(65_536, 6);
    assert!(chapter.increment == 45_426 && chapter.min_bits == 16 && chapter.min_keys == 20_110);
};

#[cfg(test)]
mod tests;
