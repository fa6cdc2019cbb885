// SPDX-License-Identifier: GPL-2.0

//! A crash at any write of a transaction leaves the old state or the new one, and no other.

use crate::bitset::Bitset;
use crate::bitset::BITS_PER_BLOCK;
use crate::btree;
use crate::cache::CacheSize;
use crate::fixture::*;
use pd_testing::check;
use pd_testing::check::runs;
use pd_testing::crash::each_crash;
use pd_testing::disk::MemDisk;
use runtime::sync::Arc;
use std::vec;
use std::vec::Vec;

/// A cache that has to write early, in small pieces.
const TINY: CacheSize = CacheSize {
    frames: 32,
    io_pages: 3,
};

/// A state of a bitset, by its set bits; `None` if the device is not formatted.
type State = Option<Vec<(u64, u64)>>;

/// Returns the state that an image holds; panics if it is not sound.
fn state(image: &[u8], at: usize) -> State {
    let found = check::clone(image)?;
    assert!(
        found.checker.errors.is_empty(),
        "crash {at}: {:?}",
        found.checker.errors
    );
    Some(runs(&found.bits))
}

/// Runs `transaction` on a device with `before` on it, and crashes it everywhere.
fn crash_everywhere(
    before: Vec<u8>,
    variants: u64,
    transaction: impl FnOnce(&Arc<MemDisk>),
) -> Vec<u8> {
    let disk = MemDisk::new(before.clone());
    transaction(&disk);
    let log = disk.take_log();
    let after = disk.image();
    let (old, new) = (state(&before, 0), state(&after, 0));
    let mut seen = (false, false);
    each_crash(&before, &log, variants, |at, image| {
        // Only the superblock's own write may be torn: its sectors are not written at once here,
        // but mainline's format relies on it.
        let whole = image[..4096] == before[..4096] || image[..4096] == after[..4096];
        if !whole {
            return;
        }
        let found = state(&image, at);
        assert!(found == old || found == new, "crash {at} of {}", log.len());
        seen.0 |= found == old;
        seen.1 |= found == new;
        reopens(image, &found);
    });
    assert_eq!(seen, (true, true));
    // A crash after the last flush leaves the new state.
    each_crash(&before, &log, 0, |at, image| {
        assert!(at < log.len() || state(&image, at) == new);
    });
    after
}

/// This crate opens the image, sees the same, and can go on.
fn reopens(image: Vec<u8>, expected: &State) {
    let Some(expected) = expected else { return };
    let disk = MemDisk::new(image);
    let (mut tm, user) = open(&disk, TINY).unwrap();
    let bits = user.target_size / user.region_size;
    let mut set = now(Bitset::open(&mut tm, user.root, bits)).unwrap();
    let mut found = vec![false; bits as usize];
    now(set.load(&mut tm, |at, word| {
        for bit in (0..64).filter(|bit| (word >> bit) & 1 == 1) {
            found[at as usize * 64 + bit] = true;
        }
    }))
    .unwrap();
    assert_eq!(&runs(&found), expected);
    now(set.set(&mut tm, bits - 1, true)).unwrap();
    commit(&mut tm, User::of(set.root(), bits)).unwrap();
    let image = disk.image();
    let judged = check::clone(&image).unwrap();
    assert!(
        judged.checker.errors.is_empty(),
        "{:?}",
        judged.checker.errors
    );
    found[bits as usize - 1] = true;
    assert_eq!(judged.bits, found);
}

fn format_on(disk: &Arc<MemDisk>, bits: u64) {
    let tm = crate::transaction::TransactionManager::format(cache(disk, TINY));
    let mut tm = now(tm).unwrap();
    let set = now(Bitset::create(&mut tm, bits)).unwrap();
    commit(&mut tm, User::of(set.root(), bits)).unwrap();
}

fn change(disk: &Arc<MemDisk>, change: impl FnOnce(&mut Tm, &mut Bitset)) {
    let (mut tm, user) = open(disk, TINY).unwrap();
    let bits = user.target_size / user.region_size;
    let mut set = now(Bitset::open(&mut tm, user.root, bits)).unwrap();
    change(&mut tm, &mut set);
    commit(&mut tm, User::of(set.root(), bits)).unwrap();
}

#[test]
fn a_format() {
    // What was on the device before does not matter, as long as block 0 is blank.
    let mut before = vec![0xee; 20 * 4096];
    before[..4096].fill(0);
    crash_everywhere(before, 24, |disk| format_on(disk, 3 * BITS_PER_BLOCK - 7));
}

#[test]
fn small_transactions() {
    let mut image = vec![0; 24 * 4096];
    let disk = MemDisk::new(image);
    format_on(&disk, 3 * BITS_PER_BLOCK);
    image = disk.image();
    // Often enough that the allocator wraps.
    for round in 0..12_u64 {
        image = crash_everywhere(image, 24, |disk| {
            change(disk, |tm, set| {
                for block in 0..=round % 3 {
                    let bit = block * BITS_PER_BLOCK + round * 5;
                    now(set.set(tm, bit, true)).unwrap();
                }
            });
        });
    }
}

#[test]
fn a_transaction_that_writes_early() {
    let disk = MemDisk::blank(130);
    let bits = 45 * BITS_PER_BLOCK;
    format_on(&disk, bits);
    let image = disk.image();
    crash_everywhere(image, 1, |disk| {
        change(disk, |tm, set| {
            for block in 0..set.blocks() {
                now(set.stage(tm, block, |at| 1 << (at % 64))).unwrap();
                // Once more, so that a block that may have been written changes again.
                now(set.stage(tm, block / 2, |at| 3 << (at % 60))).unwrap();
            }
        });
    });
}

#[test]
fn tree_transactions() {
    let (disk, mut tm) = format(300, TINY);
    let mut root = now(btree::create::<u64, _>(&mut tm)).unwrap();
    let mut model = std::collections::BTreeMap::new();
    commit(&mut tm, User::of(root, 0)).unwrap();
    for round in 0..12_u64 {
        let before = disk.image();
        let old = model.clone();
        disk.take_log();
        for key in 0..300 {
            // Grows for some rounds, then shrinks.
            let key = (key * 7919 + round * 31) % 3000;
            if round < 6 {
                root = now(btree::insert(&mut tm, root, key, &round)).unwrap().root;
                model.insert(key, round);
            } else {
                root = now(btree::remove::<u64, _>(&mut tm, root, key))
                    .unwrap()
                    .root;
                model.remove(&key);
            }
        }
        commit(&mut tm, User::of(root, 0)).unwrap();
        let (log, after) = (disk.take_log(), disk.image());
        each_crash(&before, &log, 4, |_, image| {
            if image[..4096] == before[..4096] || image[..4096] == after[..4096] {
                let found = judge_tree(&image, 8).0;
                let is = |model: &std::collections::BTreeMap<u64, u64>| {
                    found.len() == model.len()
                        && model.iter().all(|(k, v)| found[k] == v.to_le_bytes())
                };
                assert!(if image[..4096] == after[..4096] {
                    is(&model)
                } else {
                    is(&old)
                });
            }
        });
    }
}
