// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::delta::Found;
use crate::format::Memory;
use crate::format::Record;
use crate::format::RECORD_SIZE;
use crate::vectors;
use std::vec;
use std::vec::Vec;

const NONCE: u64 = 0x8ad8_88c7_403b_ec8b;

fn geometry() -> Geometry {
    Geometry::new(Memory(-256), false).unwrap()
}

#[test]
fn pages_of_mainline() {
    let geometry = geometry();
    let chapter = vectors::file("b-chapter0.bin.xz");
    let pages: Vec<&[u8]> = chapter.chunks_exact(32_768).collect();
    let (index, records) = pages.split_at(6);
    let mut next = 0;
    let mut pages_of_lists = vec![0; 1024];
    for (number, page) in index.iter().enumerate() {
        let page = IndexPage::new(page, NONCE).unwrap();
        page.check_lists(&geometry).unwrap();
        assert_eq!(page.header.chapter, 0);
        assert_eq!(page.header.first_list, next);
        for list in 0..page.header.lists {
            pages_of_lists[(next + list) as usize] = number;
        }
        next += page.header.lists;
    }
    assert_eq!(next, 1024);
    // Each name is said to be where it is.
    for (number, page) in (0..).zip(records) {
        for record in page.chunks_exact(RECORD_SIZE).step_by(11) {
            let name = Record::decode(record.try_into().unwrap()).name;
            let (address, list) = geometry.chapter_place(name.chapter_key());
            let page = IndexPage::new(index[pages_of_lists[list as usize]], NONCE).unwrap();
            let search = page.list(list).unwrap();
            let found = search.search(&geometry.code, address, &name).unwrap().found;
            assert!(
                [Found::Plain(number), Found::Collision(number)].contains(&found),
                "{name:?}: {found:?}, not {number}"
            );
        }
    }
}

#[test]
fn entries_of_mainline() {
    let geometry = geometry();
    let chapter = vectors::file("b-chapter0.bin.xz");
    let page = IndexPage::new(&chapter[..32_768], NONCE).unwrap();
    let expected = vectors::text("b-chapter0-index-page0.txt.xz");
    let entries: usize = (0..page.header.lists)
        .map(|list| page.list(list).unwrap().entries(&geometry.code).count())
        .sum();
    let lines = expected.lines().filter(|line| {
        let first = line.trim_start().chars().next();
        first.is_some_and(|first| first.is_ascii_digit())
    });
    assert_eq!(entries, lines.count(), "{}", &expected[..300]);
}

#[test]
fn full_lists_of_mainline() {
    let geometry = geometry();
    let pages = vectors::file("b-chapter1-index-pages-overflow.bin.xz");
    let page = IndexPage::new(&pages[..32_768], NONCE).unwrap();
    page.check_lists(&geometry).unwrap();
    let list = page.list(0).unwrap();
    assert_eq!(list.bits(), 65_532);
    assert_eq!(list.entries(&geometry.code).count(), 440);
    let page = IndexPage::new(&pages[32_768..], NONCE).unwrap();
    page.check_lists(&geometry).unwrap();
    assert_eq!(page.header.first_list + page.header.lists, 1024);
}

#[test]
fn big_endian_headers() {
    let chapter = vectors::file("b-chapter0.bin.xz");
    let little = IndexPage::new(&chapter[32_768..65_536], NONCE)
        .unwrap()
        .header;
    let mut page = chapter[32_768..65_536].to_vec();
    page[..8].reverse();
    page[8..16].reverse();
    page[16..18].reverse();
    page[18..20].reverse();
    assert_eq!(IndexPage::new(&page, NONCE).unwrap().header, little);
}

#[test]
fn damage_is_noticed() {
    let chapter = vectors::file("b-chapter0.bin.xz");
    let good = &chapter[..32_768];
    let lists = IndexPage::new(good, NONCE).unwrap().header.lists_at();
    let mut missed = 0;
    for byte in (0..8).chain(18..lists / 8).chain(32_761..32_768) {
        let mut bad = good.to_vec();
        bad[byte] ^= 0x10;
        let page = IndexPage::new(&bad, NONCE);
        let checked = page.and_then(|page| page.check_lists(&geometry()));
        // The end of a list may be where another entry ends.
        missed += usize::from(checked.is_ok());
        assert!(checked.is_err() || byte > 22 && byte < lists, "byte {byte}");
    }
    assert!(missed < 20, "{missed}");
    assert!(IndexPage::new(good, NONCE + 1).is_err());
    assert!(IndexPage::new(&good[..100], NONCE).is_err());
    assert!(IndexPage::new(&[], 0).is_err());
}

#[test]
fn without_lists() {
    let mut page = vec![0; 4096];
    assert_eq!(begin(&mut page, 7, 3, 1024, &[]), 179);
    let page = IndexPage::new(&page, 7).unwrap();
    assert_eq!((page.header.first_list, page.header.lists), (1024, 0));
    assert_eq!(page.end(), 179);
    assert!(page.list(1024).is_err());
}
