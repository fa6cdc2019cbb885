// SPDX-License-Identifier: GPL-2.0

//! Compression for simulated data, which is as good as random: a fragment is LZ4, and what comes of
//! that names the pattern of each sector. What others compressed is understood as well.
//!
//! How long a fragment is, and whether a block compresses at all, is as different as with real data.

use lz4_flex::block;
use sim::pattern;
use sim::rng::mix;
use vdo::format::BLOCK_SIZE;
use vdo::format::SECTOR_SIZE;

/// What names patterns begins with.
const MAGIC: [u8; 8] = *b"patterns";

/// Whether there is a pattern in the sector, which version, and of which sector.
const NAME_SIZE: usize = 17;

/// Returns the fragment of a block; none of one in five, and of what is no pattern.
pub fn compress(data: &[u8]) -> Option<Vec<u8>> {
    let chance = pattern::fingerprint(data);
    if chance % 5 == 0 {
        return None;
    }
    let mut names = MAGIC.to_vec();
    for sector in data.chunks(SECTOR_SIZE) {
        let word = |at: usize| sector[at..at + 8].try_into().map(u64::from_le_bytes);
        let (version, number) = (word(0).ok()?, word(8).ok()?);
        let is_pattern = pattern::sector(version, number) == *sector;
        if !is_pattern && sector.iter().any(|&byte| byte != 0) {
            return None;
        }
        names.push(is_pattern.into());
        names.extend(version.to_le_bytes());
        names.extend(number.to_le_bytes());
    }
    // From what 14 share a block to what hardly finds another.
    let noise = [0, 0, 20, 50, 100, 200, 300, 400];
    let noise = noise[(chance / 5 % noise.len() as u64) as usize];
    names.extend((0..noise).flat_map(|at| mix(chance ^ at).to_le_bytes()));
    names.resize(BLOCK_SIZE, 0);
    Some(block::compress(&names))
}

/// Returns the block of a fragment, if it is one.
pub fn decompress(fragment: &[u8]) -> Option<Vec<u8>> {
    let names = block::decompress(fragment, BLOCK_SIZE).ok()?;
    if names.len() != BLOCK_SIZE || !names.starts_with(&MAGIC) {
        return (names.len() == BLOCK_SIZE).then_some(names);
    }
    let names = names[MAGIC.len()..].chunks(NAME_SIZE);
    let mut data = Vec::new();
    for name in names.take(BLOCK_SIZE / SECTOR_SIZE) {
        let word = |at: usize| name[at..at + 8].try_into().map(u64::from_le_bytes);
        match name[0] {
            0 => data.resize(data.len() + SECTOR_SIZE, 0),
            _ => data.extend(pattern::sector(word(1).ok()?, word(9).ok()?)),
        }
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back() {
        let mut sizes = Vec::new();
        for version in 1..200 {
            let mut data = pattern::run(version, version * 3, 8);
            data[..SECTOR_SIZE].fill(0);
            if let Some(fragment) = compress(&data) {
                assert_eq!(decompress(&fragment).as_ref(), Some(&data));
                sizes.push(fragment.len());
            }
        }
        assert!((140..180).contains(&sizes.len()), "{}", sizes.len());
        sizes.sort_unstable();
        assert!(sizes[0] < 280 && sizes[sizes.len() - 1] > 3000, "{sizes:?}");
    }

    #[test]
    fn what_lz4_made_comes_back() {
        let data = vec![7; BLOCK_SIZE];
        assert_eq!(decompress(&block::compress(&data)), Some(data));
        assert_eq!(compress(&[7; BLOCK_SIZE]), None);
    }
}
