// SPDX-License-Identifier: GPL-2.0

//! The frames of a cache: which block is where, which are changed, which may be evicted.
//!
//! A clock chooses what to evict: its hand passes over frames that were touched since it last came
//! by, and never takes one that is changed or among the last [`RECENT`] touched.

use super::RECENT;
use crate::block::Block;
use crate::block::BlockKind;
use crate::block::BLOCK_SIZE;
use crate::error::Error;
use crate::error::Result;
use crate::table::Table;
use kernel::prelude::KVVec;
use kernel::prelude::GFP_KERNEL;

/// What is known of a block in memory.
struct Frame {
    kind: &'static BlockKind,
    changed: bool,
    /// Touched since the clock's hand came by.
    referenced: bool,
    /// When it was last touched.
    touched: u64,
}

pub(super) struct Frames {
    table: Table<Frame>,
    /// The contents of frame `n` are the bytes from `n * BLOCK_SIZE` on.
    pages: KVVec<u8>,
    /// Counts touches.
    now: u64,
}

impl Frames {
    pub(super) fn new(count: usize) -> Result<Self> {
        let bytes = count.checked_mul(BLOCK_SIZE).ok_or(Error::NoMemory)?;
        Ok(Self {
            table: Table::with_slots(count)?,
            pages: KVVec::from_elem(0, bytes, GFP_KERNEL)?,
            now: RECENT as u64,
        })
    }

    /// Returns the frame of `block`.
    pub(super) fn find(&self, block: u64) -> Option<u32> {
        self.table.find(block)
    }

    pub(super) fn block(&self, frame: u32) -> u64 {
        self.table.block(frame).unwrap_or(u64::MAX)
    }

    pub(super) fn kind(&self, frame: u32) -> Option<&'static BlockKind> {
        self.table.get(frame).map(|frame| frame.kind)
    }

    pub(super) fn page(&self, frame: u32) -> Result<&Block> {
        let page = self
            .pages
            .get(frame as usize * BLOCK_SIZE..)
            .and_then(<[u8]>::first_chunk);
        page.ok_or(NO_FRAME)
    }

    /// Returns the contents for changing, and marks the frame as changed.
    pub(super) fn page_for_change(&mut self, frame: u32) -> Result<&mut Block> {
        if let Some(frame) = self.table.get_mut(frame) {
            frame.changed = true;
        }
        self.page_mut(frame)
    }

    /// Sets the contents, as they are on disk.
    pub(super) fn load(&mut self, frame: u32, contents: &Block) -> Result {
        self.page_mut(frame)?.copy_from_slice(contents);
        Ok(())
    }

    /// Copies the contents of `source` to `target`, and marks that as changed.
    pub(super) fn copy(&mut self, source: u32, target: u32) -> Result {
        self.page(source)?;
        self.page_for_change(target)?;
        let (source, target) = (source as usize * BLOCK_SIZE, target as usize * BLOCK_SIZE);
        self.pages.copy_within(source..source + BLOCK_SIZE, target);
        Ok(())
    }

    /// Notes that `frame` is in use.
    pub(super) fn touch(&mut self, frame: u32) {
        self.now += 1;
        if let Some(frame) = self.table.get_mut(frame) {
            frame.referenced = true;
            frame.touched = self.now;
        }
    }

    /// Makes sure that a frame is empty; fails if none is, and each is changed or recent.
    pub(super) fn make_room(&mut self) -> bool {
        if self.table.has_room() {
            return true;
        }
        let now = self.now;
        // The first turn clears every mark, so the second meets whatever there is.
        let victim = self.table.sweep(|frame| {
            let marked = core::mem::replace(&mut frame.referenced, false);
            let recent = frame.touched + RECENT as u64 > now;
            !marked && !recent && !frame.changed
        });
        victim.is_some_and(|frame| self.table.remove(frame).is_some())
    }

    /// Returns the frame of `block`, new and clean with undefined contents. There is room, or the
    /// block has a frame already.
    pub(super) fn replace(&mut self, block: u64, kind: &'static BlockKind) -> Result<u32> {
        self.forget(block);
        let frame = Frame {
            kind,
            changed: false,
            referenced: false,
            touched: 0,
        };
        let frame = self.table.insert(block, frame).map_err(|_| NO_FRAME)?;
        self.touch(frame);
        Ok(frame)
    }

    pub(super) fn forget(&mut self, block: u64) {
        if let Some(frame) = self.find(block) {
            self.table.remove(frame);
        }
    }

    pub(super) fn forget_all(&mut self) {
        while let Some(frame) = self.table.sweep(|_| true) {
            self.table.remove(frame);
        }
    }

    pub(super) fn mark_clean(&mut self, frame: u32) {
        if let Some(frame) = self.table.get_mut(frame) {
            frame.changed = false;
        }
    }

    /// Puts all changed frames into `list`, by ascending block. `list` has room for all frames.
    pub(super) fn changed(&self, list: &mut KVVec<u32>) {
        list.clear();
        for (at, _, frame) in self.table.iter() {
            if frame.changed && list.push_within_capacity(at).is_err() {
                break;
            }
        }
        list.sort_unstable_by_key(|&at| self.block(at));
    }

    fn page_mut(&mut self, frame: u32) -> Result<&mut Block> {
        let start = frame as usize * BLOCK_SIZE;
        self.pages
            .get_mut(start..)
            .and_then(<[u8]>::first_chunk_mut)
            .ok_or(NO_FRAME)
    }
}

/// A frame number that is none: a bug in the cache.
const NO_FRAME: Error = Error::Invalid("no such frame");
