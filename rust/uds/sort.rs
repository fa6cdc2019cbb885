// SPDX-License-Identifier: GPL-2.0

//! Sorting numbers by some of their bits, in time that depends on how many they are and nothing else.

/// Bits that one pass sorts by.
const DIGIT_BITS: u32 = 11;

/// How many counters a pass takes.
pub(crate) const COUNTERS: usize = 1 << DIGIT_BITS;

/// Sorts `items` by the `bits` bits above the lowest `shift`; those with equal ones stay in order.
/// `scratch` is as long as the items.
pub(crate) fn radix_sort(
    items: &mut [u64],
    scratch: &mut [u64],
    counters: &mut [u32; COUNTERS],
    shift: u32,
    bits: u32,
) {
    let mut sorted = 0;
    let (mut from, mut to) = (items, scratch);
    while sorted < bits {
        let width = DIGIT_BITS.min(bits - sorted);
        let digit = move |item: u64| (item >> (shift + sorted)) as usize & ((1 << width) - 1);
        scatter(from, to, counters, digit);
        core::mem::swap(&mut from, &mut to);
        sorted += DIGIT_BITS;
    }
    // After an odd number of passes the result is in what was the scratch.
    if bits.div_ceil(DIGIT_BITS) % 2 == 1 {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }
}

/// Copies items in the order of a digit.
fn scatter(
    from: &[u64],
    to: &mut [u64],
    counters: &mut [u32; COUNTERS],
    digit: impl Fn(u64) -> usize,
) {
    counters.fill(0);
    for item in from {
        if let Some(counter) = counters.get_mut(digit(*item)) {
            *counter += 1;
        }
    }
    let mut start = 0;
    for counter in counters.iter_mut() {
        start += core::mem::replace(counter, start);
    }
    for item in from {
        let Some(counter) = counters.get_mut(digit(*item)) else {
            continue;
        };
        if let Some(place) = to.get_mut(*counter as usize) {
            *place = *item;
        }
        *counter += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::Rng;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn sorts_by_some_bits_and_is_stable() {
        let mut rng = Rng::new(1);
        let mut counters = Box::new([0; COUNTERS]);
        for (len, shift, bits) in [
            (0, 0, 0),
            (1, 3, 5),
            (1000, 18, 34),
            (5000, 0, 11),
            (77, 5, 12),
        ] {
            let items: Vec<u64> = (0..len).map(|_| rng.next_u64()).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|item| (item >> shift) & ((1 << bits) - 1));
            let mut sorted = items;
            let mut scratch = vec![0; sorted.len()];
            radix_sort(&mut sorted, &mut scratch, &mut counters, shift, bits);
            assert_eq!(sorted, expected);
        }
    }
}
