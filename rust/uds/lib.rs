// SPDX-License-Identifier: GPL-2.0

//! The deduplication index: names of 16 bytes in, what is known of them out.
//!
//! The format on disk is that of mainline's UDS index in dm-vdo, bit for bit. The index forgets the
//! oldest names when it is full. What it answers is advice: a wrong or missing answer costs its user
//! time or room, never data. It knows nothing of what the names are of.
//!
//! | File | What it holds |
//! |---|---|
//! | [`service`], [`control`] | an index that is opened and closed while its user lives |
//! | [`index`] | an index that is open: asking, remembering, loading, saving, rebuilding |
//! | [`world`], [`error`] | what it sees of the world; what can go wrong |
//! | [`format`] | what is on disk, but for delta lists |
//! | [`delta`] | delta lists: sorted numbers, coded by their differences |
//! | [`volume_index`] | in memory: which chapter a name is in |
//! | [`open_chapter`] | in memory: chapters that are not on disk yet |
//! | [`seal`], [`bench`] | making and writing a chapter |
//! | [`volume`] | chapters on disk |
//! | [`stream`] | regions of blocks as bytes in order |

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod bench;
pub mod control;
pub mod delta;
pub mod error;
pub mod format;
pub mod index;
pub mod open_chapter;
pub mod seal;
pub mod service;
mod sort;
pub mod stream;
pub mod volume;
pub mod volume_index;
pub mod world;

#[cfg(test)]
mod vectors;
