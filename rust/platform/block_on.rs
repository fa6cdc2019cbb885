// SPDX-License-Identifier: GPL-2.0

//! Runs a future on the calling thread, asleep while it waits.

use crate::task::Header;
use crate::task::TaskOps;
use core::future::Future;
use core::pin::pin;
use core::ptr::NonNull;
use core::task::Poll;
use kernel::bindings;
use kernel::prelude::*;
use kernel::types::Opaque;

/// A task on the stack of the thread that runs it.
#[repr(C)]
#[pin_data]
struct Parked {
    header: Header,
    #[pin]
    wake: Opaque<bindings::completion>,
}

/// Waking the task, and dropping its last reference, both end one wait of the thread.
const OPS: TaskOps = TaskOps {
    schedule: unpark,
    last: unpark,
};

/// Runs `future` to its end and returns its output. Sleeps, but not for I/O of allocations.
///
/// For the callbacks of device-mapper that may sleep; never inside a task.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    pin_init::stack_pin_init!(let parked = pin_init!(Parked {
        header: Header::new(&OPS),
        // SAFETY: The slot is valid for writes, and the completion stays there: it is pinned.
        wake <- Opaque::ffi_init(|slot| unsafe { bindings::init_completion(slot) }),
    }));
    let parked: NonNull<Parked> = NonNull::from(&*parked);
    let output = loop {
        // SAFETY: A poll is due: the first, or one that `unpark` was called for. The future has not
        // returned, and is that of the task.
        match unsafe { Header::poll(parked.cast(), future.as_mut()) } {
            Poll::Ready(output) => break output,
            Poll::Pending => park(parked),
        }
    };
    // The future may live on for a moment: nobody polls it again, and its wakers do not touch it.
    // SAFETY: The task is on this stack, and of its header there are only shared references.
    let finished = unsafe { &(*parked.as_ptr()).header }.complete();
    if !finished {
        // Somebody still has a waker. Each wake was waited for, so what ends this is the last.
        park(parked);
    }
    output
}

/// Waits for one call of [`unpark`].
fn park(this: NonNull<Parked>) {
    // SAFETY: `block_on` calls this with what is on its stack.
    let wake = unsafe { &(*this.as_ptr()).wake };
    // SAFETY: The completion is initialised, and this may sleep.
    unsafe { bindings::wait_for_completion(wake.get()) };
}

/// # Safety
///
/// The task is alive until this call has ended a wait.
unsafe fn unpark(header: NonNull<Header>) {
    // SAFETY: The header is the first field of a `Parked`, alive by the contract.
    let wake = unsafe { &(*header.cast::<Parked>().as_ptr()).wake };
    // SAFETY: The completion is initialised. `complete` does not touch it after the waiter may
    // return.
    unsafe { bindings::complete(wake.get()) };
}
