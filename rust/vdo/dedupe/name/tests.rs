// SPDX-License-Identifier: GPL-2.0

use super::*;

type Pattern = fn(usize) -> u8;

/// What mainline calls blocks of a pattern; `names.txt` of the vectors.
const KNOWN: [(Pattern, u128); 5] = [
    (|_| 0, 0x81a3_ec86_657e_e784_4a63_fd81_1c80_08b7),
    (|_| 1, 0xf467_da83_815f_fa93_a1d4_23e8_537f_097e),
    (|_| 0xff, 0x2cf6_9009_d52d_6d35_23e9_69b0_c066_121a),
    (|at| at as u8, 0xe780_e2da_fd9f_88cd_ac7f_54d5_960b_e94c),
    (
        |at| (at % 251) as u8,
        0xf3d3_111e_630f_f18c_8894_a24c_e01a_9e93,
    ),
];

fn block(pattern: Pattern) -> Page {
    core::array::from_fn(pattern)
}

#[test]
fn names_are_those_of_mainline() {
    for (pattern, known) in KNOWN {
        assert_eq!(name(&block(pattern)), known.to_be_bytes());
    }
}

#[test]
fn two_at_once_are_as_one_by_one() {
    for (a, known_a) in KNOWN {
        for (b, known_b) in KNOWN {
            let both = (known_a.to_be_bytes(), known_b.to_be_bytes());
            assert_eq!(names(&block(a), &block(b)), both);
        }
    }
}
