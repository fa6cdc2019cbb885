// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::vectors;
use std::vec::Vec;

fn records(page: &[u8]) -> Vec<[u8; RECORD_SIZE]> {
    let records = page.chunks_exact(RECORD_SIZE);
    records.map(|record| record.try_into().unwrap()).collect()
}

fn search(page: &[[u8; RECORD_SIZE]], name: &Name) -> Option<Metadata> {
    let mut at = 0;
    for _ in 0..12 {
        match step(name, page.len() as u32, at, &page[at as usize]) {
            Step::Found(metadata) => return Some(metadata),
            Step::Absent => return None,
            Step::At(next) => at = next,
        }
    }
    panic!("a long way to {name:?}");
}

/// Checks that a page is what is made of its records, and that all of them are found.
fn check(page: &[[u8; RECORD_SIZE]]) {
    let mut sorted = page.to_vec();
    sorted.sort();
    let mut made = page.to_vec();
    made.fill([0; RECORD_SIZE]);
    for (at, record) in in_order(page.len() as u32).zip(&sorted) {
        made[at as usize] = *record;
    }
    assert!(made == page);
    for record in page {
        let record = Record::decode(record);
        assert_eq!(search(page, &record.name), Some(record.metadata));
        let mut other = record.name;
        other.0[15] ^= 1;
        let is_there = page
            .iter()
            .any(|record| Record::decode(record).name == other);
        assert_eq!(search(page, &other).is_some(), is_there);
    }
}

#[test]
fn pages_of_mainline() {
    let chapter = vectors::file("b-chapter0.bin.xz");
    for page in chapter.chunks_exact(32_768).skip(6).step_by(7) {
        check(&records(page));
    }
}

#[test]
fn filled_page_of_mainline() {
    // With copies of one record; which of equal ones comes first is not said.
    let page = records(&vectors::file("c-chapter0-record-page63-filled.bin.xz"));
    for record in &page {
        let record = Record::decode(record);
        assert_eq!(search(&page, &record.name), Some(record.metadata));
    }
}

#[test]
fn every_size() {
    for size in 0..70 {
        let order: Vec<u32> = in_order(size).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..size).collect::<Vec<_>>());
        let mut page = Vec::new();
        page.resize(size as usize, [0; RECORD_SIZE]);
        for (rank, at) in order.iter().enumerate() {
            page[*at as usize][15] = 2 * rank as u8;
        }
        if size > 0 {
            check(&page);
        }
    }
}
