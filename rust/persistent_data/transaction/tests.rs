// SPDX-License-Identifier: GPL-2.0

//! Shadowing, and what a commit makes of it.

use super::*;
use crate::btree::NODE;
use crate::fixture::SUPERBLOCK;
use crate::fixture::*;

#[test]
fn a_shadow_is_a_copy_once_a_transaction() {
    let (_, mut tm) = format(64, LARGE);
    let root = now(btree::create::<u64, _>(&mut tm)).unwrap();
    // New in this transaction: changed in place.
    assert_eq!(
        now(tm.shadow(root, &NODE)),
        Ok(Shadow {
            block: root,
            shared: false
        })
    );
    commit(&mut tm, User::of(root, 0)).unwrap();
    let before = *now(tm.read(root, &NODE)).unwrap();
    let shadow = now(tm.shadow(root, &NODE)).unwrap();
    assert!(shadow.block != root && !shadow.shared);
    assert_eq!(now(tm.count(root)), Ok(0));
    assert_eq!(*now(tm.read(shadow.block, &NODE)).unwrap(), before);
    assert_eq!(now(tm.shadow(shadow.block, &NODE)), Ok(shadow));
    commit(&mut tm, User::of(shadow.block, 0)).unwrap();
}

#[test]
fn the_shadow_of_a_shared_block_leaves_the_original() {
    let (_, mut tm) = format(64, LARGE);
    let root = now(btree::create::<u64, _>(&mut tm)).unwrap();
    now(tm.inc(root)).unwrap();
    now(tm.inc(root)).unwrap();
    let shadow = now(tm.shadow(root, &NODE)).unwrap();
    assert!(shadow.block != root && shadow.shared);
    assert_eq!(now(tm.count(root)), Ok(2));
    assert_eq!(now(tm.count(shadow.block)), Ok(1));
}

#[test]
fn used_blocks_are_reported_as_mainline_does() {
    let (_, mut tm) = format(64, LARGE);
    let root = now(btree::create::<u64, _>(&mut tm)).unwrap();
    commit(&mut tm, User::of(root, 0)).unwrap();
    assert_eq!(
        (tm.nr_used(), tm.nr_blocks(), tm.is_changed()),
        (5, 64, false)
    );
    // A block that is given up counts as used until the commit.
    let root = now(btree::insert(&mut tm, root, 1, &1_u64)).unwrap().root;
    assert_eq!((tm.nr_used(), tm.is_changed()), (6, true));
    commit(&mut tm, User::of(root, 0)).unwrap();
    assert_eq!((tm.nr_used(), tm.is_changed()), (5, false));
}

#[test]
fn an_abort_goes_back_to_the_last_commit() {
    let (disk, mut tm) = format(64, LARGE);
    let root = now(btree::create::<u64, _>(&mut tm)).unwrap();
    let root = now(btree::insert(&mut tm, root, 1, &1_u64)).unwrap().root;
    commit(&mut tm, User::of(root, 0)).unwrap();
    let image = disk.image();
    now(btree::insert(&mut tm, root, 2, &2_u64)).unwrap();
    let mut cache = tm.into_cache();
    let (map, user) = superblock(now(cache.read(0, &SUPERBLOCK)).unwrap());
    let mut tm = now(TransactionManager::open(cache, map, 64)).unwrap();
    assert_eq!(
        now(btree::lookup::<u64, _>(tm.cache(), user.root, 1)),
        Ok(Some(1))
    );
    assert_eq!(
        now(btree::lookup::<u64, _>(tm.cache(), user.root, 2)),
        Ok(None)
    );
    assert!(disk.image() == image);
}

#[test]
fn too_small_a_device_is_not_formatted() {
    for blocks in 1..4 {
        let disk = pd_testing::disk::MemDisk::blank(blocks);
        let result = now(TransactionManager::format(cache(&disk, SMALL)));
        assert_eq!(result.map(|_| ()), Err(Error::NoSpace));
    }
}

/// A future of a commit or of a change of a tree lives in a task's memory, also in the kernel.
#[test]
fn futures_are_small_and_may_move_to_another_thread() {
    fn size<F: core::future::Future + Send>(future: F) -> usize {
        size_of_val(&future)
    }
    let (_, mut tm) = format(64, LARGE);
    let mut set = now(crate::bitset::Bitset::create(&mut tm, 100)).unwrap();
    let insert = size(btree::insert(&mut tm, 1, 2, &3_u64));
    let remove = size(btree::remove::<u64, _>(&mut tm, 1, 2));
    let commit = size(tm.commit(&SUPERBLOCK, |_, _| ()));
    let load = size(set.load(&mut tm, |_, _| ()));
    let stage = size(set.stage(&mut tm, 0, |_| 0));
    std::println!("insert {insert} remove {remove} commit {commit} load {load} stage {stage}");
    assert!(insert < 1500 && remove < 1500 && commit < 2500 && load < 1500 && stage < 1500);
}
