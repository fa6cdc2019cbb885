// SPDX-License-Identifier: GPL-2.0

//! Walking through a tree, leaf by leaf, in ascending order of keys.
//!
//! A damaged tree may lead anywhere. The cursor only follows it where keys keep ascending within
//! the borders that the parents set, so no non-empty node is met twice, and leaves only where the
//! first leaf was.

use super::parse;
use super::too_deep;
use super::Value;
use super::MAX_DEPTH;
use super::NODE;
use crate::cache::BlockCache;
use crate::error::Error;
use crate::error::Result;
use core::marker::PhantomData;
use runtime::disk::Disk;

/// A position in a tree.
pub struct Cursor<V> {
    path: [Level; MAX_DEPTH],
    /// How many levels of the path are in use; zero at the end of the tree.
    depth: usize,
    /// The depth of the leaves, once the first was met.
    leaf_depth: Option<usize>,
    values: PhantomData<V>,
}

/// A node on the path, and which of its entries comes next.
#[derive(Clone, Copy)]
struct Level {
    block: u64,
    next: usize,
    /// The keys that may be in this node.
    lowest: u64,
    highest: u64,
}

/// A leaf that a cursor has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub(crate) block: u64,
}

impl<V: Value> Cursor<V> {
    /// Returns the position before the first key of the tree at `root`.
    pub fn new(root: u64) -> Self {
        let start = Level {
            block: root,
            next: 0,
            lowest: 0,
            highest: u64::MAX,
        };
        Self {
            path: [start; MAX_DEPTH],
            depth: 1,
            leaf_depth: None,
            values: PhantomData,
        }
    }

    /// Calls `visit` with every key and value, in ascending order of keys, until it fails.
    pub async fn for_each<D: Disk>(
        &mut self,
        cache: &mut BlockCache<D>,
        mut visit: impl FnMut(u64, V) -> Result,
    ) -> Result {
        while let Some(leaf) = self.next_leaf(cache).await? {
            let node = parse::<V>(cache.read(leaf.block, &NODE).await?, leaf.block)?;
            for at in 0..node.len() {
                if let (Some(key), Some(value)) = (node.key(at), node.value(at)) {
                    visit(key, value)?;
                }
            }
        }
        Ok(())
    }

    /// Goes on to the next leaf. Its keys have been tested.
    pub(crate) async fn next_leaf<D: Disk>(
        &mut self,
        cache: &mut BlockCache<D>,
    ) -> Result<Option<Leaf>> {
        while let Some(level) = self
            .depth
            .checked_sub(1)
            .and_then(|at| self.path.get_mut(at))
        {
            let node = parse::<V>(cache.read(level.block, &NODE).await?, level.block)?;
            let (first, last) = (node.keys.first(), node.keys.last());
            let inside = first.is_none_or(|key| key.get() >= level.lowest)
                && last.is_none_or(|key| key.get() <= level.highest);
            if !inside {
                return Err(Error::field(&NODE, level.block, "key", level.lowest));
            }
            if !node.internal {
                let block = level.block;
                if *self.leaf_depth.get_or_insert(self.depth) != self.depth {
                    return Err(Error::field(&NODE, block, "depth", self.depth as u64));
                }
                self.depth -= 1;
                return Ok(Some(Leaf { block }));
            }
            let at = level.next;
            let (Some(lowest), Some(child)) = (node.key(at), node.value::<u64>(at)) else {
                self.depth -= 1;
                continue;
            };
            let highest = match node.key(at + 1) {
                Some(key) => key - 1,
                None => level.highest,
            };
            level.next += 1;
            let parent = level.block;
            let below = self
                .path
                .get_mut(self.depth)
                .ok_or_else(|| too_deep(parent))?;
            *below = Level {
                block: child,
                next: 0,
                lowest,
                highest,
            };
            self.depth += 1;
        }
        Ok(None)
    }
}

/// Adds the blocks that `leaf` refers to to the list of blocks that `cache` reads next, each with
/// its key as the tag.
pub(crate) async fn want_leaf<V: Value, D: Disk>(
    cache: &mut BlockCache<D>,
    leaf: Leaf,
    mut wanted: impl FnMut(u64) -> Result<bool>,
) -> Result {
    cache.want_nothing();
    let mut at = 0;
    loop {
        let node = parse::<V>(cache.read(leaf.block, &NODE).await?, leaf.block)?;
        let (Some(key), Some(value)) = (node.key(at), node.value::<V>(at)) else {
            return Ok(());
        };
        if let (true, Some(block)) = (wanted(key)?, value.reference()) {
            cache.want(block, key)?;
        }
        at += 1;
    }
}
