// SPDX-License-Identifier: GPL-2.0

use super::*;
use kernel::prelude::GFP_KERNEL;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

fn config(data_blocks: u32) -> SlabConfig {
    SlabConfig {
        blocks: 1 << 14,
        data_blocks,
        reference_blocks: 4,
        journal_blocks: 8,
        flushing: 6,
        blocking: 7,
        scrubbing: 8,
    }
}

/// Looks for one run.
fn find_run(counts: &mut Counts, wanted: u32) -> Result<(Sbn, u32), Found> {
    let mut runs = Runs::new(1);
    match counts.find_runs(wanted, &mut runs) {
        Found::Runs => {
            let [run] = runs.as_slice() else {
                panic!("there was to be one")
            };
            Ok((run.start as Sbn, run.blocks))
        }
        found => Err(found),
    }
}

#[test]
fn the_first_zero_is_found_wherever_it_is() {
    for length in 0..40 {
        for zero in 0..=length {
            let mut bytes = vec![1; length];
            // What follows, and bytes with the highest bit, must not disturb.
            bytes[zero..]
                .iter_mut()
                .step_by(2)
                .for_each(|byte| *byte = 0);
            bytes[..zero]
                .iter_mut()
                .step_by(3)
                .for_each(|byte| *byte = 0x80);
            let found = first_zero(&bytes);
            assert_eq!(found, (zero < length).then_some(zero));
        }
    }
}

#[test]
fn all_changes_of_all_counts() {
    for count in 0..=u8::MAX {
        let up = changed(count, Change::Increment);
        let page = changed(count, Change::BlockMapIncrement);
        let down = changed(count, Change::Decrement);
        let wanted = match count {
            0 | 255 => (Some(1), Some(254), None),
            254 => (None, None, Some(253)),
            _ => (Some(count + 1), None, Some(count - 1)),
        };
        assert_eq!((up, page, down), wanted, "{count}");
    }
}

#[test]
fn blocks_are_picked_in_the_order_of_their_holds() {
    let mut counts = Counts::new(&config(3 * COUNTS_PER_BLOCK), GFP_KERNEL).unwrap();
    let point = |sequence| JournalPoint::new(sequence, 0);
    let sbn = |block: u32| block * COUNTS_PER_BLOCK;
    for (block, sequence) in [(2, 4), (0, 5), (2, 6), (1, 7)] {
        counts
            .change(sbn(block), Change::Increment, point(sequence))
            .unwrap();
    }
    counts.check();
    assert_eq!((counts.dirty(), counts.oldest_hold()), (3, Some(4)));
    let mut page = [9; COUNTS_PER_BLOCK as usize];
    assert_eq!(counts.pick(&mut page), Some(2));
    assert_eq!(page[..2], [2, 0]);
    // What is being written still counts, also when it changes again.
    counts.change(sbn(2), Change::Decrement, point(8)).unwrap();
    assert_eq!((counts.dirty(), counts.oldest_hold()), (3, Some(4)));
    for block in [0, 1, 2] {
        assert_eq!(counts.pick(&mut page), Some(block));
    }
    assert_eq!(
        (counts.pick(&mut page), counts.oldest_hold()),
        (None, Some(4))
    );
    assert!(!counts.is_clean());
    counts.written();
    assert_eq!((counts.is_clean(), counts.oldest_hold()), (true, None));
    assert_eq!(counts.applied, point(8));
}

#[test]
fn what_is_loaded_has_no_provisional_ones() {
    let mut counts = Counts::new(&config(COUNTS_PER_BLOCK + 10), GFP_KERNEL).unwrap();
    let mut page = [3; COUNTS_PER_BLOCK as usize];
    page[5] = PROVISIONAL;
    counts.load(0, &page);
    counts.load(1, &page);
    counts.check();
    assert_eq!(counts.free(), 2);
    assert_eq!(counts.get(5), Some(0));
    assert_eq!(counts.get(COUNTS_PER_BLOCK + 9), Some(3));
    assert_eq!(counts.get(COUNTS_PER_BLOCK + 10), None);
    assert_eq!(find_run(&mut counts, 9), Ok((5, 1)));
    assert_eq!(find_run(&mut counts, 9), Ok((COUNTS_PER_BLOCK + 5, 1)));
    assert_eq!(find_run(&mut counts, 9), Err(Found::End));
}

#[test]
fn a_long_search_lets_go_of_the_lock() {
    let blocks = SEARCH_BLOCKS + 2;
    let mut counts = Counts::new(&config(blocks * COUNTS_PER_BLOCK), GFP_KERNEL).unwrap();
    for sbn in 0..blocks * COUNTS_PER_BLOCK {
        // One is free in each block, and taken up to the last.
        counts.set(sbn, 1);
    }
    for block in 0..blocks {
        counts.set(block * COUNTS_PER_BLOCK, 0);
    }
    counts.cursor = 1;
    // Behind the free one of each block there is none.
    counts.set(0, 1);
    counts.set(1, 0);
    counts.cursor = 2;
    let mut found = find_run(&mut counts, 5);
    assert_eq!(found, Ok((COUNTS_PER_BLOCK, 1)));
    for block in 2..blocks {
        found = find_run(&mut counts, 5);
        assert_eq!(found, Ok((block * COUNTS_PER_BLOCK, 1)));
    }
    assert_eq!(find_run(&mut counts, 5), Err(Found::End));
    assert_eq!(find_run(&mut counts, 5), Ok((1, 1)));
}

proptest! {
    #[test]
    fn runs_are_those_of_a_list(
        counts in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255)], 1..200),
        wanted in prop_oneof![1_u32..20, 10_u32..30],
    ) {
        let mut model: Vec<u8> = counts;
        let mut counts = Counts::new(&config(model.len() as u32), GFP_KERNEL).unwrap();
        for (sbn, count) in (0..).zip(&model) {
            counts.set(sbn, *count);
        }
        loop {
            counts.check();
            let free = model.iter().filter(|count| **count == 0).count();
            let is_free = |run: &[u8]| run.iter().all(|count| *count == 0);
            let first = model.iter().position(|count| *count == 0);
            let long = model.windows(wanted as usize).position(is_free);
            // A long run is looked for, if there is one behind what was passed over before.
            let start = match wanted >= LONG && wanted as usize <= free {
                true => long.or(first),
                false => first,
            };
            match find_run(&mut counts, wanted) {
                Ok((sbn, length)) => {
                    prop_assert_eq!(Some(sbn as usize), start);
                    let range = sbn as usize..(sbn + length) as usize;
                    prop_assert!(model[range.clone()].iter().all(|count| *count == 0));
                    prop_assert!(length == wanted || model.get(range.end) != Some(&0));
                    model[range].fill(PROVISIONAL);
                }
                Err(Found::End) => break,
                Err(_) => prop_assert!(false, "there is one block only"),
            }
        }
        prop_assert!(!model.contains(&0));
        let provisional = model.iter().filter(|count| **count == PROVISIONAL).count();
        prop_assert_eq!(counts.release(0, model.len() as u32), provisional as u32);
    }
}

#[test]
fn the_last_that_is_not_zero_is_found_wherever_it_is() {
    for length in 0..40 {
        for last in 0..=length {
            let mut bytes = vec![0; length];
            bytes[..last].fill(0x80);
            assert_eq!(last_nonzero(&bytes), last.checked_sub(1));
        }
    }
}

#[test]
fn a_run_of_all_that_is_wanted_comes_before_pieces() {
    let mut counts = Counts::new(&config(COUNTS_PER_BLOCK), GFP_KERNEL).unwrap();
    for sbn in 0..400 {
        // Every second is free, then a hundred.
        counts.set(sbn, u8::from(sbn < 300 && sbn % 2 == 0));
    }
    for sbn in 400..COUNTS_PER_BLOCK {
        counts.set(sbn, 1);
    }
    let mut take = |wanted: u32| {
        let (mut left, mut starts) = (wanted, Vec::new());
        while left > 0 {
            let mut runs = Runs::new(4);
            assert_eq!(counts.find_runs(left, &mut runs), Found::Runs);
            for run in runs.as_slice() {
                starts.push(run.start);
                left -= run.blocks;
            }
        }
        starts
    };
    // Few are taken from pieces.
    assert_eq!(take(2), [1, 3]);
    assert_eq!(take(60), [299]);
    // What was passed over is there still, up to where the rest is one run.
    let expected: Vec<u64> = (5..23).step_by(2).chain([359]).collect();
    assert_eq!(take(50), expected);
    counts.check();
}

#[test]
fn claims_and_references_are_never_more_than_a_count() {
    let mut counts = Counts::new(&config(100), GFP_KERNEL).unwrap();
    let point = JournalPoint::new(1, 0);
    // A fresh block, and all that can be had of it.
    assert_eq!(find_run(&mut counts, 1), Ok((0, 1)));
    assert!(!counts.claim(0), "its owner may be writing it");
    assert_eq!(counts.claim_more(0, 255), 253);
    assert_eq!(counts.claim_more(0, 1), 0);
    counts.check();
    for references in 1..=254 {
        counts.change(0, Change::Increment, point).unwrap();
        assert_eq!(counts.get(0), Some(references));
        assert_eq!(counts.claim_more(0, 1), 0);
        counts.check();
    }
    assert!(counts.is_unclaimed());
    assert!(counts.change(0, Change::Increment, point).is_err());
    // One reference less is one claim more.
    counts.change(0, Change::Decrement, point).unwrap();
    assert!(counts.claim(0));
    assert!(!counts.claim(0));
    assert_eq!(counts.release(0, 1), 0);
    assert_eq!(counts.get(0), Some(253));
    assert!(counts.is_unclaimed());
    assert_eq!(counts.claim_more(1, 1), 0, "of a free block nobody has one");
    assert!(!counts.claim(100));
}

#[test]
fn a_claimed_block_is_not_free_when_its_last_reference_goes() {
    let mut counts = Counts::new(&config(100), GFP_KERNEL).unwrap();
    let point = JournalPoint::new(1, 0);
    counts.change(7, Change::Increment, point).unwrap();
    assert!(counts.claim(7));
    assert!(counts.claim(7));
    counts.change(7, Change::Decrement, point).unwrap();
    assert_eq!((counts.get(7), counts.free()), (Some(PROVISIONAL), 99));
    counts.check();
    counts.change(7, Change::Increment, point).unwrap();
    assert_eq!(counts.get(7), Some(1));
    assert_eq!(counts.release(7, 1), 0);
    counts.check();
    // Nobody refers to it any more; what it holds can be referred to all the same.
    counts.change(7, Change::Decrement, point).unwrap();
    assert_eq!(counts.free(), 100);
    assert!(counts.claim(7));
    assert_eq!((counts.get(7), counts.free()), (Some(PROVISIONAL), 99));
    assert_eq!(counts.release(7, 1), 1);
    assert_eq!((counts.get(7), counts.free()), (Some(0), 100));
    assert!(counts.is_unclaimed());
    counts.check();
}

#[test]
fn whoever_of_a_fresh_block_comes_first() {
    // The owner's claim is the provisional count, but a follower's entry may come before it.
    let mut counts = Counts::new(&config(100), GFP_KERNEL).unwrap();
    let point = JournalPoint::new(1, 0);
    assert_eq!(find_run(&mut counts, 1), Ok((0, 1)));
    assert_eq!(counts.claim_more(0, 1), 1);
    counts.change(0, Change::Increment, point).unwrap();
    assert!(!counts.is_unclaimed());
    // The owner fails.
    assert_eq!(counts.release(0, 1), 0);
    assert_eq!(counts.get(0), Some(1));
    assert!(counts.is_unclaimed());
    counts.check();
}

#[test]
fn a_fresh_block_can_be_claimed_when_its_data_is_there() {
    let mut counts = Counts::new(&config(100), GFP_KERNEL).unwrap();
    let point = JournalPoint::new(1, 0);
    assert_eq!(find_run(&mut counts, 3), Ok((0, 3)));
    assert!(!counts.claim(1));
    counts.set_stored(0, 3);
    assert!(counts.claim(1));
    assert!(counts.claim(1));
    for sbn in 0..3 {
        counts.change(sbn, Change::Increment, point).unwrap();
    }
    counts.check();
    assert!(!counts.is_unclaimed());
    assert_eq!(counts.release(1, 1), 0);
    counts.change(1, Change::Increment, point).unwrap();
    assert_eq!(counts.get(1), Some(2));
    assert!(counts.is_unclaimed());
    // One that is given back is as if it had never been.
    assert_eq!(find_run(&mut counts, 1), Ok((3, 1)));
    counts.set_stored(3, 1);
    assert_eq!(counts.release(3, 1), 1);
    assert!(counts.is_unclaimed());
    counts.check();
}
