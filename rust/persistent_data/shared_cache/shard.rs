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
use crate::table::CHUNK;
use crate::table::NONE;
use kernel::alloc::AllocError;
use kernel::prelude::KBox;
use kernel::prelude::KVec;
use kernel::prelude::GFP_KERNEL;
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
    /// The number of its load, while the block is read or made.
    load: usize,
    /// Neighbours in the list of changed frames, or in that of idle ones.
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
            load: 0,
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
/// - Evictable frames and pages in `reserve` are together at least as many as the reserve was
///   made of, and each of the latter has a vacant slot: so many frames there are without memory.
/// - `idle` is the list of frames that may be evicted; the one that became idle first is first.
/// - A load is free, or is that of a frame without content, or somebody waits in its list.
pub(super) struct Shard {
    pub(super) table: Table<Frame>,
    /// The largest number of evictable frames.
    pub(super) limit: u32,
    idle: Ends,
    loads: KVec<Load>,
    /// The numbers of those that are free.
    free_loads: KVec<usize>,
    pub(super) evictable: Usage,
    pub(super) kept: Usage,
    pub(super) changed: Ends,
    /// There are too many changed frames.
    pub(super) pressed: bool,
    reserve: KVec<KBox<Page>>,
    /// What a guard would touch whose frame is gone. There is no such guard.
    nowhere: KBox<Page>,
}

/// Blocks of a part that can be loaded at once. Each load has a list of those who wait for it.
pub(super) const LOADS: usize = 64;

/// The list of those who wait for a frame; those of the loads follow.
const FRAMES: usize = 0;

/// Frames in use that get another chance before one is evicted, at most.
const CHANCES: usize = 16;

/// A block on its way into memory, or one that has come and is waited for still: who waits is woken
/// one after the other, by the one before.
#[derive(Clone, Copy, Default)]
struct Load {
    running: bool,
    waiting: u32,
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
    /// This load, of somebody else: it may be that of the block.
    Load(usize),
    /// A frame, and a load for it.
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

    fn left(&mut self, wish: &Wish, rest: &mut Entries<'_, Wish>) {
        self.end_wait(wish.waits, rest);
        self.serve(rest);
    }
}

/// Memory that a task has allocated for a frame.
#[derive(Default)]
pub(super) struct Supplies {
    pub(super) page: Option<KBox<Page>>,
    pub(super) chunk: Option<Chunk<Frame>>,
    pub(super) list: Option<Chunks<Frame>>,
    /// There is no more, now.
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
    let first = turn.others.before().next().is_none();
    let before = turn.key.waits;
    let step = turn.state.admit(turn.key, first, supplies, writable);
    turn.key.waits = match &step {
        Step::Done(_) => Waits::Nothing,
        // Who waits for a frame keeps its place.
        Step::Allocate(_) if before == Waits::Frame => Waits::Frame,
        Step::Allocate(_) => Waits::Nothing,
        Step::Wait(waits) => *waits,
        Step::Press => Waits::Frame,
    };
    match (turn.key.waits, before) {
        (Waits::Nothing, _) => turn.leave(),
        // It keeps its place. Who is new is in the first list, that of frames.
        (now, before) if now == before => {}
        (Waits::Frame, Waits::Nothing) => {}
        (Waits::Frame, _) => turn.move_to(FRAMES),
        (Waits::Load(load), _) => turn.move_to(FRAMES + 1 + load),
    }
    if turn.key.waits != before {
        turn.state.begin_wait(turn.key.waits);
        turn.state.end_wait(before, &mut turn.others);
    }
    match step {
        Step::Done(admission) => {
            // There may be a frame for the next one, too.
            turn.state.serve(&mut turn.others);
            Some(admission)
        }
        Step::Allocate(needs) => Some(Admission::Needs(needs)),
        Step::Press => Some(Admission::Pressed),
        Step::Wait(_) => None,
    }
}

/// What comes of a look at a part.
enum Step {
    Done(Admission),
    Allocate(Needs),
    /// The task has to wake the writers, and waits for a frame.
    Press,
    Wait(Waits),
}

impl Step {
    fn admission(self) -> Option<Admission> {
        match self {
            Step::Done(admission) => Some(admission),
            _ => None,
        }
    }
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

    /// Creates a part of up to `limit` evictable frames, `reserve` of which have their memory at once.
    pub(super) fn new(limit: usize, reserve: usize) -> Result<Self, AllocError> {
        let mut table = Table::new(limit.max(reserve))?;
        let mut free_loads = KVec::with_capacity(LOADS, GFP_KERNEL)?;
        for load in (0..LOADS).rev() {
            free_loads.push(load, GFP_KERNEL)?;
        }
        let mut pages = KVec::with_capacity(reserve, GFP_KERNEL)?;
        for number in 0..reserve {
            if number % CHUNK == 0 {
                let chunk = Chunk::new(CHUNK, GFP_KERNEL)?;
                // There is room for all of them.
                table.add(chunk, None).map_err(|_| AllocError)?;
            }
            pages.push(super::empty_page(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(Self {
            table,
            limit: u32::try_from(limit).unwrap_or(u32::MAX / 4).max(1),
            idle: Ends::new(),
            loads: KVec::from_elem(Load::default(), LOADS, GFP_KERNEL)?,
            free_loads,
            evictable: Usage::default(),
            kept: Usage::default(),
            changed: Ends::new(),
            pressed: false,
            reserve: pages,
            nowhere: super::empty_page(GFP_KERNEL)?,
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
        let frame = self.table.get(at)?;
        let (residence, load) = (frame.residence, frame.load);
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
                let pushed = self.reserve.push_within_capacity(page);
                unused = pushed.err().map(|error| error.0);
            }
        }
        self.end_load(load, waiting);
        self.serve(waiting);
        unused
    }

    /// Wakes the first who waits for a frame, if there may be one. Returns whether somebody does.
    pub(super) fn serve(&mut self, waiting: &mut Entries<'_, Wish>) -> bool {
        let served = waiting.wake_first_if(FRAMES, |wish| wish.waits == Waits::Frame);
        if !served {
            self.evictable.counters.cache_pressure = 0;
        }
        served
    }

    fn begin_wait(&mut self, waits: Waits) {
        if let Waits::Load(load) = waits {
            if let Some(load) = self.loads.get_mut(load) {
                load.waiting += 1;
            }
        }
    }

    /// Who has waited for that does so no longer.
    fn end_wait(&mut self, waits: Waits, waiting: &mut Entries<'_, Wish>) {
        if let Waits::Load(number) = waits {
            if let Some(load) = self.loads.get_mut(number) {
                load.waiting = load.waiting.saturating_sub(1);
            }
            self.go_on(number, waiting);
        }
    }

    fn end_load(&mut self, number: usize, waiting: &mut Entries<'_, Wish>) {
        if let Some(load) = self.loads.get_mut(number) {
            load.running = false;
        }
        self.go_on(number, waiting);
    }

    /// If a load has ended: wakes the next who waits for it, or frees it.
    fn go_on(&mut self, number: usize, waiting: &mut Entries<'_, Wish>) {
        let Some(load) = self.loads.get(number) else {
            return;
        };
        if load.running {
            return;
        }
        if load.waiting > 0 {
            waiting.wake_first_if(FRAMES + 1 + number, |_| true);
        } else {
            // There is room for all of them.
            let _ = self.free_loads.push_within_capacity(number);
            self.serve(waiting);
        }
    }

    /// Changes a frame, and keeps account of those that may be evicted.
    pub(super) fn alter(&mut self, at: u32, change: impl FnOnce(&mut Frame)) {
        if let Some(frame) = self.table.get_mut(at) {
            let before = frame.is_idle();
            change(frame);
            match (before, frame.is_idle()) {
                (false, true) => self.idle.push(&mut self.table, at),
                (true, false) => self.idle.unlink(&mut self.table, at),
                _ => {}
            }
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
    ) -> Step {
        if let Some(at) = self.table.find(wish.block) {
            if let Some(frame) = self.pin(wish.block) {
                return Step::Done(Admission::Pinned(frame));
            }
            let frame = self.table.get(at);
            let residence = frame.map_or(wish.residence, |frame| frame.residence);
            let load = frame.map_or(0, |frame| frame.load);
            let counted = core::mem::replace(&mut wish.counted, true);
            self.usage_mut(residence).counters.wait_for_page += u64::from(!counted);
            return Step::Wait(Waits::Load(load));
        }
        if self.free_loads.is_empty() {
            return Step::Wait(Waits::Frame);
        }
        let kept = wish.residence == Residence::Kept;
        if kept || (first && self.has_room(writable)) {
            match self.supply(supplies) {
                Supply::Page(page) => {
                    self.usage_mut(wish.residence).counters.fetch_required += 1;
                    return self.install(wish.block, wish.residence, page);
                }
                Supply::Needs(needs) => return Step::Allocate(needs),
                Supply::None => {}
            }
        }
        if first {
            if let Some(page) = self.spare(kept || self.has_room(writable)) {
                return self.install(wish.block, Residence::Evictable, page);
            }
        }
        // Who is woken asks for memory again.
        let exhausted = core::mem::replace(&mut supplies.exhausted, false);
        if exhausted && first && self.is_stuck(writable) {
            return Step::Done(Admission::NoMemory);
        }
        let starving = wish.waits == Waits::Frame;
        self.evictable.counters.cache_pressure += u64::from(!starving);
        if self.pressed || self.evictable.changed == 0 {
            return Step::Wait(Waits::Frame);
        }
        self.pressed = true;
        Step::Press
    }

    /// Returns true if a block is in memory, or on its way there.
    pub(super) fn has(&self, block: u64) -> bool {
        self.table.find(block).is_some()
    }

    /// Gives an evictable block that is not in memory a frame, for who does not wait for one.
    pub(super) fn admit_now(
        &mut self,
        block: u64,
        supplies: &mut Supplies,
        waiting: &mut Entries<'_, Wish>,
    ) -> Option<Admission> {
        // Those who wait are first.
        let has_queue = waiting.first_of(FRAMES).is_some();
        if has_queue || self.free_loads.is_empty() || self.has(block) {
            return None;
        }
        if self.has_room(true) {
            match self.supply(supplies) {
                Supply::Page(page) => {
                    self.evictable.counters.fetch_required += 1;
                    return self.install(block, Residence::Evictable, page).admission();
                }
                Supply::Needs(needs) => return Some(Admission::Needs(needs)),
                Supply::None => {}
            }
        }
        let page = self.spare(self.has_room(true))?;
        self.install(block, Residence::Evictable, page).admission()
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
        usage.frames == usage.changed && !writable
    }

    /// Takes the memory for one more frame.
    fn supply(&mut self, supplies: &mut Supplies) -> Supply {
        let has_slot = self.table.vacancies() as usize > self.reserve.len();
        let needs = Needs {
            slots: !has_slot,
            list: match has_slot {
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

    /// Returns a page of the reserve, if there is room, or that of a frame that may go.
    fn spare(&mut self, has_room: bool) -> Option<KBox<Page>> {
        if has_room {
            if let Some(page) = self.reserve.pop() {
                self.evictable.counters.fetch_required += 1;
                return Some(page);
            }
        }
        for _ in 0..CHANCES {
            let at = self.idle.first();
            let was_used = self
                .table
                .get_mut(at)
                .is_some_and(|frame| core::mem::replace(&mut frame.referenced, false));
            if !was_used {
                break;
            }
            self.idle.unlink(&mut self.table, at);
            self.idle.push(&mut self.table, at);
        }
        let at = self.idle.first();
        self.table.get(at)?;
        self.idle.unlink(&mut self.table, at);
        let page = self.table.remove(at)?.page;
        self.evictable.frames -= 1;
        self.evictable.counters.discard_required += 1;
        page
    }

    /// Gives a block a frame.
    fn install(&mut self, block: u64, residence: Residence, page: KBox<Page>) -> Step {
        let mut frame = Frame::new(residence);
        // There is one: that was asked before. And there is a slot for each page.
        frame.load = self.free_loads.last().copied().unwrap_or(LOADS);
        let number = frame.load;
        let Ok(at) = self.table.insert(block, frame) else {
            return Step::Wait(Waits::Frame);
        };
        self.free_loads.pop();
        if let Some(load) = self.loads.get_mut(number) {
            load.running = true;
        }
        let usage = self.usage_mut(residence);
        usage.frames += 1;
        usage.loading += 1;
        Step::Done(Admission::Empty(at, page))
    }
}

enum Supply {
    Page(KBox<Page>),
    Needs(Needs),
    None,
}
