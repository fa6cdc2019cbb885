// SPDX-License-Identifier: GPL-2.0

//! The name of a block: MurmurHash3 of its data, in the variant with 128 bits for 64-bit machines.
//!
//! It is what the index of mainline knows blocks by. It is no secret, and anybody can make two blocks
//! of one name: a name only says where to look.
//!
//! One hash is a chain of multiplications, each of which waits for the one before. So two blocks are
//! hashed side by side.

use crate::format::Page;

/// The name of a block.
pub type Name = [u8; 16];

/// The seed of mainline.
const SEED: u64 = 0x62ea_60be;

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// The state of a hash.
#[derive(Clone, Copy)]
struct State {
    h1: u64,
    h2: u64,
}

impl State {
    const fn new() -> Self {
        Self { h1: SEED, h2: SEED }
    }

    /// Takes 16 bytes.
    #[inline(always)]
    fn take(&mut self, (k1, k2): (u64, u64)) {
        self.h1 ^= k1.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
        self.h1 = self.h1.rotate_left(27).wrapping_add(self.h2);
        self.h1 = self.h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        self.h2 ^= k2.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
        self.h2 = self.h2.rotate_left(31).wrapping_add(self.h1);
        self.h2 = self.h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }

    /// Returns the hash of the `length` bytes that were taken.
    fn finish(self, length: usize) -> Name {
        let (mut h1, mut h2) = (self.h1 ^ length as u64, self.h2 ^ length as u64);
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(h1);
        h1 = mix(h1);
        h2 = mix(h2);
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(h1);
        (u128::from(h1) | (u128::from(h2) << 64)).to_le_bytes()
    }
}

fn mix(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

/// Returns the numbers in a block, two by two.
fn pairs(block: &Page) -> impl Iterator<Item = (u64, u64)> + '_ {
    let number = |bytes: &[u8]| {
        bytes
            .first_chunk()
            .map_or(0, |own| u64::from_le_bytes(*own))
    };
    let pieces = block.chunks_exact(16).map(|piece| piece.split_at(8));
    pieces.map(move |(first, second)| (number(first), number(second)))
}

/// Returns the name of a block.
pub fn name(block: &Page) -> Name {
    let mut state = State::new();
    for pair in pairs(block) {
        state.take(pair);
    }
    state.finish(block.len())
}

/// Returns the names of two blocks, in little more time than that of one.
pub fn names(a: &Page, b: &Page) -> (Name, Name) {
    let (mut first, mut second) = (State::new(), State::new());
    for (a, b) in pairs(a).zip(pairs(b)) {
        first.take(a);
        second.take(b);
    }
    (first.finish(a.len()), second.finish(b.len()))
}

#[cfg(test)]
mod tests;
