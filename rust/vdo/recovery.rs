// SPDX-License-Identifier: GPL-2.0

//! What happens after a crash: recovery from the journal, and the rebuild that an administrator
//! can force.
//!
//! Recovery first surveys the ring of the journal ([`Survey`]), which writes nothing. Then the
//! changes since the head go into the block map ([`replay`]), and into the slab journals, which
//! know how far they are. A crash on the way leaves nothing that a repetition would not do again;
//! only the super block that is written at the end makes the old journal void.
//!
//! The [`rebuild`] believes as little as it can: it takes what it finds in the journal, walks all
//! trees of the block map, and counts anew.
//!
//! Memory is bounded, whatever the size of the ring: entries are taken in windows, and sorted by
//! page there. A volume that is read-only keeps what its block map lacks ([`Overlay`](crate::block_map::Overlay)).

pub mod rebuild;
pub mod replay;
pub mod survey;

mod lanes;
mod overlay;
mod reader;

#[cfg(test)]
mod fixture;

pub(crate) use overlay::read_overlay;
pub use survey::Survey;

use crate::format::recovery_journal::Shape;
use crate::format::DepotLayout;
use crate::format::Partition;
use crate::format::Pbn;
use crate::format::Sequence;
use crate::journal::Counters;

/// The journal of a volume that crashed, and what its entries are measured by.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    /// The first block of the ring.
    pub origin: Pbn,
    /// Blocks of the ring: a power of two.
    pub size: u64,
    /// Entries of a block.
    pub shape: Shape,
    /// The nonce of the volume.
    pub nonce: u64,
    /// Recoveries that the volume has seen, modulo 256.
    pub recovery_count: u8,
    /// No head is below this sequence.
    pub journal_start: Sequence,
    /// The counters in the super block.
    pub counters: Counters,
    /// The root pages of the block map.
    pub roots: Partition,
    /// The slabs.
    pub depot: DepotLayout,
}

#[cfg(test)]
mod tests;
