// SPDX-License-Identifier: GPL-2.0

//! Choices that bytes make: those of a fuzzer, and when they have run out, those of a seed.

use crate::rng::mix;
use crate::rng::Rng;
use std::collections::VecDeque;

/// Choices that bytes make.
pub struct Choices {
    bytes: VecDeque<u8>,
    rng: Rng,
}

impl Choices {
    /// Creates the choices of `input`.
    pub fn new(input: &[u8]) -> Self {
        let seed = input
            .iter()
            .fold(0, |seed, byte| mix(seed ^ u64::from(*byte)));
        // The first bytes are a seed only.
        Self {
            bytes: input.iter().copied().skip(8).collect(),
            rng: Rng::new(seed),
        }
    }

    fn take(&mut self, bytes: usize) -> Option<u64> {
        if self.bytes.len() < bytes {
            return None;
        }
        let taken = self.bytes.drain(..bytes);
        Some(taken.fold(0, |number, byte| (number << 8) | u64::from(byte)))
    }

    /// Returns any number.
    pub fn number(&mut self) -> u64 {
        match self.take(8) {
            Some(number) => number,
            None => self.rng.next_u64(),
        }
    }

    /// Returns a number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        let bytes = match limit {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 8,
        };
        match self.take(bytes) {
            Some(number) => number % limit.max(1),
            None => self.rng.below(limit.max(1)),
        }
    }

    /// Returns true in `hits` of `of` cases.
    pub fn chance(&mut self, hits: u64, of: u64) -> bool {
        self.below(of) < hits
    }

    /// Returns one of `of`, which is not empty.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let at = self.below(of.len() as u64);
        &of[at as usize]
    }

    /// Returns choices for somebody else.
    pub fn fork(&mut self) -> Self {
        Self {
            bytes: std::mem::take(&mut self.bytes),
            rng: self.rng.fork(),
        }
    }
}
