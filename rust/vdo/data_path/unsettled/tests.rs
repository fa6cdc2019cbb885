// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::fixture::now;
use crate::fixture::Hand;

#[test]
fn who_asks_waits_for_what_was_begun_before() {
    let unsettled = Unsettled::new(2).unwrap();
    now(unsettled.settled());
    let first = unsettled.begin(0);
    let mut flush = Hand::waiting(unsettled.settled());
    let second = unsettled.begin(1);
    assert!(flush.poll().is_none());
    drop(first);
    assert!(flush.poll().is_some());
    let again = unsettled.begin(0);
    let mut flush = Hand::waiting(unsettled.settled());
    drop(second);
    assert!(flush.poll().is_none());
    drop(again);
    assert!(flush.poll().is_some());
}

#[test]
fn a_batch_waits_for_those_that_were_begun_before_it_only() {
    let unsettled = Unsettled::new(3).unwrap();
    let first = unsettled.begin(2);
    let _own = unsettled.begin(0);
    let _later = unsettled.begin(1);
    let mut wait = Hand::waiting(unsettled.settled_before(0));
    assert!(wait.poll().is_none());
    drop(first);
    assert!(wait.poll().is_some());
}
