// SPDX-License-Identifier: GPL-2.0

//! The table that says which parts something has, and where: of the whole index, and of a save.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 8 | blocks of the whole |
//! | 16 | 2 | what the table is of |
//! | 18 | 2 | version, 1 |
//! | 20 | 2 | number of regions |
//! | 22 | 2 | bytes of what follows the regions |
//!
//! A region:
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | first block, counted from the start of the device |
//! | 8 | 8 | blocks |
//! | 16 | 4 | 0 |
//! | 20 | 2 | kind |
//! | 22 | 2 | instance, 65535 if there is only one |
//!
//! The places of a volume that was converted are those that it had before.

use super::fault::check;
use super::field::put;
use super::field::u16_at;
use super::field::u64_at;
use super::Block;
use super::Fault;

const MAGIC: u64 = 0x416c_6252_676e_3031;
const VERSION: u16 = 1;
const HEADER_SIZE: usize = 24;
const REGION_SIZE: usize = 24;

/// What a table is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An index.
    Index,
    /// A save.
    Save,
    /// A place for a save, without one.
    Unsaved,
}

impl Subject {
    const fn number(self) -> u16 {
        match self {
            Self::Index => 1,
            Self::Save => 2,
            Self::Unsaved => 4,
        }
    }
}

/// What a region is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Nothing.
    Empty = 0,
    /// The block that has the table.
    Header = 1,
    /// The configuration.
    Config = 100,
    /// Chapters and saves.
    Index = 101,
    /// The end.
    Seal = 102,
    /// Chapters.
    Volume = 201,
    /// A place for a save.
    Save = 202,
    /// A page map.
    PageMap = 301,
    /// A volume index, or a part of it.
    VolumeIndex = 302,
    /// An open chapter.
    OpenChapter = 303,
}

/// The instance of a region of which there is only one.
pub const SOLE: u16 = u16::MAX;

/// A region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The first block.
    pub start: u64,
    /// The number of blocks.
    pub blocks: u64,
    /// What it is for.
    pub kind: Kind,
    /// Which of its kind it is.
    pub instance: u16,
}

/// The head of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the table is of.
    pub subject: Subject,
    /// Blocks of the whole.
    pub blocks: u64,
    /// Number of regions.
    pub regions: u16,
    /// Bytes of what follows the regions.
    pub payload_size: u16,
}

impl Head {
    /// Decodes the head of a table that `name` is to have.
    pub fn decode(name: &'static str, block: &Block) -> Result<Self, Fault> {
        if u64_at(block, 0) != MAGIC {
            return Err(Fault::Magic { name });
        }
        let version = u16_at(block, 18);
        if version != VERSION {
            let found = version.into();
            return Err(Fault::Version { name, found });
        }
        let subject = match u16_at(block, 16) {
            1 => Subject::Index,
            2 => Subject::Save,
            4 => Subject::Unsaved,
            other => {
                return Err(Fault::Field {
                    name: "type of a region table",
                    found: other.into(),
                })
            }
        };
        let head = Self {
            subject,
            blocks: u64_at(block, 8),
            regions: u16_at(block, 20),
            payload_size: u16_at(block, 22),
        };
        let end = head.payload_at() + usize::from(head.payload_size);
        check(end <= block.len(), "size of a region table", end as u64)?;
        Ok(head)
    }

    /// Encodes the head.
    pub fn encode(&self, block: &mut Block) {
        put(block, 0, MAGIC.to_le_bytes());
        put(block, 8, self.blocks.to_le_bytes());
        put(block, 16, self.subject.number().to_le_bytes());
        put(block, 18, VERSION.to_le_bytes());
        put(block, 20, self.regions.to_le_bytes());
        put(block, 22, self.payload_size.to_le_bytes());
    }

    /// Returns where what follows the regions begins.
    pub fn payload_at(&self) -> usize {
        HEADER_SIZE + REGION_SIZE * usize::from(self.regions)
    }
}

impl Region {
    /// Returns a region.
    pub fn new(start: u64, blocks: u64, kind: Kind, instance: u16) -> Self {
        Self {
            start,
            blocks,
            kind,
            instance,
        }
    }

    /// Decodes a region that is to be of this kind and instance.
    pub fn decode(block: &Block, number: u16, kind: Kind, instance: u16) -> Result<Self, Fault> {
        let at = place(number);
        let found = u16_at(block, at + 20);
        check(found == kind as u16, "kind of a region", found.into())?;
        let found = u16_at(block, at + 22);
        check(found == instance, "instance of a region", found.into())?;
        Ok(Self {
            start: u64_at(block, at),
            blocks: u64_at(block, at + 8),
            kind,
            instance,
        })
    }

    /// Encodes a region.
    pub fn encode(&self, block: &mut Block, number: u16) {
        let at = place(number);
        put(block, at, self.start.to_le_bytes());
        put(block, at + 8, self.blocks.to_le_bytes());
        put(block, at + 16, 0_u32.to_le_bytes());
        put(block, at + 20, (self.kind as u16).to_le_bytes());
        put(block, at + 22, self.instance.to_le_bytes());
    }

    /// Returns the block behind it.
    pub fn end(&self) -> Result<u64, Fault> {
        let end = self.start.checked_add(self.blocks);
        end.ok_or(Fault::Field {
            name: "end of a region",
            found: self.start,
        })
    }

    /// Checks that it begins where it should.
    pub fn begins(&self, start: u64) -> Result<(), Fault> {
        check(self.start == start, "start of a region", self.start)
    }

    /// Checks that it has the size that it should.
    pub fn has(&self, blocks: u64) -> Result<(), Fault> {
        check(self.blocks == blocks, "size of a region", self.blocks)
    }
}

/// Returns whether region `number` of a table is for nothing.
pub fn is_empty(block: &Block, number: u16) -> bool {
    u16_at(block, place(number) + 20) == Kind::Empty as u16
}

fn place(number: u16) -> usize {
    HEADER_SIZE + REGION_SIZE * usize::from(number)
}
