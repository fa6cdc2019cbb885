// SPDX-License-Identifier: GPL-2.0

//! The state of the journal: who has reserved, filled, written and applied how much.
//!
//! # Invariants
//!
//! A *place* is `sequence * entries per block + index`; places only grow. `applied <= committed <=
//! filled <= reserved <= limit`: everything before `filled` is filled, everything before
//! `committed` is on stable storage, everything before `applied` the depot has.
//!
//! A block stays in memory while one of its entries is not applied, or may be written again: the
//! block that `committed` is in, or that it has just left, may.

pub(super) mod work;

use super::memory::Memory;
use super::Counters;
use super::JournalConfig;
use super::JournalStart;
use super::Reservation;
use super::MAX_BLOCKS_IN_FLIGHT;
use crate::admin::statistics;
use crate::error::Result;
use crate::error::Status;
use crate::format::JournalPoint;
use crate::format::RecoveryEntry;
use crate::format::Sequence;
use crate::format::MAX_SEQUENCE;
use core::num::NonZeroU64;
use kernel::prelude::*;
use runtime::monitor::Entries;
use runtime::monitor::Rules;

/// Reservations that can be open at once.
const MAX_RESERVATIONS: usize = 64;

/// Who waits here. There is a line for each kind of those who may be many.
#[derive(Debug)]
pub(crate) enum Seat {
    Reserver {
        counted: bool,
    },
    /// For a place to be committed.
    Commit(u64),
    /// For a place to be applied.
    Applied(u64),
    Drain,
    Writer,
    Timer,
    Applier,
}

impl Seat {
    /// Returns where it waits at first.
    pub(super) fn line(&self) -> usize {
        match self {
            Self::Reserver { .. } => RESERVERS,
            _ => OTHERS,
        }
    }
}

/// Those who wait to reserve; only the first of them looks for room.
const RESERVERS: usize = 0;
/// Those who wait for a commit, ascending.
pub(super) const COMMITS: usize = 1;
/// Those who wait until places are applied, ascending.
pub(super) const APPLIES: usize = 2;
/// Those of these two who were woken.
const WOKEN: usize = 3;
/// The journal's tasks, who waits for the end, and who came late for a place that many were behind
/// already: few.
pub(super) const OTHERS: usize = 4;
/// The number of lines.
pub(super) const LINES: usize = 5;

/// How many of a line are woken at once, and how many by each of them who leaves: so that the lock
/// is never held for long, whatever number waits.
const WAKE: usize = 16;
const WAKE_NEXT: usize = 2;

/// Why nothing can be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Too much is not committed or not applied yet, or too many reservations are open.
    Memory,
    /// The ring is full.
    Ring,
    /// There is no further sequence number.
    Sequences,
}

/// The state of the journal.
pub(crate) struct Ring {
    config: KBox<JournalConfig>,
    per_block: NonZeroU64,
    /// Blocks of the ring that may be in use.
    usable: u64,
    memory: Memory,

    /// The next place to reserve, and the point that it is.
    reserved: u64,
    next: JournalPoint,
    filled: u64,
    committed: u64,
    applied: u64,
    /// Nothing may be reserved from this place on.
    limit: u64,
    /// The first places of the reservations that are not filled, ascending.
    unfilled: KVec<u64>,

    /// The first block since the start, or since the last save.
    start: Sequence,
    /// The oldest block that is needed, as blocks on stable storage say.
    head: Sequence,
    /// Somebody waits for a commit of all places before this one.
    wanted: u64,
    /// All places before this one have waited long enough.
    due: u64,
    /// Somebody lacks room in the ring.
    short: bool,
    /// The writer is to look whether the heads have moved.
    look: bool,
    writing: bool,
    writer_idle: bool,
    timer_idle: bool,
    applier_idle: bool,

    /// The last place in the lines of those who wait for a commit, and until it is applied.
    last_commit: u64,
    last_apply: u64,
    /// Reservers that wait.
    pub(super) queue: usize,
    pub(super) counters: Counters,
    pub(super) statistics: statistics::Journal,
    pub(super) stopping: bool,
}

impl Rules for Ring {
    type Key = Seat;

    fn left(&mut self, seat: &Seat, rest: &mut Entries<'_, Seat>) {
        if matches!(seat, Seat::Reserver { counted: true }) {
            self.queue = self.queue.saturating_sub(1);
            self.short = false;
            rest.wake_first();
        }
        match seat {
            Seat::Commit(_) => self.wake_line(COMMITS, WAKE_NEXT, rest),
            Seat::Applied(_) => self.wake_line(APPLIES, WAKE_NEXT, rest),
            _ => {}
        }
    }
}

impl Ring {
    pub(super) fn new(config: &JournalConfig, start: JournalStart) -> Result<Self> {
        let per_block = NonZeroU64::new(config.shape.entries_per_block().into());
        let per_block = per_block.ok_or(Status::BadConfiguration)?;
        if !config.size.is_power_of_two() || start.tail >= MAX_SEQUENCE {
            return Err(Status::BadConfiguration.into());
        }
        let spare = (config.size / 4).min(MAX_BLOCKS_IN_FLIGHT);
        let mut ring = Self {
            config: KBox::new(*config, GFP_KERNEL)?,
            per_block,
            usable: config.size - spare,
            memory: Memory::new(config, per_block)?,
            reserved: 0,
            next: JournalPoint::NONE,
            filled: 0,
            committed: 0,
            applied: 0,
            limit: 0,
            unfilled: KVec::with_capacity(MAX_RESERVATIONS, GFP_KERNEL)?,
            start: 0,
            head: 0,
            wanted: 0,
            due: 0,
            short: false,
            look: false,
            writing: false,
            writer_idle: false,
            timer_idle: false,
            applier_idle: false,
            last_commit: 0,
            last_apply: 0,
            queue: 0,
            counters: start.counters,
            statistics: statistics::Journal::default(),
            stopping: false,
        };
        ring.start_at(start.tail);
        Ok(ring)
    }

    pub(super) fn open(&mut self, start: JournalStart, recovery_count: u8) {
        self.config.recovery_count = recovery_count;
        self.counters = start.counters;
        self.start_at(start.tail);
    }

    /// Goes on with the block `tail`; nothing before it is needed any more.
    fn start_at(&mut self, tail: Sequence) {
        let place = self.place_of(tail);
        self.reserved = place;
        self.next = JournalPoint::new(tail, 0);
        self.filled = place;
        self.committed = place;
        self.applied = place;
        self.start = tail;
        self.head = tail;
        self.memory.set_before(tail, self.counters);
        self.set_limit();
    }

    pub(super) fn close_block(&mut self) -> Result<Sequence> {
        if !self.has_reached(&Seat::Drain) {
            // Entries would follow in a block that nobody looks at.
            return Err(Status::InvalidAdminState.into());
        }
        let tail = self.tail();
        self.start_at(tail);
        Ok(tail)
    }

    fn place_of(&self, sequence: Sequence) -> u64 {
        sequence.saturating_mul(self.per_block.get())
    }

    fn sequence_of(&self, place: u64) -> Sequence {
        place / self.per_block
    }

    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    pub(super) fn head(&self) -> Sequence {
        self.head
    }

    pub(super) fn tail(&self) -> Sequence {
        self.next.sequence + u64::from(self.next.entry > 0)
    }

    /// Works out up to where places may be reserved.
    fn set_limit(&mut self) {
        let rewritable = self.sequence_of(self.committed.saturating_sub(1));
        let kept = rewritable.min(self.sequence_of(self.applied));
        let memory = kept + self.memory.blocks();
        let ring = self.head + self.usable;
        self.limit = self.place_of(memory.min(ring).min(MAX_SEQUENCE));
    }

    fn lack(&self) -> Lack {
        let here = self.sequence_of(self.reserved);
        if here >= MAX_SEQUENCE {
            Lack::Sequences
        } else if here >= self.head + self.usable {
            Lack::Ring
        } else {
            Lack::Memory
        }
    }

    /// Reserves up to `wanted` places.
    pub(super) fn grant(&mut self, wanted: usize) -> Result<Reservation, Lack> {
        let room = self.limit.saturating_sub(self.reserved);
        if room == 0 {
            return Err(self.lack());
        }
        let is_full = self.unfilled.len() >= MAX_RESERVATIONS;
        if is_full || self.unfilled.push_within_capacity(self.reserved).is_err() {
            return Err(Lack::Memory);
        }

        let len = room.min(wanted.min(self.config.grant.max(1)) as u64);
        let place = self.reserved;
        let first = self.next;
        let mut last = first.sequence;
        if first.entry == 0 {
            self.memory.open(last);
        }
        let per_block = self.per_block.get();
        let mut end = u64::from(first.entry) + len;
        while end > per_block {
            end -= per_block;
            last += 1;
            self.memory.open(last);
        }
        self.next = if end == per_block {
            JournalPoint::new(last + 1, 0)
        } else {
            JournalPoint::new(last, end as u16)
        };
        self.reserved += len;
        Ok(Reservation {
            place,
            len: len as usize,
            first,
            last,
        })
    }

    /// Fills the places of a reservation. Returns false if there is none like it.
    pub(super) fn fill(&mut self, reservation: &Reservation, entries: &[RecoveryEntry]) -> bool {
        let place = reservation.place;
        let found = self.unfilled.iter().position(|&first| first == place);
        let Some(at) = found else { return false };
        self.memory
            .fill(reservation.first, entries, &mut self.counters);
        self.statistics.entries.started += entries.len() as u64;
        if at + 1 < self.unfilled.len() {
            self.unfilled.copy_within(at + 1.., at);
        }
        self.unfilled.pop();
        self.filled = self.unfilled.first().copied().unwrap_or(self.reserved);
        true
    }

    /// Counts a reserver that waits; returns true if it is new.
    pub(super) fn enqueue(&mut self, seat: &mut Seat) -> bool {
        match seat {
            Seat::Reserver { counted } if !*counted => {
                *counted = true;
                self.queue += 1;
                true
            }
            _ => false,
        }
    }

    /// Somebody cannot reserve: does what may help.
    pub(super) fn ask_for_room(&mut self, lack: Lack, is_new: bool, tasks: &mut Entries<'_, Seat>) {
        self.wanted = self.wanted.max(self.filled);
        if lack == Lack::Ring {
            self.statistics.disk_full += u64::from(is_new);
            if !self.short {
                self.short = true;
                self.look = true;
            }
        }
        self.wake_writer(tasks);
        self.wake_timer(tasks);
    }

    /// Returns true if no reservation is open.
    pub(super) fn has_no_gap(&self) -> bool {
        self.unfilled.is_empty() && self.filled == self.reserved
    }

    pub(super) fn has_reached(&self, seat: &Seat) -> bool {
        match seat {
            Seat::Commit(place) => self.committed >= *place,
            Seat::Applied(place) => self.applied >= *place,
            Seat::Drain => self.applied == self.reserved && !self.writing,
            _ => true,
        }
    }

    /// Returns whether a write is in flight.
    pub(super) fn is_writing(&self) -> bool {
        self.writing
    }

    /// Returns the line for somebody who waits for a place, and will be its last.
    pub(super) fn line_up(&mut self, seat: &Seat) -> usize {
        let (last, place, line) = match seat {
            Seat::Commit(place) => (&mut self.last_commit, *place, COMMITS),
            Seat::Applied(place) => (&mut self.last_apply, *place, APPLIES),
            _ => return seat.line(),
        };
        if place < *last {
            return OTHERS;
        }
        *last = place;
        line
    }

    /// Wakes the first of a line whose places are reached. They leave it, and wake others.
    pub(super) fn wake_line(&self, line: usize, most: usize, tasks: &mut Entries<'_, Seat>) {
        for _ in 0..most {
            match tasks.first_of(line) {
                Some(seat) if self.has_reached(seat) => tasks.wake_first_of(line, WOKEN),
                _ => return,
            };
        }
    }

    /// Wakes those whose places are reached.
    pub(super) fn wake_for_places(&self, line: usize, tasks: &mut Entries<'_, Seat>) {
        self.wake_line(line, WAKE, tasks);
        tasks.wake_where_in(OTHERS, |seat| match seat {
            Seat::Commit(_) | Seat::Applied(_) | Seat::Drain => self.has_reached(seat),
            _ => false,
        });
    }

    /// Notes what somebody waits for.
    pub(super) fn want(&mut self, seat: &Seat, tasks: &mut Entries<'_, Seat>) {
        let place = match seat {
            Seat::Commit(place) | Seat::Applied(place) => *place,
            _ => self.reserved,
        };
        if place > self.wanted {
            self.wanted = place;
            self.wake_writer(tasks);
        }
    }

    fn wake_for_room(&self, tasks: &mut Entries<'_, Seat>) {
        if self.queue > 0 && self.limit > self.reserved {
            tasks.wake_first();
        }
    }

    /// Wakes whom filled places are of interest to.
    pub(super) fn wake_for_filled(&mut self, tasks: &mut Entries<'_, Seat>) {
        if self.writer_idle && (self.is_half_full() || self.wanted > self.committed) {
            self.wake_writer(tasks);
        }
        if self.timer_idle && self.filled > self.committed {
            self.wake_timer(tasks);
        }
        if self.queue > 0 && self.unfilled.len() + 1 == MAX_RESERVATIONS {
            // There is room for one more reservation.
            tasks.wake_first();
        }
    }

    pub(super) fn wake_writer(&mut self, tasks: &mut Entries<'_, Seat>) {
        if core::mem::take(&mut self.writer_idle) {
            tasks.wake_where_in(OTHERS, |seat| matches!(seat, Seat::Writer));
        }
    }

    fn wake_timer(&mut self, tasks: &mut Entries<'_, Seat>) {
        if core::mem::take(&mut self.timer_idle) {
            tasks.wake_where_in(OTHERS, |seat| matches!(seat, Seat::Timer));
        }
    }
}

/// Wakes everybody.
pub(super) fn wake_all(tasks: &mut Entries<'_, Seat>) {
    for line in 0..LINES {
        tasks.wake_where_in(line, |_| true);
    }
}
