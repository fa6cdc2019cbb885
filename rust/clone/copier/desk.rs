// SPDX-License-Identifier: GPL-2.0

//! Where copies and workers meet.
//!
//! A copy is a range of sectors; workers cut it into chunks of a buffer's size and have several in
//! flight. Whoever is here stands in the list of those like him, so that nobody looks through others
//! for the one he needs: any number of copies may wait, and completions take the lock.
//!
//! A copy of which a chunk was taken has a *seat*, a list of its own: so the worker that comes back
//! with the chunk finds it. No more copies have seats than there are workers, but for one or two.

use crate::geometry::Regions;
use crate::geometry::SectorRange;
use crate::geometry::Sectors;
use crate::hydration::Hydration;
use crate::hydration::Permit;
use core::pin::pin;
use core::pin::Pin;
use kernel::prelude::*;
use runtime::disk::PAGE_SECTORS;
use runtime::monitor::Entries;
use runtime::monitor::Entry;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::monitor::Turn;

/// Those who need nobody: workers at work, copies that are done.
const BUSY: usize = 0;
/// Idle workers with buffers of a page.
const IDLE_SMALL: usize = 1;
/// Idle workers with large buffers.
const IDLE_LARGE: usize = 2;
/// Whoever waits until hydration is drained.
const DRAIN: usize = 3;
/// Copies of a page at most that users wait for.
const SMALL_COPIES: usize = 4;
/// Larger copies that users wait for.
const LARGE_COPIES: usize = 5;
/// The first seat.
const SEATS: usize = 6;

/// The seats that there are.
const SEAT_COUNT: u32 = u128::BITS;

/// See the [module](self).
pub(super) struct Desk(Monitor<State>);

/// A place at the desk.
pub(super) type Seated<'d> = Entry<'d, State>;

pub(super) struct State {
    hydration: Hydration,
    /// What the largest buffers hold.
    large: Sectors,
    last_copy: u64,
    /// The seats that are taken.
    taken: u128,
    /// The seats of copies that have chunks left, for users and for the background.
    open: [u128; 2],
    stopping: bool,
}

/// Who stands at the desk.
pub(super) enum Place {
    Worker {
        capacity: Sectors,
    },
    Copy(Copy),
    /// Somebody who waits until hydration is drained.
    Drain,
}

/// A copy that is under way.
pub(super) struct Copy {
    id: u64,
    /// Whether a user's write waits for it.
    urgent: bool,
    /// The sectors that no worker has taken yet.
    left: SectorRange,
    chunks_in_flight: u32,
    failed: bool,
    seat: Option<u32>,
}

/// A part of a copy, in the hands of a worker.
pub(super) struct Chunk {
    copy: u64,
    seat: u32,
    pub(super) sectors: SectorRange,
}

impl Chunk {
    pub(super) fn len(&self) -> Sectors {
        self.sectors.end - self.sectors.start
    }
}

pub(super) enum Work {
    Chunk(Chunk),
    Hydrate(Permit),
    Stop,
}

impl Rules for State {
    type Key = Place;

    fn left(&mut self, place: &Place, _: &mut Entries<'_, Place>) {
        if let Place::Copy(Copy {
            seat: Some(seat), ..
        }) = place
        {
            self.free(*seat);
        }
    }
}

impl Copy {
    /// Takes the next chunk, of at most `large` sectors.
    fn take(&mut self, seat: u32, large: Sectors) -> Chunk {
        let end = self.left.start.saturating_add(large).min(self.left.end);
        let sectors = self.left.start..end;
        self.left.start = end;
        self.chunks_in_flight += 1;
        Chunk {
            copy: self.id,
            seat,
            sectors,
        }
    }

    /// Returns true if a worker may take a chunk. After an error the rest is pointless.
    fn is_open(&self) -> bool {
        !self.left.is_empty() && !self.failed
    }

    fn is_done(&self) -> bool {
        self.chunks_in_flight == 0 && !self.is_open()
    }
}

impl State {
    fn free(&mut self, seat: u32) {
        self.taken &= !(1 << seat);
        self.set_open(seat, true, false);
        self.set_open(seat, false, false);
    }

    fn set_open(&mut self, seat: u32, urgent: bool, open: bool) {
        let seats = &mut self.open[usize::from(urgent)];
        *seats = (*seats & !(1 << seat)) | (u128::from(open) << seat);
    }

    /// Gives `copy` a seat and takes its first chunk; `None` if all seats are taken.
    fn seat(&mut self, copy: &mut Copy) -> Option<Chunk> {
        let seat = self.taken.trailing_ones();
        if seat >= SEAT_COUNT {
            return None;
        }
        self.taken |= 1 << seat;
        copy.seat = Some(seat);
        Some(self.take(copy, seat))
    }

    /// Takes a chunk of a copy that has a seat, and chunks left.
    fn take(&mut self, copy: &mut Copy, seat: u32) -> Chunk {
        let chunk = copy.take(seat, self.large);
        self.set_open(seat, copy.urgent, copy.is_open());
        chunk
    }

    /// Takes a chunk of a copy with a seat, for a worker with a large buffer.
    fn take_seated(&mut self, places: &mut Entries<'_, Place>, urgent: bool) -> Option<Chunk> {
        let seat = self.open[usize::from(urgent)].trailing_zeros();
        if seat >= SEAT_COUNT {
            return None;
        }
        match places.first_of(seat_list(seat)) {
            Some(Place::Copy(copy)) => Some(self.take(copy, seat)),
            _ => None,
        }
    }

    /// Takes a chunk of a copy that a user waits for: of the first that came, but a worker with a
    /// small buffer takes small ones only.
    fn take_urgent(&mut self, places: &mut Entries<'_, Place>, capacity: Sectors) -> Option<Chunk> {
        let is_large = capacity >= self.large;
        if is_large {
            // It came before all that have no seat.
            if let Some(chunk) = self.take_seated(places, true) {
                return Some(chunk);
            }
        }
        let mut number = |list| match places.first_of(list) {
            Some(Place::Copy(copy)) => Some(copy.id),
            _ => None,
        };
        let small = number(SMALL_COPIES);
        let large = if is_large { number(LARGE_COPIES) } else { None };
        let list = match (small, large) {
            (None, None) => return None,
            (Some(small), Some(large)) if large < small => LARGE_COPIES,
            (Some(_), _) => SMALL_COPIES,
            (None, Some(_)) => LARGE_COPIES,
        };
        let Some(Place::Copy(copy)) = places.first_of(list) else {
            return None;
        };
        let chunk = self.seat(copy)?;
        places.move_first_of(list, seat_list(chunk.seat));
        Some(chunk)
    }

    /// Finds work for a worker that has nothing to do.
    fn find_work(&mut self, places: &mut Entries<'_, Place>, capacity: Sectors) -> Option<Work> {
        let is_large = capacity >= self.large;
        let mut chunk = self.take_urgent(places, capacity);
        if chunk.is_none() && is_large {
            chunk = self.take_seated(places, false);
        }
        if let Some(chunk) = chunk {
            return Some(Work::Chunk(chunk));
        }
        if self.stopping {
            return Some(Work::Stop);
        }
        self.hydration
            .permit(capacity, self.large)
            .map(Work::Hydrate)
    }

    /// Wakes an idle worker if there is work that nobody was woken for. Whoever finds work does this
    /// too: so all are woken who are needed, but never many at once.
    fn wake_next(&mut self, places: &mut Entries<'_, Place>) {
        if self.stopping {
            let _ = wake_idle(places, false) || wake_idle(places, true);
        } else if self.open != [0; 2] {
            wake_idle(places, true);
        } else if let Some(sectors) = self.hydration.next_copy(self.large) {
            let _ = sectors <= PAGE_SECTORS && wake_idle(places, false) || wake_idle(places, true);
        }
    }
}

fn seat_list(seat: u32) -> usize {
    SEATS + seat as usize
}

/// Wakes an idle worker; returns false if there is none.
fn wake_idle(places: &mut Entries<'_, Place>, large: bool) -> bool {
    places.wake_first_of(if large { IDLE_LARGE } else { IDLE_SMALL }, BUSY)
}

impl Desk {
    /// Creates a desk for workers with buffers of a page and of `large` sectors.
    pub(super) fn new(hydration: Hydration, large: Sectors) -> Result<Self> {
        let state = State {
            hydration,
            large,
            last_copy: 0,
            taken: 0,
            open: [0; 2],
            stopping: false,
        };
        let lists = seat_list(SEAT_COUNT);
        Ok(Self(Monitor::with_lists(state, lists)?))
    }

    /// Changes how hydration runs, and has idle workers look at it.
    pub(super) fn tune<R>(&self, change: impl FnOnce(&mut Hydration) -> R) -> R {
        self.0.with(|state, places| {
            let result = change(&mut state.hydration);
            state.wake_next(places);
            result
        })
    }

    /// Returns what `look` sees of hydration.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Hydration) -> R) -> R {
        self.0.with(|state, _| look(&state.hydration))
    }

    /// Waits until no hydration is in flight.
    pub(super) async fn drained(&self) {
        let place = pin!(self.0.entry_in(DRAIN, Place::Drain));
        place
            .as_ref()
            .wait(|turn| turn.state.hydration.is_drained().then_some(()))
            .await;
    }

    /// Makes the workers end, once no copy is left.
    pub(super) fn stop(&self) {
        self.0.with(|state, places| {
            state.stopping = true;
            state.wake_next(places);
        });
    }

    /// Some regions of a permit are done with, or not needed.
    pub(super) fn end_permit(&self, regions: Regions, change: impl FnOnce(&mut Hydration)) {
        self.0.with(|state, places| {
            state.hydration.give_back(regions);
            change(&mut state.hydration);
            if state.hydration.is_drained() {
                places.wake_where_in(DRAIN, |_| true);
            }
            state.wake_next(places);
        });
    }

    /// Returns a worker's place.
    pub(super) fn worker(&self, capacity: Sectors) -> Seated<'_> {
        self.0.entry_in(BUSY, Place::Worker { capacity })
    }

    /// Returns the place of a copy that a user waits for.
    pub(super) fn urgent_copy(&self, sectors: SectorRange) -> Seated<'_> {
        let list = if sectors.end - sectors.start <= PAGE_SECTORS {
            SMALL_COPIES
        } else {
            LARGE_COPIES
        };
        self.copy(list, sectors, true)
    }

    /// Returns the place of a copy that a worker makes for the background.
    pub(super) fn background_copy(&self, sectors: SectorRange) -> Seated<'_> {
        self.copy(BUSY, sectors, false)
    }

    fn copy(&self, list: usize, sectors: SectorRange, urgent: bool) -> Seated<'_> {
        let copy = Copy {
            id: 0,
            urgent,
            left: sectors,
            chunks_in_flight: 0,
            failed: false,
            seat: None,
        };
        self.0.entry_in(list, Place::Copy(copy))
    }

    /// A worker has done what it could with `chunk`.
    pub(super) fn report(&self, chunk: &Chunk, result: Result) {
        self.0.with(|state, places| {
            let list = seat_list(chunk.seat);
            let Some(Place::Copy(copy)) = places.first_of(list) else {
                return;
            };
            if copy.id != chunk.copy {
                return;
            }
            copy.chunks_in_flight -= 1;
            copy.failed |= result.is_err();
            if !copy.is_open() {
                state.set_open(chunk.seat, copy.urgent, false);
            }
            if copy.is_done() {
                copy.seat = None;
                state.free(chunk.seat);
                places.wake_first_of(list, BUSY);
            }
        });
    }
}

/// Waits for work; the entry is a worker's.
pub(super) async fn work(worker: Pin<&Seated<'_>>) -> Work {
    worker
        .wait(|turn| {
            let Place::Worker { capacity } = *turn.key else {
                return None;
            };
            let work = turn.state.find_work(&mut turn.others, capacity);
            if let Some(work) = &work {
                turn.move_to(BUSY);
                turn.state.wake_next(&mut turn.others);
                // The worker that was woken for the small copy may be one that cannot take a large
                // one, which this one was woken for.
                let is_small = matches!(work, Work::Chunk(chunk) if chunk.len() <= PAGE_SECTORS);
                if is_small && turn.others.first_of(LARGE_COPIES).is_some() {
                    wake_idle(&mut turn.others, true);
                }
            } else if capacity >= turn.state.large {
                turn.move_to(IDLE_LARGE);
            } else {
                turn.move_to(IDLE_SMALL);
            }
            work
        })
        .await
}

/// Puts a copy on the desk for all workers.
pub(super) fn enlist(copy: Pin<&Seated<'_>>) {
    copy.with(|turn| {
        let Place::Copy(copy) = turn.key else {
            return;
        };
        turn.state.last_copy += 1;
        copy.id = turn.state.last_copy;
        let is_small = copy.left.end - copy.left.start <= PAGE_SECTORS;
        let _ = is_small && wake_idle(&mut turn.others, false) || wake_idle(&mut turn.others, true);
    });
}

/// Takes a chunk of a copy for the worker that makes it, as long as there is one.
pub(super) fn take_own(copy: Pin<&Seated<'_>>) -> Option<Chunk> {
    copy.with(|turn| {
        let Place::Copy(copy) = turn.key else {
            return None;
        };
        if !copy.is_open() {
            return None;
        }
        if let Some(seat) = copy.seat {
            return Some(turn.state.take(copy, seat));
        }
        turn.state.last_copy += 1;
        copy.id = turn.state.last_copy;
        let chunk = turn.state.seat(copy);
        match &chunk {
            Some(chunk) => {
                turn.move_to(seat_list(chunk.seat));
                // Others may take chunks of a large region, too.
                turn.state.wake_next(&mut turn.others);
            }
            None => copy.failed = true,
        }
        chunk
    })
}

/// Waits until a copy is done.
///
/// # Errors
///
/// `EIO`, whatever the read or write failed with: who waits has asked for neither of them.
pub(super) async fn done(copy: Pin<&Seated<'_>>) -> Result {
    copy.wait(|turn: &mut Turn<'_, State>| match turn.key {
        Place::Copy(copy) if copy.is_done() => Some(if copy.failed { Err(EIO) } else { Ok(()) }),
        _ => None,
    })
    .await
}

#[cfg(test)]
mod tests;
