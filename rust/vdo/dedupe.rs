// SPDX-License-Identifier: GPL-2.0

//! What is known of blocks with equal data.
//!
//! | File | What it holds |
//! |---|---|
//! | [`name`] | names of blocks: hashes of their data |
//! | [`advice`] | what the index keeps of a name: where a block of that name was once |
//! | [`index`] | the index of a volume, while there is one to ask |
//! | [`askers`] | look-ups that are not waited for longer than is reasonable |
//! | [`flight`] | names of blocks that are on their way to the storage, so that equal ones share a write |
//! | `disk` | the storage as the index sees it |
//! | `found` | what is counted of duplicates |
//!
//! This room knows nothing of requests. It uses `format`, the crate `uds`, and what all may use.

pub mod advice;
pub mod askers;
pub mod flight;
pub mod index;
pub mod name;

pub mod disk;
pub(crate) mod found;
