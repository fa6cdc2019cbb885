// SPDX-License-Identifier: GPL-2.0

use super::fragment;
use super::pack;
use crate::format::vectors::vector;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

#[test]
fn a_real_block() {
    let page = vector!("clean/compressed");
    let sizes = [223, 163, 406, 346, 285, 222, 162, 646, 585, 525, 465];
    for (slot, size) in (0..).zip(sizes) {
        assert_eq!(fragment(page, slot).unwrap().len(), size);
    }
    assert_eq!(fragment(page, 1).unwrap(), &page[259..422]);
    assert_eq!(fragment(page, 13).unwrap(), []);
    assert!(fragment(page, 14).is_err());
    let page = vector!("clean/compressed-14slots");
    assert!((0..14).all(|slot| !fragment(page, slot).unwrap().is_empty()));
}

#[test]
fn what_readers_refuse() {
    let page = vector!("clean/compressed");
    let patched = |at: usize, value: u8| {
        let mut page = *page;
        page[at] = value;
        page
    };
    assert!(fragment(&patched(0, 2), 0).is_err(), "version");
    assert!(fragment(&patched(4, 1), 0).is_err(), "version");
    // A size that leads out of the block, for its own slot and those behind.
    assert!(fragment(&patched(13, 16), 2).is_err());
    assert!(fragment(&patched(13, 16), 3).is_err());
    assert!(fragment(&patched(13, 16), 1).is_ok());
}

#[test]
fn a_full_block() {
    let mut page = [0xaa; 4096];
    assert!(pack(&mut page, &[&[1; 4000], &[2; 60]]));
    assert_eq!(fragment(&page, 1).unwrap(), [2; 60]);
    assert!(fragment(&page, 2).is_err(), "starts behind the end");
    assert!(!pack(&mut page, &[&[1; 4000], &[2; 61]]));
    assert!(!pack(&mut page, &[&[][..]; 15]));
}

proptest! {
    #[test]
    fn fragments_come_back(sizes in proptest::collection::vec(1usize..290, 0..15)) {
        let parts: Vec<_> = sizes.iter().map(|&size| vec![size as u8; size]).collect();
        let slices: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        let mut page = [0; 4096];
        prop_assert!(pack(&mut page, &slices));
        for (slot, part) in slices.iter().enumerate() {
            prop_assert_eq!(fragment(&page, slot as u8).unwrap(), *part);
        }
    }

    #[test]
    fn nonsense_never_panics(sizes: [u8; 28], slot: u8) {
        let mut page = *vector!("clean/compressed");
        page[8..36].copy_from_slice(&sizes);
        let _ = fragment(&page, slot % 16);
    }
}
