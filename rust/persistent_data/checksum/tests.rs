// SPDX-License-Identifier: GPL-2.0

//! Known answers, and the plain bit-by-bit definition as a model.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

#[test]
fn known_answers() {
    assert_eq!(!update(!0, b"123456789"), 0xe306_9283);
    assert_eq!(update(!0, b"123456789"), 0x1cf9_6d7c);
    assert_eq!(update(!0, &[0; 4092]), 0x58cd_a791);
    assert_eq!(update(!0, b""), !0);
}

fn bit_by_bit(mut crc: u32, bytes: &[u8]) -> u32 {
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 0 {
                crc >> 1
            } else {
                (crc >> 1) ^ 0x82f6_3b78
            };
        }
    }
    crc
}

proptest! {
    #[test]
    fn equals_the_definition(seed: u32, bytes: Vec<u8>) {
        prop_assert_eq!(update(seed, &bytes), bit_by_bit(seed, &bytes));
    }

    #[test]
    fn may_be_cut_anywhere(seed: u32, bytes: Vec<u8>, at: prop::sample::Index) {
        let (front, back) = bytes.split_at(at.index(bytes.len() + 1));
        prop_assert_eq!(update(update(seed, front), back), update(seed, &bytes));
    }
}
