// SPDX-License-Identifier: GPL-2.0

//! Mainline's array blocks, rebuilt from their values.

use super::*;
use pd_testing::vectors;
use std::vec::Vec;

#[test]
fn array_blocks_of_mainline() {
    let mut blocks = 0;
    for name in vectors::CLONE_IMAGES {
        let image = vectors::image(name);
        let live = vectors::expected(name).live.into_iter();
        for (number, _, _) in live.filter(|(_, kind, _)| kind == ARRAY.name) {
            let block: &Block = image[number as usize * BLOCK_SIZE..].first_chunk().unwrap();
            assert_eq!(verify(block, number), Ok(()));
            let values = values::<u64>(block, number).unwrap().map(u64::decode);
            let values: Vec<_> = values.map(Option::unwrap).collect();
            let mut copy = [0; BLOCK_SIZE];
            fill(&mut copy, values.len(), |at| values[at]);
            (ARRAY.seal)(&mut copy, number);
            assert!(copy == *block, "{name}: block {number}");
            blocks += 1;
        }
    }
    assert_eq!(blocks, 8 + 277 + 3);
}

#[test]
fn a_block_of_values() {
    let mut block = [0; BLOCK_SIZE];
    fill(&mut block, 100, |at| at as u32);
    assert_eq!(value::<u32>(&block, 7, 99), Ok(Some(99)));
    assert_eq!(value::<u32>(&block, 7, 100), Ok(None));
    assert_eq!(set_value(&mut block, 7, 99, &5_u32), Ok(true));
    assert_eq!(set_value(&mut block, 7, 100, &5_u32), Ok(false));
    assert!(set_value(&mut block, 7, 0, &5_u64).is_err());
    resize(&mut block, 7, 102, &77_u32).unwrap();
    assert_eq!(value::<u32>(&block, 7, 99), Ok(Some(5)));
    assert_eq!(value::<u32>(&block, 7, 101), Ok(Some(77)));
    resize(&mut block, 7, 1, &0_u32).unwrap();
    assert_eq!(value::<u32>(&block, 7, 1), Ok(None));
    assert!(block[28..].iter().all(|&byte| byte == 0));
}
