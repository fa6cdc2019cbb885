// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::format::Memory;
use crate::vectors;
use std::vec;

fn empty() -> PageMap {
    PageMap::new(&Geometry::new(Memory(-256), false).unwrap()).unwrap()
}

/// Checks that a map of mainline is decoded, and encoded to what it was.
fn check(name: &str) -> PageMap {
    let bytes = vectors::file(name);
    let mut map = empty();
    map.decode_header(bytes.first_chunk().unwrap()).unwrap();
    map.decode(0, &bytes[HEADER_SIZE..]);
    let mut out = vec![0; bytes.len()];
    out[..HEADER_SIZE].copy_from_slice(&map.encode_header());
    // In two pieces.
    let (start, half) = (HEADER_SIZE, 1000);
    assert_eq!(map.encode(0, &mut out[start..start + 2 * half]), half);
    let rest = map.encode(half, &mut out[start + 2 * half..]);
    assert_eq!(2 * (half + rest), map.entry_bytes());
    assert!(out == bytes, "{name}");
    map
}

#[test]
fn maps_of_mainline() {
    let map = check("a-page-map-empty.bin");
    assert_eq!(map.page_of(0, 0), 0);
    let map = check("b-page-map.bin");
    assert_eq!(map.updated, 1);
    // The first page of chapter 0 has 172 lists.
    assert_eq!(map.page_of(0, 171), 0);
    assert_eq!(map.page_of(0, 172), 1);
    assert_eq!(map.page_of(0, 1023), 5);
    check("e-page-map-1024.bin");
}

#[test]
fn set_and_clear() {
    let mut map = empty();
    map.set(1023, 0, 100);
    for page in 1..5 {
        map.set(1023, page, 200);
    }
    // What is not kept, and what is not there.
    map.set(1023, 5, 300);
    map.set(1024, 0, 1);
    map.set(u64::MAX, 0, 1);
    assert_eq!(map.page_of(1023, 100), 0);
    assert_eq!(map.page_of(1023, 101), 1);
    assert_eq!(map.page_of(1023, 200), 1);
    assert_eq!(map.page_of(1023, 201), 5);
    assert_eq!(map.page_of(u64::MAX, 201), 0);
    map.clear();
    assert_eq!(map.page_of(1023, 0), 0);
    assert!(map.decode_header(&[0; HEADER_SIZE]).is_err());
}
