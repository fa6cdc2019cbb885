// SPDX-License-Identifier: GPL-2.0

//! The superblock of clone metadata: block 0 of the metadata device, little-endian.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 4 | checksum |
//! | 4 | 4 | flags, 0 |
//! | 8 | 8 | own block number, 0 |
//! | 16 | 16 | uuid, 0 |
//! | 32 | 8 | magic |
//! | 40 | 4 | version |
//! | 44 | 128 | metadata space map root, of which 32 bytes are used |
//! | 172 | 8 | region size in sectors |
//! | 180 | 8 | length of the device in sectors |
//! | 188 | 8 | root of the region bitset |
//!
//! The rest is zero. Flags and uuid are not looked at, and zeroed when written, as mainline does.

use kernel::prelude::*;
use persistent_data::space_map::Root;
use persistent_data::Block;
use persistent_data::BlockKind;
use persistent_data::Problem;
use persistent_data::Stamp;

const MAGIC: u64 = 2_331_148_132;
const VERSION: u32 = 1;

const MAGIC_AT: usize = 32;
const VERSION_AT: usize = 40;
const SPACE_MAP_ROOT_AT: usize = 44;
const REGION_SIZE_AT: usize = 172;
const LENGTH_AT: usize = 180;
const BITSET_ROOT_AT: usize = 188;

static STAMP: Stamp = Stamp {
    salt: 257_649_492,
    number_at: 8,
};

/// The kind of the superblock.
pub(crate) static KIND: BlockKind = BlockKind {
    name: "superblock",
    verify,
    seal,
};

/// The content of a superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) space_map_root: Root,
    pub(crate) region_size: u64,
    pub(crate) length: u64,
    pub(crate) bitset_root: u64,
}

impl Superblock {
    /// Decodes a block that was verified.
    pub(crate) fn decode(block: &Block) -> Self {
        Self {
            space_map_root: Root::decode(&bytes(block, SPACE_MAP_ROOT_AT)),
            region_size: u64::from_le_bytes(bytes(block, REGION_SIZE_AT)),
            length: u64::from_le_bytes(bytes(block, LENGTH_AT)),
            bitset_root: u64::from_le_bytes(bytes(block, BITSET_ROOT_AT)),
        }
    }

    /// Encodes into a block of zeroes; number and checksum are added when it is written.
    pub(crate) fn encode(&self, block: &mut Block) {
        put(block, MAGIC_AT, &MAGIC.to_le_bytes());
        put(block, VERSION_AT, &VERSION.to_le_bytes());
        put(block, SPACE_MAP_ROOT_AT, &self.space_map_root.encode());
        put(block, REGION_SIZE_AT, &self.region_size.to_le_bytes());
        put(block, LENGTH_AT, &self.length.to_le_bytes());
        put(block, BITSET_ROOT_AT, &self.bitset_root.to_le_bytes());
    }
}

fn verify(block: &Block, number: u64) -> Result<(), Problem> {
    check(block, number).inspect_err(|problem| match problem {
        Problem::Number { found, expected } => {
            pr_err!("Superblock check failed: blocknr {found}, expected {expected}\n");
        }
        Problem::Field { found, .. } => {
            pr_err!("Superblock check failed: magic {found}, expected {MAGIC}\n");
        }
        Problem::Checksum { computed, stored } => {
            pr_err!("Superblock check failed: checksum {computed}, expected {stored}\n");
        }
        Problem::Unsupported { found, .. } => {
            pr_err!(
                "Clone metadata version {found} found, but only versions between {VERSION} and \
                 {VERSION} supported.\n"
            );
        }
        Problem::Kind { .. } => {}
    })
}

fn check(block: &Block, number: u64) -> Result<(), Problem> {
    STAMP.number(block, number)?;
    let magic = u64::from_le_bytes(bytes(block, MAGIC_AT));
    if magic != MAGIC {
        return Err(Problem::Field {
            name: "magic",
            found: magic,
        });
    }
    STAMP.checksum(block)?;
    let version = u32::from_le_bytes(bytes(block, VERSION_AT));
    if version != VERSION {
        return Err(Problem::Unsupported {
            name: "version",
            found: version.into(),
        });
    }
    Ok(())
}

fn seal(block: &mut Block, number: u64) {
    STAMP.seal(block, number);
}

/// Returns the `N` bytes at `at`, which is a constant inside the block.
fn bytes<const N: usize>(block: &Block, at: usize) -> [u8; N] {
    block
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

/// Stores `value` at `at`, which is a constant inside the block.
fn put(block: &mut Block, at: usize, value: &[u8]) {
    if let Some(field) = block.get_mut(at..at + value.len()) {
        field.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests;
