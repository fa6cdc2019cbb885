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
use crate::error::Result;
use crate::error::Status;
use crate::format::JournalPoint;
use crate::format::RecoveryEntry;
use crate::format::Sequence;
use crate::format::MAX_SEQUENCE;
use crate::statistics;
use core::num::NonZeroU64;
use kernel::prelude::*;
use runtime::monitor::Entries;
use runtime::monitor::Rules;

/// Reservations that can be open at once.
const MAX_RESERVATIONS: usize = 64;

/// Who waits here.
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
    pub(super) fn is_reserver(&self) -> bool {
        matches!(self, Self::Reserver { .. })
    }
}

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
            wake_reserver(rest);
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
            wake_reserver(tasks);
        }
    }

    /// Wakes whom filled places are of interest to.
    pub(super) fn wake_for_filled(&mut self, tasks: &mut Entries<'_, Seat>) {
        if self.writer_idle {
            let full = self.filled - self.committed >= self.per_block.get()
                || self.place_of(self.sequence_of(self.filled)) > self.committed;
            if full || self.wanted > self.committed {
                self.wake_writer(tasks);
            }
        }
        if self.timer_idle && self.filled > self.committed {
            self.wake_timer(tasks);
        }
        if self.queue > 0 && self.unfilled.len() + 1 == MAX_RESERVATIONS {
            // There is room for one more reservation.
            wake_reserver(tasks);
        }
    }

    pub(super) fn wake_writer(&mut self, tasks: &mut Entries<'_, Seat>) {
        if core::mem::take(&mut self.writer_idle) {
            tasks.wake_where(|seat| matches!(seat, Seat::Writer));
        }
    }

    fn wake_timer(&mut self, tasks: &mut Entries<'_, Seat>) {
        if core::mem::take(&mut self.timer_idle) {
            tasks.wake_where(|seat| matches!(seat, Seat::Timer));
        }
    }
}

/// Wakes the reserver that waits for longest.
fn wake_reserver(tasks: &mut Entries<'_, Seat>) {
    let mut is_first = true;
    tasks.wake_where(|seat| seat.is_reserver() && core::mem::replace(&mut is_first, false));
}
