// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::format::Memory;
use crate::vectors;

/// Checks that a block of mainline says this, and is what is encoded.
fn check_block(name: &str, geometry: &Geometry, converted: bool) -> Moved {
    let block: Block = vectors::file(name).try_into().unwrap();
    let owner = u64_at(&block, 42);
    let moved = decode(&block, geometry, owner, converted).unwrap();
    let mut out = [1; 4096];
    let geometry = Geometry { moved, ..*geometry };
    encode(&mut out, &geometry, owner, converted);
    assert_eq!(out, block, "{name}");

    assert!(decode(&block, &geometry, owner + 1, converted).is_err());
    assert!(decode(&block, &geometry, owner, !converted).is_err());
    for at in (0..26).chain(30..42) {
        let mut other = block;
        other[at] ^= 1;
        assert!(decode(&other, &geometry, owner, converted).is_err(), "{at}");
    }
    moved
}

#[test]
fn blocks_of_mainline() {
    let geometry = |memory, sparse| Geometry::new(Memory(memory), sparse).unwrap();
    let none = Moved::default();
    let dense = geometry(-256, false);
    assert_eq!(check_block("a-config-block.bin", &dense, false), none);
    let sparse = geometry(-256, true);
    assert_eq!(check_block("d-config-block.bin", &sparse, false), none);
    let moved = check_block("f-config-block-0802.bin", &geometry(-1280, false), true);
    let expected = Moved {
        chapter: 1024,
        slot: 500,
    };
    assert_eq!(moved, expected);
}
