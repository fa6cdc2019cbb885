// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::fixture::now;
use crate::fixture::Hand;
use runtime::oneshot::Oneshot;

/// A round that ends when it is told to.
async fn round(end: &Oneshot<Result>) -> Result {
    end.recv().await
}

async fn nothing() -> Result {
    panic!("this one does not lead")
}

#[test]
fn who_comes_during_a_round_waits_for_the_next() {
    let flushes = SharedFlush::new();
    let (first, second) = (Oneshot::new(), Oneshot::new());
    let mut leader = Hand::waiting(flushes.join(round(&first)));
    let mut late = Hand::waiting(flushes.join(round(&second)));
    let mut later = Hand::waiting(flushes.join(nothing()));
    first.send(Ok(()));
    assert!(later.poll().is_none());
    assert_eq!(leader.poll(), Some(Ok(())));
    // The first that is polled leads.
    assert!(late.poll().is_none());
    assert!(later.poll().is_none());
    second.send(Err(Error::Errno(EIO)));
    assert_eq!(late.poll(), Some(Err(Error::Errno(EIO))));
    // What comes of other rounds meanwhile does not matter.
    assert_eq!(now(flushes.join(async { Ok(()) })), Ok(()));
    assert_eq!(later.poll(), Some(Err(Error::Errno(EIO))));
    assert_eq!(now(flushes.join(async { Ok(()) })), Ok(()));
}
