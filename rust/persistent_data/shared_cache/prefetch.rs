// SPDX-License-Identifier: GPL-2.0

//! Reading blocks before somebody waits for each of them, all at once.
//!
//! Who does so waits for nothing but the storage: what gets no frame now is left to who wants it.

use super::allocate;
use super::Residence;
use super::SharedCache;
use super::Store;
use super::Supplies;
use crate::shared_cache::shard::Admission;
use kernel::alloc::AllocError;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Page;
use runtime::disk::Part;

/// What a task needs for it; allocated before.
pub struct Prefetch {
    loads: KVec<Load>,
    parts: KVec<Part>,
}

/// A block that is read, and its frame.
struct Load {
    part: usize,
    frame: u32,
    block: u64,
    page: KBox<Page>,
}

impl Prefetch {
    /// Allocates what is needed for up to `blocks` blocks at once.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(blocks: usize) -> Result<Self, AllocError> {
        Ok(Self {
            loads: KVec::with_capacity(blocks, GFP_KERNEL)?,
            parts: KVec::with_capacity(blocks, GFP_KERNEL)?,
        })
    }
}

impl<S: Store> SharedCache<S> {
    /// Returns true if a block is in memory, or on its way there.
    pub fn has(&self, block: u64) -> bool {
        let part = self.part(block);
        part.is_some_and(|part| part.shard.with(|shard, _| shard.has(block)))
    }

    /// Reads evictable blocks that are not in memory, through `buffer`. Those that cannot be had, or
    /// get no frame now, are left to who wants them.
    pub async fn prefetch(
        &self,
        blocks: impl Iterator<Item = u64>,
        prefetch: &mut Prefetch,
        buffer: S::Buffer,
    ) -> S::Buffer {
        let Prefetch { loads, parts } = prefetch;
        loads.clear();
        parts.clear();
        let room = loads.capacity().min(parts.capacity()).min(buffer.pages());
        for block in blocks {
            if loads.len() >= room {
                break;
            }
            if let Some(load) = self.admit_now(block) {
                // There is room, as was just seen.
                let _ = parts.push_within_capacity(self.store.part(block, 1, loads.len()));
                let _ = loads.push_within_capacity(load);
            }
        }
        if loads.is_empty() {
            return buffer;
        }
        let read = self.store.read_parts(Residence::Evictable, buffer, parts);
        let mut buffer = read.await;
        loads.reverse();
        for (number, part) in parts.iter().enumerate() {
            if let Some(load) = loads.pop() {
                self.end_load(load, part.result, buffer.page_mut(number));
            }
        }
        buffer
    }

    /// Takes a frame for a block, if that needs no waiting.
    fn admit_now(&self, block: u64) -> Option<Load> {
        let number = self.part_number(block);
        let part = self.parts.get(number)?;
        let mut supplies = Supplies::default();
        loop {
            let admitted = part
                .shard
                .with(|shard, waiting| shard.admit_now(block, &mut supplies, waiting))?;
            match admitted {
                Admission::Empty(frame, page) => {
                    return Some(Load {
                        part: number,
                        frame,
                        block,
                        page,
                    })
                }
                Admission::Needs(needs) => {
                    supplies.exhausted = allocate(&needs, &mut supplies, GFP_NOWAIT).is_err();
                }
                _ => return None,
            }
        }
    }

    fn end_load(&self, load: Load, result: Result, content: Option<&mut Page>) {
        let Load {
            frame,
            block,
            mut page,
            ..
        } = load;
        let origin = match (result, content) {
            (Ok(()), Some(content)) => {
                let origin = self.store.loaded(block, Residence::Evictable, content);
                page.copy_from_slice(content);
                origin.ok()
            }
            _ => None,
        };
        if let Some(part) = self.parts.get(load.part) {
            let unused = part.shard.with(|shard, waiting| {
                let unused = shard.loaded(frame, page, origin, true, waiting);
                if origin.is_some() {
                    shard.unpin(frame, waiting);
                }
                unused
            });
            drop(unused);
        }
    }
}
