// SPDX-License-Identifier: GPL-2.0

use super::*;
use std::vec::Vec;

#[test]
fn sorts_whatever_comes() {
    let mut state = 1_u32;
    for len in 0..200 {
        let mut items: Vec<(u32, usize)> = (0..len)
            .map(|at| {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                ((state >> 24) % 50, at)
            })
            .collect();
        let mut expected = items.clone();
        sort_by_key(&mut items, |item| item.0);
        assert!(items.is_sorted_by_key(|item| item.0));
        // Nothing is lost, and nothing twice.
        items.sort_unstable();
        expected.sort_unstable();
        assert_eq!(items, expected);
    }
}
