// SPDX-License-Identifier: GPL-2.0

//! Blocks of real volumes, for tests.

/// Returns a block of `tools/testing/vectors/vdo`, to the tests of a module of this folder.
macro_rules! vector {
    ($name:literal) => {{
        const BLOCK: &[u8; 4096] = include_bytes!(concat!(
            "../../../../tools/testing/vectors/vdo/",
            $name,
            ".bin"
        ));
        BLOCK
    }};
}
pub(super) use vector;

/// The nonce of the volume that most blocks are of.
pub(super) const NONCE: u64 = 1_795_215_581_767_053;
