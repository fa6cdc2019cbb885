// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::vectors;
use std::vec::Vec;

fn block(name: &str) -> Block {
    vectors::file(name).try_into().unwrap()
}

fn super_block(name: &str, place: u64) -> SuperBlock {
    SuperBlock::decode(&block(name), place).unwrap()
}

/// Checks that a header of mainline is decoded, and encoded to what it was.
fn check_header(name: &str, super_block: &SuperBlock, slot: u16) -> Save {
    let block = block(name);
    let save = Save::decode(&block, super_block, slot).unwrap().unwrap();
    let mut out = [1; 4096];
    save.encode(&mut out, super_block, slot);
    assert_eq!(out, block, "{name}");
    assert!(Save::decode(&block, super_block, 1 - slot).is_err());
    save
}

#[test]
fn headers_of_mainline() {
    let a = super_block("a-super-block.bin", 1);
    let save = check_header("a-save0-header.bin", &a, 0);
    assert_eq!((save.newest, save.oldest, save.zones), (0, 0, 1));
    assert_eq!(save.nonce(&a, 0), 0x5c64_9522_3c64_9867);
    let save = check_header("b-save1-header.bin", &a, 1);
    assert_eq!((save.newest, save.oldest, save.zones), (2, 0, 1));

    let c = super_block("c-super-block.bin", 1);
    let save = check_header("c-save0-header-2zones.bin", &c, 0);
    assert_eq!(save.zones, 2);
    assert_eq!(Places::new(&c, 2).zone_blocks, 26_160);

    let d = super_block("d-super-block.bin", 1);
    check_header("d-save0-header.bin", &d, 0);
    let e = super_block("e-super-block.bin", 1);
    let save = check_header("e-save1-header.bin", &e, 1);
    assert_eq!((save.newest, save.oldest), (2424, 1401));
    let f = super_block("f-super-block-v7.bin", 49);
    let save = check_header("f-save0-header.bin", &f, 0);
    assert_eq!((save.newest, save.oldest), (1526, 504));
}

#[test]
fn unsaved() {
    let a = super_block("a-super-block.bin", 1);
    let block = block("a-save1-header-unsaved.bin");
    assert_eq!(Save::decode(&block, &a, 1), Ok(None));
    let mut out = [1; 4096];
    encode_unsaved(&mut out, &a, 1);
    assert_eq!(out, block);
}

#[test]
fn every_number_of_zones() {
    let a = super_block("a-super-block.bin", 1);
    for zones in 1..=MAX_ZONES {
        let save = Save {
            timestamp: 1,
            zones,
            newest: 7,
            oldest: 3,
        };
        let mut block = [0; 4096];
        save.encode(&mut block, &a, 0);
        assert_eq!(Save::decode(&block, &a, 0), Ok(Some(save)));
        let regions: Vec<_> = regions_of(&a, 0, zones).collect();
        for pair in regions.windows(2) {
            assert_eq!(pair[0].end(), Ok(pair[1].start));
        }
        let end = a.save_start(0) + a.save_blocks;
        assert_eq!(regions.last().map(Region::end), Some(Ok(end)));
    }
}

#[test]
fn the_later_save_counts() {
    let save = |timestamp| {
        Some(Save {
            timestamp,
            zones: 1,
            newest: timestamp,
            oldest: 0,
        })
    };
    assert_eq!(latest(&[None, None]), None);
    assert_eq!(latest(&[save(5), save(7)]).map(|(slot, _)| slot), Some(1));
    assert_eq!(latest(&[save(5), None]).map(|(slot, _)| slot), Some(0));
    assert_eq!(next(&[None, None], 10), (0, 10));
    assert_eq!(next(&[save(5), None], 10), (1, 10));
    assert_eq!(next(&[save(5), save(7)], 10), (0, 10));
    // The clock has gone back.
    assert_eq!(next(&[save(50), save(70)], 10), (0, 71));
    assert_eq!(next(&[save(u64::MAX), None], 10), (1, u64::MAX));
}

#[test]
fn damage_is_noticed() {
    let a = super_block("a-super-block.bin", 1);
    let good = block("a-save0-header.bin");
    // But for the numbers of the regions' unused field, of newest and oldest, and what is unused.
    for at in (0..40).chain(120..140) {
        let mut bad = good;
        bad[at] ^= 0x80;
        assert_ne!(
            Save::decode(&bad, &a, 0),
            Save::decode(&good, &a, 0),
            "byte {at}"
        );
    }
}
