// SPDX-License-Identifier: GPL-2.0

use super::apart;
use super::boxed;
use crate::oneshot::Oneshot;
use crate::tests::Hand;
use core::pin::pin;
use kernel::alloc;
use kernel::prelude::*;

#[test]
fn a_boxed_future_runs_to_its_end() {
    let oneshot = Oneshot::new();
    let mut task = Hand::waiting(boxed(|| oneshot.recv()));
    oneshot.send(1);
    assert_eq!(task.poll(), Some(Ok(1)));
}

#[test]
fn a_future_apart_runs_to_its_end() {
    let oneshot = Oneshot::new();
    let mut task = Hand::waiting(async { apart(pin!(oneshot.recv())).await });
    oneshot.send(1);
    assert_eq!(task.poll(), Some(1));
}

#[test]
fn without_memory_a_boxed_future_is_not_run() {
    alloc::fail_after(Some(0));
    let result = Hand::new(boxed(|| async { panic!("it runs") })).poll();
    alloc::fail_after(None);
    assert_eq!(result, Some(Err::<(), _>(ENOMEM)));
}
