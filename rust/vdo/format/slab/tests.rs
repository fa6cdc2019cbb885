// SPDX-License-Identifier: GPL-2.0

use super::DepotLayout;
use super::SlabConfig;
use super::SLAB_JOURNAL_BLOCKS;
use crate::error::Error;
use crate::error::Status;
use proptest::prelude::*;

fn config(bits: u32) -> SlabConfig {
    SlabConfig::new(1 << bits, SLAB_JOURNAL_BLOCKS).unwrap()
}

#[test]
fn sizes_of_all_slabs() {
    let table = [
        (13, 7966, 2, 2),
        (14, 16_155, 5, 5),
        (15, 32_535, 9, 9),
        (16, 65_295, 17, 17),
        (17, 130_815, 33, 33),
        (18, 261_855, 65, 65),
        (19, 523_934, 130, 130),
        (20, 1_048_091, 261, 260),
        (21, 2_096_407, 521, 520),
        (22, 4_193_039, 1041, 1040),
        (23, 8_386_303, 2081, 2080),
    ];
    for (bits, data, reserved, used) in table {
        let slab = config(bits);
        assert_eq!(slab.data_blocks, data, "2^{bits}");
        assert_eq!(slab.reference_blocks, reserved, "2^{bits}");
        assert_eq!(slab.used_reference_blocks(), used, "2^{bits}");
        assert_eq!(slab.shift(), bits);
        assert_eq!(slab.check(), Ok(()));
    }
    let slab = config(13);
    let thresholds = (slab.flushing, slab.blocking, slab.scrubbing);
    assert_eq!(thresholds, (168, 208, 222));
}

#[test]
fn slabs_that_cannot_be() {
    for (blocks, journal) in [(0, 4), (31, 4), (1 << 24, 4), (32, 0), (32, 32), (32, 31)] {
        let config = SlabConfig::new(blocks, journal);
        assert!(config.is_err(), "{blocks} {journal}");
    }
}

#[test]
fn thresholds_that_would_make_changes_wait_for_ever() {
    let good = config(13);
    let with = |journal_blocks, [flushing, blocking, scrubbing]: [u32; 3]| SlabConfig {
        journal_blocks,
        flushing,
        blocking,
        scrubbing,
        ..good
    };
    assert_eq!(with(224, [168, 208, 222]), good);
    for sound in [with(224, [1, 1, 1]), with(4, [3, 2, 2]), with(5, [5, 5, 5])] {
        assert_eq!(sound.check(), Ok(()));
    }
    let bad = [
        with(224, [168, 0, 222]),
        with(224, [0, 0, 0]),
        with(224, [225, 208, 222]),
        with(224, [168, 223, 222]),
        with(224, [168, 208, 225]),
        with(224, [168, u32::MAX, u32::MAX]),
        with(1, [1, 1, 1]),
        with(3, [1, 2, 3]),
        with(0, [0, 0, 0]),
    ];
    for config in bad {
        let error = Error::Status(Status::BadConfiguration);
        assert_eq!(config.check(), Err(error), "{config:?}");
    }
}

#[test]
fn places_in_a_real_depot() {
    let depot = DepotLayout {
        first_block: 679_189,
        slab_count: 73,
        slab: config(13),
    };
    assert_eq!(depot.last_block(), 1_277_205);
    assert_eq!(depot.reference_block(0, 0), 687_155);
    assert_eq!(depot.journal_block(0, 1), 687_158);
    assert_eq!(depot.slab_of(679_188), None);
    assert_eq!(depot.slab_of(679_189), Some((0, 0)));
    assert_eq!(depot.slab_of(687_154), Some((0, 7965)));
    assert_eq!(depot.slab_of(687_155), None);
    assert_eq!(depot.slab_of(687_381), Some((1, 0)));
    assert_eq!(depot.slab_of(1_277_205), None);
}

proptest! {
    #[test]
    fn data_blocks_and_their_places(bits in 3u32..=23, count in 1u32..9000, at: u64, any: u64) {
        let Ok(slab) = SlabConfig::new(1 << bits, 4) else { return Ok(()); };
        prop_assert_eq!(slab.check(), Ok(()));
        let depot = DepotLayout { first_block: 1 << 20, slab_count: count, slab };
        for pbn in [any, depot.first_block + at % (depot.last_block() - depot.first_block)] {
            if let Some((number, sbn)) = depot.slab_of(pbn) {
                prop_assert!(number < count && sbn < slab.data_blocks);
                prop_assert_eq!(depot.pbn(number, sbn), pbn);
            }
        }
    }

    #[test]
    fn nonsense_never_panics(blocks: u32, data_blocks: u32, first_block: u64, slab_count: u32, pbn: u64) {
        let slab = SlabConfig {
            blocks, data_blocks, reference_blocks: data_blocks, journal_blocks: blocks,
            flushing: 0, blocking: 0, scrubbing: 0,
        };
        let depot = DepotLayout { first_block, slab_count, slab };
        let _ = (slab.check(), depot.slab_of(pbn), depot.last_block());
        let _ = (depot.journal_block(u32::MAX, u32::MAX), depot.data_blocks());
    }
}
