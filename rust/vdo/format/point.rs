// SPDX-License-Identifier: GPL-2.0

//! Places in a journal.

use super::Sequence;

/// A place in a journal: a block and an entry of it. Ordered as the journal is.
///
/// What counts as an entry depends on the journal and on who counts; see the field that holds the
/// point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalPoint {
    /// The sequence number of the block.
    pub sequence: Sequence,
    /// The entry.
    pub entry: u16,
}

impl JournalPoint {
    /// The point before all others.
    pub const NONE: Self = Self {
        sequence: 0,
        entry: 0,
    };

    /// Returns the point of an entry.
    pub const fn new(sequence: Sequence, entry: u16) -> Self {
        Self { sequence, entry }
    }

    /// Returns the point that is packed into a number.
    pub const fn unpack(packed: u64) -> Self {
        Self {
            sequence: packed >> 16,
            entry: packed as u16,
        }
    }

    /// Packs the point into a number. Of the sequence number, 48 bits are kept.
    pub const fn pack(self) -> u64 {
        (self.sequence << 16) | self.entry as u64
    }
}
