// SPDX-License-Identifier: GPL-2.0

//! A volume as a whole: from a table line to its last block.
//!
//! | File | What it holds |
//! |---|---|
//! | [`load`], [`open`], [`super_block`] | from a table line to a volume |
//! | [`engine`] | a volume in use: its parts and its tasks |
//! | `start`, `lifecycle`, `growth` | what changes it as a whole |
//! | `report`, `watch` | what is told of it, asked for and by itself |
//! | `rest` | what must hold while nothing is under way |
//!
//! This room is above all others of the crate: it may use them, none uses it.

pub mod engine;
pub mod load;
pub mod open;
pub mod super_block;

mod growth;
mod lifecycle;
mod report;
mod rest;
mod start;
mod watch;
