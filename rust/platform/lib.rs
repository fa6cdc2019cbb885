// SPDX-License-Identifier: GPL-2.0

//! Where the kernel implements what `runtime` asks of the world.
//!
//! [`executor`] runs the futures of the cores, [`bio_task`] those that serve one bio each and live
//! in the memory that device-mapper reserves with it, [`block_on`] those that a callback of
//! device-mapper waits for. [`held_bio`] is for bios that are served together. [`disk`] does the
//! cores' I/O, [`clock`] keeps their time, [`ticker`] has them look after themselves, and
//! [`registry`] knows which of a module's targets uses which device.

pub mod bio_task;
pub mod block_on;
pub mod buffer;
pub mod clock;
pub mod disk;
pub mod executor;
pub mod held_bio;
pub mod registry;
pub mod ticker;

mod task;

/// What `pr_err` and the like print first.
const __LOG_PREFIX: &[u8] = b"device-mapper\0";
