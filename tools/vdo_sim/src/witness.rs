// SPDX-License-Identifier: GPL-2.0

//! Reads a toy volume from its image, crashed or not, in a second way than the core: everything at
//! once, in memory, with ordinary maps. Says what each block is mapped to, and what is wrong.
//!
//! A volume that crashed is recovered here in memory first. What a boot then shows must be what
//! was found here: the changes up to one entry of the recovery journal, and none behind it.

mod counts;
mod journal;

use crate::toy;
use crate::toy::Toy;
use journal::Replay;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use vdo::format::block_map;
use vdo::format::block_map::Validity;
use vdo::format::super_block::State;
use vdo::format::super_block::SuperBlock;
use vdo::format::tree::Forest;
use vdo::format::tree::ROOT_HEIGHT;
use vdo::format::Lbn;
use vdo::format::Mapping;
use vdo::format::MappingState;
use vdo::format::Page;
use vdo::format::Pbn;

/// What was found in an image.
#[derive(Debug)]
pub struct Found {
    /// The super block.
    pub super_block: SuperBlock,
    /// Every mapped block.
    pub map: BTreeMap<Lbn, Mapping>,
    /// Pages of the block map that are data blocks.
    pub tree_pages: BTreeSet<Pbn>,
    /// Data blocks that are referenced, pages included.
    pub used: u64,
    /// What is wrong.
    pub errors: Vec<String>,
}

/// An image, with the pages that recovery has changed.
struct Image<'a> {
    toy: &'a Toy,
    bytes: &'a [u8],
    super_block: SuperBlock,
    pages: BTreeMap<Pbn, Box<Page>>,
}

/// What the trees hold.
#[derive(Default)]
struct Walk {
    map: BTreeMap<Lbn, Mapping>,
    /// References to each data block by leaf entries.
    references: BTreeMap<Pbn, u64>,
    tree_pages: BTreeSet<Pbn>,
    errors: Vec<String>,
}

/// Reads the image of a toy volume.
///
/// # Errors
///
/// The super block, or the recovery journal, cannot be used at all.
pub fn read(toy: &Toy, bytes: &[u8]) -> Result<Found, String> {
    let super_block = toy::super_block(bytes)?;
    let mut image = Image {
        toy,
        bytes,
        super_block,
        pages: BTreeMap::new(),
    };
    let replay = if super_block.state.needs_recovery() {
        journal::replay(&image)?
    } else {
        Replay::nothing(&super_block)
    };
    for (_, entry) in &replay.mappings {
        image.set(entry.page, entry.slot, entry.new);
    }
    let mut walk = Walk::default();
    image.walk(&mut walk);
    let mut errors = std::mem::take(&mut walk.errors);
    let trusted = matches!(
        super_block.state,
        State::Dirty | State::New | State::Clean | State::Recovering
    );
    if trusted {
        image.compare_counters(&walk, &replay, &mut errors);
        counts::compare(&image, &walk, &replay, &mut errors);
    }
    let used = walk.references.len() + walk.tree_pages.len();
    Ok(Found {
        super_block,
        map: walk.map,
        tree_pages: walk.tree_pages,
        used: used as u64,
        errors,
    })
}

impl Image<'_> {
    fn block(&self, pbn: Pbn) -> &Page {
        match self.pages.get(&pbn) {
            Some(page) => page,
            None => toy::block(self.bytes, pbn),
        }
    }

    /// Returns a page as it counts.
    fn page(&self, pbn: Pbn) -> Result<Option<&Page>, String> {
        let page = self.block(pbn);
        match block_map::validate(page, self.super_block.nonce, pbn) {
            Validity::Valid => Ok(Some(page)),
            Validity::Invalid => Ok(None),
            Validity::Bad { pbn: found } => Err(format!("page {pbn} says that it is {found}")),
        }
    }

    fn set(&mut self, pbn: Pbn, slot: u16, mapping: Mapping) {
        let mut page = match self.page(pbn) {
            Ok(Some(page)) => Box::new(*page),
            _ => {
                let mut page = Box::new([0; vdo::format::BLOCK_SIZE]);
                block_map::format_page(&mut page, self.super_block.nonce, pbn);
                block_map::set_initialized(&mut page, true);
                page
            }
        };
        block_map::set_entry(&mut page, slot, mapping);
        self.pages.insert(pbn, page);
    }

    fn walk(&self, walk: &mut Walk) {
        let roots = self.super_block.root_count;
        let Some(forest) = Forest::new(roots, self.super_block.logical_blocks) else {
            return;
        };
        for tree in 0..roots {
            let root = self.super_block.root_origin + u64::from(tree);
            let mut level = vec![(0, root)];
            for height in (1..=ROOT_HEIGHT).rev() {
                let mut next = Vec::new();
                for (index, pbn) in level {
                    self.walk_interior(&forest, (tree, height, index), pbn, &mut next, walk);
                }
                level = next;
            }
            for (index, pbn) in level {
                self.walk_leaf(&forest, forest.page_number(tree, index), pbn, walk);
            }
        }
    }

    fn walk_interior(
        &self,
        forest: &Forest,
        (tree, height, index): (u32, usize, u64),
        pbn: Pbn,
        next: &mut Vec<(u64, Pbn)>,
        walk: &mut Walk,
    ) {
        let page = match self.page(pbn) {
            Ok(Some(page)) => page,
            Ok(None) => return,
            Err(text) => return walk.errors.push(text),
        };
        for (slot, entry) in (0_u64..).zip(block_map::entries(page)) {
            if entry == Mapping::UNMAPPED {
                continue;
            }
            let child = index * u64::from(block_map::ENTRIES) + slot;
            let name = format!("page {pbn} of height {height}, slot {slot}: {entry:?}");
            if entry.state != MappingState::UNCOMPRESSED
                || !self.super_block.depot.is_data_block(entry.pbn)
                || child >= forest.pages(tree, height - 1)
            {
                walk.errors.push(format!("{name} is no child"));
            } else if !walk.tree_pages.insert(entry.pbn) {
                walk.errors
                    .push(format!("{name} is the child of another page, too"));
            } else {
                next.push((child, entry.pbn));
            }
        }
    }

    fn walk_leaf(&self, forest: &Forest, number: u64, pbn: Pbn, walk: &mut Walk) {
        let page = match self.page(pbn) {
            Ok(Some(page)) => page,
            Ok(None) => return,
            Err(text) => return walk.errors.push(text),
        };
        let first = vdo::format::tree::first_lbn(number);
        for (slot, entry) in (0_u16..).zip(block_map::entries(page)) {
            if entry == Mapping::UNMAPPED {
                continue;
            }
            let lbn = first + u64::from(slot);
            let is_sound = entry.is_valid_location()
                && (entry.pbn == 0 || self.super_block.depot.is_data_block(entry.pbn));
            if !is_sound || slot >= forest.slots(number) {
                walk.errors
                    .push(format!("LBN {lbn} in page {pbn} is mapped to {entry:?}"));
                continue;
            }
            walk.map.insert(lbn, entry);
            if entry.pbn != 0 {
                *walk.references.entry(entry.pbn).or_default() += 1;
            }
        }
    }

    fn compare_counters(&self, walk: &Walk, replay: &Replay, errors: &mut Vec<String>) {
        let mapped = walk.map.len() as u64;
        if mapped != replay.logical_blocks_used {
            errors.push(format!(
                "{mapped} blocks are mapped, {} are counted",
                replay.logical_blocks_used
            ));
        }
        let pages = walk.tree_pages.len() as u64;
        if pages != replay.block_map_data_blocks {
            errors.push(format!(
                "{pages} pages are in slabs, {} are counted",
                replay.block_map_data_blocks
            ));
        }
    }
}
