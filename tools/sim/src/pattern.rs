// SPDX-License-Identifier: GPL-2.0

//! What sectors hold: a pattern that names its version and its sector, and no other place has.

use crate::rng::mix;
use runtime::disk::SECTOR_SIZE;
use std::fmt::Write;

/// One sector's bytes.
pub type Sector = [u8; SECTOR_SIZE];

/// The version of what a disk held before anybody wrote to it.
pub const INITIAL: u64 = 0;

/// The version of what nobody should ever see: a blank destination, memory not read into.
pub const JUNK: u64 = u64::MAX;

/// Returns the bytes of `sector` in `version`.
pub fn sector(version: u64, sector: u64) -> Sector {
    let mut bytes = [0; SECTOR_SIZE];
    let seed = mix(version) ^ sector;
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        let value = match index {
            0 => version,
            1 => sector,
            _ => mix(seed.wrapping_add(index as u64)),
        };
        word.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Returns true if `bytes` are those of `number` in `version`.
pub fn is(version: u64, number: u64, bytes: &[u8]) -> bool {
    // What differs, differs at once as a rule.
    bytes.starts_with(&version.to_le_bytes()) && sector(version, number) == *bytes
}

/// Returns the bytes of `sectors` sectors from `start` on, in `version`.
pub fn run(version: u64, start: u64, sectors: u64) -> Vec<u8> {
    (start..start + sectors)
        .flat_map(|number| sector(version, number))
        .collect()
}

/// Returns a number that differs, as good as surely, between different `bytes`.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    // Four independent chains, which a processor works on at once.
    let mut prints = [bytes.len() as u64, 1, 2, 3];
    for words in bytes.chunks(32) {
        for (print, word) in prints.iter_mut().zip(words.chunks(8)) {
            let mut value = [0; 8];
            value[..word.len()].copy_from_slice(word);
            *print = (*print ^ u64::from_le_bytes(value)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            *print = print.rotate_left(29);
        }
    }
    prints.into_iter().fold(0, |all, print| mix(all ^ print))
}

/// Says in words what `bytes`, found at `number`, are.
pub fn describe(number: u64, bytes: &[u8]) -> String {
    let word = |index: usize| {
        bytes
            .get(index * 8..index * 8 + 8)
            .and_then(|word| word.try_into().ok())
            .map(u64::from_le_bytes)
    };
    let mut text = String::new();
    match (word(0), word(1)) {
        (Some(version), Some(home)) if sector(version, home) == *bytes => {
            match version {
                INITIAL => text.push_str("the initial data"),
                JUNK => text.push_str("junk"),
                _ => write!(text, "version {version}").unwrap_or_default(),
            }
            if home != number {
                write!(text, " of sector {home}").unwrap_or_default();
            }
        }
        _ if bytes.iter().all(|byte| *byte == 0) => text.push_str("zeroes"),
        _ => text.push_str("bytes that nobody wrote"),
    }
    text
}
