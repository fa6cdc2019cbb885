// SPDX-License-Identifier: GPL-2.0

//! From a bio to its completion.
//!
//! | File | What it holds |
//! |---|---|
//! | [`inbox`], [`batch`] | bios on their way to a worker, and in its hands |
//! | [`locks`], [`unsettled`], `shown` | what requests that are under way are to each other |
//! | `write`, `fill`, `share`, `join`, `pack`, `settle`, `park`, `packer`, `room`, `set_aside` | writes |
//! | `discard`, `read`, `flush` | the other requests |
//! | `fragment`, `lost`, `counters` | what several of them need: compressed blocks, whether a write is lost, what is counted |
//!
//! This room uses the journal, the block map, the depot, what is known of duplicates, and compression. It
//! knows nothing of the volume as a whole, of its start and stop: each of those who serve has what it
//! needs, and no more.

pub mod batch;
pub mod inbox;
pub mod locks;
pub mod unsettled;

pub(crate) mod counters;
pub(crate) mod discard;
pub(crate) mod flush;
pub(crate) mod join;
pub(crate) mod lost;
pub(crate) mod pack;
pub(crate) mod packer;
pub(crate) mod park;
pub(crate) mod read;
pub(crate) mod set_aside;
pub(crate) mod settle;
pub(crate) mod share;
pub(crate) mod shown;
pub(crate) mod write;

mod fill;
mod fragment;
mod room;
