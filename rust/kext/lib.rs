// SPDX-License-Identifier: GPL-2.0

//! What the `kernel` crate lacks, named as it would be there.
//!
//! A module of this crate goes away on the day that every kernel we build for has its like.

pub mod atomic;
pub mod bio;
pub mod block;
pub mod crc32c;
pub mod errno;
pub mod irq_lock;
pub mod lease;
pub mod lz4;
pub mod noio;
pub mod pages;
pub mod param;
pub mod print;
pub mod process;
pub mod random;
pub mod rcu;
pub mod timer;
pub mod workqueue;
