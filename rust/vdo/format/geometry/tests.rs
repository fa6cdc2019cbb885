// SPDX-License-Identifier: GPL-2.0

use super::Geometry;
use super::GeometryVersion;
use super::REGION_IDS;
use crate::format::component::Fault;
use crate::format::index::IndexMemory;
use crate::format::vectors::vector;
use crate::format::vectors::NONCE;
use crate::format::Page;
use proptest::prelude::*;

fn encoded(geometry: &Geometry) -> Page {
    let mut page = [0xaa; 4096];
    geometry.encode(&mut page);
    page
}

/// Encodes with other bytes at `at`, and a good checksum.
fn patched(at: usize, value: &[u8]) -> Page {
    let mut page = *vector!("clean/geometry");
    page[at..at + value.len()].copy_from_slice(value);
    let checksum = crate::format::checksum::crc32(&page[..97]);
    page[97..101].copy_from_slice(&checksum.to_le_bytes());
    page
}

#[test]
fn a_real_one() {
    let page = vector!("clean/geometry");
    let geometry = Geometry::decode(page).unwrap();
    assert_eq!(
        geometry,
        Geometry {
            version: GeometryVersion::V5,
            unused: 0,
            nonce: NONCE,
            uuid: 0x22e4_c301_41a2_497d_8d96_9c1c_d76b_5ac9_u128.to_be_bytes(),
            bio_offset: 0,
            region_ids: REGION_IDS,
            index_start: 1,
            data_start: 679_128,
            index_memory: IndexMemory::QUARTER,
            sparse: 0,
        }
    );
    assert_eq!(geometry.check(), Ok(()));
    assert_eq!(encoded(&geometry), *page);
}

#[test]
fn the_version_without_offset() {
    let page = vector!("crafted/geometry-v4");
    let geometry = Geometry::decode(page).unwrap();
    assert_eq!(geometry.version, GeometryVersion::V4);
    let new = Geometry::decode(vector!("clean/geometry")).unwrap();
    let version = GeometryVersion::V4;
    assert_eq!(geometry, Geometry { version, ..new });
    assert_eq!(encoded(&geometry), *page);
}

#[test]
fn mainline_formats_as_we_encode() {
    let page = vector!("formatted/geometry-kernel");
    assert_eq!(encoded(&Geometry::decode(page).unwrap()), *page);
}

#[test]
fn what_mainline_refuses() {
    let refused = |at, value: &[u8]| Geometry::decode(&patched(at, value)).unwrap_err();
    assert_eq!(refused(0, b"dmvdo002"), Fault::Magic);
    assert!(matches!(refused(8, &[4]), Fault::Id { .. }));
    assert!(matches!(refused(12, &[6]), Fault::Version { .. }));
    assert!(matches!(refused(12, &[3]), Fault::Version { .. }));
    assert!(matches!(refused(16, &[1]), Fault::Version { .. }));
    assert!(matches!(refused(20, &[100]), Fault::Size { .. }));
    let mut page = *vector!("clean/geometry");
    page[40] ^= 1;
    let fault = Geometry::decode(&page).unwrap_err();
    assert!(matches!(fault, Fault::Checksum { .. }));
    assert_eq!(Geometry::decode(&[0; 4096]), Err(Fault::Magic));
}

#[test]
fn what_mainline_accepts() {
    assert!(Geometry::decode(&patched(64, &[5])).is_ok(), "region id");
    assert!(Geometry::decode(&patched(92, &[5])).is_ok(), "unused");
    let unused = Geometry::decode(&patched(28, &[5])).unwrap();
    assert_eq!(encoded(&unused), patched(28, &[5]));
}

#[test]
fn places_that_make_no_sense() {
    let sound = Geometry::decode(vector!("clean/geometry")).unwrap();
    let bad = [
        Geometry {
            index_start: 0,
            ..sound
        },
        Geometry {
            data_start: 1,
            ..sound
        },
        Geometry {
            data_start: u64::MAX,
            ..sound
        },
        Geometry {
            bio_offset: u64::MAX,
            ..sound
        },
    ];
    for geometry in bad {
        assert!(geometry.check().is_err(), "{geometry:?}");
    }
    let moved = Geometry {
        bio_offset: 8,
        ..sound
    };
    assert_eq!(moved.device_block(679_128), Some(679_120));
    assert_eq!(moved.device_block(7), None);
}

proptest! {
    #[test]
    fn fields_come_back(
        unused: u32, nonce: u64, uuid: [u8; 16], bio_offset: u64, region_ids: [u32; 2],
        index_start: u64, data_start: u64, memory: u32, sparse: u8,
    ) {
        let geometry = Geometry {
            version: GeometryVersion::V5,
            index_memory: IndexMemory(memory),
            unused, nonce, uuid, bio_offset, region_ids, index_start, data_start, sparse,
        };
        prop_assert_eq!(Geometry::decode(&encoded(&geometry)), Ok(geometry));
        let _ = geometry.check();
    }
}
