// SPDX-License-Identifier: GPL-2.0

//! A part of a cache, under its lock: frames, who gets one, and who has to go for it.

use super::dirty::Change;
use super::dirty::Ends;
use super::dirty::Progress;
use super::Origin;
use super::Residence;
use crate::table::Chunk;
use crate::table::Chunks;
use crate::table::Table;
use crate::table::NONE;
use kernel::alloc::AllocError;
use kernel::prelude::KBox;
use runtime::disk::Page;
use runtime::monitor::Entries;
use runtime::monitor::Rules;
use runtime::monitor::Turn;

/// A block in memory, or on its way.
pub(super) struct Frame {
    /// Away while the block is read or made.
    pub(super) page: Option<KBox<Page>>,
    pub(super) residence: Residence,
    pins: u32,
    /// Touched since the clock's hand came by.
    referenced: bool,
    /// Never written whole before.
    pub(super) fresh: bool,
    /// What it was changed by since it was last written.
    pub(super) change: Option<Change>,
    /// What it was changed by since a copy was made.
    pub(super) again: Option<Change>,
    pub(super) progress: Progress,
    /// Neighbours in the list of changed frames.
    pub(super) before: u32,
    pub(super) after: u32,
}

impl Frame {
    fn new(residence: Residence) -> Self {
        Self {
            page: None,
            residence,
            pins: 0,
            referenced: false,
            fresh: false,
            change: None,
            again: None,
            progress: Progress::Waiting,
            before: NONE,
            after: NONE,
        }
    }

    /// Returns true if nobody needs the frame.
    fn is_idle(&self) -> bool {
        self.page.is_some()
            && self.pins == 0
            && self.change.is_none()
            && self.residence == Residence::Evictable
    }
}

/// What happened to the blocks of a kind, and how their frames are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames with changes that are not written, also those that are being written.
    pub dirty_pages: u64,
    /// Frames without.
    pub clean_pages: u64,
    /// Frames that may still be allocated.
    pub free_pages: u64,
    /// Blocks that are being read.
    pub incoming_pages: u64,
    /// Blocks that are being written.
    pub outgoing_pages: u64,
    /// Requests that had to wait for a frame, since nobody did.
    pub cache_pressure: u64,
    /// Requests for a block that was in memory.
    pub found_in_cache: u64,
    /// Requests that took a new frame.
    pub fetch_required: u64,
    /// Requests that took the frame of another block.
    pub discard_required: u64,
    /// Requests that waited for a block that was being read.
    pub wait_for_page: u64,
    /// Requests for a block that was being written.
    pub read_outgoing: u64,
    /// Requests that got a frame because a write had completed.
    pub reclaimed: u64,
    /// Blocks that were read.
    pub pages_loaded: u64,
    /// Blocks that were written.
    pub pages_saved: u64,
    /// Blocks that could not be read.
    pub failed_reads: u64,
    /// Blocks that could not be written.
    pub failed_writes: u64,
}

/// How the frames of a kind are used.
#[derive(Default)]
pub(super) struct Usage {
    /// Frames in use.
    pub(super) frames: u32,
    /// Those with changes.
    pub(super) changed: u32,
    /// Those that a writer has chosen.
    pub(super) writing: u32,
    /// Those that wait for their content.
    pub(super) loading: u32,
    pub(super) counters: Counters,
}

/// A part of a cache.
///
/// # Invariants
///
/// - A frame that is pinned, changed, loading or kept stays in the table.
/// - An evictable frame is there, or `reserve` is: without memory there is something to evict.
/// - `idle` is the number of frames that may be evicted.
pub(super) struct Shard {
    pub(super) table: Table<Frame>,
    /// The largest number of evictable frames.
    pub(super) limit: u32,
    idle: u32,
    pub(super) evictable: Usage,
    pub(super) kept: Usage,
    pub(super) changed: Ends,
    /// There are too many changed frames.
    pub(super) pressed: bool,
    reserve: Option<KBox<Page>>,
    /// What a guard would touch whose frame is gone. There is no such guard.
    nowhere: KBox<Page>,
}

/// What a task waits for.
pub(super) struct Wish {
    block: u64,
    residence: Residence,
    waits: Waits,
    /// Whether it was counted.
    counted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    /// Somebody else loads the block.
    Block,
    Frame,
}

impl Wish {
    pub(super) fn new(block: u64, residence: Residence) -> Self {
        Self {
            block,
            residence,
            waits: Waits::Nothing,
            counted: false,
        }
    }
}

impl Rules for Shard {
    type Key = Wish;

    fn left(&mut self, _: &Wish, rest: &mut Entries<'_, Wish>) {
        self.serve(rest);
    }
}

/// Memory that a task has allocated for a frame.
#[derive(Default)]
pub(super) struct Supplies {
    pub(super) page: Option<KBox<Page>>,
    pub(super) chunk: Option<Chunk<Frame>>,
    pub(super) list: Option<Chunks<Frame>>,
    /// There is no more.
    pub(super) exhausted: bool,
}

/// What must be allocated for one more frame, beside its page.
pub(super) struct Needs {
    pub(super) slots: bool,
    /// A list of chunks with room for so many.
    pub(super) list: Option<usize>,
}

/// What a task gets that asked for a block.
pub(super) enum Admission {
    /// The block, pinned.
    Pinned(u32),
    /// A frame to load the block into.
    Empty(u32, KBox<Page>),
    /// Nothing yet: it has to wake the writers, and wait.
    Pressed,
    /// Nothing yet: it has to allocate.
    Needs(Needs),
    /// Nothing, and there is no hope.
    NoMemory,
}

/// Gives a task what it asked for, or lets it wait.
pub(super) fn admit(
    turn: &mut Turn<'_, Shard>,
    supplies: &mut Supplies,
    writable: bool,
) -> Option<Admission> {
    let wish = &mut *turn.key;
    let served = turn
        .others
        .before()
        .any(|other| other.waits == Waits::Frame);
    let admission = turn.state.admit(wish, !served, supplies, writable);
    if admission.is_some() && !matches!(admission, Some(Admission::Pressed)) {
        wish.waits = Waits::Nothing;
        // There may be a frame for the next one, too.
        turn.state.serve(&mut turn.others);
    }
    admission
}

impl Shard {
    /// Returns true if no frame is pinned, read or written.
    pub(super) fn is_idle(&self) -> bool {
        let usage = [&self.evictable, &self.kept];
        usage
            .iter()
            .all(|usage| usage.writing == 0 && usage.loading == 0)
            && self.table.iter().all(|(_, _, frame)| frame.pins == 0)
    }

    pub(super) fn new(limit: usize) -> Result<Self, AllocError> {
        let mut table = Table::new(limit)?;
        drop(table.add(Chunk::new(crate::table::CHUNK)?, None));
        Ok(Self {
            table,
            limit: u32::try_from(limit).unwrap_or(u32::MAX / 4).max(1),
            idle: 0,
            evictable: Usage::default(),
            kept: Usage::default(),
            changed: Ends::new(),
            pressed: false,
            reserve: Some(super::empty_page()?),
            nowhere: super::empty_page()?,
        })
    }

    /// Returns a block that is in memory.
    #[inline]
    pub(super) fn find(&mut self, block: u64) -> Option<&Page> {
        let at = self.table.find(block)?;
        let frame = self.table.get_mut(at)?;
        let page = frame.page.as_deref()?;
        frame.referenced = true;
        if frame.residence == Residence::Evictable {
            let counters = &mut self.evictable.counters;
            counters.found_in_cache += 1;
            counters.read_outgoing += u64::from(frame.progress == Progress::Copied);
        }
        Some(page)
    }

    /// Pins a block that is in memory.
    pub(super) fn pin(&mut self, block: u64) -> Option<u32> {
        let at = self.table.find(block)?;
        let frame = self.table.get(at)?;
        frame.page.as_ref()?;
        let (residence, copied) = (frame.residence, frame.progress == Progress::Copied);
        self.alter(at, |frame| {
            frame.pins += 1;
            frame.referenced = true;
        });
        let counters = &mut self.usage_mut(residence).counters;
        counters.found_in_cache += 1;
        counters.read_outgoing += u64::from(copied);
        Some(at)
    }

    pub(super) fn unpin(&mut self, at: u32, waiting: &mut Entries<'_, Wish>) {
        self.alter(at, |frame| frame.pins = frame.pins.saturating_sub(1));
        self.serve(waiting);
    }

    /// Returns the content of a frame that is pinned.
    pub(super) fn content(&self, at: u32) -> &Page {
        let frame = self.table.get(at);
        let page = frame.and_then(|frame| frame.page.as_deref());
        debug_assert!(page.is_some(), "a pinned frame is gone");
        page.unwrap_or(&self.nowhere)
    }

    /// Returns the content of a frame that is pinned.
    pub(super) fn content_mut(&mut self, at: u32) -> &mut Page {
        let frame = self.table.get_mut(at);
        let page = frame.and_then(|frame| frame.page.as_deref_mut());
        debug_assert!(page.is_some(), "a pinned frame is gone");
        page.unwrap_or(&mut self.nowhere)
    }

    /// The content of a frame is there, or will not come. The first is pinned; what is left of the
    /// other is given back. `read` says whether it was to come from the device.
    pub(super) fn loaded(
        &mut self,
        at: u32,
        page: KBox<Page>,
        origin: Option<Origin>,
        read: bool,
        waiting: &mut Entries<'_, Wish>,
    ) -> Option<KBox<Page>> {
        let block = self.table.block(at)?;
        let residence = self.table.get(at)?.residence;
        let usage = self.usage_mut(residence);
        usage.loading = usage.loading.saturating_sub(1);
        usage.counters.failed_reads += u64::from(read && origin.is_none());
        usage.counters.pages_loaded += u64::from(read && origin.is_some());
        let mut unused = None;
        match origin {
            Some(origin) => {
                self.alter(at, |frame| {
                    frame.page = Some(page);
                    frame.fresh = origin == Origin::Fresh;
                    frame.pins = 1;
                    frame.referenced = true;
                });
            }
            None => {
                usage.frames = usage.frames.saturating_sub(1);
                self.table.remove(at);
                unused = match self.reserve {
                    Some(_) => Some(page),
                    None => self.reserve.replace(page),
                };
            }
        }
        waiting.wake_where(|wish| wish.waits == Waits::Block && wish.block == block);
        self.serve(waiting);
        unused
    }

    /// Wakes the first who waits for a frame, if there may be one.
    pub(super) fn serve(&mut self, waiting: &mut Entries<'_, Wish>) -> bool {
        let mut served = false;
        waiting.wake_where(|wish| {
            let first = !served && wish.waits == Waits::Frame;
            served |= first;
            first
        });
        if !served {
            self.evictable.counters.cache_pressure = 0;
        }
        served
    }

    /// Changes a frame, and keeps account of those that may be evicted.
    pub(super) fn alter(&mut self, at: u32, change: impl FnOnce(&mut Frame)) {
        if let Some(frame) = self.table.get_mut(at) {
            let before = frame.is_idle();
            change(frame);
            let after = frame.is_idle();
            self.idle = (self.idle + u32::from(after)).saturating_sub(u32::from(before));
        }
    }

    pub(super) fn usage_mut(&mut self, residence: Residence) -> &mut Usage {
        match residence {
            Residence::Evictable => &mut self.evictable,
            Residence::Kept => &mut self.kept,
        }
    }

    pub(super) fn count_into(&self, residence: Residence, sum: &mut Counters) {
        let (usage, limit) = match residence {
            Residence::Evictable => (&self.evictable, self.limit),
            Residence::Kept => (&self.kept, 0),
        };
        let own = &usage.counters;
        sum.dirty_pages += u64::from(usage.changed);
        sum.clean_pages += u64::from(usage.frames - usage.changed - usage.loading);
        sum.free_pages += u64::from(limit.saturating_sub(usage.frames));
        sum.incoming_pages += u64::from(usage.loading);
        sum.outgoing_pages += u64::from(usage.writing);
        sum.cache_pressure += own.cache_pressure;
        sum.found_in_cache += own.found_in_cache;
        sum.fetch_required += own.fetch_required;
        sum.discard_required += own.discard_required;
        sum.wait_for_page += own.wait_for_page;
        sum.read_outgoing += own.read_outgoing;
        sum.reclaimed += own.reclaimed;
        sum.pages_loaded += own.pages_loaded;
        sum.pages_saved += own.pages_saved;
        sum.failed_reads += own.failed_reads;
        sum.failed_writes += own.failed_writes;
    }

    fn admit(
        &mut self,
        wish: &mut Wish,
        first: bool,
        supplies: &mut Supplies,
        writable: bool,
    ) -> Option<Admission> {
        if let Some(at) = self.table.find(wish.block) {
            let pinned = self.pin(wish.block).map(Admission::Pinned);
            if pinned.is_none() {
                wish.waits = Waits::Block;
                let residence = self.table.get(at).map_or(wish.residence, |f| f.residence);
                let counted = core::mem::replace(&mut wish.counted, true);
                self.usage_mut(residence).counters.wait_for_page += u64::from(!counted);
            }
            return pinned;
        }
        let kept = wish.residence == Residence::Kept;
        if kept || (first && self.has_room(writable)) {
            match self.supply(supplies) {
                Supply::Page(page) => {
                    self.usage_mut(wish.residence).counters.fetch_required += 1;
                    return self.install(wish.block, wish.residence, page);
                }
                Supply::Needs(needs) => return Some(Admission::Needs(needs)),
                Supply::None => {}
            }
        }
        if first {
            if let Some(page) = self.spare(writable) {
                return self.install(wish.block, Residence::Evictable, page);
            }
        }
        if supplies.exhausted && self.is_stuck(writable) {
            return Some(Admission::NoMemory);
        }
        let starving = core::mem::replace(&mut wish.waits, Waits::Frame) == Waits::Frame;
        self.evictable.counters.cache_pressure += u64::from(!starving);
        if self.pressed || self.evictable.changed == 0 {
            return None;
        }
        self.pressed = true;
        Some(Admission::Pressed)
    }

    /// Returns true if there may be one more evictable frame. What can no longer be written has to
    /// stay, and must not keep out what is to be read.
    fn has_room(&self, writable: bool) -> bool {
        let usage = &self.evictable;
        let stays = match writable {
            true => 0,
            false => usage.changed,
        };
        usage.frames.saturating_sub(stays) < self.limit
    }

    /// Returns how many evictable frames there can be now: without memory, those there are.
    pub(super) fn capacity(&self) -> u32 {
        self.limit.min(self.evictable.frames)
    }

    /// Returns true if no frame will ever become idle.
    fn is_stuck(&self, writable: bool) -> bool {
        let usage = &self.evictable;
        usage.frames == 0 || (usage.frames == usage.changed && !writable)
    }

    /// Takes the memory for one more frame.
    fn supply(&mut self, supplies: &mut Supplies) -> Supply {
        let needs = Needs {
            slots: !self.table.has_room(),
            list: match self.table.has_room() {
                true => None,
                false => self.table.wants_list(),
            },
        };
        let fits = |list: &Chunks<Frame>| needs.list.is_none_or(|room| list.capacity() >= room);
        let lacks = supplies.page.is_none()
            || (needs.slots && supplies.chunk.is_none())
            || (needs.list.is_some() && !supplies.list.as_ref().is_some_and(fits));
        if lacks {
            return match supplies.exhausted {
                true => Supply::None,
                false => Supply::Needs(needs),
            };
        }
        if needs.slots {
            if let Some(chunk) = supplies.chunk.take() {
                match self.table.add(chunk, supplies.list.take()) {
                    // The old list is freed by the task.
                    Ok(old) => supplies.list = old,
                    Err(chunk) => {
                        supplies.chunk = Some(chunk);
                        return Supply::None;
                    }
                }
            }
        }
        supplies.page.take().map_or(Supply::None, Supply::Page)
    }

    /// Returns the page of a frame that may go, or the reserve.
    fn spare(&mut self, writable: bool) -> Option<KBox<Page>> {
        if self.has_room(writable) && self.table.has_room() && self.reserve.is_some() {
            self.evictable.counters.fetch_required += 1;
            return self.reserve.take();
        }
        if self.idle == 0 {
            return None;
        }
        // The first turn clears every mark, so the second meets whatever there is.
        let at = self
            .table
            .sweep(|frame| frame.is_idle() && !core::mem::replace(&mut frame.referenced, false))?;
        let page = self.table.remove(at)?.page;
        self.idle -= 1;
        self.evictable.frames -= 1;
        self.evictable.counters.discard_required += 1;
        page
    }

    /// Gives a block a frame.
    fn install(&mut self, block: u64, residence: Residence, page: KBox<Page>) -> Option<Admission> {
        let at = self.table.insert(block, Frame::new(residence)).ok()?;
        let usage = self.usage_mut(residence);
        usage.frames += 1;
        usage.loading += 1;
        Some(Admission::Empty(at, page))
    }
}

enum Supply {
    Page(KBox<Page>),
    Needs(Needs),
    None,
}
