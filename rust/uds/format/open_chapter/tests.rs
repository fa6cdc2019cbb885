// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::format::Name;
use crate::format::Record;
use crate::format::RECORD_SIZE;
use crate::vectors;

#[test]
fn of_mainline() {
    for (file, count) in [
        ("a-open-chapter.bin", Some(24)),
        ("c-open-chapter.bin", None),
        ("g-open-chapter-compressed-head.bin", None),
    ] {
        let block = vectors::file(file);
        let header = block.first_chunk().unwrap();
        let records = decode(header, 65_536).unwrap();
        assert!(count.is_none_or(|count| count == records), "{records}");
        assert_eq!(&encode(records), header);
    }
    let block = vectors::file("a-open-chapter.bin");
    let record: [u8; RECORD_SIZE] = block[HEADER_SIZE..][..RECORD_SIZE].try_into().unwrap();
    let first = Record::decode(&record);
    let name = 0xa1a2_a3a4_a5a6_a7a8_1111_1111_1111_1111_u128;
    assert_eq!(first.name, Name(name.to_be_bytes()));
    assert_eq!(
        first.metadata[..10],
        [2, 1, 0x19, 0x5d, 0x0a, 0, 0, 0, 0, 0]
    );
    assert_eq!(first.encode(), record);
}

#[test]
fn damage_is_noticed() {
    let good = encode(10);
    assert_eq!(decode(&good, 10), Ok(10));
    assert!(decode(&good, 9).is_err());
    for at in 0..10 {
        let mut bad = good;
        bad[at] ^= 1;
        assert!(decode(&bad, 10).is_err());
    }
    assert!(decode(&[0; HEADER_SIZE], 10).is_err());
}
