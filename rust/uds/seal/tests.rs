// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::delta::Found;
use crate::format::geometry::Shape;
use crate::format::index_page::IndexPage;
use crate::format::open_chapter::HEADER_SIZE;
use crate::format::Memory;
use crate::vectors;
use sim::Rng;
use std::vec;
use std::vec::Vec;

const NONCE: u64 = 0x8ad8_88c7_403b_ec8b;

fn decode(page: &[u8]) -> Vec<Record> {
    let records = page.chunks_exact(RECORD_SIZE);
    records
        .map(|record| Record::decode(record.try_into().unwrap()))
        .collect()
}

/// Makes all pages of a chapter's index.
fn index_of(press: &mut Press, records: &[Record], nonce: u64) -> Vec<Vec<u8>> {
    let geometry = press.geometry;
    press.begin();
    for record in records {
        press.add(&record.name);
    }
    press.sort();
    let mut pages = Vec::new();
    let mut next = 0;
    for number in 1..=geometry.index_pages {
        let mut page = vec![0xff; geometry.shape.page_size as usize];
        let is_last = number == geometry.index_pages;
        let made = press.index_page(nonce, 0, is_last, &mut page, |at| records[at].name);
        assert_eq!(made.first_list, next);
        next += made.lists;
        pages.push(page);
    }
    assert_eq!(next, geometry.chapter_lists());
    pages
}

/// Returns the record page that an index says a name is on.
fn search(geometry: &Geometry, pages: &[Vec<u8>], nonce: u64, name: &Name) -> Option<u32> {
    let (address, list) = geometry.chapter_place(name.chapter_key());
    let page = pages
        .iter()
        .map(|page| IndexPage::new(page, nonce).unwrap())
        .find(|page| list < page.header.first_list + page.header.lists)
        .unwrap();
    let list = page.list(list).unwrap();
    match list.search(&geometry.code, address, name).unwrap().found {
        Found::Nothing => None,
        Found::Plain(page) | Found::Collision(page) => Some(page),
    }
}

#[test]
fn a_chapter_of_mainline() {
    let geometry = Geometry::new(Memory(-256), false).unwrap();
    let chapter = vectors::file("b-chapter0.bin.xz");
    let pages: Vec<&[u8]> = chapter.chunks_exact(32_768).collect();
    let (index, record_pages) = pages.split_at(6);
    // Names with equal addresses are among the first, whose order an older save tells.
    let saved = vectors::file("a-open-chapter.bin");
    let first = decode(&saved[HEADER_SIZE..HEADER_SIZE + 24 * RECORD_SIZE]);
    let is_later = |record: &&Record| first.iter().all(|other| other.name != record.name);
    let all: Vec<Record> = record_pages.iter().flat_map(|page| decode(page)).collect();
    let later = all.iter().filter(is_later);
    let records: Vec<Record> = first.iter().chain(later).copied().collect();
    assert_eq!(records.len(), 65_536);

    let mut press = Press::new(&geometry).unwrap();
    for _ in 0..2 {
        let made = index_of(&mut press, &records, NONCE);
        assert_eq!(press.dropped(), 0);
        for (number, (made, page)) in made.iter().zip(index).enumerate() {
            assert!(made == page, "index page {number}");
        }
    }
    for (number, expected) in record_pages.iter().enumerate() {
        let records = decode(expected);
        let mut page = vec![0xff; 32_768];
        press.record_page(&records, &mut page);
        assert!(page == *expected, "record page {number}");
    }
}

/// A small geometry with several pages and lists.
fn toy() -> Geometry {
    Geometry::of_shape(Shape {
        page_size: 4096,
        page_records: 128,
        record_pages: 32,
        chapters: 4,
        sparse_chapters: 0,
        sample_rate: 0,
    })
    .unwrap()
}

/// Makes an index of names whose keys are chosen, and returns how many are found.
fn found_of(geometry: &Geometry, key: impl Fn(u64) -> u64) -> (usize, usize) {
    let mut records = Vec::new();
    for number in 0..u64::from(geometry.records) {
        let mut record = Record::default();
        record.name.0[..8].copy_from_slice(&number.to_be_bytes());
        record.name.0[8..14].copy_from_slice(&key(number).to_be_bytes()[2..]);
        records.push(record);
    }
    let mut press = Press::new(geometry).unwrap();
    let pages = index_of(&mut press, &records, 5);
    for page in &pages {
        let page = IndexPage::new(page, 5).unwrap();
        page.check_lists(geometry).unwrap();
    }
    let mut found = 0;
    for (number, record) in (0..).zip(&records) {
        let page = search(geometry, &pages, 5, &record.name);
        found += usize::from(page == Some(number / geometry.shape.page_records));
    }
    (found, press.dropped())
}

#[test]
fn random_names() {
    let geometry = toy();
    let mut rng = Rng::new(3);
    let keys: Vec<u64> = (0..geometry.records).map(|_| rng.next_u64()).collect();
    let (found, dropped) = found_of(&geometry, |number| keys[number as usize]);
    assert_eq!((found, dropped), (geometry.records as usize, 0));
}

#[test]
fn names_that_somebody_has_chosen() {
    let geometry = toy();
    let records = geometry.records as usize;
    // One address; one list; the last lists; all in order; far apart.
    for key in [
        |_| 0,
        |number| number * 7,
        |number| u64::MAX - number % 3,
        |number| number << 20,
        |number| ((number % 61) << 22) | 0x3f_ffff,
    ] as [fn(u64) -> u64; 5]
    {
        let (found, dropped) = found_of(&geometry, key);
        // One name of those that share an address may be found without an entry of its own.
        assert!(found + dropped >= records, "{found} {dropped} {records}");
    }
}

#[test]
fn what_makes_a_list_too_long_is_left_out() {
    let geometry = Geometry::new(Memory(-256), false).unwrap();
    let (found, dropped) = found_of(
        &geometry,
        |number| if number < 600 { 1 } else { number << 20 },
    );
    // 22 bits, and 150 for each that follows.
    let fit = 1 + (65_535 - 22) / 150;
    assert!(dropped >= 600 - fit, "{dropped}");
    assert!(found + dropped >= 65_536);
}

#[test]
fn records_whose_names_somebody_has_chosen() {
    let geometry = Geometry::new(Memory(-256), false).unwrap();
    let mut press = Press::new(&geometry).unwrap();
    let mut rng = Rng::new(8);
    for shift in [0, 7, 20, 40] {
        let records: Vec<_> = (0..1024)
            .map(|_| {
                let mut record = Record::default();
                let bits = rng.next_u64() >> shift;
                record.name.0[..8].copy_from_slice(&bits.to_be_bytes());
                record.name.0[8] = rng.next_u64() as u8;
                record
            })
            .collect();
        let mut page = vec![0; 32_768];
        press.record_page(&records, &mut page);
        let mut sorted = records.clone();
        sorted.sort_by_key(|record| record.name);
        let on_page = decode(&page);
        let order = record_page::in_order(1024).map(|at| on_page[at as usize].name);
        assert!(order.eq(sorted.iter().map(|record| record.name)), "{shift}");
    }
}
