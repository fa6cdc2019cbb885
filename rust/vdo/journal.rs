// SPDX-License-Identifier: GPL-2.0

//! The recovery journal: every change of a mapping, in order.
//!
//! A ring of blocks on the storage. Who changes mappings first *reserves* places for the entries,
//! which may wait; then changes the pages of the block map in memory, which from then on hold back
//! the head of the ring; then *fills* the places, which never waits. Nobody waits between the two.
//!
//! Three tasks do the rest:
//!
//! - the writer writes all places that are filled without a gap, in one I/O as far as the ring
//!   allows, whenever somebody waits for a commit, half the memory or an I/O is full, or entries have
//!   waited long enough;
//! - the timer tells it of the last;
//! - the applier hands committed entries to the depot, in order. Only then is their memory free.
//!
//! # Durability
//!
//! Every write is preceded by a flush and goes to stable storage (`Ordered`). So the data that an
//! entry names is stable before the entry is, and so is whatever let a head move before the head
//! is. Entries count as committed when their write has completed; one write is in flight at a time.
//!
//! A block of the ring is overwritten only when a head on stable storage has passed it. Where the
//! ring is short and there is nothing to write, the last block is written again with new heads.

pub(crate) mod ring;

mod applier;
mod memory;
mod writer;

use crate::admin::statistics;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::recovery_journal::Shape;
use crate::format::JournalPoint;
use crate::format::Pbn;
use crate::format::RecoveryEntry;
use crate::format::Sequence;
use crate::format::StoredEntry;
use crate::health::Health;
use crate::storage::Storage;
use crate::world::World;
use core::future::Future;
use core::pin::pin;
use kernel::prelude::*;
use ring::Lack;
use ring::Ring;
use ring::Seat;
use runtime::clock::Clock;
use runtime::disk::Disk;
use runtime::monitor::Entry;
use runtime::monitor::Monitor;
use runtime::sync::Arc;
use runtime::sync::AtomicU64;
use runtime::sync::Lock;

/// Blocks of the ring that can be in flight at once, in mainline and here. A valid block that is
/// this far ahead of another one proves that the other was committed.
pub const MAX_BLOCKS_IN_FLIGHT: u64 = 11;

/// Entries that the applier hands on at once.
const APPLY_BATCH: usize = 128;

/// The sizes of a journal.
#[derive(Clone, Copy, Debug)]
pub struct JournalConfig {
    /// The first block of the ring.
    pub origin: Pbn,
    /// Blocks of the ring: a power of two.
    pub size: u64,
    /// The nonce of the volume.
    pub nonce: u64,
    /// Recoveries that the volume has seen, modulo 256.
    pub recovery_count: u8,
    /// Entries of a block.
    pub shape: Shape,
    /// Blocks kept in memory: a power of two, at least 2.
    pub memory_blocks: u64,
    /// How long entries wait for company.
    pub commit_delay_ms: u64,
    /// Blocks written by one I/O, at most [`MAX_BLOCKS_IN_FLIGHT`].
    pub io_pages: u64,
    /// Places that a reservation has at most.
    pub grant: usize,
}

/// Where a journal goes on.
#[derive(Clone, Copy, Debug)]
pub struct JournalStart {
    /// The sequence of the next block. All older blocks are done with.
    pub tail: Sequence,
    /// What the entries have added up to so far.
    pub counters: Counters,
}

/// What the entries of a journal add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Logical blocks that are mapped, to zeroes or to data.
    pub logical_blocks_used: u64,
    /// Pages of the block map in slabs.
    pub block_map_data_blocks: u64,
}

/// A place between two entries of the journal; later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

impl Position {
    /// Returns the position that [`get`](Self::get) gave as a number.
    pub const fn new(place: u64) -> Self {
        Self(place)
    }

    /// Returns the position as a number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Places for entries, which must be filled without waiting for anything in between.
#[must_use = "a reservation that is not filled stops the journal"]
#[derive(Debug)]
pub struct Reservation {
    place: u64,
    len: usize,
    first: JournalPoint,
    last: Sequence,
}

impl Reservation {
    /// Returns the number of places.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the sequence of the block of the first place.
    pub fn first(&self) -> Sequence {
        self.first.sequence
    }

    /// Returns the sequence of the block of the last place.
    pub fn last(&self) -> Sequence {
        self.last
    }

    /// Returns the position behind the last place.
    pub fn end(&self) -> Position {
        Position(self.place.saturating_add(self.len as u64))
    }
}

/// What holds back the heads of the ring.
///
/// A hold is given up only when what it stood for has been written. The methods are called by the
/// writer, never under a lock.
pub trait Holds: Send + Sync {
    /// Returns the oldest sequence that a page of the block map needs.
    fn block_map(&self) -> Option<Sequence>;

    /// Returns the oldest sequence that a slab journal needs, of the entries that it was given.
    fn slab_journals(&self) -> Option<Sequence>;

    /// The ring is short: what holds sequences smaller than `before` is to be written soon.
    fn hurry(&self, before: Sequence);

    /// The block with this sequence is written for the first time.
    fn block_opened(&self, sequence: Sequence);
}

/// What committed entries are applied to.
pub trait Apply: Send + Sync {
    /// Applies entries, in order: of each first the increment, then the decrement. The `entry` of
    /// a point is the index in the block.
    ///
    /// When this returns, what still has to be written for them holds the ring
    /// ([`Holds::slab_journals`]).
    fn apply(&self, entries: &[(JournalPoint, StoredEntry)])
        -> impl Future<Output = Result> + Send;
}

/// What is done wrong on purpose, so that tests can show that they would see it.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing.
    #[default]
    None,
    /// Entries count as committed when their write is issued.
    EarlyCommit,
    /// Writes are not preceded by a flush.
    NoPreflush,
    /// A block may be overwritten as soon as nobody needs it, whatever the heads on storage say.
    EarlyReuse,
}

/// The recovery journal.
pub struct Journal<W: World> {
    world: Arc<W>,
    storage: Arc<Storage<W::Disk>>,
    health: Arc<Health>,
    size: u64,
    commit_delay_ms: u64,
    /// The first block of the ring.
    origin: AtomicU64,
    monitor: Monitor<Ring>,
    /// What the tasks need; each takes its own.
    buffer: Lock<Option<<W::Disk as Disk>::Buffer>>,
    timer: Lock<Option<<W::Clock as Clock>::Timer>>,
    batch: Lock<Option<KVec<(JournalPoint, StoredEntry)>>>,
    #[cfg(test)]
    pub(crate) flaw: Flaw,
}

impl<W: World> Journal<W> {
    /// Makes a journal that goes on at `start`. Allocates all that it will ever need.
    ///
    /// # Errors
    ///
    /// No memory, or sizes that make no sense.
    pub fn new(
        config: JournalConfig,
        start: JournalStart,
        world: Arc<W>,
        storage: Arc<Storage<W::Disk>>,
        health: Arc<Health>,
    ) -> Result<Self> {
        let ring = Ring::new(&config, start)?;
        let pages = config.io_pages.clamp(1, MAX_BLOCKS_IN_FLIGHT);
        let buffer = storage.buffer(pages as usize)?;
        let timer = world.clock().timer()?;
        let batch = KVec::with_capacity(APPLY_BATCH, GFP_KERNEL)?;
        Ok(Self {
            world,
            storage,
            health,
            origin: AtomicU64::new(config.origin),
            size: config.size,
            commit_delay_ms: config.commit_delay_ms,
            monitor: Monitor::with_lists(ring, ring::LINES)?,
            buffer: Lock::new(Some(buffer)),
            timer: Lock::new(Some(timer)),
            batch: Lock::new(Some(batch)),
            #[cfg(test)]
            flaw: Flaw::None,
        })
    }

    /// Goes on at `start` instead: when the volume is started, before the first entry.
    pub fn open(&self, start: JournalStart, recovery_count: u8) {
        self.monitor
            .with(|ring, _| ring.open(start, recovery_count));
    }

    /// The ring has moved: it begins at `origin` now. To be called while the journal is drained.
    pub fn set_origin(&self, origin: Pbn) {
        self.origin.store_release(origin);
    }

    /// Waits for room and reserves at least one place, at most `wanted`. First come, first served.
    ///
    /// Nobody waits here who holds something that writing, applying, or giving up a hold needs.
    ///
    /// # Errors
    ///
    /// The volume is read-only.
    pub async fn reserve(&self, wanted: usize) -> Result<Reservation> {
        match self.try_reserve(wanted)? {
            Some(reservation) => Ok(reservation),
            None => self.reserve_in_turn(wanted.max(1)).await,
        }
    }

    /// As [`reserve`](Self::reserve), if there is room and nobody waits for it.
    pub fn try_reserve(&self, wanted: usize) -> Result<Option<Reservation>> {
        self.health.check()?;
        Ok(self.monitor.with(|ring, _| match ring.queue {
            0 => ring.grant(wanted.max(1)).ok(),
            _ => None,
        }))
    }

    async fn reserve_in_turn(&self, wanted: usize) -> Result<Reservation> {
        let entry = pin!(self.seat(Seat::Reserver { counted: false }));
        let result = entry
            .as_ref()
            .wait(|turn| {
                if let Err(error) = self.health.check() {
                    return Some(Err(error));
                }
                let is_new = turn.state.enqueue(turn.key);
                if turn.others.before().next().is_some() {
                    return None;
                }
                match turn.state.grant(wanted) {
                    Ok(reservation) => Some(Ok(reservation)),
                    Err(Lack::Sequences) => Some(Err(Status::JournalOverflow.into())),
                    Err(lack) => {
                        turn.state.ask_for_room(lack, is_new, &mut turn.others);
                        None
                    }
                }
            })
            .await;
        if let Err(error) = result {
            if error != Error::READ_ONLY {
                self.health.enter_read_only(error);
                self.wake_all();
            }
        }
        result
    }

    /// Fills all places of a reservation, in order, and returns the position behind them.
    pub fn fill(&self, reservation: Reservation, entries: &[RecoveryEntry]) -> Position {
        let is_filled = entries.len() == reservation.len
            && self.monitor.with(|ring, tasks| {
                let is_filled = ring.fill(&reservation, entries);
                ring.wake_for_filled(tasks);
                is_filled
            });
        if !is_filled {
            // There is no entry that says nothing, so the journal ends here.
            self.health.enter_read_only(Status::CorruptJournal.into());
            self.wake_all();
        }
        reservation.end()
    }

    /// Returns the position behind everything that was reserved so far.
    pub fn end(&self) -> Position {
        self.monitor.with(|ring, _| Position(ring.reserved()))
    }

    /// Returns the position up to which everything is on stable storage.
    pub fn committed(&self) -> Position {
        self.monitor.with(|ring, _| Position(ring.committed()))
    }

    /// Waits until everything before `position` is on stable storage, and sees to that.
    ///
    /// # Errors
    ///
    /// The volume has become read-only before.
    pub async fn commit(&self, position: Position) -> Result {
        self.reach(Seat::Commit(position.0)).await
    }

    /// Waits until everything before `position` has been applied to the depot, and sees to that.
    ///
    /// # Errors
    ///
    /// The volume has become read-only before.
    pub async fn applied(&self, position: Position) -> Result {
        self.reach(Seat::Applied(position.0)).await
    }

    /// Waits until everything that was reserved is filled, committed and applied, and no write is
    /// in flight.
    ///
    /// # Errors
    ///
    /// The volume has become read-only before; no write is in flight then, either.
    pub async fn drain(&self) -> Result {
        self.reach(Seat::Drain).await
    }

    fn seat(&self, seat: Seat) -> Entry<'_, Ring> {
        self.monitor.entry_in(seat.line(), seat)
    }

    async fn reach(&self, seat: Seat) -> Result {
        if self.monitor.with(|ring, _| ring.has_reached(&seat)) {
            return Ok(());
        }
        let entry = pin!(self.seat(seat));
        let mut is_new = true;
        entry
            .as_ref()
            .wait(|turn| {
                if turn.state.has_reached(turn.key) {
                    return Some(Ok(()));
                }
                if let Err(error) = self.health.check() {
                    let has_ended = !matches!(turn.key, Seat::Drain) || !turn.state.is_writing();
                    return has_ended.then_some(Err(error));
                }
                turn.state.want(turn.key, &mut turn.others);
                if core::mem::take(&mut is_new) {
                    let line = turn.state.line_up(turn.key);
                    turn.move_to(line);
                }
                None
            })
            .await
    }

    /// Returns true if every place that was reserved is filled, committed and applied.
    pub fn is_drained(&self) -> bool {
        self.monitor
            .with(|ring, _| ring.has_reached(&Seat::Drain) && ring.has_no_gap())
    }

    /// Begins a new block with the next entry, and returns its sequence: where a journal starts
    /// that was saved. To be called when nothing holds the ring any more.
    ///
    /// # Errors
    ///
    /// The journal is not drained.
    pub fn close_block(&self) -> Result<Sequence> {
        self.monitor.with(|ring, _| ring.close_block())
    }

    /// Returns the sequence of the next block that will be opened.
    pub fn tail(&self) -> Sequence {
        self.monitor.with(|ring, _| ring.tail())
    }

    /// Returns the oldest sequence that recovery needs, as far as is on stable storage.
    pub fn head(&self) -> Sequence {
        self.monitor.with(|ring, _| ring.head())
    }

    /// Returns what all entries add up to that were filled so far.
    pub fn counters(&self) -> Counters {
        self.monitor.with(|ring, _| ring.counters)
    }

    /// Returns what the journal did.
    pub fn statistics(&self) -> statistics::Journal {
        self.monitor.with(|ring, _| ring.statistics)
    }

    /// Makes everybody who waits look again. Called when the volume has become read-only.
    pub fn wake_all(&self) {
        self.monitor.with(|_, tasks| ring::wake_all(tasks));
    }

    /// Makes the tasks end.
    pub fn stop(&self) {
        self.monitor.with(|ring, tasks| {
            ring.stopping = true;
            ring::wake_all(tasks);
        });
    }
}

#[cfg(test)]
mod tests;
