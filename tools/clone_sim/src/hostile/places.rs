// SPDX-License-Identifier: GPL-2.0

//! Where a clone may write, and whether it wrote elsewhere.

use crate::inspect;
use crate::machine::Plan;
use crate::scene::DESTINATION;
use crate::scene::METADATA;
use crate::scene::SOURCE;
use sim::fault::Kind;
use sim::world::Record;

/// Bytes in a block, and sectors.
const BLOCK: usize = 4096;
const BLOCK_SECTORS: u64 = 8;

/// Reference counts in a bitmap block.
const COUNTS: u64 = (BLOCK as u64 - 16) * 4;

/// Where a clone may write.
pub(super) struct Places {
    /// Whether nobody has formatted the metadata.
    blank: bool,
    /// Whether nothing is wrong with it.
    sound: bool,
    /// Blocks that its space map knows.
    blocks: u64,
    /// Whether they are free, as far as the space map can be read.
    free: Vec<bool>,
}

/// Returns the number of `N` bytes at `at`, or 0 where there is none.
fn number<const N: usize>(image: &[u8], at: u64) -> u64 {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let found = image.get(at..).and_then(|rest| rest.get(..N));
    let mut bytes = [0; 8];
    bytes[..N].copy_from_slice(found.unwrap_or(&[0; N]));
    u64::from_le_bytes(bytes)
}

impl Places {
    /// Returns the places of a clone with this metadata.
    pub(super) fn of(image: &[u8]) -> Self {
        let blocks = number::<8>(image, 44);
        let index = number::<8>(image, 60).saturating_mul(BLOCK as u64);
        let all = blocks.min((image.len() / BLOCK) as u64);
        let is_free = |block| {
            let entry = index.saturating_add(16 + 16 * (block / COUNTS));
            let bitmap = number::<8>(image, entry).saturating_mul(BLOCK as u64);
            let pair = block % COUNTS;
            let byte = number::<1>(image, bitmap.saturating_add(16 + pair / 4));
            (byte >> (pair % 4 * 2)) & 3 == 0
        };
        Self {
            blank: image[..BLOCK].iter().all(|byte| *byte == 0),
            sound: matches!(inspect::metadata(image), Ok(Some(_))),
            blocks: all,
            free: (0..all).map(is_free).collect(),
        }
    }

    /// Checks what was written.
    pub(super) fn check(
        &self,
        plan: &Plan,
        log: &[Record],
        after: &[u8],
        is_cut_off: bool,
    ) -> Result<(), String> {
        let changes = log
            .iter()
            .filter(|record| matches!(record.kind, Kind::Write | Kind::Discard));
        let mut first = true;
        for record in changes {
            let (start, end) = (record.sector, record.sector + record.sectors);
            match record.disk {
                METADATA if !self.blank => {
                    for block in start / BLOCK_SECTORS..end.div_ceil(BLOCK_SECTORS) {
                        // Up to the first superblock, what is free is what was found.
                        first &= block != 0;
                        if block >= self.blocks || (first && !self.free[block as usize]) {
                            return Err(format!("block {block} was written, which is not free"));
                        }
                    }
                }
                DESTINATION if end > plan.geometry.length() => {
                    return Err(format!("sector {} of the destination was written", end - 1));
                }
                SOURCE => return Err("the source was written".to_owned()),
                _ => {}
            }
        }
        if self.sound {
            inspect::metadata(after).map_err(|text| format!("cut off: {is_cut_off}: {text}"))?;
        }
        Ok(())
    }
}
