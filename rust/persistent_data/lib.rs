// SPDX-License-Identifier: GPL-2.0

//! Persistent metadata as the device-mapper keeps it: blocks, B+trees, arrays, bitsets.
//!
//! The on-disk format is the one of Linux' `drivers/md/persistent-data`, byte for byte; it is
//! described in `Documentation/persistent-data.md`. From the bottom up:
//!
//! - [`checksum`] and [`block`]: what makes a block of 4096 bytes trustworthy;
//! - [`cache`]: blocks in memory, validated when they come in, sealed when they go out;
//! - [`space_map`]: a reference count for every block, and the allocator;
//! - [`transaction`]: changes that become real all at once;
//! - [`btree`], [`mod@array`], [`bitset`]: what users store.
//!
//! One task at a time uses one metadata device: all of these take `&mut`, and there is no lock.
//!
//! [`shared_cache`] stands beside them: pages of any format, in memory for many tasks at once.
//! Nothing here knows any target.
//!
//! # Durability
//!
//! A block that the superblock on disk reaches is never written. Changes go to copies in blocks
//! that were free when the transaction began; the copies are on stable storage before the
//! superblock that reaches them is written; the transaction is on stable storage when that write
//! has been flushed. A crash at any moment leaves the old or the new state.

#![no_std]
#![forbid(unsafe_code)]

pub mod array;
pub mod bitset;
pub mod block;
pub mod btree;
pub mod cache;
pub mod checksum;
pub mod error;
pub mod shared_cache;
pub mod space_map;
mod table;
pub mod transaction;

pub use block::Block;
pub use block::BlockKind;
pub use block::Problem;
pub use block::Stamp;
pub use error::Error;
pub use error::Result;

#[cfg(test)]
extern crate std;

#[cfg(test)]
mod fixture;

#[cfg(test)]
mod tests;
