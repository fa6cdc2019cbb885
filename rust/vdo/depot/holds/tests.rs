// SPDX-License-Identifier: GPL-2.0

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

/// Takes (with a step of the sequence), releases, or asks.
#[derive(Clone, Debug)]
enum Step {
    Take(u64),
    Release(usize),
    Ask(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u64..3).prop_map(Step::Take),
        3 => any::<usize>().prop_map(Step::Release),
        1 => (0_u64..6).prop_map(Step::Ask),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn behaves_as_a_list(steps in steps()) {
        const MOST: usize = 8;
        let mut holds = Holds::new(MOST).unwrap();
        let mut model: Vec<Hold> = Vec::new();
        let (mut sequence, mut asked) = (1, 0);
        for (block, step) in (0..).zip(steps) {
            match step {
                Step::Take(by) if model.len() < MOST => {
                    sequence += by;
                    let hold = Hold { sequence, slab: block as u32 % 3, block };
                    prop_assert!(holds.take(hold));
                    model.push(hold);
                    asked = asked.min(sequence);
                }
                Step::Release(index) if !model.is_empty() => {
                    let hold = model.remove(index % model.len());
                    holds.release(&hold);
                }
                Step::Ask(ahead) => {
                    let before = sequence.saturating_sub(ahead);
                    let mut found = Vec::new();
                    holds.ask(before, |slab| found.push(slab));
                    let wanted: Vec<_> = model
                        .iter()
                        .filter(|hold| (asked..before).contains(&hold.sequence))
                        .map(|hold| hold.slab)
                        .collect();
                    prop_assert_eq!(found, wanted);
                    asked = asked.max(before);
                }
                _ => {}
            }
            prop_assert_eq!(holds.oldest(), model.first().map(|hold| hold.sequence));
        }
    }
}

#[test]
fn all_can_be_taken_over() {
    let mut old = Holds::new(2).unwrap();
    let hold = |sequence| Hold {
        sequence,
        slab: 1,
        block: sequence,
    };
    assert!(old.take(hold(3)) && old.take(hold(4)));
    let mut new = Holds::new(3).unwrap();
    new.take_over(&mut old);
    assert!(new.take(hold(5)));
    new.release(&hold(3));
    assert_eq!(new.oldest(), Some(4));
    assert_eq!(old.oldest(), None);
}

#[test]
fn a_hold_on_what_was_asked_for_before_is_asked_for() {
    let mut holds = Holds::new(4).unwrap();
    let mut asked = Vec::new();
    holds.ask(9, |slab| asked.push(slab));
    let late = Hold {
        sequence: 4,
        slab: 7,
        block: 1,
    };
    assert!(holds.take(late));
    holds.ask(9, |slab| asked.push(slab));
    assert_eq!(asked, [7]);
}
