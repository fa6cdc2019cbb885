// SPDX-License-Identifier: GPL-2.0

use super::decode;
use super::encode;
use super::place;
use super::COUNTS_PER_BLOCK;
use super::MAX_COUNT;
use crate::format::vectors::vector;
use crate::format::JournalPoint;
use proptest::prelude::*;

#[test]
fn a_real_block() {
    let page = vector!("clean/ref-slab0-blk0");
    let mut counts = [0; COUNTS_PER_BLOCK as usize];
    let points = decode(page, &mut counts);
    assert_eq!(points, [JournalPoint::new(2, 576); 8]);
    let with = |count| counts.iter().filter(|&&found| found == count).count();
    assert_eq!((with(0), with(1), with(2)), (3029, 760, 157));
    assert_eq!((with(10), with(MAX_COUNT)), (20, 38));
    assert_eq!(counts[..6], [254, 254, 254, 254, 2, 2]);
    let mut again = [0xaa; 4096];
    encode(&mut again, &counts, JournalPoint::new(2, 576));
    assert_eq!(&again, page);
}

#[test]
fn places() {
    assert_eq!(place(0), (0, 0, 0));
    assert_eq!(place(504), (0, 1, 0));
    assert_eq!(place(4031), (0, 7, 503));
    assert_eq!(place(4032), (1, 0, 0));
}

proptest! {
    #[test]
    fn counts_come_back(part in proptest::collection::vec(any::<u8>(), 0..4500), packed: u64) {
        let mut page = [0xaa; 4096];
        let point = JournalPoint::unpack(packed);
        encode(&mut page, &part, point);
        let mut counts = [0xaa; COUNTS_PER_BLOCK as usize];
        prop_assert_eq!(decode(&page, &mut counts), [point; 8]);
        for (at, &count) in counts.iter().enumerate() {
            prop_assert_eq!(count, part.get(at).copied().unwrap_or(0));
        }
    }
}
