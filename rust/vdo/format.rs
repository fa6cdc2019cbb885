// SPDX-License-Identifier: GPL-2.0

//! What is on disk.

/// A logical block number.
pub type Lbn = u64;

/// A physical block number.
pub type Pbn = u64;

/// A sequence number of a journal.
pub type Sequence = u64;
