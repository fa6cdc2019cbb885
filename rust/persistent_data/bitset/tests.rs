// SPDX-License-Identifier: GPL-2.0

//! Bitsets: sizes, bits behind the end, bulk loads and stores.

use super::*;
use crate::fixture::*;
use pd_testing::check;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

fn create(blocks: u64, bits: u64) -> (runtime::sync::Arc<pd_testing::disk::MemDisk>, Tm, Bitset) {
    let (disk, mut tm) = format(blocks, SMALL);
    let set = now(Bitset::create(&mut tm, bits)).unwrap();
    commit(&mut tm, User::of(set.root(), bits)).unwrap();
    (disk, tm, set)
}

fn words(tm: &mut Tm, set: &Bitset) -> Vec<u64> {
    let mut words = BTreeMap::new();
    now(set.load(tm, |at, word| assert_eq!(words.insert(at, word), None))).unwrap();
    assert!(words.keys().copied().eq(0..set.bits().div_ceil(64)));
    words.into_values().collect()
}

#[test]
fn sizes_are_those_of_the_specification() {
    for (bits, device, used, needed) in [
        (1, 1024, 6, 10),
        (32_576, 1024, 6, 10),
        (262_144, 1024, 14, 26),
        (1 << 20, 40_000, 40, 78),
        (1 << 20, 1024, 38, 74),
        (8_209_152, 1024, 257, 512),
        (9_000_000, 4096, 284, 566),
        (1 << 24, 40_000, 526, 1050),
        (26_214_400, 10_000, 814, 1626),
        (1 << 28, 40_000, 8282, 16_562),
        (1 << 31, 262_144, 66_212, 132_422),
    ] {
        assert_eq!(size(bits, device), Size { used, needed }, "{bits} bits");
    }
}

#[test]
fn sizes_are_those_of_real_sets() {
    for bits in [1, 32_576, 32_577, 8_209_152, 8_209_153, 9_000_000, 1 << 24] {
        let expected = size(bits, 1100).used;
        let (disk, tm, set) = create(1100, bits);
        assert_eq!(tm.nr_used(), expected, "{bits} bits");
        drop((set, tm));
        let found = check::clone(&disk.image()).unwrap().checker.errors;
        assert_eq!(found, Vec::<std::string::String>::new());
    }
}

#[test]
fn bits_behind_the_end_are_not_there() {
    let (disk, mut tm, mut set) = create(64, 100);
    now(set.stage(&mut tm, 0, |_| u64::MAX)).unwrap();
    assert_eq!(words(&mut tm, &set), [u64::MAX, (1 << 36) - 1]);
    assert_eq!(now(set.get(&mut tm, 99)), Ok(true));
    assert_eq!(now(set.get(&mut tm, 100)), Err(Error::NoData));
    commit(&mut tm, User::of(set.root(), 100)).unwrap();
    assert!(check::clone(&disk.image())
        .unwrap()
        .bits
        .iter()
        .all(|&bit| bit));
}

#[test]
fn one_commit_costs_what_mainline_takes() {
    let (disk, mut tm, mut set) = create(64, 1000);
    disk.take_log();
    now(set.set(&mut tm, 5, true)).unwrap();
    commit(&mut tm, User::of(set.root(), 1000)).unwrap();
    use pd_testing::disk::Op;
    let log = disk.take_log();
    // Array block, tree root, index and bitmap follow each other, so they are one write.
    let lengths = |op: &Op| match op {
        Op::Write { sector, data } => Some((*sector > 0, data.len() / 4096)),
        Op::Flush => None,
    };
    let found: Vec<_> = log.iter().map(lengths).collect();
    assert_eq!(found, [Some((true, 4)), None, Some((false, 1)), None]);
}

#[test]
fn a_small_device_takes_changes_in_several_transactions() {
    // Four array blocks, none to spare: used 9, and room for two of them at a time.
    let bits = 4 * BITS_PER_BLOCK;
    let (disk, mut tm, mut set) = create(9 + 5, bits);
    let mut next = 0;
    let mut commits = 0;
    while next < set.blocks() {
        assert!(set.can_stage(&tm), "no room for even one block");
        while next < set.blocks() && set.can_stage(&tm) {
            now(set.stage(&mut tm, next, |_| u64::MAX)).unwrap();
            next += 1;
        }
        commit(&mut tm, User::of(set.root(), bits)).unwrap();
        commits += 1;
    }
    assert_eq!(commits, 2);
    let image = disk.image();
    let found = check::clone(&image).unwrap();
    assert!(found.checker.errors.is_empty() && found.bits.iter().all(|&bit| bit));
}

#[test]
fn ten_blocks_suffice_and_nine_do_not() {
    for (blocks, suffices) in [(10, true), (9, false)] {
        let (_, mut tm, mut set) = create(blocks, 16_384);
        for _ in 0..20 {
            assert_eq!(set.can_stage(&tm), suffices);
            if suffices {
                now(set.stage(&mut tm, 0, |at| at)).unwrap();
                commit(&mut tm, User::of(set.root(), 16_384)).unwrap();
            }
        }
    }
}

#[test]
fn a_bulk_load_reads_in_large_pieces() {
    let bits = 600 * BITS_PER_BLOCK;
    let (disk, tm, _) = create(1300, bits);
    drop(tm);
    let (mut tm, user) = open(&disk, CACHE_OF_ANY_SIZE).unwrap();
    let set = now(Bitset::open(&mut tm, user.root, bits)).unwrap();
    disk.take_reads();
    assert!(words(&mut tm, &set).into_iter().all(|word| word == 0));
    let (reads, _) = disk.take_reads();
    // 600 array blocks of 64 pages a read, and the tree.
    assert!(reads <= 600 / 64 + 12, "{reads} reads");
}

const CACHE_OF_ANY_SIZE: crate::cache::CacheSize = crate::cache::CacheSize {
    frames: 64,
    io_pages: 64,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn behaves_like_a_vector_of_words(
        blocks in 1..5_u64,
        short in 0..BITS_PER_BLOCK,
        rounds in prop::collection::vec(prop::collection::vec((any::<u64>(), any::<u64>()), 0..6), 1..8),
    ) {
        let bits = blocks * BITS_PER_BLOCK - short;
        let (disk, mut tm, mut set) = create(60, bits);
        let mut model = vec![0_u64; bits.div_ceil(64) as usize];
        for changes in rounds {
            let mut dirty = std::collections::BTreeSet::new();
            for (at, word) in changes {
                let at = at % model.len() as u64;
                model[at as usize] = word & mask(at, bits);
                dirty.insert(at / WORDS_PER_BLOCK);
            }
            for &block in &dirty {
                now(set.stage(&mut tm, block, |at| model[at as usize])).unwrap();
            }
            prop_assert_eq!(&words(&mut tm, &set), &model);
            commit(&mut tm, User::of(set.root(), bits)).unwrap();
            let (opened, user) = open(&disk, SMALL).unwrap();
            tm = opened;
            set = now(Bitset::open(&mut tm, user.root, bits)).unwrap();
            prop_assert_eq!(&words(&mut tm, &set), &model);
        }
        let image = disk.image();
        let judged = check::clone(&image).unwrap();
        prop_assert!(judged.checker.errors.is_empty(), "{:?}", judged.checker.errors);
        for (at, &bit) in judged.bits.iter().enumerate() {
            prop_assert_eq!(bit, (model[at / 64] >> (at % 64)) & 1 == 1);
        }
    }
}
