// SPDX-License-Identifier: GPL-2.0

//! Which page and slot of the block map an LBN has.
//!
//! The block map is a forest of (60) trees of five levels. Roots have height 4 and a fixed place;
//! pages of heights 3 to 0 are data blocks of slabs. Leaf pages, numbered by LBN, are dealt out to
//! the trees in turn. A tree always has its full height.

use super::block_map::ENTRIES;
use super::Lbn;
use core::num::NonZeroU32;
use core::num::NonZeroU64;

/// The height of root pages; leaf pages have height 0.
pub const ROOT_HEIGHT: usize = 4;

/// Levels of a tree.
pub const LEVELS: usize = ROOT_HEIGHT + 1;

const FANOUT: u64 = ENTRIES as u64;

/// Returns the number of the leaf page of an LBN, and the slot there.
pub fn leaf(lbn: Lbn) -> (u64, u16) {
    (lbn / FANOUT, (lbn % FANOUT) as u16)
}

/// Returns the first LBN of a leaf page.
pub fn first_lbn(page_number: u64) -> Lbn {
    page_number.saturating_mul(FANOUT)
}

/// Returns the number of pages that have slots for so many blocks, or so many lower pages.
pub fn pages_for(entries: u64) -> u64 {
    entries.div_ceil(FANOUT)
}

/// The trees of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forest {
    roots: NonZeroU32,
    logical_blocks: u64,
}

/// The pages from a root to a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The tree, which is also the number of its root page.
    pub tree: u32,
    /// By height: the index of the page among those of its height in the tree.
    pub indices: [u64; LEVELS],
}

impl Path {
    /// Returns the slot in the page of `height` that names the next lower page; 0 for a leaf.
    pub fn slot(&self, height: usize) -> u16 {
        let child = height.checked_sub(1).and_then(|at| self.indices.get(at));
        child.map_or(0, |index| (index % FANOUT) as u16)
    }
}

impl Forest {
    /// Returns the forest of this many roots that maps so many blocks; `None` without a root.
    pub fn new(roots: u32, logical_blocks: u64) -> Option<Self> {
        let roots = NonZeroU32::new(roots)?;
        Some(Self {
            roots,
            logical_blocks,
        })
    }

    /// Returns the number of trees.
    pub fn roots(&self) -> u32 {
        self.roots.get()
    }

    /// Returns the number of leaf pages of all trees.
    pub fn leaf_pages(&self) -> u64 {
        pages_for(self.logical_blocks)
    }

    /// Returns the way to a leaf page.
    pub fn path(&self, page_number: u64) -> Path {
        let roots = NonZeroU64::from(self.roots);
        let mut indices = [0; LEVELS];
        let mut index = page_number / roots;
        for place in &mut indices {
            *place = index;
            index /= FANOUT;
        }
        Path {
            tree: (page_number % roots) as u32,
            indices,
        }
    }

    /// Returns the number of the leaf page with this index in its tree.
    pub fn page_number(&self, tree: u32, index: u64) -> u64 {
        index
            .saturating_mul(self.roots.get().into())
            .saturating_add(tree.into())
    }

    /// Returns how many pages of `height` a tree may have. A child with a higher index must not
    /// be mapped.
    pub fn pages(&self, tree: u32, height: usize) -> u64 {
        let roots = NonZeroU64::from(self.roots);
        let leaves = self.leaf_pages();
        let mut pages = leaves / roots + u64::from(u64::from(tree) < leaves % roots);
        for _ in 0..height {
            pages = pages_for(pages);
        }
        if height == ROOT_HEIGHT {
            1
        } else {
            pages
        }
    }

    /// Returns how many slots of a leaf page are inside the logical size.
    pub fn slots(&self, page_number: u64) -> u16 {
        let rest = self.logical_blocks.saturating_sub(first_lbn(page_number));
        rest.min(FANOUT) as u16
    }
}

#[cfg(test)]
mod tests;
