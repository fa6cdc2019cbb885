// SPDX-License-Identifier: GPL-2.0

//! Damaged metadata: the errno that mainline gives, and no harm done.

use crate::array::ARRAY;
use crate::bitset::Bitset;
use crate::block::BlockKind;
use crate::btree::NODE;
use crate::cache::BlockCache;
use crate::error::Result;
use crate::fixture::*;
use crate::space_map::BITMAP;
use crate::space_map::INDEX;
use crate::transaction::TransactionManager;
use pd_testing::disk::MemDisk;
use pd_testing::vectors;
use runtime::sync::Arc;

const EIO: i32 = -5;
const ENOTBLK: i32 = -15;
const EINVAL: i32 = -22;
const ENODATA: i32 = -61;
const EILSEQ: i32 = -84;

/// Changes block `number` of `image`, and seals it again if `kind` is given.
fn damage(
    image: &mut [u8],
    number: u64,
    kind: Option<&BlockKind>,
    change: impl FnOnce(&mut [u8; 4096]),
) {
    let block = &mut image[number as usize * 4096..][..4096];
    let mut copy: [u8; 4096] = (&*block).try_into().unwrap();
    change(&mut copy);
    if let Some(kind) = kind {
        (kind.seal)(&mut copy, number);
    }
    block.copy_from_slice(&copy);
}

/// Opens and loads as clone does.
fn load(disk: &Arc<MemDisk>) -> Result<(Tm, Bitset)> {
    let (mut tm, user) = open(disk, SMALL)?;
    let bits = user.target_size / user.region_size;
    let set = now(Bitset::open(&mut tm, user.root, bits))?;
    now(set.load(&mut tm, |_, _| ()))?;
    Ok((tm, set))
}

/// Returns the errno of opening and loading fresh-r8 with a damage, and that of a first commit.
fn outcome(damage: impl FnOnce(&mut [u8])) -> (i32, i32) {
    let mut image = vectors::image("fresh-r8");
    damage(&mut image);
    let disk = MemDisk::new(image.clone());
    let errno = |result: Result| result.map_or_else(|error| error.errno().to_errno(), |()| 0);
    let (mut tm, mut set) = match load(&disk) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(disk.image() == image);
            return (error.errno().to_errno(), 0);
        }
    };
    let committed = now(set.stage(&mut tm, 0, |_| 1))
        .and_then(|()| commit(&mut tm, User::of(set.root(), 16_384)));
    if committed.is_err() {
        assert!(disk.image()[..6 * 4096] == image[..6 * 4096]);
    }
    (0, errno(committed))
}

fn set_u32(at: usize, value: u32) -> impl FnOnce(&mut [u8; 4096]) {
    move |block| block[at..at + 4].copy_from_slice(&value.to_le_bytes())
}

fn set_u64(at: usize, value: u64) -> impl FnOnce(&mut [u8; 4096]) {
    move |block| block[at..at + 8].copy_from_slice(&value.to_le_bytes())
}

#[test]
fn nothing_damaged() {
    assert_eq!(outcome(|_| ()), (0, 0));
}

#[test]
fn index_block() {
    assert_eq!(outcome(|i| damage(i, 1, None, set_u32(0, 1))), (EILSEQ, 0));
    let wrong_number = |i: &mut [u8]| {
        damage(i, 1, None, |block| (INDEX.seal)(block, 2));
    };
    assert_eq!(outcome(wrong_number), (ENOTBLK, 0));
}

#[test]
fn tree_nodes() {
    let node = |change: fn(&mut [u8; 4096])| {
        outcome(move |i: &mut [u8]| damage(i, 4, Some(&NODE), change)).0
    };
    assert_eq!(outcome(|i| damage(i, 4, None, set_u32(0, 1))).0, EILSEQ);
    assert_eq!(node(|block| set_u32(4, 4)(block)), EILSEQ);
    assert_eq!(node(|block| set_u32(16, 253)(block)), EILSEQ);
    assert_eq!(node(|block| set_u32(20, 300)(block)), EILSEQ);
    // Beyond what mainline tests: sizes, order of keys, an internal node without children.
    assert_eq!(node(|block| set_u32(20, 100)(block)), EILSEQ);
    assert_eq!(node(|block| set_u32(24, 16)(block)), EILSEQ);
    assert_eq!(node(|block| set_u32(24, u32::MAX)(block)), EILSEQ);
    assert_eq!(node(|block| set_u32(16, 2)(block)), EILSEQ);
    let childless = |block: &mut [u8; 4096]| {
        set_u32(4, 1)(block);
        set_u32(16, 0)(block);
    };
    assert_eq!(node(childless), EILSEQ);
    // A node that is its own child.
    let circle = |block: &mut [u8; 4096]| {
        set_u32(4, 1)(block);
        set_u64(2048, 4)(block);
    };
    assert_eq!(node(circle), EILSEQ);
    // No entry at all: the array is too short.
    assert_eq!(node(|block| set_u32(16, 0)(block)), ENODATA);
    // The array block is outside the device.
    assert_eq!(node(|block| set_u64(2048, 1024)(block)), EIO);
    assert_eq!(node(|block| set_u64(2048, u64::MAX)(block)), EIO);
    // The array block is a tree node.
    assert_eq!(node(|block| set_u64(2048, 4)(block)), EINVAL);
}

#[test]
fn array_blocks() {
    let array = |change: fn(&mut [u8; 4096])| {
        outcome(move |i: &mut [u8]| damage(i, 5, Some(&ARRAY), change)).0
    };
    assert_eq!(outcome(|i| damage(i, 5, None, set_u32(0, 1))).0, EILSEQ);
    assert_eq!(array(|block| set_u32(4, 510)(block)), EILSEQ);
    assert_eq!(array(|block| set_u32(8, 100)(block)), ENODATA);
    assert_eq!(array(|block| set_u32(8, 510)(block)), EILSEQ);
    assert_eq!(array(|block| set_u32(12, 0)(block)), EILSEQ);
    let smaller = |block: &mut [u8; 4096]| {
        set_u32(4, 1018)(block);
        set_u32(12, 4)(block);
    };
    assert_eq!(array(smaller), EILSEQ);
}

#[test]
fn what_is_not_read_does_no_harm() {
    // The overflow tree is never needed, a bitmap at the first change.
    assert_eq!(outcome(|i| damage(i, 2, None, set_u32(0, 1))), (0, 0));
    assert_eq!(outcome(|i| damage(i, 3, None, set_u32(0, 1))), (0, EILSEQ));
}

#[test]
fn counts_that_cannot_be_trusted_stop_all_changes() {
    // Block 5 is free according to the bitmap, but not according to the index.
    assert_eq!(
        outcome(|i| damage(i, 3, Some(&BITMAP), |block| block[17] = 2)),
        (0, EILSEQ)
    );
    // Both agree that the superblock is free.
    let superblock = |i: &mut [u8]| {
        damage(i, 3, Some(&BITMAP), |block| block[16] = 0xa8);
        damage(i, 1, Some(&INDEX), set_u32(24, 16_315));
    };
    assert_eq!(outcome(superblock), (0, EILSEQ));
}

#[test]
fn superblock_numbers() {
    let nr_allocated = |i: &mut [u8]| damage(i, 0, Some(&SUPERBLOCK), set_u64(52, 4095));
    assert_eq!(outcome(nr_allocated), (0, 0));
    for nr_blocks in [1025, 99_999_999, u64::MAX, 0] {
        let change = |i: &mut [u8]| damage(i, 0, Some(&SUPERBLOCK), set_u64(44, nr_blocks));
        assert_eq!(outcome(change).0, EINVAL, "{nr_blocks}");
    }
    for index in [1024, u64::MAX] {
        let change = |i: &mut [u8]| damage(i, 0, Some(&SUPERBLOCK), set_u64(60, index));
        assert_eq!(outcome(change).0, EIO);
    }
}

#[test]
fn a_shrunk_device_opens_if_the_user_wants_it() {
    let mut image = vectors::image("fresh-r8");
    image.truncate(50 * 4096);
    let disk = MemDisk::new(image);
    assert_eq!(
        open(&disk, SMALL)
            .map(|_| ())
            .unwrap_err()
            .errno()
            .to_errno(),
        EINVAL
    );
    let mut cache: BlockCache<MemDisk> = cache(&disk, SMALL);
    let (root, user) = superblock(now(cache.read(0, &SUPERBLOCK)).unwrap());
    let mut tm = now(TransactionManager::open(cache, root, u64::MAX)).unwrap();
    let mut set = now(Bitset::open(&mut tm, user.root, 16_384)).unwrap();
    let mut commits = 0;
    let error = loop {
        let staged = now(set.stage(&mut tm, 0, |at| at));
        match staged.and_then(|()| commit(&mut tm, User::of(set.root(), 16_384))) {
            Ok(()) => commits += 1,
            Err(error) => break error,
        }
    };
    // As mainline: blocks 6 to 49 in steps of four.
    assert_eq!((commits, error.errno().to_errno()), (11, EIO));
}

#[test]
fn a_bitmap_whose_own_block_is_the_only_free_one_is_not_moved_for_ever() {
    let (disk, mut tm) = format(5, SMALL);
    commit(&mut tm, User::of(2, 0)).unwrap();
    let mut image = disk.image();
    // It moves from block 3 to block 4, and both are free.
    damage(&mut image, 3, Some(&BITMAP), |block| block[16] &= 0x3f);
    image.copy_within(3 * 4096..4 * 4096, 4 * 4096);
    damage(&mut image, 4, Some(&BITMAP), |_| ());
    damage(&mut image, 1, Some(&INDEX), |block| {
        block[16] = 4;
        let free = u32::from_le_bytes(block[24..28].try_into().unwrap()) + 1;
        block[24..28].copy_from_slice(&free.to_le_bytes());
        block[28] = 3;
    });
    let (mut tm, user) = open(&MemDisk::new(image), SMALL).unwrap();
    now(tm.inc(2)).unwrap();
    // The index takes block 3, which leaves the bitmap its own.
    let error = commit(&mut tm, user).unwrap_err();
    assert_eq!(error.errno().to_errno(), EILSEQ);
}
