// SPDX-License-Identifier: GPL-2.0

//! Seals and what breaks them.

use super::*;
use proptest::prelude::*;

const NODE: Stamp = Stamp {
    salt: 121_107,
    number_at: 8,
};
const ARRAY: Stamp = Stamp {
    salt: 595_846_735,
    number_at: 16,
};

#[test]
fn known_checksums_of_empty_blocks() {
    for (salt, checksum) in [
        (121_107, 0x58cc_7e82_u32),
        (595_846_735, 0x7b4e_41de),
        (160_478, 0x58cf_d54f),
        (240_779, 0x58ce_0b1a),
        (257_649_492, 0x5796_ccc5),
    ] {
        let mut block = [0; BLOCK_SIZE];
        Stamp { salt, number_at: 8 }.seal(&mut block, 0);
        assert_eq!(block[..4], checksum.to_le_bytes());
    }
}

#[test]
fn a_blank_block_is_not_sealed() {
    assert!(matches!(
        NODE.checksum(&[0; BLOCK_SIZE]),
        Err(Problem::Checksum { stored: 0, .. })
    ));
}

proptest! {
    #[test]
    fn a_sealed_block_verifies(fill: u8, number: u64) {
        for stamp in [NODE, ARRAY] {
            let mut block = [fill; BLOCK_SIZE];
            stamp.seal(&mut block, number);
            prop_assert_eq!(stamp.number(&block, number), Ok(()));
            prop_assert_eq!(stamp.checksum(&block), Ok(()));
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed(number: u64, bit in 0..BLOCK_SIZE * 8) {
        let mut block = [0x5a; BLOCK_SIZE];
        NODE.seal(&mut block, number);
        block[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(NODE.checksum(&block).is_err());
    }

    #[test]
    fn another_place_and_another_kind_are_noticed(number: u64, other: u64) {
        prop_assume!(number != other);
        let mut block = [1; BLOCK_SIZE];
        NODE.seal(&mut block, number);
        prop_assert_eq!(
            NODE.number(&block, other),
            Err(Problem::Number { found: number, expected: other })
        );
        prop_assert!(ARRAY.checksum(&block).is_err());
    }
}
