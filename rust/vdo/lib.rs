// SPDX-License-Identifier: GPL-2.0

//! The core of the vdo target: pure logic, no kernel in it.
//!
//! A vdo volume stores each block of data that is written to it wherever there is room, and keeps
//! a map from logical to physical blocks. Blocks of zeroes take no room.
//!
//! | File | What it holds |
//! |---|---|
//! | [`format`], [`error`] | what is on disk, and what can be wrong with it |
//! | [`world`], [`storage`], [`health`] | what the core sees of the world; the device; read-only mode |
//! | [`open`], [`load`], [`super_block`] | from a table line to a volume |
//! | [`engine`], `start`, `lifecycle`, `growth` | a volume in use, from its start to its stop |
//! | [`inbox`], [`batch`], [`locks`], [`unsettled`] | requests on their way to a worker, in its hands, and beside each other |
//! | `write`, `read`, `discard`, `flush`, `room` | what is done for them |
//! | [`journal`] | the recovery journal: every change of a mapping, in order |
//! | [`block_map`] | the map from logical to physical blocks |
//! | [`depot`] | slabs: which physical blocks are in use, and how often |
//! | [`recovery`] | what happens after a crash |
//! | `rest` | what must hold while nothing is under way |
//! | [`table`], [`message`], [`status`], [`statistics`], [`dump`] | what administrators say and are told |

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(MODULE)]
const __LOG_PREFIX: &[u8] = b"device-mapper: vdo\0";

pub mod batch;
pub mod block_map;
mod counters;
pub mod depot;
mod discard;
pub mod dump;
pub mod engine;
pub mod error;
mod fill;
mod flush;
pub mod format;
mod growth;
pub mod health;
pub mod inbox;
pub mod journal;
mod lifecycle;
pub mod load;
pub mod locks;
pub mod message;
pub mod open;
mod read;
pub mod recovery;
mod report;
mod rest;
mod room;
mod set_aside;
mod shown;
mod start;
pub mod statistics;
pub mod status;
pub mod storage;
pub mod super_block;
pub mod table;
pub mod unsettled;
mod watch;
pub mod world;
mod write;

#[cfg(test)]
mod fixture;
