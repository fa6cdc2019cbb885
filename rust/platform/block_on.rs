// SPDX-License-Identifier: GPL-2.0

//! Runs a future on the calling thread, asleep while it waits.

use crate::task::Header;
use crate::task::Home;
use crate::task::Progress;
use core::future::Future;
use core::pin::pin;
use core::ptr::NonNull;
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
const HOME: Home = Home {
    schedule: unpark,
    last: unpark,
};

/// Runs `future` to its end and returns its output. Sleeps, but not for I/O of allocations.
///
/// For the callbacks of device-mapper that may sleep; never inside a task.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    pin_init::stack_pin_init!(let parked = pin_init!(Parked {
        header: Header::new(&HOME),
        // SAFETY: The slot is where the completion will stay.
        wake <- Opaque::ffi_init(|slot| unsafe { bindings::init_completion(slot) }),
    }));
    let parked: NonNull<Parked> = NonNull::from(&*parked);
    let output = loop {
        // SAFETY: A poll is due: the first, or one that `unpark` was called for.
        match unsafe { Header::poll(parked.cast(), future.as_mut()) } {
            Progress::Ready(output) => break output,
            Progress::Pending => park(parked),
        }
    };
    // The future may live on for a moment: nobody polls it again, and its wakers do not touch it.
    // SAFETY: The task holds its own reference.
    let finished = unsafe { &(*parked.as_ptr()).header }.complete();
    if !finished {
        // Somebody still has a waker. Each wake was waited for, so what ends this is the last.
        park(parked);
    }
    output
}

/// Waits for one call of [`unpark`].
fn park(this: NonNull<Parked>) {
    // SAFETY: The completion is initialised and on our stack.
    unsafe { bindings::wait_for_completion((*this.as_ptr()).wake.get()) };
}

/// # Safety
///
/// The task is alive until this call has ended a wait.
unsafe fn unpark(header: NonNull<Header>) {
    // SAFETY: By the contract; the header is the first field. `complete` does not touch the
    // completion after the waiter may return.
    unsafe { bindings::complete((*header.cast::<Parked>().as_ptr()).wake.get()) };
}
