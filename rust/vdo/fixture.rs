// SPDX-License-Identifier: GPL-2.0

//! What the tests of this crate share: futures that are polled by hand.

pub(crate) mod crowd;
pub(crate) mod sparse;
pub(crate) mod world;

use core::future::Future;
use core::pin::Pin;
use core::task::Context;
use core::task::Poll;
use core::task::Waker;
use std::boxed::Box;

/// A task that is polled by hand.
pub(crate) struct Hand<'a, T>(Pin<Box<dyn Future<Output = T> + 'a>>);

impl<'a, T> Hand<'a, T> {
    /// Returns a task that was polled once and has to wait.
    pub(crate) fn waiting(future: impl Future<Output = T> + 'a) -> Self {
        let mut hand = Self(Box::pin(future));
        assert!(hand.poll().is_none(), "the task does not wait");
        hand
    }

    /// Polls the task; returns what it returned.
    pub(crate) fn poll(&mut self) -> Option<T> {
        match self
            .0
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }
}

/// Polls a future that does not wait.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut hand = Hand(Box::pin(future));
    hand.poll().expect("the future waits")
}
