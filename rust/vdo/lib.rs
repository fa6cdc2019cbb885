// SPDX-License-Identifier: GPL-2.0

//! The core of the vdo target: pure logic, no kernel in it.
//!
//! A vdo volume stores each block of data that is written to it wherever there is room, and keeps
//! a map from logical to physical blocks. Blocks of zeroes take no room, and of blocks with the same
//! data one is stored, if it is known of.
//!
//! The crate has rooms, each with its rule of what it may use in its first comment. From below:
//!
//! | Room | What it holds | It may use |
//! |---|---|---|
//! | [`error`], [`world`], [`storage`], [`health`], [`tuning`] | what can be wrong; what the core sees of the world; the device; read-only mode; sizes | `format` |
//! | [`format`] | what is on disk | `error` |
//! | [`admin`] | what administrators say and are told | those above |
//! | [`journal`] | the recovery journal: every change of a mapping, in order | those above |
//! | [`block_map`] | the map from logical to physical blocks | those above |
//! | [`depot`] | slabs: which physical blocks are in use, and how often | those above |
//! | [`dedupe`] | what is known of blocks with equal data | those above, and the crate `uds` |
//! | [`compress`] | how blocks become fragments of compressed blocks | those above |
//! | [`recovery`] | what happens after a crash | those above |
//! | [`data_path`] | requests: reads, writes, discards, flushes | those above but `recovery` |
//! | [`volume`] | a volume as a whole, from its start to its stop | all |

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(MODULE)]
const __LOG_PREFIX: &[u8] = b"device-mapper: vdo\0";

pub mod admin;
pub mod block_map;
pub mod compress;
pub mod data_path;
pub mod dedupe;
pub mod depot;
pub mod error;
pub mod format;
pub mod health;
pub mod journal;
pub mod recovery;
pub mod storage;
pub mod tuning;
pub mod volume;
pub mod world;

#[cfg(test)]
mod fixture;
