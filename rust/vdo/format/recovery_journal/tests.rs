// SPDX-License-Identifier: GPL-2.0

use super::check_byte;
use super::entry;
use super::old_entry;
use super::position;
use super::put_encoded;
use super::put_entry;
use super::seal;
use super::Format;
use super::Header;
use super::OldOperation;
use super::Operation;
use super::RecoveryEntry;
use super::References;
use super::SectorHeader;
use super::Shape;
use super::StoredEntry;
use super::ENTRY_SECTORS;
use crate::format::vectors::vector;
use crate::format::vectors::NONCE;
use crate::format::DepotLayout;
use crate::format::Mapping;
use crate::format::Page;
use crate::format::Partition;
use crate::format::SlabConfig;
use proptest::prelude::*;
use std::vec::Vec;

const SHAPE: Shape = Shape::STANDARD;

fn data(page: u64, slot: u16, new: Mapping, old: Mapping) -> RecoveryEntry {
    RecoveryEntry {
        operation: Operation::Data,
        page,
        slot,
        new,
        old,
    }
}

/// The root pages of the volume that the blocks are of.
const ROOTS: Partition = Partition {
    start: 679_129,
    blocks: 60,
};

/// The depot of the volume that the blocks are of.
fn depot() -> DepotLayout {
    DepotLayout {
        first_block: 679_189,
        slab_count: 73,
        slab: SlabConfig::new(8192, 224).unwrap(),
    }
}

#[test]
fn entries_of_a_real_volume() {
    let plain = Mapping::plain;
    let none = Mapping::UNMAPPED;
    let page = RecoveryEntry {
        operation: Operation::BlockMap,
        ..data(679_129, 0, plain(679_189), none)
    };
    let fragment = |pbn, slot| Mapping::fragment(pbn, slot).unwrap();
    let seen = [
        (0x01_00_d9_5c_0a_00_01_15_5d_0a_00_00_00_00_00_00_u128, page),
        (
            0x28_07_20_60_0a_00_0c_52_60_0a_00_00_00_00_00_00,
            data(679_968, 458, fragment(680_018, 10), none),
        ),
        (
            0xd0_08_a8_61_0a_00_01_00_00_00_00_00_00_00_00_00,
            data(680_360, 564, Mapping::ZERO, none),
        ),
        (
            0x90_01_18_5d_0a_00_01_25_62_0a_00_01_7d_5d_0a_00,
            data(679_192, 100, plain(680_485), plain(679_293)),
        ),
        (
            0x70_07_20_60_0a_00_00_00_00_00_00_03_5b_60_0a_00,
            data(679_968, 476, none, fragment(680_027, 1)),
        ),
    ];
    for (bytes, expected) in seen {
        let bytes = bytes.to_be_bytes();
        assert_eq!(RecoveryEntry::decode(bytes), Some(expected));
        assert_eq!(expected.encode(), bytes);
        assert!(expected.is_valid(&depot(), ROOTS));
    }
}

#[test]
fn entries_that_make_no_sense() {
    let plain = Mapping::plain;
    let good = data(679_192, 811, plain(679_193), plain(679_194));
    let valid = |entry: RecoveryEntry| entry.is_valid(&depot(), ROOTS);
    assert!(valid(good));
    assert!(!valid(RecoveryEntry { slot: 812, ..good }));
    // Where no page can be: elsewhere on the volume, and behind its end.
    let depot = depot();
    let elsewhere = [0, 679_128, 679_188, depot.reference_block(0, 0), 1_310_720];
    for page in elsewhere.into_iter().chain([depot.journal_block(72, 0)]) {
        assert!(!valid(RecoveryEntry { page, ..good }), "{page}");
    }
    let new = plain(679_188);
    assert!(!valid(RecoveryEntry { new, ..good }));
    let old = Mapping::fragment(0, 1).unwrap();
    assert!(!valid(RecoveryEntry { old, ..good }));
    let operation = Operation::BlockMap;
    assert!(!valid(RecoveryEntry { operation, ..good }));
    let old = Mapping::UNMAPPED;
    let page = RecoveryEntry {
        operation,
        old,
        ..good
    };
    assert!(valid(page));
    let new = Mapping::ZERO;
    assert!(!valid(RecoveryEntry { new, ..page }));
    for (block, is_root) in [
        (679_128, false),
        (679_129, true),
        (679_188, true),
        (1, false),
    ] {
        assert_eq!(
            valid(RecoveryEntry {
                page: block,
                ..page
            }),
            is_root,
            "{block}"
        );
    }
    let mut bytes = good.encode();
    bytes[0] |= 2;
    assert_eq!(RecoveryEntry::decode(bytes), None);
}

/// Builds a block anew from what was decoded of it.
fn rebuilt(page: &Page) -> Page {
    let header = Header::decode(page);
    let mut again = [0; 4096];
    for index in 0..header.entry_count {
        put_entry(
            &mut again,
            SHAPE,
            index,
            &entry(page, SHAPE, index).unwrap(),
        );
    }
    seal(&mut again, SHAPE, &header);
    again
}

#[test]
fn real_blocks_built_anew_are_the_same() {
    for page in [
        vector!("clean/rj-seq9"),
        vector!("crash/rj-seq271"),
        vector!("states/rj-seq100000"),
        vector!("states/rj-seq273-recovery1"),
    ] {
        assert_eq!(&rebuilt(page), page);
    }
}

#[test]
fn headers_of_real_blocks() {
    let header = Header::decode(vector!("clean/rj-seq9"));
    assert_eq!((header.block_map_head, header.slab_journal_head), (1, 7));
    assert_eq!((header.sequence, header.entry_count), (9, 190));
    let counters = (header.logical_blocks_used, header.block_map_data_blocks);
    assert_eq!(counters, (1452, 34));
    assert_eq!(header.format(), Some(Format::Current));
    assert!(header.is_valid(NONCE, 0, SHAPE));
    assert!(!header.is_valid(NONCE, 1, SHAPE));
    assert!(!header.is_valid(NONCE + 1, 0, SHAPE));
    let entry_count = 218;
    assert!(!Header {
        entry_count,
        ..header
    }
    .is_valid(NONCE, 0, SHAPE));
    let metadata_type = 2;
    assert!(!Header {
        metadata_type,
        ..header
    }
    .is_valid(NONCE, 0, SHAPE));

    let later = Header::decode(vector!("states/rj-seq100000"));
    assert_eq!(later.check_byte, check_byte(100_000, 32_768));
    assert_eq!(position(100_000, 32_768), 1696);
    assert_eq!(header.check_byte, check_byte(9, 32_768));
    assert_eq!(check_byte(128 << 15, 32_768), 0x80);
}

#[test]
fn sectors_of_a_partial_block() {
    let page = vector!("crash/rj-seq271");
    let header = Header::decode(page);
    let counts: Vec<_> = (1..=ENTRY_SECTORS)
        .map(|sector| SectorHeader::decode(page, sector))
        .map(|first_bytes| first_bytes.entry_count)
        .collect();
    assert_eq!(counts, [31, 22, 0, 0, 0, 0, 0]);
    assert!(SectorHeader::decode(page, 2).belongs_to(&header, SHAPE, 2));
    assert!(!SectorHeader::decode(page, 3).belongs_to(&header, SHAPE, 3));
}

#[test]
fn the_old_format() {
    let page = vector!("crafted/rj-format1-seq10");
    let header = Header::decode(page);
    assert_eq!(header.format(), Some(Format::Old));
    assert_eq!(header.entry_count, 100);
    let counts = [(1, 46), (2, 46), (3, 8)];
    let mut entries = Vec::new();
    for (sector, count) in counts {
        let first_bytes = SectorHeader::decode(page, sector);
        assert_eq!(first_bytes.entry_count, count);
        assert!(first_bytes.belongs_to(&header, SHAPE, sector));
        entries.extend((0..count).map(|index| old_entry(page, sector, index)));
    }
    assert_eq!(entries[0].operation, OldOperation::DataDecrement);
    assert_eq!(entries[0].increment(), None);
    let increments: Vec<_> = entries.iter().filter_map(|old| old.increment()).collect();
    assert_eq!(increments.len(), 50);
    for (increment, slot) in increments.iter().zip(400..) {
        let new = Mapping::plain(679_494);
        assert_eq!(*increment, data(679_192, slot, new, Mapping::UNMAPPED));
    }
    assert_eq!(Format::Old.entries_per_block(SHAPE), 6 * 46 + 35);
    assert_eq!(Format::Old.entries_in_sector(SHAPE, 7), 35);
}

proptest! {
    #[test]
    fn entries_come_back(bytes: [u8; 16]) {
        match RecoveryEntry::decode(bytes) {
            Some(entry) => {
                prop_assert_eq!(entry.encode(), bytes);
                let stored = StoredEntry(bytes);
                prop_assert_eq!(stored.operation(), entry.operation());
                prop_assert_eq!(stored.gains(), entry.new.pbn);
                prop_assert_eq!(stored.loses(), entry.old.pbn);
            }
            None => prop_assert!(bytes[0] & 2 == 2),
        }
    }

    #[test]
    fn small_blocks(per_sector in 1u8..=31, count in 0u16..=217, seed: u64) {
        let shape = Shape { entries_per_sector: per_sector };
        let count = count.min(shape.entries_per_block());
        let sample = |index: u16| data(
            seed >> 28, index, Mapping::plain(u64::from(index)), Mapping::ZERO,
        );
        let mut page = [0; 4096];
        for index in 0..count {
            put_entry(&mut page, shape, index, &sample(index));
        }
        let encoded: Vec<_> = (0..count).map(|index| sample(index).encode()).collect();
        let mut at_once = [0xff; 4096];
        put_encoded(&mut at_once, shape, &encoded);
        let header = Header { entry_count: count, check_byte: 0x81, ..Header::default() };
        seal(&mut page, shape, &header);
        seal(&mut at_once, shape, &header);
        prop_assert_eq!(at_once, page);
        prop_assert_eq!(Header::decode(&page), header);
        for index in 0..count {
            prop_assert_eq!(entry(&page, shape, index), Some(sample(index)));
        }
        let sum: u16 = (1..=ENTRY_SECTORS)
            .map(|sector| u16::from(SectorHeader::decode(&page, sector).entry_count))
            .sum();
        prop_assert_eq!(sum, count);
    }

    #[test]
    fn nonsense_never_panics(bytes: [u8; 64], per_sector: u8, index: u16, sector: usize) {
        let mut page = [0; 4096];
        page[..64].copy_from_slice(&bytes);
        let shape = Shape { entries_per_sector: per_sector };
        let header = Header::decode(&page);
        let _ = header.is_valid(NONCE, 0, shape);
        let _ = entry(&page, shape, index);
        let _ = SectorHeader::decode(&page, sector).belongs_to(&header, shape, sector);
        let _ = old_entry(&page, sector % 9, index as u8);
        put_entry(&mut page, shape, index, &data(5, 5, Mapping::ZERO, Mapping::ZERO));
        seal(&mut page, shape, &header);
    }
}
