// SPDX-License-Identifier: GPL-2.0

use super::Oneshot;
use crate::tests::Hand;

#[test]
fn a_value_waits_for_its_receiver() {
    let oneshot = Oneshot::new();
    oneshot.send(1);
    assert_eq!(Hand::new(oneshot.recv()).poll(), Some(1));
}

#[test]
fn a_receiver_waits_for_its_value() {
    let oneshot = Oneshot::new();
    let mut receiver = Hand::waiting(oneshot.recv());
    assert_eq!(receiver.wakes(), 0);
    oneshot.send(2);
    assert_eq!(receiver.wakes(), 1);
    assert_eq!(receiver.poll(), Some(2));
}

#[test]
fn a_value_is_received_once() {
    let oneshot = Oneshot::new();
    let mut first = Hand::waiting(oneshot.recv());
    let mut second = Hand::waiting(oneshot.recv());
    oneshot.send(3);
    assert_eq!(second.poll(), Some(3));
    assert_eq!(first.poll(), None);
    oneshot.send(4);
    assert_eq!(first.poll(), Some(4));
}
