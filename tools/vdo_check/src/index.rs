// SPDX-License-Identifier: GPL-2.0

//! Invariants 37 to 46: the deduplication index.
//!
//! Whatever is wrong with it costs what would have been found, never data. What a crash leaves is no
//! error: a save that a later chapter has made void, a chapter that was being written.

mod chapters;
mod save;
mod stream;

use crate::finding::Findings;
use crate::finding::Place;
use crate::image::Image;
use crate::volume::Volume;
use crate::Progress;
use std::collections::HashMap;
use std::io;
use uds::format::config;
use uds::format::geometry::Shape;
use uds::format::geometry::SubIndex;
use uds::format::geometry::SubIndexes;
use uds::format::super_block::SuperBlock;
use uds::format::super_block::SAVES;
use uds::format::Chapter;
use uds::format::Geometry;
use uds::format::Name;
use uds::index::Config;
use vdo::dedupe::index::place;
use vdo::format::Page;
use vdo::format::BLOCK_SIZE;

/// What the index of a volume has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// The save that the next start loads; without one, the index is rebuilt from its chapters.
    pub save: Option<u16>,
    /// The oldest chapter.
    pub oldest: Chapter,
    /// The chapter behind the newest that is on disk.
    pub newest: Chapter,
    /// Names that the save remembers.
    pub names: Option<u64>,
}

/// Where a name is in the volume index: set of lists, list, address.
type Key = (u8, u32, u32);

/// An index whose sizes are known.
struct Region<'a> {
    image: &'a dyn Image,
    geometry: Geometry,
    super_block: SuperBlock,
    nonce: u64,
    deep: bool,
}

impl Region<'_> {
    fn read(&self, block: u64) -> io::Result<Box<Page>> {
        let mut page = Box::new([0; BLOCK_SIZE]);
        self.image.read_block(block, &mut page)?;
        Ok(page)
    }

    /// Returns the sets of lists of the volume index.
    fn sets(&self) -> Vec<SubIndex> {
        match self.geometry.volume_index {
            SubIndexes::Dense(all) => vec![all],
            SubIndexes::Sparse(others, samples) => vec![others, samples],
        }
    }

    /// Returns where the volume index has a name.
    fn key(&self, name: &Name) -> Key {
        let is_sample = self.geometry.is_sample(name.sample_key());
        let (number, set) = match self.geometry.volume_index {
            SubIndexes::Dense(all) => (0, all),
            SubIndexes::Sparse(_, samples) if is_sample => (1, samples),
            SubIndexes::Sparse(others, _) => (0, others),
        };
        let (address, list) = set.place(name.volume_key());
        (number, list, address)
    }
}

/// What is known of the chapters on disk from elsewhere.
struct Known {
    oldest: Chapter,
    newest: Chapter,
    /// Last list of each index page of each slot, but for the last page.
    page_map: Option<Vec<u16>>,
    /// What the volume index has of each chapter; only in a deep check.
    entries: HashMap<Chapter, Vec<Key>>,
}

/// Checks the index of a volume, if one was ever made. Its shape is that of the geometry block, unless
/// this is a volume of the simulator.
pub(crate) fn check(
    volume: &Volume<'_>,
    shape: Option<Shape>,
    findings: &mut Findings,
    progress: &mut Progress<'_>,
) -> Option<Index> {
    let shape = shape.or_else(|| vdo::dedupe::index::shape(&volume.geometry));
    let config = place(&volume.geometry, shape)?;
    let region = open(volume, &config, findings)?;
    let saved = save::check(&region, findings);
    let known = saved.as_ref().map(|saved| &saved.known);
    let (oldest, newest) = chapters::check(&region, known, findings, progress);
    Some(Index {
        save: saved.as_ref().map(|saved| saved.slot),
        oldest,
        newest,
        names: saved.as_ref().map(|saved| saved.names),
    })
}

/// Checks super block and configuration.
fn open<'a>(volume: &Volume<'a>, config: &Config, findings: &mut Findings) -> Option<Region<'a>> {
    let mut page = Box::new([0; BLOCK_SIZE]);
    let mut read = |block, findings: &mut Findings| {
        let result = volume.image.read_block(block, &mut page);
        if let Err(error) = result {
            findings.error(0, Place::Index, format!("block {block}: {error}"));
            return None;
        }
        Some(page.clone())
    };
    let first = read(config.start, findings)?;
    if first.iter().all(|byte| *byte == 0) {
        return None;
    }
    let super_block = match SuperBlock::decode(&first, config.start) {
        Ok(super_block) => super_block,
        Err(fault) => {
            findings.error(37, Place::Index, fault.to_string());
            return None;
        }
    };
    let mut geometry = config.geometry;
    let second = read(config.start + 1, findings)?;
    let converted = super_block.conversion.is_some();
    match config::decode(&second, &geometry, config.owner, converted) {
        Ok(moved) => geometry.moved = moved,
        Err(fault) => {
            findings.error(38, Place::Index, fault.to_string());
            return None;
        }
    }
    let end = super_block.save_block(SAVES as u16 - 1) + super_block.save_blocks;
    if !super_block.fits(&geometry) || end > config.start + config.blocks {
        let text = "its parts are not as large as its configuration says";
        findings.error(37, Place::Index, text);
        return None;
    }
    Some(Region {
        image: volume.image,
        geometry,
        super_block,
        nonce: super_block.volume_nonce(),
        deep: volume.deep,
    })
}
