// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::vectors;
use std::format;
use std::string::String;
use std::vec;

const SEED: u32 = 0x62ea_60be;

fn hex([h1, h2]: [u64; 2]) -> String {
    format!("{:016x}{:016x}", h1.swap_bytes(), h2.swap_bytes())
}

#[test]
fn names_of_mainline() {
    let text = vectors::text("names.txt");
    assert!(text.contains(&hex(murmur3(&[0xff; 4096], SEED))), "{text}");
}

#[test]
fn every_length() {
    // Each byte counts, also those behind the last whole 16.
    for length in 0..40 {
        let bytes = vec![7; length];
        let hash = murmur3(&bytes, SEED);
        for at in 0..length {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(murmur3(&other, SEED), hash);
        }
    }
}

#[test]
fn nonces_of_mainline() {
    let info = [
        0xd5, 0x7c, 0xdc, 0xa6, 0x55, 0xe3, 0xe9, 0x18, 0x5d, 0x46, 0x3c, 0x03,
    ];
    let info: vec::Vec<u8> = info.iter().copied().cycle().take(32).collect();
    assert_eq!(nonce(0xa1b1_e0fc, &info), 0xd07d_5ddd_c91a_9b97);
}
