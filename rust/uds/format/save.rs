// SPDX-License-Identifier: GPL-2.0

//! The header of a save: the first block of a place for one.
//!
//! A [region table](super::region): header, page map, the parts of the volume index, open chapter,
//! and what is left over, if anything is; behind it:
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | when it was made, in ms |
//! | 8 | 8 | nonce of the save |
//! | 16 | 4 | version, 1 |
//! | 20 | 4 | 0 |
//! | 24 | 8 | -1, and the version of what follows, 301 |
//! | 32 | 8 | newest chapter: the open one |
//! | 40 | 8 | oldest chapter |
//! | 48 | 8 | newest chapter when it was made, less 1 |
//! | 56 | 8 | 0 |
//!
//! A place without a save has three regions (header, page map, the rest), and 24 zeroes.
//!
//! Of two saves the later one counts. The clock may have gone back: a save that is to count says
//! that it is later than the other one, whatever the time.

use super::fault::check;
use super::field::put;
use super::field::u16_at;
use super::field::u32_at;
use super::field::u64_at;
use super::hash::nonce;
use super::region::is_empty;
use super::region::Head;
use super::region::Kind;
use super::region::Region;
use super::region::Subject;
use super::region::SOLE;
use super::super_block::SuperBlock;
use super::Block;
use super::Chapter;
use super::Fault;

const NAME: &str = "index save";
const VERSION: u32 = 1;
const SIGNATURE: u32 = u32::MAX;
const STATE_VERSION: u32 = 301;
const PAYLOAD_SIZE: u16 = 64;
const UNSAVED_SIZE: u16 = 24;

/// The largest number of parts that a volume index is saved in.
pub const MAX_ZONES: u16 = 16;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Save {
    /// When it was made, in milliseconds; never 0.
    pub timestamp: u64,
    /// In how many parts the volume index is.
    pub zones: u16,
    /// The newest chapter, which is open.
    pub newest: Chapter,
    /// The oldest chapter.
    pub oldest: Chapter,
}

/// Where the parts of a save are, in blocks from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// The page map.
    pub page_map: u64,
    /// The first part of the volume index.
    pub volume_index: u64,
    /// Blocks of each part.
    pub zone_blocks: u64,
    /// The open chapter.
    pub open_chapter: u64,
    /// What is left over.
    pub rest: u64,
}

impl Places {
    /// Returns the places of a save of so many zones, at least one.
    pub fn new(super_block: &SuperBlock, zones: u16) -> Self {
        let parts = 1 + super_block.page_map_blocks + super_block.open_chapter_blocks;
        let zones = u64::from(zones.max(1));
        let zone_blocks = super_block.save_blocks.saturating_sub(parts) / zones;
        let volume_index = 1 + super_block.page_map_blocks;
        let open_chapter = volume_index + zone_blocks * zones;
        Self {
            page_map: 1,
            volume_index,
            zone_blocks,
            open_chapter,
            rest: open_chapter + super_block.open_chapter_blocks,
        }
    }
}

impl Save {
    /// Decodes the header that was found in a place for a save; `None` if there is no save.
    pub fn decode(
        block: &Block,
        super_block: &SuperBlock,
        slot: u16,
    ) -> Result<Option<Self>, Fault> {
        let head = Head::decode(NAME, block)?;
        check(
            head.blocks == super_block.save_blocks,
            "size of a save",
            head.blocks,
        )?;
        match head.subject {
            Subject::Unsaved => return Ok(None),
            Subject::Save => {}
            Subject::Index => {
                return Err(Fault::Field {
                    name: "type of a save",
                    found: u16_at(block, 16).into(),
                })
            }
        }
        let regions = head.regions;
        check(regions >= 4, "number of regions", regions.into())?;
        let zones = regions - 3 - u16::from(is_empty(block, regions - 1));
        check(
            (1..=MAX_ZONES).contains(&zones),
            "number of zones",
            zones.into(),
        )?;
        for (number, expected) in (0..).zip(regions_of(super_block, slot, zones)) {
            let found = Region::decode(block, number, expected.kind, expected.instance)?;
            found.begins(expected.start)?;
            found.has(expected.blocks)?;
        }
        let expected = regions_of(super_block, slot, zones).count();
        check(
            usize::from(regions) == expected,
            "number of regions",
            regions.into(),
        )?;
        Self::decode_payload(block, &head, super_block, slot, zones).map(Some)
    }

    fn decode_payload(
        block: &Block,
        head: &Head,
        super_block: &SuperBlock,
        slot: u16,
        zones: u16,
    ) -> Result<Self, Fault> {
        let size = head.payload_size;
        check(size == PAYLOAD_SIZE, "size of a save header", size.into())?;
        let at = head.payload_at();
        for (at, expected) in [
            (at + 16, VERSION),
            (at + 24, SIGNATURE),
            (at + 28, STATE_VERSION),
        ] {
            let found = u32_at(block, at);
            if found != expected {
                return Err(Fault::Version {
                    name: NAME,
                    found: found.into(),
                });
            }
        }
        let save = Self {
            timestamp: u64_at(block, at),
            zones,
            newest: u64_at(block, at + 32),
            oldest: u64_at(block, at + 40),
        };
        check(save.timestamp != 0, "time of a save", 0)?;
        let found = u64_at(block, at + 8);
        let expected = save.nonce(super_block, slot);
        if found != expected {
            return Err(Fault::Nonce {
                name: NAME,
                expected,
                found,
            });
        }
        check(
            save.oldest <= save.newest,
            "oldest chapter of a save",
            save.oldest,
        )?;
        // So that nothing that counts on from it overflows.
        check(
            save.newest < 1 << 56,
            "newest chapter of a save",
            save.newest,
        )?;
        Ok(save)
    }

    /// Encodes the header.
    pub fn encode(&self, block: &mut Block, super_block: &SuperBlock, slot: u16) {
        block.fill(0);
        let regions = regions_of(super_block, slot, self.zones);
        let head = Head {
            subject: Subject::Save,
            blocks: super_block.save_blocks,
            regions: regions.clone().count() as u16,
            payload_size: PAYLOAD_SIZE,
        };
        head.encode(block);
        for (number, region) in (0..).zip(regions) {
            region.encode(block, number);
        }
        let at = head.payload_at();
        put(block, at, self.timestamp.to_le_bytes());
        put(block, at + 8, self.nonce(super_block, slot).to_le_bytes());
        put(block, at + 16, VERSION.to_le_bytes());
        put(block, at + 24, SIGNATURE.to_le_bytes());
        put(block, at + 28, STATE_VERSION.to_le_bytes());
        put(block, at + 32, self.newest.to_le_bytes());
        put(block, at + 40, self.oldest.to_le_bytes());
        let last = self.newest.wrapping_sub(1);
        put(block, at + 48, last.to_le_bytes());
    }

    fn nonce(&self, super_block: &SuperBlock, slot: u16) -> u64 {
        let mut bytes = [0; 32];
        put(&mut bytes, 0, self.timestamp.to_le_bytes());
        put(&mut bytes, 16, VERSION.to_le_bytes());
        put(&mut bytes, 24, super_block.save_start(slot).to_le_bytes());
        nonce(super_block.volume_nonce().wrapping_add(1), &bytes)
    }
}

/// Encodes the header of a place without a save.
pub fn encode_unsaved(block: &mut Block, super_block: &SuperBlock, slot: u16) {
    block.fill(0);
    let head = Head {
        subject: Subject::Unsaved,
        blocks: super_block.save_blocks,
        regions: 3,
        payload_size: UNSAVED_SIZE,
    };
    head.encode(block);
    let start = super_block.save_start(slot);
    let page_map = super_block.page_map_blocks;
    let rest = super_block.save_blocks.saturating_sub(1 + page_map);
    let regions = [
        Region::new(start, 1, Kind::Header, SOLE),
        Region::new(start + 1, page_map, Kind::PageMap, SOLE),
        Region::new(start + 1 + page_map, rest, Kind::Empty, SOLE),
    ];
    for (number, region) in (0..).zip(regions) {
        region.encode(block, number);
    }
}

/// Returns the regions of a save, at their recorded places.
fn regions_of(
    super_block: &SuperBlock,
    slot: u16,
    zones: u16,
) -> impl Iterator<Item = Region> + Clone {
    let places = Places::new(super_block, zones);
    let start = super_block.save_start(slot);
    let open_chapter = super_block.open_chapter_blocks;
    let rest = super_block.save_blocks.saturating_sub(places.rest);
    let volume_index = move |zone| {
        let first = places.volume_index + u64::from(zone) * places.zone_blocks;
        Region::new(start + first, places.zone_blocks, Kind::VolumeIndex, zone)
    };
    let head = [
        Region::new(start, 1, Kind::Header, SOLE),
        Region::new(
            start + places.page_map,
            super_block.page_map_blocks,
            Kind::PageMap,
            SOLE,
        ),
    ];
    let tail = [
        Region::new(
            start + places.open_chapter,
            open_chapter,
            Kind::OpenChapter,
            SOLE,
        ),
        Region::new(start + places.rest, rest, Kind::Empty, SOLE),
    ];
    head.into_iter()
        .chain((0..zones).map(volume_index))
        .chain(tail)
        .filter(|region| region.blocks > 0 || region.kind != Kind::Empty)
}

/// Returns the save to load: the latest.
pub fn latest(saves: &[Option<Save>]) -> Option<(u16, Save)> {
    let mut found: Option<(u16, Save)> = None;
    for (slot, save) in (0..).zip(saves) {
        let Some(save) = save else { continue };
        if found.is_none_or(|(_, best)| save.timestamp > best.timestamp) {
            found = Some((slot, *save));
        }
    }
    found
}

/// Returns where the next save goes, and the time that it says, if it is `now`: later than others.
pub fn next(saves: &[Option<Save>], now: u64) -> (u16, u64) {
    let time = |save: &Option<Save>| save.map_or(0, |save| save.timestamp);
    let slot = (0..)
        .zip(saves)
        .min_by_key(|(_, save)| time(save))
        .map_or(0, |(slot, _)| slot);
    let latest = saves.iter().map(time).max().unwrap_or(0);
    (slot, now.max(latest.saturating_add(1)))
}

#[cfg(test)]
mod tests;
