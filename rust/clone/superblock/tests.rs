// SPDX-License-Identifier: GPL-2.0

use super::*;

/// Block 0 of a volume that mainline formatted: 16,384 regions of 8 sectors, 1,024 blocks.
fn mainline() -> Block {
    let mut block = [0; 4096];
    let mut line = |at: usize, bytes: [u8; 16]| block[at..at + 16].copy_from_slice(&bytes);
    line(0x00, *b"\xb1\x61\xe5\x41\0\0\0\0\0\0\0\0\0\0\0\0");
    line(0x20, *b"\x64\x7f\xf2\x8a\0\0\0\0\x01\0\0\0\0\x04\0\0");
    line(0x30, *b"\0\0\0\0\x06\0\0\0\0\0\0\0\x01\0\0\0");
    line(0x40, *b"\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0");
    line(0xa0, *b"\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\0\0");
    line(0xb0, *b"\0\0\0\0\0\0\x02\0\0\0\0\0\x04\0\0\0");
    block
}

#[test]
fn reads_and_writes_what_mainline_wrote() {
    let block = mainline();
    assert_eq!(verify(&block, 0), Ok(()));
    let superblock = Superblock::decode(&block);
    assert_eq!(superblock.region_size, 8);
    assert_eq!(superblock.length, 131_072);
    assert_eq!(superblock.bitset_root, 4);
    assert_eq!(superblock.space_map_root.nr_blocks, 1024);
    let mut ours = [0; 4096];
    superblock.encode(&mut ours);
    seal(&mut ours, 0);
    assert!(ours == block);
}

#[test]
fn is_checked_in_mainlines_order() {
    // Each damage hides the ones before it.
    let mut block = mainline();
    block[VERSION_AT] = 2;
    seal(&mut block, 0);
    assert!(matches!(
        verify(&block, 0),
        Err(Problem::Unsupported { found: 2, .. })
    ));
    block[0] ^= 1;
    assert!(matches!(verify(&block, 0), Err(Problem::Checksum { .. })));
    block[MAGIC_AT] ^= 1;
    assert!(matches!(verify(&block, 0), Err(Problem::Field { .. })));
    block[8] = 1;
    assert_eq!(
        verify(&block, 0),
        Err(Problem::Number {
            found: 1,
            expected: 0
        })
    );
}

#[test]
fn flags_and_uuid_are_ignored() {
    let mut block = mainline();
    block[4] = 1;
    block[16] = 7;
    seal(&mut block, 0);
    assert_eq!(verify(&block, 0), Ok(()));
}
