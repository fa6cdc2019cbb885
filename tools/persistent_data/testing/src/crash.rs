// SPDX-License-Identifier: GPL-2.0

//! The images that a crash may leave.
//!
//! What was written before the last flush is there. Of each later write, every 512-byte sector is
//! there or is lost, independently of all others.

use crate::disk::Op;
use runtime::disk::SECTOR_SIZE;

/// A source of choices; the same seed makes the same ones.
pub struct Choices(u64);

impl Choices {
    /// Creates the source for `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 random bits (splitmix64).
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

/// Calls `check` with images that a crash during `log`, which began on `before`, may leave: for
/// every prefix of the log the one with everything in it, the one with nothing unflushed, and
/// `variants` others.
pub fn each_crash(before: &[u8], log: &[Op], variants: u64, mut check: impl FnMut(usize, Vec<u8>)) {
    let mut choices = Choices::new(log.len() as u64);
    // What is on stable storage, and what was written since.
    let mut stable = before.to_vec();
    let mut volatile: Vec<(u64, &[u8])> = Vec::new();
    for end in 0..=log.len() {
        check(end, stable.clone());
        check(end, with(&stable, &volatile, || true));
        for variant in 0..variants {
            // Losing little, losing much, and anything between.
            let keep_below = match variant % 4 {
                0 => 250,
                1 => 6,
                _ => 128,
            };
            check(
                end,
                with(&stable, &volatile, || choices.bits() % 256 < keep_below),
            );
        }
        match log.get(end) {
            Some(Op::Write { sector, data }) => volatile.push((*sector, data)),
            Some(Op::Flush) => {
                stable = with(&stable, &volatile, || true);
                volatile.clear();
            }
            None => {}
        }
    }
}

fn with(stable: &[u8], volatile: &[(u64, &[u8])], mut keep: impl FnMut() -> bool) -> Vec<u8> {
    let mut image = stable.to_vec();
    for (sector, data) in volatile {
        let targets = image[*sector as usize * SECTOR_SIZE..].chunks_exact_mut(SECTOR_SIZE);
        for (target, data) in targets.zip(data.chunks_exact(SECTOR_SIZE)) {
            if keep() {
                target.copy_from_slice(data);
            }
        }
    }
    image
}
