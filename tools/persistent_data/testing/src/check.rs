// SPDX-License-Identifier: GPL-2.0

//! An independent judge of metadata images.
//!
//! It walks everything that a superblock reaches, tests checksums and headers, recomputes every
//! reference count, and compares with the space map. It shares no code with the crates it judges.

mod structures;
mod users;

pub use structures::Checker;
pub use structures::Counts;
pub use structures::SpaceMap;
pub use users::cache;
pub use users::clone;
pub use users::thin;
pub use users::Cache;
pub use users::Clone;
pub use users::Thin;
pub use users::ThinDevice;

/// Returns the little-endian number of `N` bytes at `at`.
fn number<const N: usize>(block: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes[..N].copy_from_slice(&block[at..at + N]);
    u64::from_le_bytes(bytes)
}

/// Returns the set bits as runs of (first, count).
pub fn runs(bits: &[bool]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (at, _) in bits.iter().enumerate().filter(|(_, &bit)| bit) {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == at as u64 => *count += 1,
            _ => runs.push((at as u64, 1)),
        }
    }
    runs
}
