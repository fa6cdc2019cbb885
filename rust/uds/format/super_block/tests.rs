// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::format::Memory;
use crate::vectors;

fn block(name: &str) -> Block {
    vectors::file(name).try_into().unwrap()
}

/// Checks that a block of mainline is decoded, and encoded to what it was.
fn check_block(name: &str, place: u64, geometry: &Geometry) -> SuperBlock {
    let block = block(name);
    let found = SuperBlock::decode(&block, place).unwrap();
    assert!(found.fits(geometry), "{found:?}");
    let mut out = [1; 4096];
    found.encode(&mut out);
    assert_eq!(out, block, "{name}");
    assert!(SuperBlock::decode(&block, place + 1).is_err());
    found
}

#[test]
fn blocks_of_mainline() {
    let geometry = |memory, sparse| Geometry::new(Memory(memory), sparse).unwrap();
    let dense = geometry(-256, false);
    let a = check_block("a-super-block.bin", 1, &dense);
    assert_eq!(a.primary_nonce(), 0xd07d_5ddd_c91a_9b97);
    assert_eq!(a.volume_nonce(), 0x8ad8_88c7_403b_ec8b);
    assert_eq!([a.save_block(0), a.save_block(1)], [573_451, 626_289]);
    assert_eq!(a.volume_block(), 3);
    let mut identity = [0; IDENTITY_SIZE];
    identity.copy_from_slice(&a.nonce_info[..IDENTITY_SIZE]);
    assert_eq!(SuperBlock::new(&dense, 1, identity), a);

    check_block("c-super-block.bin", 1, &dense);
    check_block("d-super-block.bin", 1, &geometry(-256, true));
    check_block("e-super-block.bin", 1, &dense);
}

#[test]
fn converted() {
    let geometry = Geometry::new(Memory(-1280), false).unwrap();
    let (chapter, front) = (560, 512);
    let found = check_block("f-super-block-v7.bin", 1 + chapter - front, &geometry);
    assert_eq!(found.conversion, Some(Conversion { chapter, front }));
    assert_eq!(found.volume_block(), 3 + chapter - front);
    // What used to be block 573451.
    assert_eq!(found.save_start(0), 573_451);
    assert_eq!(found.save_block(0), 573_451 - front);
}

#[test]
fn damage_is_noticed() {
    let good = block("a-super-block.bin");
    let fields = (0..192).chain(192..276).chain(280..296);
    for at in fields.filter(|at| !(40..192).contains(at) || (at - 24) % 24 < 16) {
        for bit in 0..8 {
            let mut bad = good;
            bad[at] ^= 1 << bit;
            let result = SuperBlock::decode(&bad, 1);
            // Sizes that only the geometry can tell are left to `fits`.
            let dense = Geometry::new(Memory(-256), false).unwrap();
            assert!(
                !result.is_ok_and(|found| found.fits(&dense)),
                "byte {at} bit {bit}"
            );
        }
    }
}
