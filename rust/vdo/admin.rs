// SPDX-License-Identifier: GPL-2.0

//! What administrators say and are told: texts, and the numbers in them.
//!
//! | File | What it holds |
//! |---|---|
//! | [`table`], [`message`] | what they say |
//! | [`status`], [`statistics`], [`dump`] | what they are told |
//!
//! This room knows how things are written, not where they come from: it uses `format` only, and what
//! all may use.

pub mod dump;
pub mod message;
pub mod statistics;
pub mod status;
pub mod table;
