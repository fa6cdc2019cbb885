// SPDX-License-Identifier: GPL-2.0

//! Fields at constant offsets; little-endian.

/// Returns the `N` bytes at `at`, which lies inside `block`; zeroes if it does not.
pub(crate) fn bytes<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    block
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

/// Stores `value` at `at`, if it fits there.
pub(crate) fn put<const N: usize>(block: &mut [u8], at: usize, value: [u8; N]) {
    let field = block.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
    if let Some(field) = field {
        *field = value;
    }
}

pub(crate) fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes(block, at))
}

pub(crate) fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes(block, at))
}

pub(crate) fn u64_at(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes(block, at))
}
