// SPDX-License-Identifier: GPL-2.0

//! Failing I/O and failing allocations: an error, the disk sound, and nothing committed by halves.

use crate::bitset::Bitset;
use crate::bitset::BITS_PER_BLOCK;
use crate::btree;
use crate::cache::BlockCache;
use crate::cache::CacheSize;
use crate::error::Error;
use crate::error::Result;
use crate::fixture::*;
use crate::transaction::TransactionManager;
use kernel::alloc::fail_after;
use pd_testing::check;
use pd_testing::disk::MemDisk;
use runtime::sync::Arc;

const TINY: CacheSize = CacheSize {
    frames: 32,
    io_pages: 3,
};
const BITS: u64 = 40 * BITS_PER_BLOCK;

/// Everything from opening to a commit.
fn change(disk: &Arc<MemDisk>, value: u64) -> Result {
    let mut cache = BlockCache::new(disk.clone(), TINY)?;
    let (root, user) = superblock(now(cache.read(0, &SUPERBLOCK))?);
    let limit = cache.blocks();
    let mut tm = now(TransactionManager::open(cache, root, limit))?;
    let mut set = now(Bitset::open(&mut tm, user.root, BITS))?;
    now(set.load(&mut tm, |_, _| ()))?;
    for block in 0..set.blocks() {
        now(set.stage(&mut tm, block, |_| value))?;
    }
    commit(&mut tm, User::of(set.root(), BITS))
}

fn formatted() -> Arc<MemDisk> {
    let (disk, mut tm) = format(120, TINY);
    let set = now(Bitset::create(&mut tm, BITS)).unwrap();
    commit(&mut tm, User::of(set.root(), BITS)).unwrap();
    disk
}

/// Returns the value of all words; panics if they differ or the disk is not sound.
fn value(disk: &Arc<MemDisk>) -> bool {
    let image = disk.image();
    let judged = check::clone(&image).unwrap();
    assert!(
        judged.checker.errors.is_empty(),
        "{:?}",
        judged.checker.errors
    );
    assert!(judged.bits.iter().all(|&bit| bit == judged.bits[0]));
    judged.bits[0]
}

#[test]
fn every_io_may_fail() {
    let mut failures = 0;
    for at in 0.. {
        let disk = formatted();
        disk.fail_after(at, false);
        let result = change(&disk, u64::MAX);
        let failed = !disk.heal();
        assert_eq!(result.is_err(), failed, "operation {at}");
        if !failed {
            assert!(value(&disk));
            break;
        }
        failures += 1;
        assert_eq!(result.unwrap_err().errno().to_errno(), -5);
        value(&disk);
        // Whatever the failure left behind, the next attempt succeeds.
        change(&disk, u64::MAX).unwrap();
        assert!(value(&disk));
    }
    assert!(failures > 30, "{failures}");
}

#[test]
fn every_allocation_may_fail() {
    let mut failures = 0;
    for at in 0.. {
        let disk = formatted();
        fail_after(Some(at));
        let result = change(&disk, u64::MAX);
        fail_after(None);
        if result.is_ok() {
            break;
        }
        failures += 1;
        assert_eq!(result.unwrap_err(), Error::NoMemory);
        assert!(!value(&disk));
    }
    assert!(failures > 5, "{failures}");
}

#[test]
fn a_running_device_allocates_nothing() {
    let disk = formatted();
    let (mut tm, user) = open(&disk, TINY).unwrap();
    let mut set = now(Bitset::open(&mut tm, user.root, BITS)).unwrap();
    fail_after(Some(0));
    let result: Result = (|| {
        for round in 0..5 {
            now(set.load(&mut tm, |_, _| ()))?;
            for block in 0..set.blocks() {
                now(set.stage(&mut tm, block, |at| at ^ round))?;
            }
            commit(&mut tm, User::of(set.root(), BITS))?;
        }
        Ok(())
    })();
    fail_after(None);
    assert_eq!(result, Ok(()));
}

#[test]
fn a_failed_operation_bars_the_commit() {
    let disk = formatted();
    let (mut tm, user) = open(&disk, TINY).unwrap();
    let mut set = now(Bitset::open(&mut tm, user.root, BITS)).unwrap();
    disk.fail_after(0, true);
    assert!(now(set.stage(&mut tm, 0, |_| 1)).is_err());
    disk.heal();
    disk.take_log();
    // In memory the tree is half changed; nothing of it may reach the disk.
    let refused = commit(&mut tm, User::of(set.root(), BITS));
    assert_eq!(refused.unwrap_err().errno().to_errno(), -22);
    assert_eq!(disk.take_log(), []);
    let cache = tm.into_cache();
    drop(cache);
    change(&disk, u64::MAX).unwrap();
    assert!(value(&disk));
}

#[test]
fn a_full_device_gives_no_space() {
    let (disk, mut tm) = format(30, TINY);
    let mut root = now(btree::create::<u64, _>(&mut tm)).unwrap();
    commit(&mut tm, User::of(root, 0)).unwrap();
    let error = (0..100_000_u64).find_map(|key| {
        match now(btree::insert(&mut tm, root, key, &key)) {
            Ok(inserted) => root = inserted.root,
            Err(error) => return Some(error),
        }
        None
    });
    assert_eq!(error, Some(Error::NoSpace));
    assert_eq!(tm.blocks_left(), 0);
    assert!(commit(&mut tm, User::of(root, 0)).is_err());
    assert_eq!(judge_tree(&disk.image(), 8).0.len(), 0);
}

#[test]
fn only_copies_may_be_changed() {
    let disk = formatted();
    let (mut tm, user) = open(&disk, TINY).unwrap();
    let refused = now(tm.modify(user.root, &btree::NODE)).map(|_| ());
    assert!(matches!(refused, Err(Error::Invalid(_))));
    assert!(now(tm.rewrite(0, &SUPERBLOCK)).is_err());
}
