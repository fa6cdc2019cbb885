// SPDX-License-Identifier: GPL-2.0

//! The core of the clone target: pure logic, no kernel in it.
//!
//! A clone device shows the content of a read-only *source* at once, and moves it to a writable
//! *destination* in the background or when it is written. It is cut into regions; one bit a region
//! says whether the destination has it ([`region_map`]).
//!
//! | File | What it holds |
//! |---|---|
//! | [`table`], [`message`], [`status`] | the words of users |
//! | [`route`] | what `map()` does with a request: remap it, or make a job of it |
//! | [`serve`] | the jobs: writes to regions that are not hydrated, discards, flushes |
//! | [`copier`] | copies, and the workers that make them |
//! | [`sweep`], [`hydration`], [`window`], [`throttle`] | what is copied in the background, and how much at once |
//! | [`commit`] | who waits for which commit |
//! | [`volume`], [`metadata`], [`superblock`] | what is on disk, and the order of its writes |

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(MODULE)]
const __LOG_PREFIX: &[u8] = b"device-mapper: clone metadata\0";

pub mod commit;
pub mod copier;
pub mod engine;
pub mod geometry;
pub mod hydration;
pub mod message;
mod metadata;
pub mod region_map;
pub mod route;
pub mod serve;
pub mod status;
mod superblock;
mod sweep;
pub mod table;
mod throttle;
pub mod volume;
mod window;
