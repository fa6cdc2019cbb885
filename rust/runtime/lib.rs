// SPDX-License-Identifier: GPL-2.0

//! What a core sees of the world, and the primitives it waits with.
//!
//! The cores (`clone`, `vdo`) are async and do no I/O of their own. This crate holds the traits
//! through which they reach block devices and time ([`disk`], [`clock`]), and a small set of async
//! primitives that allocate nothing to wait ([`monitor`] and what stands on it). It knows nothing
//! of the kernel, but for [`sync`], which picks the atomics and the lock of the platform: the
//! kernel's, std's, or loom's.
//!
//! All `unsafe` of the crate is in [`monitor`] and [`range_lock`], whose lists and trees run through
//! the futures that wait.
//!
//! Futures of this project are never dropped before they are done: the executors poll a task to
//! its end. A leaf that waits for the hardware owns its buffers, so that even a forgotten future
//! leaks memory instead of handing it out while a device writes to it.

#![no_std]
#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(not(MODULE))]
extern crate std;

pub mod clock;
pub mod disk;
pub mod join;
pub mod monitor;
pub mod oneshot;
pub mod pool;
#[cfg(not(MODULE))]
pub mod preempt;
pub mod range_lock;
pub mod sort;
pub mod stack;
pub mod steps;
pub mod sync;
pub mod task;

#[cfg(test)]
mod tests;
