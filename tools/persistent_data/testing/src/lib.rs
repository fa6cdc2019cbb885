// SPDX-License-Identifier: GPL-2.0

//! What tests of metadata need: a disk in memory that remembers what was written to it, the
//! images that a crash may leave, an independent checker, and the vectors of mainline's metadata.
//!
//! Nothing here uses `persistent_data`: what judges that crate shares no code with it.

pub mod check;
pub mod crash;
pub mod disk;
pub mod vectors;

use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

/// Bytes in a block of metadata.
pub const BLOCK: usize = 4096;

/// Runs a future whose I/O completes at once.
///
/// # Panics
///
/// If the future waits for something.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future waits although all I/O completes at once"),
    }
}
