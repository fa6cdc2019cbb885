// SPDX-License-Identifier: GPL-2.0

//! What a check finds: which invariant is broken, where, and how.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use vdo::format::Lbn;
use vdo::format::Pbn;
use vdo::format::Sequence;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Unusual, but harmless or legal after a crash.
    Warning,
    /// An invariant is broken.
    Error,
}

/// Where something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The geometry block.
    Geometry,
    /// The super block.
    SuperBlock,
    /// The whole volume.
    Volume,
    /// A block.
    Block(Pbn),
    /// A slot of a block map page.
    Slot {
        /// The page.
        page: Pbn,
        /// The slot.
        slot: u16,
    },
    /// A logical block.
    Logical(Lbn),
    /// A slab.
    Slab(u32),
    /// A block of a slab's journal.
    SlabJournal {
        /// The slab.
        slab: u32,
        /// The sequence of the block.
        sequence: Sequence,
    },
    /// A block of the recovery journal.
    Journal(Sequence),
    /// The index.
    Index,
    /// A place for a save of the index.
    Save(u16),
    /// A chapter of the index.
    Chapter(u64),
    /// An index page of a chapter.
    ChapterIndex {
        /// The chapter.
        chapter: u64,
        /// The page.
        page: u32,
    },
    /// A page of records of a chapter.
    ChapterRecords {
        /// The chapter.
        chapter: u64,
        /// The page.
        page: u32,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Geometry => f.write_str("geometry block"),
            Self::SuperBlock => f.write_str("super block"),
            Self::Volume => f.write_str("volume"),
            Self::Block(pbn) => write!(f, "block {pbn}"),
            Self::Slot { page, slot } => write!(f, "block map page {page}, slot {slot}"),
            Self::Logical(lbn) => write!(f, "logical block {lbn}"),
            Self::Slab(slab) => write!(f, "slab {slab}"),
            Self::SlabJournal { slab, sequence } => {
                write!(f, "slab {slab}, journal block {sequence}")
            }
            Self::Journal(sequence) => write!(f, "recovery journal block {sequence}"),
            Self::Index => f.write_str("index"),
            Self::Save(slot) => write!(f, "index, save {slot}"),
            Self::Chapter(chapter) => write!(f, "index, chapter {chapter}"),
            Self::ChapterIndex { chapter, page } => {
                write!(f, "index, chapter {chapter}, index page {page}")
            }
            Self::ChapterRecords { chapter, page } => {
                write!(f, "index, chapter {chapter}, record page {page}")
            }
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The invariant, as numbered in `Documentation/vdo-format.md` and `index-format.md`; 0 if a
    /// block cannot be read.
    pub invariant: u8,
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub text: String,
    /// Logical blocks that are stored there, if any: the first few.
    pub owners: Vec<Lbn>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(
            f,
            "{severity} [{}] {}: {}",
            self.invariant, self.place, self.text
        )?;
        if let Some((first, rest)) = self.owners.split_first() {
            write!(f, " (logical block {first}")?;
            for lbn in rest {
                write!(f, ", {lbn}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// More findings than this of one invariant are counted only.
const FINDINGS_PER_INVARIANT: u64 = 100;

/// More logical blocks than this are not named.
const OWNERS_PER_FINDING: usize = 8;

/// What was found so far.
#[derive(Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    counts: BTreeMap<(u8, Severity), u64>,
}

impl Findings {
    pub(crate) fn add(
        &mut self,
        invariant: u8,
        severity: Severity,
        place: Place,
        text: impl Into<String>,
    ) {
        let count = self.counts.entry((invariant, severity)).or_default();
        *count += 1;
        if *count > FINDINGS_PER_INVARIANT {
            return;
        }
        self.list.push(Finding {
            invariant,
            severity,
            place,
            text: text.into(),
            owners: Vec::new(),
        });
    }

    pub(crate) fn error(&mut self, invariant: u8, place: Place, text: impl Into<String>) {
        self.add(invariant, Severity::Error, place, text);
    }

    pub(crate) fn warn(&mut self, invariant: u8, place: Place, text: impl Into<String>) {
        self.add(invariant, Severity::Warning, place, text);
    }

    pub(crate) fn note(&mut self, invariant: u8, place: Place, text: impl Into<String>) {
        self.add(invariant, Severity::Note, place, text);
    }

    /// A block cannot be read.
    pub(crate) fn unreadable(&mut self, pbn: Pbn, error: &std::io::Error) {
        self.error(0, Place::Block(pbn), format!("cannot be read: {error}"));
    }

    /// Returns the number of errors.
    pub(crate) fn errors(&self) -> u64 {
        let is_error = |&(&(_, severity), _): &(&(u8, Severity), &u64)| severity == Severity::Error;
        self.counts
            .iter()
            .filter(is_error)
            .map(|(_, count)| count)
            .sum()
    }

    /// Returns whether data blocks are among the places.
    pub(crate) fn wants_owners(&self) -> bool {
        self.list
            .iter()
            .any(|finding| matches!(finding.place, Place::Block(_)))
    }

    /// Returns the data blocks among the places.
    pub(crate) fn blocks(&self) -> BTreeSet<Pbn> {
        let block = |finding: &Finding| match finding.place {
            Place::Block(pbn) => Some(pbn),
            _ => None,
        };
        self.list.iter().filter_map(block).collect()
    }

    /// Names a logical block that is stored at `pbn`.
    pub(crate) fn add_owner(&mut self, pbn: Pbn, lbn: Lbn) {
        for finding in &mut self.list {
            if finding.place == Place::Block(pbn) && finding.owners.len() < OWNERS_PER_FINDING {
                finding.owners.push(lbn);
            }
        }
    }

    pub(crate) fn into_vec(mut self) -> Vec<Finding> {
        for ((invariant, severity), count) in self.counts {
            if count > FINDINGS_PER_INVARIANT {
                let more = count - FINDINGS_PER_INVARIANT;
                self.list.push(Finding {
                    invariant,
                    severity,
                    place: Place::Volume,
                    text: format!("{more} more of this kind"),
                    owners: Vec::new(),
                });
            }
        }
        self.list
    }
}
