// SPDX-License-Identifier: GPL-2.0

//! MurmurHash3 (x64, 128 bits), by which the nonces of an index follow from each other.

/// Returns the hash of `bytes`: h1 and h2.
pub fn murmur3(bytes: &[u8], seed: u32) -> [u64; 2] {
    let mut h1 = u64::from(seed);
    let mut h2 = u64::from(seed);
    let mut chunks = bytes.chunks_exact(16);
    for chunk in chunks.by_ref() {
        let (k1, k2) = halves(chunk);
        h1 = (h1 ^ mix_1(k1)).rotate_left(27).wrapping_add(h2);
        h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ mix_2(k2)).rotate_left(31).wrapping_add(h1);
        h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    // Of what is left over, bytes that are not there are zeroes, which mix to zero.
    let (k1, k2) = halves(chunks.remainder());
    h1 ^= mix_1(k1) ^ bytes.len() as u64;
    h2 ^= mix_2(k2) ^ bytes.len() as u64;

    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = finish(h1);
    h2 = finish(h2);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    [h1, h2]
}

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

fn mix_1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix_2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn finish(mut k: u64) -> u64 {
    k = (k ^ (k >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    k = (k ^ (k >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

/// Returns up to 16 bytes as two numbers.
fn halves(chunk: &[u8]) -> (u64, u64) {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().zip(chunk) {
        *to = *from;
    }
    let value = u128::from_le_bytes(padded);
    (value as u64, (value >> 64) as u64)
}

/// Returns the nonce that follows from `start` and `bytes`.
pub(super) fn nonce(start: u64, bytes: &[u8]) -> u64 {
    let seed = (start ^ (start >> 27)) as u32;
    let [h1, h2] = murmur3(bytes, seed);
    // Bytes 4 to 11 of the 16.
    (h1 >> 32) | (h2 << 32)
}

#[cfg(test)]
mod tests;
