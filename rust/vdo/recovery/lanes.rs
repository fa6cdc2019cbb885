// SPDX-License-Identifier: GPL-2.0

//! Several pieces of work at once, within one task: so that several I/Os are in flight.

use crate::error::Result;
use core::future::poll_fn;
use core::future::Future;
use core::task::Context;
use core::task::Poll;
use kernel::prelude::*;

/// How many pages are read and written at once.
pub(super) const LANES: usize = 64;

/// Runs some futures until all have ended, and returns the first error.
///
/// # Errors
///
/// That of a future; `ENOMEM`.
pub(super) async fn run<F>(lanes: usize, make: impl Fn() -> F) -> Result
where
    F: Future<Output = Result>,
{
    let mut futures = KVec::with_capacity(lanes, GFP_KERNEL)?;
    for _ in 0..lanes {
        futures.push(Some(place(&make)?), GFP_KERNEL)?;
    }
    let mut result = Ok(());
    poll_fn(|context| {
        for future in futures.iter_mut() {
            if let Some(Poll::Ready(ended)) = future.as_mut().map(|own| poll(own, context)) {
                *future = None;
                result = result.and(ended);
            }
        }
        if futures.iter().all(Option::is_none) {
            Poll::Ready(result)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Makes a future in a frame that is gone before it is polled.
#[inline(never)]
fn place<F>(make: &impl Fn() -> F) -> Result<Pin<KBox<F>>> {
    Ok(KBox::pin(make(), GFP_KERNEL)?)
}

/// Polls a future from a frame of its own.
#[inline(never)]
fn poll<F>(future: &mut Pin<KBox<F>>, context: &mut Context<'_>) -> Poll<F::Output>
where
    F: Future,
{
    future.as_mut().poll(context)
}
