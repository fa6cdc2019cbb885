// SPDX-License-Identifier: GPL-2.0

//! Invariants 8 to 13, 15 and 16: the block map, from the roots to the leaves.

use crate::finding::Findings;
use crate::finding::Place;
use crate::references::References;
use crate::volume::Volume;
use crate::Progress;
use crate::Stage;
use crate::Usage;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use vdo::format::block_map;
use vdo::format::block_map::Validity;
use vdo::format::tree;
use vdo::format::tree::Forest;
use vdo::format::tree::ROOT_HEIGHT;
use vdo::format::Lbn;
use vdo::format::Mapping;
use vdo::format::MappingState;
use vdo::format::Page;
use vdo::format::Pbn;

/// A page of the block map.
#[derive(Clone, Copy)]
struct PageAt {
    pbn: Pbn,
    tree: u32,
    height: usize,
    /// Among the pages of this height in the tree.
    index: u64,
}

/// What somebody does with the pages of the block map.
trait Visitor {
    /// The page that a slot names; false keeps out of it.
    fn enter(&mut self, slot: Place, mapping: Mapping, child: PageAt) -> bool;

    /// A page that cannot be used: not there, or of another place.
    fn skip(&mut self, at: PageAt, why: Skipped);

    /// A leaf page that can be used.
    fn leaf(&mut self, at: PageAt, page: &Page);
}

enum Skipped {
    Unreadable(std::io::Error),
    Empty,
    Bad(Pbn),
}

/// Leads a visitor through a tree. Children are lower than their parents, so it comes to an end.
fn visit(volume: &Volume<'_>, at: PageAt, visitor: &mut dyn Visitor) {
    let page = match volume.read(at.pbn) {
        Ok(page) => page,
        Err(error) => return visitor.skip(at, Skipped::Unreadable(error)),
    };
    match block_map::validate(&page, volume.super_block.nonce, at.pbn) {
        Validity::Invalid => return visitor.skip(at, Skipped::Empty),
        Validity::Bad { pbn } => return visitor.skip(at, Skipped::Bad(pbn)),
        Validity::Valid => {}
    }
    let Some(height) = at.height.checked_sub(1) else {
        return visitor.leaf(at, &page);
    };
    for (slot, mapping) in (0..).zip(block_map::entries(&page)) {
        if mapping == Mapping::UNMAPPED {
            continue;
        }
        let child = PageAt {
            pbn: mapping.pbn,
            tree: at.tree,
            height,
            index: at.index * u64::from(block_map::ENTRIES) + u64::from(slot),
        };
        let place = Place::Slot { page: at.pbn, slot };
        if visitor.enter(place, mapping, child) {
            visit(volume, child, visitor);
        }
    }
}

fn visit_all(volume: &Volume<'_>, visitor: &mut dyn Visitor) {
    for tree in 0..volume.super_block.root_count {
        let root = PageAt {
            pbn: volume.super_block.root_origin + u64::from(tree),
            tree,
            height: ROOT_HEIGHT,
            index: 0,
        };
        visit(volume, root, visitor);
    }
}

/// Checks the block map and counts what it references.
pub(crate) fn check(
    volume: &Volume<'_>,
    references: &mut References,
    keep: Option<&mut BTreeMap<Lbn, Mapping>>,
    findings: &mut Findings,
    progress: &mut Progress<'_>,
) -> Usage {
    let mut checker = Checker {
        volume,
        forest: volume.forest(),
        references,
        keep,
        findings,
        progress,
        usage: Usage::default(),
        leaves: 0,
    };
    visit_all(volume, &mut checker);
    let usage = checker.usage;
    check_counters(volume, &usage, findings);
    usage
}

/// Invariants 15 and 16.
fn check_counters(volume: &Volume<'_>, usage: &Usage, findings: &mut Findings) {
    if !volume.is_counted() {
        return;
    }
    let counters = [
        (
            15,
            usage.logical_blocks,
            volume.super_block.logical_blocks_used,
            "logical blocks",
        ),
        (
            16,
            usage.tree_pages,
            volume.super_block.block_map_data_blocks,
            "block map pages",
        ),
    ];
    for (invariant, found, counted, what) in counters {
        if found != counted {
            let text = format!("{found} {what} in use, but {counted} are counted");
            findings.error(invariant, Place::Volume, text);
        }
    }
}

struct Checker<'a, 'v, 'p> {
    volume: &'a Volume<'v>,
    forest: Forest,
    references: &'a mut References,
    keep: Option<&'a mut BTreeMap<Lbn, Mapping>>,
    findings: &'a mut Findings,
    progress: &'a mut Progress<'p>,
    usage: Usage,
    leaves: u64,
}

impl Visitor for Checker<'_, '_, '_> {
    fn enter(&mut self, slot: Place, mapping: Mapping, child: PageAt) -> bool {
        let depot = &self.volume.super_block.depot;
        if !mapping.is_mapped() {
            let text = format!("not mapped, but names block {}", mapping.pbn);
            self.findings.error(12, slot, text);
            return false;
        }
        if mapping.state != MappingState::UNCOMPRESSED || !depot.is_data_block(mapping.pbn) {
            let text = format!("names no page: {}", describe(mapping));
            self.findings.error(9, slot, text);
            return false;
        }
        if child.index >= self.forest.pages(child.tree, child.height) {
            self.findings
                .error(9, slot, "mapped beyond the end of the tree");
            return false;
        }
        if !self.references.add_page(mapping.pbn, child.height) {
            let text = format!("names page {}, as another slot does", mapping.pbn);
            self.findings.error(9, slot, text);
            return false;
        }
        self.usage.tree_pages += 1;
        true
    }

    fn skip(&mut self, at: PageAt, why: Skipped) {
        let is_root = at.height == ROOT_HEIGHT;
        match why {
            Skipped::Unreadable(error) => self.findings.unreadable(at.pbn, &error),
            Skipped::Empty if is_root => {}
            Skipped::Empty => self.usage.empty_pages += 1,
            Skipped::Bad(pbn) => {
                let text = format!("a block map page that says it is {pbn}");
                let invariant = if is_root { 8 } else { 10 };
                self.findings.error(invariant, Place::Block(at.pbn), text);
            }
        }
    }

    fn leaf(&mut self, at: PageAt, page: &Page) {
        let number = self.forest.page_number(at.tree, at.index);
        let inside = self.forest.slots(number);
        for (slot, mapping) in (0..).zip(block_map::entries(page)) {
            if mapping == Mapping::UNMAPPED {
                continue;
            }
            let place = Place::Slot { page: at.pbn, slot };
            if slot >= inside {
                let text = "mapped beyond the end of the volume";
                self.findings.error(11, place, text);
                continue;
            }
            self.mapping(tree::first_lbn(number) + u64::from(slot), mapping);
        }
        self.leaves += 1;
        if self.leaves % 1024 == 0 {
            let all = self.volume.super_block.block_map_data_blocks;
            let done = self.usage.tree_pages;
            (self.progress)(Stage::BlockMap, done, all.max(done));
        }
    }
}

impl Checker<'_, '_, '_> {
    fn mapping(&mut self, lbn: Lbn, mapping: Mapping) {
        let place = Place::Logical(lbn);
        if !mapping.is_mapped() {
            let text = format!("not mapped, but names block {}", mapping.pbn);
            return self.findings.error(12, place, text);
        }
        self.usage.logical_blocks += 1;
        if !mapping.is_valid_location() {
            let text = format!("stored nowhere: {}", describe(mapping));
            return self.findings.error(11, place, text);
        }
        if let Some(keep) = &mut self.keep {
            keep.insert(lbn, mapping);
        }
        if mapping.pbn == 0 {
            self.usage.zero_blocks += 1;
            return;
        }
        if !self.volume.super_block.depot.is_data_block(mapping.pbn) {
            let text = format!("stored outside the slabs: {}", describe(mapping));
            return self.findings.error(11, place, text);
        }
        if mapping.state.is_compressed() {
            self.usage.compressed_fragments += 1;
        }
        self.references.add(mapping.pbn, mapping.state);
    }
}

fn describe(mapping: Mapping) -> String {
    format!("block {}, state {}", mapping.pbn, mapping.state.bits())
}

/// Names the logical blocks that are stored in blocks with findings.
pub(crate) fn name_owners(
    volume: &Volume<'_>,
    findings: &mut Findings,
    progress: &mut Progress<'_>,
) {
    let mut seeker = Seeker {
        forest: volume.forest(),
        wanted: findings.blocks(),
        entered: HashSet::new(),
        findings,
        progress,
        total: volume.super_block.block_map_data_blocks,
    };
    visit_all(volume, &mut seeker);
}

struct Seeker<'a, 'p> {
    forest: Forest,
    wanted: BTreeSet<Pbn>,
    entered: HashSet<Pbn>,
    findings: &'a mut Findings,
    progress: &'a mut Progress<'p>,
    total: u64,
}

impl Visitor for Seeker<'_, '_> {
    fn enter(&mut self, _slot: Place, mapping: Mapping, child: PageAt) -> bool {
        mapping.is_mapped()
            && child.index < self.forest.pages(child.tree, child.height)
            && self.entered.insert(child.pbn)
    }

    fn skip(&mut self, _at: PageAt, _why: Skipped) {}

    fn leaf(&mut self, at: PageAt, page: &Page) {
        let number = self.forest.page_number(at.tree, at.index);
        for (lbn, mapping) in (tree::first_lbn(number)..).zip(block_map::entries(page)) {
            if mapping.is_mapped() && self.wanted.contains(&mapping.pbn) {
                self.findings.add_owner(mapping.pbn, lbn);
            }
        }
        let done = self.entered.len() as u64;
        if done % 1024 == 0 {
            (self.progress)(Stage::Owners, done, self.total.max(done));
        }
    }
}
