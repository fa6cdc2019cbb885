// SPDX-License-Identifier: GPL-2.0

//! Bits in bytes: bit `n` of a stream is bit `n % 8` of byte `n / 8`, fields lowest bit first.
//!
//! What lies behind the end of the bytes reads as zero, and is not written.

/// Bits that [`window`] gives at least.
pub(super) const WINDOW: u32 = 57;

/// Returns the bits from `at` on, at least [`WINDOW`] of them.
#[inline(always)]
pub(super) fn window(data: &[u8], at: usize) -> u64 {
    let byte = at / 8;
    let word = match data.get(byte..byte + 8).and_then(<[u8]>::first_chunk) {
        Some(word) => u64::from_le_bytes(*word),
        None => last_word(data, byte),
    };
    word >> (at % 8)
}

/// Returns the bytes from `byte` on, which are less than 8.
#[cold]
#[inline(never)]
fn last_word(data: &[u8], byte: usize) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(data.get(byte..).unwrap_or_default()) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// Returns a number whose `bits` low bits are ones, `bits` being below 64.
pub(super) const fn ones(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// Stores the `bits` low bits of `value` at `at`; `bits` is at most [`WINDOW`].
pub(super) fn put(data: &mut [u8], at: usize, bits: u32, value: u64) {
    let shift = at % 8;
    let mask = ones(bits.min(WINDOW)) << shift;
    let value = (value << shift) & mask;
    let rest = data.get_mut(at / 8..).unwrap_or_default();
    if let Some(word) = rest.first_chunk_mut() {
        let old = u64::from_le_bytes(*word);
        *word = ((old & !mask) | value).to_le_bytes();
        return;
    }
    let bytes = mask.to_le_bytes().into_iter().zip(value.to_le_bytes());
    for (byte, (mask, value)) in rest.iter_mut().zip(bytes) {
        *byte = (*byte & !mask) | value;
    }
}

/// Moves `count` bits from `from` to `to`; the two places may overlap.
pub(super) fn shift(data: &mut [u8], from: usize, to: usize, count: usize) {
    // Words whose target begins with a byte, and what is before and behind them.
    let head = count.min((8 - to % 8) % 8);
    let words = (count - head) / 64;
    let behind = head + words * 64;
    let first = (count - behind).min(32);
    let tail = [(behind, first), (behind + first, count - behind - first)];
    if to < from {
        shift_few(data, from, to, (0, head));
        for word in 0..words {
            shift_word(data, from + head + word * 64, to + head + word * 64);
        }
        for part in tail {
            shift_few(data, from, to, part);
        }
    } else {
        for part in tail.into_iter().rev() {
            shift_few(data, from, to, part);
        }
        for word in (0..words).rev() {
            shift_word(data, from + head + word * 64, to + head + word * 64);
        }
        shift_few(data, from, to, (0, head));
    }
}

/// Moves the bits from `at` on, not more than [`WINDOW`].
fn shift_few(data: &mut [u8], from: usize, to: usize, (at, bits): (usize, usize)) {
    let value = window(data, from + at);
    put(data, to + at, bits as u32, value);
}

/// Moves 64 bits to where a byte begins.
#[inline(always)]
fn shift_word(data: &mut [u8], from: usize, to: usize) {
    let (from, shift) = (from / 8, from % 8);
    let low = match data.get(from..from + 8).and_then(<[u8]>::first_chunk) {
        Some(low) => u64::from_le_bytes(*low),
        None => last_word(data, from),
    };
    let high = data.get(from + 8).copied().unwrap_or(0);
    let word = (low >> shift) | ((u64::from(high) << 1) << (63 - shift));
    let target = data.get_mut(to / 8..to / 8 + 8);
    if let Some(target) = target.and_then(<[u8]>::first_chunk_mut) {
        *target = word.to_le_bytes();
    }
}
