// SPDX-License-Identifier: GPL-2.0

use super::sort_by_key;
use proptest::prelude::*;
use std::vec::Vec;

proptest! {
    #[test]
    fn sorts_as_the_standard_library(mut items: Vec<(u8, u16)>) {
        let mut expected = items.clone();
        expected.sort_unstable();
        sort_by_key(&mut items, |item| *item);
        prop_assert_eq!(items, expected);
    }
}
