// SPDX-License-Identifier: GPL-2.0

//! Checks a vdo volume: every invariant of the on-disk format, on a volume that was stopped or
//! crashed.
//!
//! Nothing is written. Of a crashed volume the recovery journal is replayed in memory first
//! ([`recover`]), by code that shares nothing but the codecs with the target's own, so that each
//! finds the mistakes of the other.
//!
//! ```no_run
//! let image = vdo_check::FileImage::open("/dev/storage".as_ref())?;
//! let report = vdo_check::Check::new(&image).run();
//! for finding in &report.findings {
//!     println!("{finding}");
//! }
//! assert!(report.is_sound());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Memory: three bytes for each data block of each slab that is in use, and, for a crashed volume,
//! the pages that its journal changes. All sizes come from the volume; how many entries a journal
//! block holds is a parameter ([`Shape`]), so that the simulator's small volumes can be checked.

pub mod finding;
pub mod image;
pub mod index;
pub mod recover;
pub mod sample;
pub mod volume;

mod counts;
mod data;
mod journal;
mod references;
mod regenerate;
mod sizes;
mod slabs;
mod walk;

pub use finding::Finding;
pub use finding::Place;
pub use finding::Severity;
pub use image::FileImage;
pub use image::Image;
pub use image::MemoryImage;
pub use index::Index;
pub use volume::Volume;

use finding::Findings;
use references::References;
use std::collections::BTreeMap;
use vdo::format::recovery_journal;
use vdo::format::slab_journal;
use vdo::format::Geometry;
use vdo::format::Lbn;
use vdo::format::Mapping;
use vdo::format::Page;
use vdo::format::State;
use vdo::format::SuperBlock;
use vdo::format::BLOCK_SIZE;

/// How many entries journal blocks hold: the format's, unless this is a volume of the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Of the recovery journal.
    pub journal: recovery_journal::Shape,
    /// Of slab journals.
    pub slab_journal: slab_journal::Shape,
}

impl Shape {
    /// The format's.
    pub const STANDARD: Self = Self {
        journal: recovery_journal::Shape::STANDARD,
        slab_journal: slab_journal::Shape::STANDARD,
    };
}

/// What a check is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the recovery journal, in blocks.
    Journal,
    /// Walking the block map, in leaf pages. (Those that are missing count as done.)
    BlockMap,
    /// Comparing reference counts, in slabs.
    Slabs,
    /// Decompressing, in slabs.
    Compressed,
    /// Looking for the logical blocks of what was found, in leaf pages.
    Owners,
    /// Reading the index, in chapters.
    Index,
}

/// Told how far a stage is: done, and all.
pub type Progress<'a> = dyn FnMut(Stage, u64, u64) + 'a;

/// A check that is to be run.
pub struct Check<'a> {
    image: &'a dyn Image,
    shape: Shape,
    index: Option<uds::format::geometry::Shape>,
    toy: bool,
    deep: bool,
    keep_mappings: bool,
    progress: Option<Box<Progress<'a>>>,
}

impl<'a> Check<'a> {
    /// A check of a volume.
    pub fn new(image: &'a dyn Image) -> Self {
        Self {
            image,
            shape: Shape::STANDARD,
            index: None,
            toy: false,
            deep: false,
            keep_mappings: false,
            progress: None,
        }
    }

    /// A volume of the simulator: its journal blocks have this shape, and sizes may be smaller
    /// than formatters make them.
    pub fn toy(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self.toy = true;
        self
    }

    /// The index of a volume of the simulator has this shape.
    pub fn index(mut self, shape: uds::format::geometry::Shape) -> Self {
        self.index = Some(shape);
        self
    }

    /// Also checks what is of no use for the next start: slab journals whose entries are all in
    /// the reference counts, the history of each slot in the recovery journal, the records of the index.
    pub fn deep(mut self) -> Self {
        self.deep = true;
        self
    }

    /// Keeps every mapping for the report.
    pub fn keep_mappings(mut self) -> Self {
        self.keep_mappings = true;
        self
    }

    /// Says who wants to know how far the check is.
    pub fn progress(mut self, progress: impl FnMut(Stage, u64, u64) + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Runs the check.
    pub fn run(mut self) -> Report {
        let mut report = Report::default();
        let mut findings = Findings::default();
        let progress = &mut *self
            .progress
            .take()
            .unwrap_or_else(|| Box::new(|_, _, _| {}));
        let volume = sizes::open(self.image, self.shape, self.toy, &mut findings);
        if let Some(mut volume) = volume {
            volume.deep = self.deep;
            report.geometry = Some(volume.geometry);
            report.super_block = Some(volume.super_block);
            let mut keep = self.keep_mappings.then(BTreeMap::new);
            contents(
                &mut volume,
                keep.as_mut(),
                &mut findings,
                progress,
                &mut report,
            );
            report.mappings = keep.unwrap_or_default();
            // Of a volume of the simulator nothing else says how large its index is.
            if self.index.is_some() || !self.toy {
                report.index = index::check(&volume, self.index, &mut findings, progress);
            }
        }
        report.findings = findings.into_vec();
        report
    }
}

/// Checks everything behind the super block.
fn contents(
    volume: &mut Volume<'_>,
    keep: Option<&mut BTreeMap<Lbn, Mapping>>,
    findings: &mut Findings,
    progress: &mut Progress<'_>,
    report: &mut Report,
) {
    let journal = journal::check(volume, findings, progress);
    if volume.super_block.state.needs_recovery() {
        report.recovery = journal
            .as_ref()
            .and_then(|journal| recover::replay(volume, journal, findings));
        if report.recovery.is_none() {
            return;
        }
    }
    let mut references = References::new(volume.super_block.depot);
    let mut usage = walk::check(volume, &mut references, keep, findings, progress);
    slabs::check(volume, &references, &mut usage, findings, progress);
    data::check(volume, &references, findings, progress);
    if let Some(journal) = &journal {
        journal::check_pages(volume, journal, |pbn| references.height(pbn), findings);
        if volume.deep && volume.is_counted() {
            regenerate::check(volume, journal, findings);
        }
    }
    if findings.wants_owners() {
        walk::name_owners(volume, findings, progress);
    }
    report.usage = usage;
}

/// What is in use, counted in the block map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Mapped logical blocks, zero blocks included.
    pub logical_blocks: u64,
    /// Logical blocks that are mapped to the zero block.
    pub zero_blocks: u64,
    /// Logical blocks that are fragments of compressed blocks.
    pub compressed_fragments: u64,
    /// Data blocks that hold data, compressed or not.
    pub data_blocks: u64,
    /// Pages of the block map in slabs.
    pub tree_pages: u64,
    /// Of those, pages that were never written.
    pub empty_pages: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The geometry block, if it can be read.
    pub geometry: Option<Geometry>,
    /// The super block as stored, if it can be read.
    pub super_block: Option<SuperBlock>,
    /// What a recovery would do, if the volume crashed.
    pub recovery: Option<recover::Recovery>,
    /// What is in use.
    pub usage: Usage,
    /// What the index has, if there is one.
    pub index: Option<Index>,
    /// What is not as it should be, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// All mappings, if they were to be kept; of a crashed volume, those after recovery.
    pub mappings: BTreeMap<Lbn, Mapping>,
}

impl Report {
    /// Returns whether nothing is wrong with the volume; warnings and notes do not count.
    pub fn is_sound(&self) -> bool {
        !self
            .findings
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }

    /// Returns the invariants that are broken, each once, in order.
    pub fn broken(&self) -> Vec<u8> {
        let mut broken: Vec<_> = self
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| finding.invariant)
            .collect();
        broken.sort_unstable();
        broken.dedup();
        broken
    }
}

/// Reads the data behind a mapping of a volume whose PBNs are blocks of the image.
///
/// A recovery does not change data blocks, so this is good for crashed volumes too.
pub fn read_data(image: &dyn Image, mapping: Mapping) -> std::io::Result<Box<Page>> {
    let mut page = Box::new([0; BLOCK_SIZE]);
    if !mapping.is_valid_location() {
        return Err(std::io::Error::other("a mapping that makes no sense"));
    }
    if mapping.pbn == 0 {
        return Ok(page);
    }
    image.read_block(mapping.pbn, &mut page)?;
    match mapping.state.slot() {
        None => Ok(page),
        Some(slot) => volume::decompress(&page, slot),
    }
}

/// Returns whether everything in memory went to disk before the volume reached this state.
fn is_clean(state: State) -> bool {
    matches!(state, State::Clean | State::New | State::Recovering)
}
