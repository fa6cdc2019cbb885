// SPDX-License-Identifier: GPL-2.0

//! Numbers as words.

use core::str::FromStr;

/// Parses a decimal number, with one `+` at most.
pub(super) fn number<N: FromStr>(word: &str) -> Option<N> {
    let digits = word.strip_prefix('+').unwrap_or(word);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Returns the version that a word names: `V` and digits, whatever follows them, modulo 2^32.
pub(super) fn version(word: &str) -> Option<u32> {
    let mut digits = word
        .strip_prefix('V')?
        .bytes()
        .take_while(u8::is_ascii_digit)
        .map(|digit| u32::from(digit - b'0'));
    let first = digits.next()?;
    Some(digits.fold(first, |number, digit| {
        number.wrapping_mul(10).wrapping_add(digit)
    }))
}
