// SPDX-License-Identifier: GPL-2.0

//! The changes of a part that are not written: who has them, in order of age.
//!
//! Frames with changes are in a list, the oldest change first. While a copy of a frame is being
//! written the frame keeps its place: until the write has completed, what it was changed by is not
//! on disk. Changes made meanwhile are noted beside, and take their own place afterwards.

use super::shard::Frame;
use super::shard::Shard;
use super::shard::Wish;
use super::Residence;
use crate::table::Table;
use crate::table::NONE;
use kernel::prelude::KVec;
use runtime::disk::Page;
use runtime::monitor::Entries;

/// What a block was changed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The age of the oldest change; smaller is older. Less than `u64::MAX`.
    pub oldest: u64,
    /// The number of the newest change, which grows with every change.
    pub newest: u64,
}

impl Change {
    fn and(self, other: Self) -> Self {
        Self {
            oldest: self.oldest.min(other.oldest),
            newest: self.newest.max(other.newest),
        }
    }
}

/// What becomes of the changes of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// They wait.
    #[default]
    Waiting,
    /// A writer has chosen them.
    Chosen,
    /// A copy was made and is being written.
    Copied,
}

/// The ends of a list of frames. A frame is in one at most.
pub(super) struct Ends {
    first: u32,
    last: u32,
}

impl Ends {
    pub(super) fn new() -> Self {
        Self {
            first: NONE,
            last: NONE,
        }
    }

    /// Returns the first frame.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// Puts a frame at the end.
    pub(super) fn push(&mut self, table: &mut Table<Frame>, at: u32) {
        self.insert(table, at, self.last);
    }

    /// Puts a frame behind another one, or at the start.
    fn insert(&mut self, table: &mut Table<Frame>, at: u32, before: u32) {
        let after = match table.get_mut(before) {
            Some(frame) => core::mem::replace(&mut frame.after, at),
            None => core::mem::replace(&mut self.first, at),
        };
        match table.get_mut(after) {
            Some(frame) => frame.before = at,
            None => self.last = at,
        }
        if let Some(frame) = table.get_mut(at) {
            (frame.before, frame.after) = (before, after);
        }
    }

    /// Takes a frame out.
    pub(super) fn unlink(&mut self, table: &mut Table<Frame>, at: u32) {
        let Some(Frame { before, after, .. }) = table.get(at) else {
            return;
        };
        let (before, after) = (*before, *after);
        match table.get_mut(before) {
            Some(frame) => frame.after = after,
            None => self.first = after,
        }
        match table.get_mut(after) {
            Some(frame) => frame.before = before,
            None => self.last = before,
        }
    }
}

/// A frame that a writer has chosen.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    /// The number of its part.
    pub(super) part: u32,
    pub(super) frame: u32,
    pub(super) block: u64,
    pub(super) residence: Residence,
    /// Whether the block is written for the first time.
    pub(super) fresh: bool,
}

impl Shard {
    /// Returns the age of the oldest change, or `u64::MAX`.
    pub(super) fn oldest(&self) -> u64 {
        let first = self.table.get(self.changed.first);
        first
            .and_then(|frame| frame.change)
            .map_or(u64::MAX, |change| change.oldest)
    }

    /// Notes that a frame has been changed. Returns true if there are more changes than the part
    /// is meant to hold.
    pub(super) fn note_change(&mut self, at: u32, change: Change) -> bool {
        let Some(frame) = self.table.get_mut(at) else {
            return false;
        };
        if frame.progress == Progress::Copied {
            frame.again = Some(frame.again.map_or(change, |again| again.and(change)));
            return false;
        }
        match frame.change {
            Some(before) => {
                let all = before.and(change);
                frame.change = Some(all);
                // Two tasks may change a block in another order than that of their numbers.
                if all.oldest < before.oldest {
                    self.unlink(at);
                    self.link(at, all.oldest);
                }
                false
            }
            None => {
                let evictable = frame.residence == Residence::Evictable;
                self.alter(at, |frame| frame.change = Some(change));
                self.link(at, change.oldest);
                self.changed_of(evictable, 1);
                self.pressed |= 4 * self.evictable.changed > 3 * self.limit;
                self.pressed && evictable
            }
        }
    }

    /// Chooses frames to write: those with a change older than `before`, and the oldest if there
    /// are too many. `list` grows up to `room`.
    pub(super) fn choose(&mut self, part: u32, before: u64, list: &mut KVec<Chosen>, room: usize) {
        let half = self.capacity() / 2;
        let waiting = self
            .evictable
            .changed
            .saturating_sub(self.evictable.writing);
        let mut surplus = match self.pressed {
            true => waiting.saturating_sub(half),
            false => 0,
        };
        let mut next = self.changed.first;
        while let Some(frame) = self.table.get(next) {
            let (at, after) = (next, frame.after);
            next = after;
            let due = frame.change.is_some_and(|change| change.oldest < before);
            if (!due && surplus == 0) || list.len() >= room {
                break;
            }
            let evictable = frame.residence == Residence::Evictable;
            if frame.progress != Progress::Waiting || !(due || evictable) {
                continue;
            }
            let chosen = Chosen {
                part,
                frame: at,
                block: self.table.block(at).unwrap_or(0),
                residence: frame.residence,
                fresh: frame.fresh,
            };
            if list.push_within_capacity(chosen).is_err() {
                break;
            }
            self.alter(at, |frame| frame.progress = Progress::Chosen);
            let usage = self.usage_mut(chosen.residence);
            usage.writing += 1;
            if evictable {
                surplus = surplus.saturating_sub(1);
            }
        }
    }

    /// Copies a chosen frame, and returns the number of its newest change.
    pub(super) fn copy(&mut self, at: u32, to: &mut Page) -> u64 {
        let Some(frame) = self.table.get_mut(at) else {
            return 0;
        };
        frame.progress = Progress::Copied;
        if let Some(page) = &frame.page {
            to.copy_from_slice(&**page);
        }
        let newest = frame.change.map_or(0, |change| change.newest);
        let residence = frame.residence;
        self.usage_mut(residence).counters.pages_saved += 1;
        newest
    }

    /// The copy of a frame has been written, or could not be.
    pub(super) fn written(&mut self, at: u32, done: bool, waiting: &mut Entries<'_, Wish>) {
        let Some(frame) = self.table.get(at) else {
            return;
        };
        let (residence, change, again) = (frame.residence, frame.change, frame.again);
        let left = match (done, change, again) {
            (true, _, again) => again,
            (false, Some(change), Some(again)) => Some(change.and(again)),
            (false, change, again) => change.or(again),
        };
        self.unlink(at);
        self.alter(at, |frame| {
            frame.progress = Progress::Waiting;
            frame.change = left;
            frame.again = None;
            frame.fresh &= !done;
        });
        let usage = self.usage_mut(residence);
        usage.writing = usage.writing.saturating_sub(1);
        usage.counters.failed_writes += u64::from(!done);
        match left {
            Some(change) => self.link(at, change.oldest),
            None => self.changed_of(residence == Residence::Evictable, -1),
        }
        if 2 * self.evictable.changed <= self.capacity() {
            self.pressed = false;
        }
        self.evictable.counters.reclaimed += u64::from(self.serve(waiting));
    }

    fn changed_of(&mut self, evictable: bool, by: i32) {
        let usage = match evictable {
            true => &mut self.evictable,
            false => &mut self.kept,
        };
        usage.changed = usage.changed.saturating_add_signed(by);
    }

    /// Puts a frame into the list, behind all whose change is not younger.
    fn link(&mut self, at: u32, oldest: u64) {
        let mut before = self.changed.last;
        while let Some(frame) = self.table.get(before) {
            if frame.change.is_none_or(|change| change.oldest <= oldest) {
                break;
            }
            before = frame.before;
        }
        self.changed.insert(&mut self.table, at, before);
    }

    fn unlink(&mut self, at: u32) {
        self.changed.unlink(&mut self.table, at);
    }
}
