// SPDX-License-Identifier: GPL-2.0

use super::blocks;
use super::IndexMemory;
use proptest::prelude::*;

#[test]
fn sizes_are_those_of_formatters() {
    let table = [
        (IndexMemory::QUARTER, 679_127, 5_822_251),
        (IndexMemory::HALF, 1_366_399, 11_726_359),
        (IndexMemory::THREE_QUARTERS, 2_053_669, 17_630_467),
        (IndexMemory(1), 2_732_747, 23_452_645),
        (IndexMemory(2), 5_496_229, 46_928_887),
        (IndexMemory(4), 11_058_007, 93_909_179),
        (IndexMemory(16), 44_777_475, 376_068_883),
    ];
    for (memory, dense, sparse) in table {
        assert_eq!(blocks(memory, false), Some(dense), "{memory:?}");
        assert_eq!(blocks(memory, true), Some(sparse), "{memory:?}, sparse");
    }
}

#[test]
fn a_converted_index_has_one_chapter_less() {
    let whole = blocks(IndexMemory(1), false).unwrap();
    let converted = blocks(IndexMemory(0x1001), false).unwrap();
    assert!(converted < whole && whole - converted < whole / 1000);
}

#[test]
fn other_values_make_no_sense() {
    for memory in [0, 1025, 0x1000, 0x1000 + 1025, u32::MAX, -255_i32 as u32] {
        assert_eq!(blocks(IndexMemory(memory), false), None, "{memory:#x}");
    }
}

proptest! {
    #[test]
    fn no_memory_overflows(memory: u32, small in 0u32..0x1500, sparse: bool) {
        let _ = blocks(IndexMemory(memory), sparse);
        let _ = blocks(IndexMemory(small), sparse);
    }
}
