// SPDX-License-Identifier: GPL-2.0

//! The frames of a cache: which block is where, which are changed, which may be evicted.
//!
//! A frame is found by its block number through a hash table with chains. A clock chooses what to
//! evict: its hand passes over frames that were touched since it last came by, and never takes
//! one that is changed or among the last [`RECENT`] touched.

use super::RECENT;
use crate::block::Block;
use crate::block::BlockKind;
use crate::block::BLOCK_SIZE;
use crate::error::Error;
use crate::error::Result;
use kernel::prelude::KVVec;
use kernel::prelude::GFP_KERNEL;

/// No frame.
const NONE: u32 = u32::MAX;

/// One frame; empty if it has no kind.
#[derive(Clone)]
struct Frame {
    block: u64,
    kind: Option<&'static BlockKind>,
    changed: bool,
    /// Touched since the clock's hand came by.
    referenced: bool,
    /// When it was last touched.
    touched: u64,
    /// The next frame of the same bucket.
    chain: u32,
}

pub(super) struct Frames {
    frames: KVVec<Frame>,
    /// The contents of frame `n` are the bytes from `n * BLOCK_SIZE` on.
    pages: KVVec<u8>,
    /// The first frame of each bucket; a power of two of them.
    buckets: KVVec<u32>,
    /// Counts touches.
    now: u64,
    hand: u32,
}

impl Frames {
    pub(super) fn new(count: usize) -> Result<Self> {
        let bytes = count.checked_mul(BLOCK_SIZE).ok_or(Error::NoMemory)?;
        let empty = Frame {
            block: 0,
            kind: None,
            changed: false,
            referenced: false,
            touched: 0,
            chain: NONE,
        };
        Ok(Self {
            frames: KVVec::from_elem(empty, count, GFP_KERNEL)?,
            pages: KVVec::from_elem(0, bytes, GFP_KERNEL)?,
            buckets: KVVec::from_elem(NONE, count.next_power_of_two(), GFP_KERNEL)?,
            now: RECENT as u64,
            hand: 0,
        })
    }

    /// Returns the frame of `block`.
    pub(super) fn find(&self, block: u64) -> Option<u32> {
        let mut next = *self.buckets.get(self.bucket(block))?;
        while let Some(frame) = self.frames.get(next as usize) {
            if frame.block == block {
                return Some(next);
            }
            next = frame.chain;
        }
        None
    }

    pub(super) fn block(&self, frame: u32) -> u64 {
        self.frames
            .get(frame as usize)
            .map_or(u64::MAX, |frame| frame.block)
    }

    pub(super) fn kind(&self, frame: u32) -> Option<&'static BlockKind> {
        self.frames.get(frame as usize).and_then(|frame| frame.kind)
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
        if let Some(frame) = self.frames.get_mut(frame as usize) {
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
        if let Some(frame) = self.frames.get_mut(frame as usize) {
            frame.referenced = true;
            frame.touched = self.now;
        }
    }

    /// Returns a frame whose contents may go: empty, or clean and not recent.
    pub(super) fn victim(&mut self) -> Option<u32> {
        // The first turn clears every mark, so two turns meet whatever there is.
        for _ in 0..2 * self.frames.len() {
            let at = self.hand;
            self.hand = if at as usize + 1 < self.frames.len() {
                at + 1
            } else {
                0
            };
            let frame = self.frames.get_mut(at as usize)?;
            if frame.kind.is_none() {
                return Some(at);
            }
            let marked = core::mem::replace(&mut frame.referenced, false);
            let recent = frame.touched + RECENT as u64 > self.now;
            if !marked && !recent && !frame.changed {
                return Some(at);
            }
        }
        None
    }

    /// Makes `frame` the one of `block`, clean, with undefined contents.
    pub(super) fn replace(&mut self, frame: u32, block: u64, kind: &'static BlockKind) {
        self.clear(frame);
        let bucket = self.bucket(block);
        if let (Some(entry), Some(head)) = (
            self.frames.get_mut(frame as usize),
            self.buckets.get_mut(bucket),
        ) {
            entry.block = block;
            entry.kind = Some(kind);
            entry.chain = core::mem::replace(head, frame);
        }
        self.touch(frame);
    }

    pub(super) fn forget(&mut self, block: u64) {
        if let Some(frame) = self.find(block) {
            self.clear(frame);
        }
    }

    pub(super) fn forget_all(&mut self) {
        self.buckets.fill(NONE);
        for frame in self.frames.iter_mut() {
            frame.kind = None;
            frame.changed = false;
            frame.chain = NONE;
        }
    }

    pub(super) fn mark_clean(&mut self, frame: u32) {
        if let Some(frame) = self.frames.get_mut(frame as usize) {
            frame.changed = false;
        }
    }

    /// Puts all changed frames into `list`, by ascending block. `list` has room for all frames.
    pub(super) fn changed(&self, list: &mut KVVec<u32>) {
        list.clear();
        for (at, frame) in (0..).zip(self.frames.iter()) {
            if frame.changed && list.push_within_capacity(at).is_err() {
                break;
            }
        }
        list.sort_unstable_by_key(|&at| self.block(at));
    }

    /// Empties `frame` and takes it out of its bucket.
    fn clear(&mut self, frame: u32) {
        let Some(entry) = self.frames.get_mut(frame as usize) else {
            return;
        };
        if entry.kind.take().is_none() {
            return;
        }
        entry.changed = false;
        let after = core::mem::replace(&mut entry.chain, NONE);
        let bucket = self.bucket(self.block(frame));
        let Some(head) = self.buckets.get_mut(bucket) else {
            return;
        };
        if *head == frame {
            *head = after;
            return;
        }
        let mut before = *head;
        while let Some(entry) = self.frames.get_mut(before as usize) {
            if entry.chain == frame {
                entry.chain = after;
                return;
            }
            before = entry.chain;
        }
    }

    fn bucket(&self, block: u64) -> usize {
        // Fibonacci hashing: the upper half of the product is well mixed.
        let mixed = block.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        mixed as usize & (self.buckets.len() - 1)
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
