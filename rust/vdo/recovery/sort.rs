// SPDX-License-Identifier: GPL-2.0

//! Sorting in place, without recursion, in bounded time: a heap sort.

/// Sorts `items` by `key`. Items with equal keys come in any order.
pub(super) fn sort_by_key<T: Copy, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    let mut end = items.len();
    for root in (0..end / 2).rev() {
        sift_down(items, root, end, &key);
    }
    while end > 1 {
        end -= 1;
        items.swap(0, end);
        sift_down(items, 0, end, &key);
    }
}

/// Lets the item at `root` sink to its place in the heap of the first `end` items.
fn sift_down<T: Copy, K: Ord>(
    items: &mut [T],
    mut root: usize,
    end: usize,
    key: &impl Fn(&T) -> K,
) {
    let before = |items: &[T], a: usize, b: usize| match (items.get(a), items.get(b)) {
        (Some(a), Some(b)) => key(a) < key(b),
        _ => false,
    };
    loop {
        let mut child = 2 * root + 1;
        if child >= end {
            return;
        }
        if child + 1 < end && before(items, child, child + 1) {
            child += 1;
        }
        if !before(items, root, child) {
            return;
        }
        items.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests;
