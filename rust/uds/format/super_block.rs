// SPDX-License-Identifier: GPL-2.0

//! The super block: the first block of an index, which says where everything is.
//!
//! A [region table](super::region) of seven regions (itself, the configuration, the whole of what
//! follows, the chapters, two places for saves, the end), and behind it:
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 32 | a label |
//! | 32 | 32 | 12 bytes that tell one index from another: repeated |
//! | 64 | 8 | the primary nonce: a hash of these |
//! | 72 | 4 | version: 3, or 7 of a converted volume |
//! | 76 | 4 | bytes of a block, 4096 |
//! | 80 | 2 | indexes, 1 |
//! | 82 | 2 | places for saves, 2 |
//! | 84 | 4 | 0 |
//! | 88 | 8 | blocks of a saved open chapter |
//! | 96 | 8 | blocks of a saved page map |
//! | 104 | 8 | version 7: blocks of a chapter, which was given up |
//! | 112 | 8 | version 7: blocks by which the device has become shorter in front |
//!
//! There is no checksum. It is written when the index is created, last of all, and never again.

use super::fault::check;
use super::field::bytes;
use super::field::put;
use super::field::u16_at;
use super::field::u32_at;
use super::field::u64_at;
use super::hash::nonce;
use super::region::Head;
use super::region::Kind;
use super::region::Region;
use super::region::Subject;
use super::region::SOLE;
use super::Block;
use super::Fault;
use super::Geometry;
use super::BLOCK_SIZE;

const NAME: &str = "index super block";
const LABEL: [u8; 32] = *b"*ALBIREO*SINGLE*FILE*LAYOUT*001*";
const REGIONS: u16 = 7;
const NORMAL: u32 = 3;
const CONVERTED: u32 = 7;
const NORMAL_SIZE: u16 = 104;
const CONVERTED_SIZE: u16 = 120;

/// How many saves there is room for.
pub const SAVES: usize = 2;

/// Bytes that tell one index from another.
pub const IDENTITY_SIZE: usize = 12;

/// What a conversion has done to a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Blocks of the chapter that was given up.
    pub chapter: u64,
    /// Blocks by which the device has become shorter in front.
    pub front: u64,
}

/// The content of the super block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuperBlock {
    /// What tells this index from others, as often as it fits.
    pub nonce_info: [u8; 32],
    /// What a conversion has done, if there was one.
    pub conversion: Option<Conversion>,
    /// The recorded place of this block.
    pub start: u64,
    /// Blocks for chapters.
    pub volume_blocks: u64,
    /// Blocks for a save.
    pub save_blocks: u64,
    /// Blocks of a saved open chapter.
    pub open_chapter_blocks: u64,
    /// Blocks of a saved page map.
    pub page_map_blocks: u64,
}

impl SuperBlock {
    /// Returns the super block of a new index, whose first block on the device is `start`.
    pub fn new(geometry: &Geometry, start: u64, identity: [u8; IDENTITY_SIZE]) -> Self {
        let mut nonce_info = [0; 32];
        for (to, from) in nonce_info.iter_mut().zip(identity.iter().cycle()) {
            *to = *from;
        }
        Self {
            nonce_info,
            conversion: None,
            start,
            volume_blocks: geometry.volume_blocks(),
            save_blocks: geometry.save_blocks(),
            open_chapter_blocks: geometry.open_chapter_blocks(),
            page_map_blocks: geometry.page_map_blocks(),
        }
    }

    /// Decodes the super block that was found at block `place` of the device.
    pub fn decode(block: &Block, place: u64) -> Result<Self, Fault> {
        let head = Head::decode(NAME, block)?;
        check(
            head.subject == Subject::Index,
            "type of a super block",
            u16_at(block, 16).into(),
        )?;
        check(
            head.regions == REGIONS,
            "number of regions",
            head.regions.into(),
        )?;
        let at = head.payload_at();
        if bytes(block, at) != LABEL {
            return Err(Fault::Magic { name: NAME });
        }
        let version = u32_at(block, at + 72);
        let (size, conversion) = match version {
            NORMAL => (NORMAL_SIZE, None),
            CONVERTED => (
                CONVERTED_SIZE,
                Some(Conversion {
                    chapter: u64_at(block, at + 104),
                    front: u64_at(block, at + 112),
                }),
            ),
            _ => {
                return Err(Fault::Version {
                    name: NAME,
                    found: version.into(),
                })
            }
        };
        check(
            head.payload_size == size,
            "size of a super block",
            head.payload_size.into(),
        )?;
        let found = u32_at(block, at + 76);
        check(found == BLOCK_SIZE as u32, "block size", found.into())?;
        let found = u16_at(block, at + 80);
        check(found == 1, "number of indexes", found.into())?;
        let found = u16_at(block, at + 82);
        check(found == SAVES as u16, "number of saves", found.into())?;

        let [header, save] = [(0, Kind::Header, SOLE), (4, Kind::Save, 0)]
            .map(|(number, kind, instance)| Region::decode(block, number, kind, instance));
        let volume = Region::decode(block, 3, Kind::Volume, SOLE)?;
        let super_block = Self {
            nonce_info: bytes(block, at + 32),
            conversion,
            start: header?.start,
            volume_blocks: volume.blocks,
            save_blocks: save?.blocks,
            open_chapter_blocks: u64_at(block, at + 88),
            page_map_blocks: u64_at(block, at + 96),
        };
        super_block.check(block, &head, place)?;
        Ok(super_block)
    }

    /// Checks nonce and regions.
    fn check(&self, block: &Block, head: &Head, place: u64) -> Result<(), Fault> {
        let found = u64_at(block, head.payload_at() + 64);
        let expected = self.primary_nonce();
        if found != expected {
            return Err(Fault::Nonce {
                name: NAME,
                expected,
                found,
            });
        }
        // No device has so many blocks; with this nothing below overflows.
        for size in [
            self.start,
            self.volume_blocks,
            self.save_blocks,
            self.open_chapter_blocks,
            self.page_map_blocks,
            self.conversion().chapter,
            self.conversion().front,
        ] {
            check(size < 1 << 48, "size in a super block", size)?;
        }
        let Conversion { chapter, front } = self.conversion();
        check(chapter >= front, "front of a converted device", front)?;
        let first = self.start + (chapter - front);
        check(first == place, "place of a super block", self.start)?;
        check(
            head.blocks == self.total_blocks(),
            "size of an index",
            head.blocks,
        )?;
        let rest = self.open_chapter_blocks + self.page_map_blocks + 1;
        check(rest < self.save_blocks, "size of a save", self.save_blocks)?;
        for (number, region) in (0..).zip(self.regions()) {
            let found = Region::decode(block, number, region.kind, region.instance)?;
            found.begins(region.start)?;
            found.has(region.blocks)?;
        }
        Ok(())
    }

    /// Encodes the super block.
    pub fn encode(&self, block: &mut Block) {
        block.fill(0);
        let (version, size) = match self.conversion {
            None => (NORMAL, NORMAL_SIZE),
            Some(_) => (CONVERTED, CONVERTED_SIZE),
        };
        let head = Head {
            subject: Subject::Index,
            blocks: self.total_blocks(),
            regions: REGIONS,
            payload_size: size,
        };
        head.encode(block);
        for (number, region) in (0..).zip(self.regions()) {
            region.encode(block, number);
        }
        let at = head.payload_at();
        put(block, at, LABEL);
        put(block, at + 32, self.nonce_info);
        put(block, at + 64, self.primary_nonce().to_le_bytes());
        put(block, at + 72, version.to_le_bytes());
        put(block, at + 76, (BLOCK_SIZE as u32).to_le_bytes());
        put(block, at + 80, 1_u16.to_le_bytes());
        put(block, at + 82, (SAVES as u16).to_le_bytes());
        put(block, at + 88, self.open_chapter_blocks.to_le_bytes());
        put(block, at + 96, self.page_map_blocks.to_le_bytes());
        if let Some(Conversion { chapter, front }) = self.conversion {
            put(block, at + 104, chapter.to_le_bytes());
            put(block, at + 112, front.to_le_bytes());
        }
    }

    fn conversion(&self) -> Conversion {
        self.conversion.unwrap_or_default()
    }

    /// Returns blocks of chapters and saves.
    fn index_blocks(&self) -> u64 {
        self.volume_blocks + SAVES as u64 * self.save_blocks
    }

    fn total_blocks(&self) -> u64 {
        3 + self.index_blocks()
    }

    /// Returns the regions, at their recorded places.
    fn regions(&self) -> [Region; REGIONS as usize] {
        let index = self.start + 2;
        let [save_0, save_1] = [0, 1].map(|slot| self.save_start(slot));
        [
            Region::new(self.start, 1, Kind::Header, SOLE),
            Region::new(self.start + 1, 1, Kind::Config, SOLE),
            Region::new(index, self.index_blocks(), Kind::Index, 0),
            Region::new(index, self.volume_blocks, Kind::Volume, SOLE),
            Region::new(save_0, self.save_blocks, Kind::Save, 0),
            Region::new(save_1, self.save_blocks, Kind::Save, 1),
            Region::new(save_1 + self.save_blocks, 1, Kind::Seal, SOLE),
        ]
    }

    /// Returns the recorded place of a save; its header and nonce have it.
    pub fn save_start(&self, slot: u16) -> u64 {
        let first = self.start + 2 + self.volume_blocks + self.conversion().chapter;
        first + u64::from(slot) * self.save_blocks
    }

    /// Returns the block of the device at which the chapters begin: their unused page.
    pub fn volume_block(&self) -> u64 {
        let Conversion { chapter, front } = self.conversion();
        self.start + 2 + (chapter - front)
    }

    /// Returns the block of the device at which a save begins.
    pub fn save_block(&self, slot: u16) -> u64 {
        self.save_start(slot) - self.conversion().front
    }

    /// Returns whether it has the sizes that an index of this geometry has.
    pub fn fits(&self, geometry: &Geometry) -> bool {
        let page_map = geometry.page_map_blocks();
        let conversion_fits = match self.conversion {
            None => self.page_map_blocks == page_map,
            // The map has room for the chapter that was given up.
            Some(Conversion { chapter, .. }) => {
                self.page_map_blocks >= page_map && chapter == geometry.chapter_blocks()
            }
        };
        self.volume_blocks == geometry.volume_blocks()
            && self.open_chapter_blocks == geometry.open_chapter_blocks()
            && conversion_fits
    }

    /// Returns the nonce that the others follow from.
    pub fn primary_nonce(&self) -> u64 {
        nonce(0xa1b1_e0fc, &self.nonce_info)
    }

    /// Returns the nonce of chapters and volume index.
    pub fn volume_nonce(&self) -> u64 {
        let mut place = [0; 16];
        put(&mut place, 0, (self.start + 2).to_le_bytes());
        let primary = self.primary_nonce();
        match nonce(primary.wrapping_add(1), &place) {
            0 => nonce((!primary).wrapping_add(2), &place),
            nonce => nonce,
        }
    }
}

#[cfg(test)]
mod tests;
