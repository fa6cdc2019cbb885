// SPDX-License-Identifier: GPL-2.0

use super::State;
use super::SuperBlock;
use crate::error::Error;
use crate::error::Status;
use crate::format::checksum::crc32;
use crate::format::component::Fault;
use crate::format::vectors::vector;
use crate::format::vectors::NONCE;
use crate::format::Geometry;
use crate::format::Page;
use crate::format::Partition;
use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

fn encoded(super_block: &SuperBlock) -> Page {
    let mut page = [0xaa; 4096];
    super_block.encode(&mut page);
    page
}

/// A real super block with other bytes at `at`, and a good checksum.
fn patched(at: usize, value: &[u8]) -> Page {
    let mut page = *vector!("clean/super");
    page[at..at + value.len()].copy_from_slice(value);
    let checksum = crc32(&page[..434]);
    page[434..438].copy_from_slice(&checksum.to_le_bytes());
    page
}

fn geometry() -> Geometry {
    Geometry::decode(vector!("clean/geometry")).unwrap()
}

#[test]
fn a_real_one() {
    let page = vector!("clean/super");
    let found = SuperBlock::decode(page).unwrap();
    assert_eq!(found.state, State::Clean);
    assert_eq!(found.logical_blocks, 268_435_456);
    assert_eq!(found.physical_blocks, 1_310_720);
    assert_eq!((found.slab_size, found.slab_journal_blocks), (8192, 224));
    assert_eq!(found.recovery_journal_size, 32_768);
    assert_eq!(found.nonce, NONCE);
    let partition = |start, blocks| Partition { start, blocks };
    assert_eq!(found.partitions.block_map, partition(679_129, 60));
    assert_eq!(found.partitions.depot, partition(679_189, 598_699));
    assert_eq!(found.partitions.journal, partition(1_277_888, 32_768));
    assert_eq!(found.partitions.summary, partition(1_310_656, 64));
    assert_eq!(found.journal_start, 10);
    assert_eq!(found.logical_blocks_used, 1638);
    assert_eq!(found.block_map_data_blocks, 38);
    assert_eq!(found.depot.slab.data_blocks, 7966);
    assert_eq!(found.depot.slab.blocking, 208);
    assert_eq!(found.depot.first_block, 679_189);
    assert_eq!((found.last_block, found.depot.slab_count), (1_277_205, 73));
    assert_eq!(found.zone_count, 1);
    assert_eq!((found.root_origin, found.root_count), (679_129, 60));
    assert_eq!(found.check(&geometry()), Ok(()));
    assert_eq!(SuperBlock::decode(&encoded(&found)), Ok(found));
}

#[test]
fn formatters_write_what_we_encode() {
    for page in [
        vector!("formatted/super-kernel"),
        vector!("formatted/super-vdoformat"),
        vector!("states/super-grown"),
    ] {
        assert_eq!(encoded(&SuperBlock::decode(page).unwrap()), *page);
    }
}

#[test]
fn states_of_real_volumes() {
    let state = |page| SuperBlock::decode(page).unwrap().state;
    assert_eq!(state(vector!("crash/super")), State::Dirty);
    assert_eq!(state(vector!("states/super-read-only")), State::ReadOnly);
    assert_eq!(
        state(vector!("states/super-force-rebuild")),
        State::ForceRebuild
    );
    assert_eq!(state(vector!("states/super-recovering")), State::Recovering);
    assert_eq!(state(vector!("formatted/super-kernel")), State::New);
    for number in 0..8 {
        assert_eq!(State::from_number(number).unwrap().number(), number);
    }
    assert_eq!(State::from_number(8), None);
}

#[test]
fn what_mainline_refuses() {
    let refused = |at, value: &[u8]| SuperBlock::decode(&patched(at, value)).unwrap_err();
    assert!(matches!(refused(0, &[1]), Fault::Id { .. }));
    assert!(matches!(refused(12, &[163]), Fault::Size { .. }));
    assert!(matches!(refused(24, &[66]), Fault::Version { .. }));
    assert!(matches!(refused(32, &[40]), Fault::Version { .. }));
    assert!(matches!(refused(108, &[9]), Fault::Id { .. }));
    assert!(matches!(refused(120, &[116]), Fault::Size { .. }));
    assert_eq!(refused(144, &[5]), Fault::Partitions);
    assert_eq!(refused(145, &[7]), Fault::Partitions);
    assert_eq!(refused(145, &[1]), Fault::PartitionTwice { id: 1 });
    assert!(matches!(refused(249, &[8]), Fault::Version { .. }));
    assert!(matches!(refused(301, &[72]), Fault::Size { .. }));
    assert!(matches!(refused(309, &[1]), Fault::Field { .. }));
    assert!(matches!(refused(394, &[31]), Fault::Size { .. }));
    assert!(matches!(refused(402, &[2]), Fault::Field { .. }));
    assert!(matches!(refused(410, &[1]), Fault::Field { .. }));
    // Mainline takes these for clean.
    assert!(matches!(refused(40, &[8]), Fault::Field { .. }));
    let mut page = *vector!("clean/super");
    page[300] ^= 1;
    let fault = SuperBlock::decode(&page).unwrap_err();
    assert!(matches!(fault, Fault::Checksum { .. }));
    // A smaller size is taken.
    assert!(SuperBlock::decode(&patched(12, &[4, 0])).is_ok());
    assert!(SuperBlock::decode(&patched(12, &[3, 0])).is_err());
}

#[test]
fn a_blank_one_is_refused_as_mainline_does() {
    let fault = SuperBlock::decode(&[0; 4096]).unwrap_err();
    let line = std::format!("{fault}: {}", Error::from(fault));
    assert_eq!(
        line.to_string(),
        "vdo_decode_super_block version mismatch, expected 12.0, got 0.0: \
         VDO Status: Unsupported component version (1471)"
    );
}

#[test]
fn values_that_make_no_sense() {
    let long = |value: u64| value.to_le_bytes();
    let refused: Vec<_> = [
        (68, long(1 << 37)),
        (60, long((1 << 40) + 1)),
        (76, long(0)),
        (76, long(8191)),
        (76, long(1 << 24)),
        (84, long(0)),
        (84, long(1)),
        (84, long(3)),
        (84, long(4)),
        (92, long(8193)),
        (100, long(1)),
        (265, long(1 << 48)),
        (317, long(8192)),
        (317, long(0)),
        (325, long(1)),
        (333, long(257)),
        (365, long(5)),
        (373, long(u64::MAX >> 20)),
        (418, long(5)),
        (426, long(0)),
        (426, long(61)),
    ]
    .into_iter()
    .filter(|(at, value)| {
        SuperBlock::decode(&patched(*at, value))
            .map_err(Error::from)
            .and_then(|found| found.check(&geometry()))
            .is_ok()
    })
    .collect();
    assert_eq!(refused, [], "accepted");
    let zones = SuperBlock::decode(&patched(381, &[17])).unwrap();
    assert!(zones.check(&geometry()).is_err());
    let nonce = SuperBlock::decode(&patched(100, &[1])).unwrap();
    assert_eq!(nonce.check(&geometry()), Err(Status::BadNonce.into()));
}

/// The device of such a volume lacks its first blocks, and most say so in their physical size. The
/// partitions are where they were.
#[test]
fn a_volume_that_was_converted_from_the_old_manager() {
    let found = SuperBlock::decode(vector!("clean/super")).unwrap();
    let converted = Geometry {
        bio_offset: 500,
        index_start: 501,
        ..geometry()
    };
    let with = |physical_blocks| SuperBlock {
        physical_blocks,
        ..found
    };
    let all = found.physical_blocks;
    assert_eq!(with(all).check(&converted), Ok(()));
    assert_eq!(with(all - 500).check(&converted), Ok(()));
    let mismatch = Err(Status::ParameterMismatch.into());
    for physical_blocks in [all - 499, all - 501, all + 500, all - 1] {
        assert_eq!(with(physical_blocks).check(&converted), mismatch);
    }
    assert_eq!(with(all - 500).check(&geometry()), mismatch);
    // It grows to where mainline expects its end, which is farther than it looks.
    let grown = crate::format::layout::grown(&with(all - 500), all + 65_536).unwrap();
    assert_eq!(grown.partitions.summary.end(), all + 65_536);
    assert_eq!(grown.check(&converted), Ok(()));
    let moving = found.partitions.journal.blocks + 64;
    let too_near = crate::format::layout::grown(&with(all - 500), all + moving - 1);
    assert_eq!(too_near.map(drop), Err(Status::IncrementTooSmall.into()));
}

proptest! {
    #[test]
    fn damage_with_a_good_checksum_never_panics(
        damage in proptest::collection::vec((0usize..434, any::<u8>()), 1..20)
    ) {
        let mut page = *vector!("clean/super");
        for (at, value) in damage {
            page[at] = value;
        }
        let checksum = crc32(&page[..434]);
        page[434..438].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(found) = SuperBlock::decode(&page) {
            let _ = found.check(&geometry());
            let _ = found.depot.last_block();
            let _ = found.depot.slab_of(found.root_origin);
            prop_assert_eq!(SuperBlock::decode(&encoded(&found)), Ok(found));
        }
    }
}
