// SPDX-License-Identifier: GPL-2.0

use super::grown;
use super::Parameters;
use super::ROOTS;
use crate::error::Status;
use crate::format::index::IndexMemory;
use crate::format::slab::SLAB_JOURNAL_BLOCKS;
use crate::format::vectors::vector;
use crate::format::Geometry;
use crate::format::SuperBlock;

/// The smallest volume with the smallest index.
const SMALLEST: Parameters = Parameters {
    nonce: 1,
    uuid: [0; 16],
    physical_blocks: 720_213,
    logical_blocks: None,
    slab_blocks: 8192,
    slab_journal_blocks: SLAB_JOURNAL_BLOCKS,
    recovery_journal_blocks: 32_768,
    roots: ROOTS,
    index_memory: IndexMemory::QUARTER,
    sparse: false,
    index_blocks: None,
};

fn logical(parameters: Parameters) -> u64 {
    parameters.plan().unwrap().1.logical_blocks
}

fn super_block(page: &[u8; 4096]) -> SuperBlock {
    SuperBlock::decode(page).unwrap()
}

#[test]
fn formatting_as_mainline_does() {
    let geometry = Geometry::decode(vector!("formatted/geometry-kernel")).unwrap();
    let parameters = Parameters {
        nonce: geometry.nonce,
        uuid: geometry.uuid,
        physical_blocks: 720_313,
        logical_blocks: Some(262_144),
        ..SMALLEST
    };
    let expected = super_block(vector!("formatted/super-kernel"));
    assert_eq!(parameters.plan(), Ok((geometry, expected)));
}

#[test]
fn formatting_as_vdoformat_does() {
    let geometry = Geometry::decode(vector!("clean/geometry")).unwrap();
    let parameters = Parameters {
        nonce: geometry.nonce,
        uuid: geometry.uuid,
        physical_blocks: 1_310_720,
        logical_blocks: Some(1 << 28),
        ..SMALLEST
    };
    let expected = super_block(vector!("formatted/super-vdoformat"));
    assert_eq!(parameters.plan(), Ok((geometry, expected)));
}

#[test]
fn the_smallest_volume() {
    assert_eq!(SMALLEST.minimum_blocks(), Ok(720_213));
    assert!(SMALLEST.plan().is_ok());
    let smaller = Parameters {
        physical_blocks: 720_212,
        ..SMALLEST
    };
    assert_eq!(smaller.plan(), Err(Status::NoSpace.into()));
}

#[test]
fn at_most_8192_slabs() {
    let fixed = 720_213 - 8192;
    let most = Parameters {
        physical_blocks: fixed + 8192 * 8193 - 1,
        ..SMALLEST
    };
    let (_, super_block) = most.plan().unwrap();
    assert_eq!(super_block.depot.slab_count, 8192);
    let more = Parameters {
        physical_blocks: most.physical_blocks + 1,
        ..SMALLEST
    };
    assert_eq!(more.plan(), Err(Status::TooManySlabs.into()));
}

#[test]
fn default_logical_sizes() {
    assert_eq!(logical(SMALLEST), 7776);
    let slabs = Parameters {
        physical_blocks: 720_213 - 8192 + 8192 * 8192,
        ..SMALLEST
    };
    assert_eq!(logical(slabs), 65_176_865);
    let large = Parameters {
        physical_blocks: 3 << 28,
        slab_blocks: 1 << 19,
        ..SMALLEST
    };
    assert_eq!(logical(large), 802_723_581);
    let sparse = Parameters {
        index_memory: IndexMemory(1),
        sparse: true,
        ..large
    };
    assert_eq!(logical(sparse), 780_222_224);
}

#[test]
fn an_unknown_index_is_refused() {
    let parameters = Parameters {
        index_memory: IndexMemory(0),
        ..SMALLEST
    };
    assert_eq!(parameters.plan(), Err(kernel::error::code::EINVAL.into()));
}

#[test]
fn growing_as_mainline_does() {
    let old = super_block(vector!("clean/super"));
    let new = grown(&old, 1_572_864).unwrap();
    let expected = super_block(vector!("states/super-grown"));
    assert_eq!(new.depot, expected.depot);
    assert_eq!(new.last_block, expected.last_block);
    assert_eq!(new.partitions.depot, expected.partitions.depot);
    assert_eq!(new.partitions.journal, expected.partitions.journal);
    assert_eq!(new.partitions.summary, expected.partitions.summary);
    assert_eq!(new.physical_blocks, expected.physical_blocks);
}

#[test]
fn growing_by_too_little() {
    let old = super_block(vector!("clean/super"));
    let small = Err(Status::IncrementTooSmall.into());
    let by = |blocks| grown(&old, old.physical_blocks + blocks).map(|new| new.depot.slab_count);
    assert_eq!(by(32_831), small);
    assert_eq!(by(32_832), Ok(77));
    assert_eq!(grown(&old, 5), Err(Status::IncrementTooSmall.into()));
    assert_eq!(grown(&old, 1 << 35), Err(Status::TooManySlabs.into()));
}

#[test]
fn a_toy_for_simulations() {
    let parameters = Parameters {
        physical_blocks: 600,
        logical_blocks: Some(1000),
        slab_blocks: 32,
        slab_journal_blocks: 4,
        recovery_journal_blocks: 8,
        index_blocks: Some(1),
        roots: 2,
        ..SMALLEST
    };
    let (geometry, super_block) = parameters.plan().unwrap();
    assert_eq!(super_block.check(&geometry), Ok(()));
    assert_eq!(super_block.depot.slab.data_blocks, 27);
    assert_eq!(super_block.depot.slab_count, 16);
}
