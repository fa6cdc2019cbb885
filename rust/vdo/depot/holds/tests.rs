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
        let mut model: Vec<Held> = Vec::new();
        let (mut sequence, mut asked) = (1, 0);
        for (block, step) in (0..).zip(steps) {
            match step {
                Step::Take(by) if model.len() < MOST => {
                    sequence += by;
                    let hold = Hold { sequence, slab: block as u32 % 3, block };
                    model.push(holds.take(hold).unwrap());
                    asked = asked.min(sequence);
                }
                Step::Release(index) if !model.is_empty() => {
                    let held = model.remove(index % model.len());
                    prop_assert_eq!(holds.release(held), Ok(()));
                }
                Step::Ask(ahead) => {
                    let before = sequence.saturating_sub(ahead);
                    let mut found = Vec::new();
                    holds.ask(before, |slab| found.push(slab));
                    let wanted: Vec<_> = model
                        .iter()
                        .filter(|Held(hold)| (asked..before).contains(&hold.sequence))
                        .map(|Held(hold)| hold.slab)
                        .collect();
                    prop_assert_eq!(found, wanted);
                    asked = asked.max(before);
                }
                _ => {}
            }
            prop_assert_eq!(holds.oldest(), model.first().map(|Held(hold)| hold.sequence));
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
    let first = old.take(hold(3)).unwrap();
    let _ = old.take(hold(4)).unwrap();
    let mut new = Holds::new(3).unwrap();
    new.take_over(&mut old);
    let _ = new.take(hold(5)).unwrap();
    new.release(first).unwrap();
    assert_eq!(new.oldest(), Some(4));
    assert_eq!(old.oldest(), None);
}

#[test]
fn what_does_not_fit_and_what_is_not_there_are_errors() {
    let fault = Error::Status(Status::LockError);
    let mut holds = Holds::new(2).unwrap();
    let hold = |sequence| Hold {
        sequence,
        slab: 1,
        block: sequence,
    };
    let held = holds.take(hold(1)).unwrap();
    let twin = Held(hold(1));
    holds.release(held).unwrap();
    assert_eq!(holds.release(twin), Err(fault));
    assert_eq!(holds.release(Held(hold(7))), Err(fault));
    let taken = (2..).take_while(|sequence| holds.take(hold(*sequence)).is_ok());
    let taken = taken.count();
    assert!(taken >= 2);
    assert_eq!(holds.take(hold(99)), Err(fault));
    assert_eq!(holds.release(Held(hold(99))), Err(fault));
    for sequence in 2..2 + taken as u64 {
        assert_eq!(holds.oldest(), Some(sequence));
        holds.release(Held(hold(sequence))).unwrap();
    }
    assert_eq!(holds.oldest(), None);
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
    let _ = holds.take(late).unwrap();
    holds.ask(9, |slab| asked.push(slab));
    assert_eq!(asked, [7]);
}
