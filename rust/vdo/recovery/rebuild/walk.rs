// SPDX-License-Identifier: GPL-2.0

//! Walks a tree of the block map: clears what makes no sense, counts the rest.

use super::log_unreadable;
use super::Counts;
use super::Pass;
use crate::error::Error;
use crate::error::Result;
use crate::format::block_map;
use crate::format::block_map::Validity;
use crate::format::tree::Forest;
use crate::format::tree::LEVELS;
use crate::format::tree::ROOT_HEIGHT;
use crate::format::Mapping;
use crate::format::Pbn;
use crate::journal::Counters;
use crate::recovery::Volume;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::world::World;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Durability;

/// A page on the way from a root to where the walk is.
struct Level<B> {
    buffer: Option<B>,
    pbn: Pbn,
    /// The index of the page among those of its height in the tree.
    index: u64,
    /// The next entry to look at.
    slot: u16,
    is_changed: bool,
}

/// A walk, which does one tree after the other.
pub(super) struct Walk<'a, W: World, C> {
    world: &'a W,
    storage: &'a Storage<W::Disk>,
    volume: &'a Volume,
    root_origin: Pbn,
    forest: Forest,
    counts: &'a C,
    counters: Counters,
    /// By height.
    levels: [Level<BufferOf<W>>; LEVELS],
}

type BufferOf<W> = <<W as World>::Disk as Disk>::Buffer;

impl<'a, W: World, C: Counts> Walk<'a, W, C> {
    pub(super) fn new(
        world: &'a W,
        storage: &'a Storage<W::Disk>,
        volume: &'a Volume,
        root_origin: Pbn,
        forest: Forest,
        counts: &'a C,
    ) -> Result<Self> {
        let mut levels = [(); LEVELS].map(|()| Level {
            buffer: None,
            pbn: 0,
            index: 0,
            slot: 0,
            is_changed: false,
        });
        for level in &mut levels {
            level.buffer = Some(storage.buffer(1)?);
        }
        Ok(Self {
            world,
            storage,
            volume,
            root_origin,
            forest,
            counts,
            counters: Counters::default(),
            levels,
        })
    }

    /// Returns what was counted so far.
    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Walks a tree.
    pub(super) async fn tree(&mut self, tree: u32, pass: Pass) -> Result {
        let root = self.root_origin.saturating_add(tree.into());
        if !self.enter(ROOT_HEIGHT, root, 0).await? {
            return Ok(());
        }
        let mut height = ROOT_HEIGHT;
        loop {
            match self.next_child(height, tree, pass)? {
                Some((child, index)) => {
                    let below = height.saturating_sub(1);
                    let is_wanted = below > 0 || pass == Pass::Leaves;
                    if !is_wanted || !self.enter(below, child, index).await? {
                        continue;
                    }
                    if below > 0 {
                        height = below;
                        continue;
                    }
                    self.check_leaf(tree)?;
                    self.leave(0).await?;
                }
                None => {
                    self.leave(height).await?;
                    if height == ROOT_HEIGHT {
                        return Ok(());
                    }
                    height += 1;
                }
            }
        }
    }

    fn level(&mut self, height: usize) -> Result<&mut Level<BufferOf<W>>> {
        self.levels.get_mut(height).ok_or(Error::Errno(EIO))
    }

    /// Reads a page; returns false if it is empty. One that is of another place is made empty.
    async fn enter(&mut self, height: usize, pbn: Pbn, index: u64) -> Result<bool> {
        let (storage, nonce) = (self.storage, self.volume.nonce);
        let level = self.level(height)?;
        level.pbn = pbn;
        level.index = index;
        level.slot = 0;
        level.is_changed = false;
        let buffer = level.buffer.take().ok_or(Error::Errno(EIO))?;
        let (mut buffer, result) = storage.read(Purpose::Metadata, pbn, 1, buffer, 0).await;
        log_unreadable(self.world, pbn, result)?;
        let page = buffer.page_mut(0).ok_or(Error::Errno(EIO))?;
        let validity = block_map::validate(page, nonce, pbn);
        let mut is_lost = false;
        if let Validity::Bad { .. } = validity {
            block_map::format_page(page, nonce, pbn);
            is_lost = true;
        }
        let level = self.level(height)?;
        level.buffer = Some(buffer);
        if is_lost {
            level.is_changed = true;
            self.leave(height).await?;
        }
        Ok(validity == Validity::Valid)
    }

    /// Writes a page if it was changed.
    async fn leave(&mut self, height: usize) -> Result {
        let storage = self.storage;
        let level = self.level(height)?;
        if !core::mem::take(&mut level.is_changed) {
            return Ok(());
        }
        let pbn = level.pbn;
        let buffer = level.buffer.take().ok_or(Error::Errno(EIO))?;
        let (buffer, result) = storage
            .write(Purpose::Metadata, pbn, 1, buffer, 0, Durability::Volatile)
            .await;
        self.level(height)?.buffer = Some(buffer);
        result
    }

    /// Returns the next page that a page of `height` names, and its index; clears what cannot be
    /// one.
    fn next_child(&mut self, height: usize, tree: u32, pass: Pass) -> Result<Option<(Pbn, u64)>> {
        let below = height.saturating_sub(1);
        let bound = self.forest.pages(tree, below);
        let depot = self.volume.depot;
        let counts = self.counts;
        let mut counted = 0;
        let level = self.level(height)?;
        let page = level.buffer.as_mut().and_then(|buffer| buffer.page_mut(0));
        let page = page.ok_or(Error::Errno(EIO))?;
        let mut found = None;
        while level.slot < block_map::ENTRIES && found.is_none() {
            let slot = level.slot;
            level.slot += 1;
            let entry = block_map::entry(page, slot);
            if entry == Mapping::UNMAPPED {
                continue;
            }
            let index = level
                .index
                .saturating_mul(block_map::ENTRIES.into())
                .saturating_add(slot.into());
            let mut is_sound = entry == Mapping::plain(entry.pbn)
                && index < bound
                && depot.is_data_block(entry.pbn);
            if is_sound && pass == Pass::Interior {
                is_sound = counts.refer_to_page(entry.pbn)?;
                counted += u64::from(is_sound);
            }
            if is_sound {
                found = Some((entry.pbn, index));
            } else {
                block_map::set_entry(page, slot, Mapping::UNMAPPED);
                level.is_changed = true;
            }
        }
        self.counters.block_map_data_blocks += counted;
        Ok(found)
    }

    /// Counts what the leaf page names that was entered; clears what cannot be.
    fn check_leaf(&mut self, tree: u32) -> Result {
        let forest = self.forest;
        let depot = self.volume.depot;
        let counts = self.counts;
        let mut used = 0;
        let level = self.level(0)?;
        let slots = forest.slots(forest.page_number(tree, level.index));
        let page = level.buffer.as_mut().and_then(|buffer| buffer.page_mut(0));
        let page = page.ok_or(Error::Errno(EIO))?;
        for slot in 0..block_map::ENTRIES {
            let entry = block_map::entry(page, slot);
            if entry == Mapping::UNMAPPED {
                continue;
            }
            let mut is_sound = slot < slots && entry.is_valid_location();
            if is_sound && entry.pbn != 0 {
                is_sound = depot.is_data_block(entry.pbn) && counts.refer_to_data(entry.pbn)?;
            }
            if is_sound {
                used += 1;
            } else {
                block_map::set_entry(page, slot, Mapping::UNMAPPED);
                level.is_changed = true;
            }
        }
        self.counters.logical_blocks_used += used;
        Ok(())
    }
}
