// SPDX-License-Identifier: GPL-2.0

//! What the tests of this crate share: a superblock, and devices that are judged independently.
//!
//! The superblock is laid out as clone's, so that the checker of clone images can be used.

use crate::block::Block;
use crate::block::BlockKind;
use crate::block::Stamp;
use crate::cache::BlockCache;
use crate::cache::CacheSize;
use crate::error::Result;
use crate::space_map::Root;
use crate::transaction::TransactionManager;
use pd_testing::check::Checker;
use pd_testing::disk::MemDisk;
pub(crate) use pd_testing::now;
use runtime::sync::Arc;
use std::collections::BTreeMap;
use std::vec::Vec;

pub(crate) type Tm = TransactionManager<MemDisk>;

const STAMP: Stamp = Stamp {
    salt: 257_649_492,
    number_at: 8,
};
const MAGIC: u64 = 0x8af2_7f64;

pub(crate) static SUPERBLOCK: BlockKind = BlockKind {
    name: "superblock",
    verify: |block, number| {
        STAMP.number(block, number)?;
        STAMP.checksum(block)
    },
    seal: |block, number| STAMP.seal(block, number),
};

/// What a superblock of the tests holds besides the space map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) root: u64,
    pub(crate) region_size: u64,
    pub(crate) target_size: u64,
}

impl User {
    /// The user of a bitset of `bits` bits, or of any structure.
    pub(crate) fn of(root: u64, bits: u64) -> Self {
        Self {
            root,
            region_size: 8,
            target_size: bits * 8,
        }
    }
}

fn put(block: &mut Block, at: usize, value: u64) {
    block[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(block[at..at + 8].try_into().unwrap())
}

/// Commits with a superblock that names `user`.
pub(crate) fn commit(tm: &mut Tm, user: User) -> Result {
    now(tm.commit(&SUPERBLOCK, |block, root| {
        put(block, 32, MAGIC);
        block[40] = 1;
        block[44..76].copy_from_slice(&root.encode());
        put(block, 172, user.region_size);
        put(block, 180, user.target_size);
        put(block, 188, user.root);
    }))
}

/// Returns the space map root and the user of a superblock.
pub(crate) fn superblock(block: &[u8]) -> (Root, User) {
    let root = Root::decode(block[44..76].try_into().unwrap());
    let user = User {
        root: get(block, 188),
        region_size: get(block, 172),
        target_size: get(block, 180),
    };
    (root, user)
}

/// A cache small enough that tests evict and write early.
pub(crate) const SMALL: CacheSize = CacheSize {
    frames: 40,
    io_pages: 8,
};

/// A cache that holds whatever a test does.
pub(crate) const LARGE: CacheSize = CacheSize {
    frames: 4096,
    io_pages: 64,
};

pub(crate) fn cache(disk: &Arc<MemDisk>, size: CacheSize) -> BlockCache<MemDisk> {
    BlockCache::new(disk.clone(), size).unwrap()
}

/// Formats a device of `blocks` blocks.
pub(crate) fn format(blocks: u64, size: CacheSize) -> (Arc<MemDisk>, Tm) {
    let disk = MemDisk::blank(blocks);
    let tm = now(TransactionManager::format(cache(&disk, size))).unwrap();
    (disk, tm)
}

/// Opens what is on `disk`.
pub(crate) fn open(disk: &Arc<MemDisk>, size: CacheSize) -> Result<(Tm, User)> {
    let mut cache = cache(disk, size);
    let (root, user) = superblock(now(cache.read(0, &SUPERBLOCK))?);
    let limit = cache.blocks();
    Ok((now(TransactionManager::open(cache, root, limit))?, user))
}

/// The keys and values of a tree.
pub(crate) type Entries = BTreeMap<u64, Vec<u8>>;

/// Depth and number of entries of every node of a tree, in pre-order.
pub(crate) type Shape = Vec<(usize, usize)>;

/// Judges an image whose user is a tree of values of `value_size` bytes that refer to nothing;
/// returns the keys and values, and the shape of the tree.
pub(crate) fn judge_tree(image: &[u8], value_size: usize) -> (Entries, Shape) {
    let mut checker = Checker::new(image);
    let block = checker.superblock(STAMP.salt);
    let map = checker.metadata_space_map(&block[44..76]);
    let mut entries = BTreeMap::new();
    checker.tree(get(block, 188), value_size, &mut |_, key, value| {
        entries.insert(key, value.to_vec());
    });
    checker.verify_counts(&map);
    assert!(checker.errors.is_empty(), "{:?}", checker.errors);
    (entries, checker.shape)
}

/// Judges an image whose user is an array of values of `value_size` bytes; returns the values.
pub(crate) fn judge_array(image: &[u8], value_size: usize) -> Vec<Vec<u8>> {
    let mut checker = Checker::new(image);
    let block = checker.superblock(STAMP.salt);
    let map = checker.metadata_space_map(&block[44..76]);
    let values = checker.array(get(block, 188), value_size);
    checker.verify_counts(&map);
    assert!(checker.errors.is_empty(), "{:?}", checker.errors);
    values.into_values().collect()
}
