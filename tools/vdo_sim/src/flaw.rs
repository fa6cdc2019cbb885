// SPDX-License-Identifier: GPL-2.0

//! The rules of order that a volume lives by, to be broken one at a time.
//!
//! What is broken is the storage, not the core: it forgets to make writes of one kind stable
//! although it says so, or makes those of another kind stable before their time. That breaks just
//! the order in question: the core, which is the one that the kernel runs, can no longer keep it.

use crate::device::Kind;
use sim::flawed::Treatment;

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// O1: an entry of the recovery journal is durable before the data it names.
    EntryBeforeData,
    /// O2: a block that an entry freed has new data before the entry is durable.
    ReuseBeforeEntry,
    /// O3: a page of the block map is durable before the journal entries that it has.
    PageBeforeEntry,
    /// O4: the recovery journal is overwritten before the pages that its entries changed are
    /// durable.
    JournalReusedBeforePage,
    /// O5: the slab summary is durable before the slab journal block that it counts.
    SummaryBeforeSlabJournal,
    /// O6: the recovery journal is overwritten before the slab summary is durable.
    JournalReusedBeforeSummary,
    /// O7: reference counts are durable before the journal entries that they include.
    CountsBeforeEntry,
    /// O8: a slab journal block is overwritten before the counts with its entries are durable.
    SlabJournalReusedBeforeCounts,
    /// O9: a new page is said to be initialized in its first write.
    PageInitializedAtOnce,
    /// O9: a page names its child before the journal does.
    ChildBeforeEntry,
    /// O10: the volume changes before the super block says so.
    ChangeBeforeDirty,
    /// O10: the super block says that the volume is clean before everything else is durable.
    CleanTooEarly,
    /// O11: the geometry block is durable before the rest of what the formatter writes.
    GeometryFirst,
}

impl Flaw {
    /// Returns what happens to a write of this kind.
    pub fn treat(self, kind: Kind) -> Treatment {
        use Treatment::{Dropped, Fair, Fickle, Stable};
        match (self, kind) {
            (Flaw::EntryBeforeData, Kind::Data)
            | (Flaw::JournalReusedBeforePage, Kind::Leaf | Kind::Interior | Kind::NewPage)
            | (Flaw::SummaryBeforeSlabJournal, Kind::SlabJournal)
            | (Flaw::JournalReusedBeforeSummary, Kind::Summary)
            | (Flaw::SlabJournalReusedBeforeCounts, Kind::Counts)
            | (Flaw::ChangeBeforeDirty, Kind::SuperBlock) => Fickle,
            (Flaw::ReuseBeforeEntry, Kind::Data)
            | (Flaw::PageBeforeEntry, Kind::Leaf | Kind::NewPage)
            | (Flaw::CountsBeforeEntry, Kind::Counts)
            | (Flaw::ChildBeforeEntry, Kind::Interior) => Stable,
            (flaw, Kind::SuperBlock) if flaw.is_one_ahead() => Fair,
            (flaw, _) if flaw.is_one_ahead() => Fickle,
            (Flaw::PageInitializedAtOnce, Kind::NewPage) => Dropped,
            (Flaw::CleanTooEarly, Kind::SuperBlock) | (Flaw::GeometryFirst, Kind::Geometry) => {
                Stable
            }
            (Flaw::CleanTooEarly | Flaw::GeometryFirst, _) => Fickle,
            _ => Fair,
        }
    }

    /// Returns true if one kind of writes is stable at once and all others stay behind: a crash
    /// loses all of those, or none.
    pub fn is_one_ahead(self) -> bool {
        matches!(
            self,
            Flaw::ReuseBeforeEntry
                | Flaw::PageBeforeEntry
                | Flaw::CountsBeforeEntry
                | Flaw::ChildBeforeEntry
        )
    }

    /// Returns true if users must not flush, so that it is not a broken promise to them that is
    /// found, but what the rule guards.
    pub fn is_quiet(self) -> bool {
        !matches!(self, Flaw::CleanTooEarly | Flaw::GeometryFirst)
    }
}
