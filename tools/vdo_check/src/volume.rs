// SPDX-License-Identifier: GPL-2.0

//! A volume whose sizes are known to make sense, with what a recovery changed in memory.

use crate::counts;
use crate::finding::Findings;
use crate::image::Image;
use crate::Shape;
use std::collections::btree_map::Entry;
use std::collections::BTreeMap;
use std::io;
use vdo::format::compressed;
use vdo::format::summary;
use vdo::format::tree::Forest;
use vdo::format::Geometry;
use vdo::format::Page;
use vdo::format::Pbn;
use vdo::format::State;
use vdo::format::SummaryEntry;
use vdo::format::SuperBlock;
use vdo::format::BLOCK_SIZE;

/// A volume.
pub struct Volume<'a> {
    /// Where its blocks are.
    pub(crate) image: &'a dyn Image,
    /// The geometry block.
    pub geometry: Geometry,
    /// The super block; after a recovery, the one that it would write.
    pub super_block: SuperBlock,
    /// How many entries journal blocks have.
    pub shape: Shape,
    pub(crate) toy: bool,
    pub(crate) deep: bool,
    /// Whether what follows describes a volume that a recovery has changed in memory.
    pub(crate) is_recovered: bool,
    pub(crate) changed: BTreeMap<Pbn, Box<Page>>,
    pub(crate) summary: Vec<SummaryEntry>,
}

impl<'a> Volume<'a> {
    pub(crate) fn new(
        image: &'a dyn Image,
        geometry: Geometry,
        super_block: SuperBlock,
        shape: Shape,
    ) -> Self {
        Self {
            image,
            geometry,
            super_block,
            shape,
            toy: false,
            deep: false,
            is_recovered: false,
            changed: BTreeMap::new(),
            summary: Vec::new(),
        }
    }

    /// Reads a block: as a recovery left it, or from the image.
    pub fn read(&self, pbn: Pbn) -> io::Result<Box<Page>> {
        if let Some(page) = self.changed.get(&pbn) {
            return Ok(page.clone());
        }
        let block = self.geometry.device_block(pbn);
        let block = block.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut page = Box::new([0; BLOCK_SIZE]);
        self.image.read_block(block, &mut page)?;
        Ok(page)
    }

    /// Returns the true reference counts of a slab.
    pub fn counts(&self, slab: u32) -> io::Result<Vec<u8>> {
        let entry = self.summary.get(slab as usize).copied();
        let entry = entry.ok_or(io::ErrorKind::InvalidInput)?;
        let found = counts::load(self, slab, entry, &mut Findings::default())?;
        Ok(found.counts)
    }

    /// Returns the summary entry of a slab.
    pub fn summary(&self, slab: u32) -> Option<SummaryEntry> {
        self.summary.get(slab as usize).copied()
    }

    /// Returns the trees of the block map.
    pub fn forest(&self) -> Forest {
        let roots = self.super_block.root_count.max(1);
        let forest = Forest::new(roots, self.super_block.logical_blocks);
        forest.expect("at least one root")
    }

    /// Returns whether reference counts mean anything: a volume that is to be rebuilt, or cannot
    /// be written, has what it has.
    pub(crate) fn is_counted(&self) -> bool {
        let state = self.super_block.state;
        state != State::ReadOnly && !state.needs_rebuild()
    }

    /// Returns whether everything was on disk when the volume stopped.
    pub(crate) fn is_clean(&self) -> bool {
        !self.is_recovered && crate::is_clean(self.super_block.state)
    }

    /// Returns the place of the summary entry of a slab: block, and index in it.
    pub(crate) fn summary_place(&self, slab: u32) -> (Pbn, usize) {
        let zones = u32::from(self.super_block.zone_count.max(1));
        let (block, index) = summary::place(slab);
        let copy = slab % zones * summary::BLOCKS_PER_COPY;
        let pbn = self.super_block.partitions.summary.start + u64::from(copy + block);
        (pbn, index)
    }

    /// Reads the current entries of all slabs from the summary.
    pub(crate) fn read_summary(&mut self) -> io::Result<()> {
        let depot = self.super_block.depot;
        if self.super_block.state == State::New {
            let unused = SummaryEntry::unused(&depot.slab);
            self.summary = vec![unused; depot.slab_count as usize];
            return Ok(());
        }
        let mut pages: BTreeMap<Pbn, Box<Page>> = BTreeMap::new();
        let mut entries = Vec::new();
        for slab in 0..depot.slab_count {
            let (pbn, index) = self.summary_place(slab);
            let page = match pages.entry(pbn) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.read(pbn)?),
            };
            entries.push(summary::entry(page, index));
        }
        self.summary = entries;
        Ok(())
    }
}

/// Returns the block that a fragment of a compressed block holds.
pub(crate) fn decompress(page: &Page, slot: u8) -> io::Result<Box<Page>> {
    let fragment = compressed::fragment(page, slot)
        .map_err(|_| io::Error::other(format!("no fragment {slot}")))?;
    let mut data = Box::new([0; BLOCK_SIZE]);
    match lz4_flex::block::decompress_into(fragment, &mut data[..]) {
        Ok(BLOCK_SIZE) => Ok(data),
        Ok(size) => Err(io::Error::other(format!(
            "fragment {slot} has {size} bytes, not {BLOCK_SIZE}"
        ))),
        Err(error) => Err(io::Error::other(format!("fragment {slot}: {error}"))),
    }
}
