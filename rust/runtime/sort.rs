// SPDX-License-Identifier: GPL-2.0

//! Sorting in little stack: core's own sorts keep dozens of elements in their frames.

/// Sorts `items` by `key`, in place; not stable. What is sorted already costs one look.
pub fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    if items.is_sorted_by_key(&key) {
        return;
    }
    // A heap whose largest is first.
    for root in (0..items.len() / 2).rev() {
        sift(items, root, &key);
    }
    for end in (1..items.len()).rev() {
        items.swap(0, end);
        if let Some(heap) = items.get_mut(..end) {
            sift(heap, 0, &key);
        }
    }
}

/// Moves the item at `root` down to where no item below it is larger.
fn sift<T, K: Ord>(heap: &mut [T], mut root: usize, key: &impl Fn(&T) -> K) {
    loop {
        let mut child = 2 * root + 1;
        let larger = |a: usize, b: usize| match (heap.get(a), heap.get(b)) {
            (Some(a), Some(b)) => key(a) > key(b),
            _ => false,
        };
        if larger(child + 1, child) {
            child += 1;
        }
        if !larger(child, root) {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests;
