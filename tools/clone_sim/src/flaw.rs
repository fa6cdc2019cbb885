// SPDX-License-Identifier: GPL-2.0

//! Rules that a clone lives by, to be broken one at a time.
//!
//! What is broken is what stands around the core: its devices, or the glue that drives it. The
//! core is the one that the kernel runs.

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Writes to the destination seem to complete when they are issued, so that a region's bit is
    /// set before the destination has its data.
    BitBeforeData,
    /// The destination is not flushed before a commit.
    NoFlushBeforeCommit,
    /// The superblock gets to stable storage before the blocks that it leads to.
    SuperblockFirst,
    /// A discard sets its bits at once, whether a copy is running or not.
    DiscardUnderCopy,
    /// A table reads the bitmap when it is loaded, not when it is resumed.
    StateReadAtLoad,
    /// A completion never arrives.
    LostCompletion,
}
