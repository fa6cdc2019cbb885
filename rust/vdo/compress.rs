// SPDX-License-Identifier: GPL-2.0

//! How blocks become fragments of compressed blocks.
//!
//! | File | What it holds |
//! |---|---|
//! | [`encoder`] | makes a fragment of a block, and gives up early where that does not pay |
//! | [`bins`] | the compressed blocks of a batch, and which of them a fragment goes to |
//! | `switch` | whether blocks are compressed, and what is counted |
//!
//! This room knows nothing of requests. It uses `format`, and what all may use.

pub mod bins;
pub mod encoder;

pub(crate) mod switch;
