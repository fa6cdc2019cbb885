// SPDX-License-Identifier: GPL-2.0

use super::*;
use std::collections::HashMap;
use std::vec;

fn record(number: u64, value: u8) -> Record {
    Record {
        name: Name((u128::from(number) << 64).to_le_bytes()),
        metadata: [value; 16],
    }
}

#[test]
fn as_a_map() {
    let chapters = Chapters::new(100, 7).unwrap();
    assert!(chapters.begin(4));
    assert!(!chapters.begin(6));
    let mut model = HashMap::new();
    for number in 0..200 {
        let record = record(number * 7 % 120, number as u8);
        let was_there = model.contains_key(&record.name);
        let added = chapters.add(4, record);
        if was_there {
            assert_eq!(added, Added::Replaced);
        } else if model.len() < 100 {
            assert_eq!(added, Added::New(model.len() == 99));
        } else {
            assert_eq!(added, Added::Refused);
            continue;
        }
        model.insert(record.name, record.metadata);
    }
    assert!(chapters.is_full(4));
    for number in 0..130 {
        let name = record(number, 0).name;
        let expected = model.get(&name).copied();
        assert_eq!(chapters.look_up(4, &name), Some(expected));
        assert_eq!(chapters.look_up(6, &name), None);
    }
    let mut records = vec![Record::default(); 70];
    assert_eq!(chapters.copy(4, 0, &mut records), 70);
    assert_eq!(records[1].name, record(7, 0).name);
    assert_eq!(chapters.copy(4, 70, &mut records), 30);
    assert_eq!(chapters.copy(4, 100, &mut records), 0);
    assert_eq!(chapters.copy(5, 0, &mut records), 0);
}

#[test]
fn two_at_once() {
    let chapters = Chapters::new(10, 7).unwrap();
    assert!(chapters.begin(0) && chapters.begin(1));
    chapters.add(0, record(1, 1));
    chapters.add(1, record(1, 2));
    let name = record(1, 0).name;
    assert_eq!(chapters.look_up(0, &name), Some(Some([1; 16])));
    assert_eq!(chapters.look_up(1, &name), Some(Some([2; 16])));
    chapters.end(0);
    assert!(!chapters.has(0) && chapters.has(1));
    assert_eq!(chapters.add(0, record(2, 2)), Added::Refused);
    assert!(chapters.begin(2));
    assert_eq!(chapters.look_up(2, &name), Some(None));
    chapters.clear();
    assert!(chapters.begin(3) && chapters.begin(4));
    assert_eq!(chapters.len(3), 0);
}
