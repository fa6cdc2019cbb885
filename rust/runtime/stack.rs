// SPDX-License-Identifier: GPL-2.0

//! Keeping stack frames small.
//!
//! An async function holds the futures that it awaits, and as a rule polls them from its own stack
//! frame, which then has room for the locals of all of them. A kernel stack has 16 KiB. [`apart`]
//! polls a future from a frame of its own; [`boxed`] moves it to the heap as well, for steps that
//! are rare and may allocate (a volume is opened, a device formatted).

use core::future::Future;
use core::pin::Pin;
use core::task::Context;
use core::task::Poll;
use kernel::alloc::Flags;
use kernel::prelude::*;

/// Runs the future that `make` returns, from the heap.
///
/// # Errors
///
/// `ENOMEM`; the future was dropped then, or never made.
pub async fn boxed<F: Future>(make: impl FnOnce() -> F) -> Result<F::Output> {
    Ok(Boxed(place(make, GFP_KERNEL)?).await)
}

/// As [`boxed`], without waiting for memory: for whom others may be waiting to get some.
///
/// # Errors
///
/// As [`boxed`].
pub async fn boxed_at_once<F: Future>(make: impl FnOnce() -> F) -> Result<F::Output> {
    Ok(Boxed(place(make, GFP_NOWAIT)?).await)
}

/// Makes the future in a frame that is gone before it is polled.
#[inline(never)]
fn place<F: Future>(make: impl FnOnce() -> F, flags: Flags) -> Result<Pin<KBox<F>>> {
    Ok(KBox::pin(make(), flags)?)
}

struct Boxed<F>(Pin<KBox<F>>);

impl<F: Future> Future for Boxed<F> {
    type Output = F::Output;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(context)
    }
}

/// Returns a future that polls `future` from a stack frame of its own.
pub fn apart<F: Future>(future: Pin<&mut F>) -> impl Future<Output = F::Output> + use<'_, F> {
    Apart(future)
}

struct Apart<'f, F>(Pin<&'f mut F>);

impl<F: Future> Future for Apart<'_, F> {
    type Output = F::Output;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests;
