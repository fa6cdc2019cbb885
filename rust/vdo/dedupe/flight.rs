// SPDX-License-Identifier: GPL-2.0

//! Names of blocks that are on their way to the storage, so that equal blocks of batches that are
//! served at the same time share one write.
//!
//! A batch *opens* a flight and *boards* the names of its blocks. Who finds a name aboard already
//! follows: it leaves its own block be, compares it with the other one in memory, waits until that
//! flight is *closed*, and *collects* what has become of the name. A flight is closed when the data of
//! all its names is on the storage, found there, or lost. Its batch claims a reference for each follower
//! before, while its own claim keeps the block: whenever the follower comes to collect it, nobody can
//! have reused the block.
//!
//! # No circle
//!
//! A batch waits for others only when its own flight is closed. What is between opening and closing
//! waits for the storage and the index, and for no flight.
//!
//! # What it costs
//!
//! A name is looked for in its shard, which is short and never grows: one that does not fit goes alone, as
//! does whatever is written while nobody has an index. A batch that nobody follows takes two short locks
//! for each few names, and wakes nobody.

use crate::dedupe::name::Name;
use crate::format::Mapping;
use core::pin::pin;
use kernel::prelude::*;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::sync::Lock;

/// Shards, by the first bits of a name: names that are sorted come shard by shard.
const SHARDS: usize = 128;

/// Names that a shard has room for, beside twice its share.
const SPARE: usize = 8;

/// The flight of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    worker: usize,
    number: u64,
}

/// Where a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// Nowhere: nobody can follow.
    Alone,
    /// Aboard.
    Leads,
    /// Another batch has it aboard, with its data in this page of what it shows.
    Follows(Ticket, usize),
}

/// A name of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Passenger {
    /// The name.
    pub name: Name,
    /// The page of the buffer that has its data.
    pub page: usize,
    /// What the batch knows it by.
    pub tag: usize,
    /// Where it is.
    pub seat: Seat,
    /// Who follows, and is to be given a claim.
    pub followers: u8,
}

impl Passenger {
    /// Returns one that is nowhere yet.
    pub fn new(name: Name, page: usize, tag: usize) -> Self {
        Self {
            name,
            page,
            tag,
            seat: Seat::Alone,
            followers: 0,
        }
    }
}

/// A name that is aboard, or that has landed and is to be collected.
struct Slot {
    name: Name,
    ticket: Ticket,
    page: usize,
    /// Who has not collected yet.
    followers: u8,
    /// How many of them have a claim to collect.
    claims: u8,
    is_landed: bool,
    /// Where its data is, once it has landed.
    mapping: Option<Mapping>,
}

struct Shard {
    slots: KVec<Slot>,
}

impl Shard {
    fn board(&mut self, ticket: Ticket, passenger: &Passenger) -> Seat {
        let mut slots = self.slots.iter_mut();
        let other = slots.find(|slot| slot.name == passenger.name && !slot.is_landed);
        if let Some(other) = other {
            let Some(followers) = other.followers.checked_add(1) else {
                return Seat::Alone;
            };
            other.followers = followers;
            return Seat::Follows(other.ticket, other.page);
        }
        let slot = Slot {
            name: passenger.name,
            ticket,
            page: passenger.page,
            followers: 0,
            claims: 0,
            is_landed: false,
            mapping: None,
        };
        match self.slots.push_within_capacity(slot) {
            Ok(()) => Seat::Leads,
            Err(_) => Seat::Alone,
        }
    }

    fn find(&self, ticket: Ticket, name: &Name) -> Option<usize> {
        let mut slots = self.slots.iter();
        slots.position(|slot| slot.ticket == ticket && slot.name == *name)
    }

    /// Removes a slot; the last one takes its place.
    fn remove(&mut self, at: usize) {
        if let Some(last) = self.slots.pop() {
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = last;
            }
        }
    }

    fn land(&mut self, ticket: Ticket, name: &Name, mapping: Option<Mapping>) -> u8 {
        let Some(at) = self.find(ticket, name) else {
            return 0;
        };
        let followers = self.slots.get(at).map_or(0, |slot| slot.followers);
        if followers == 0 {
            self.remove(at);
        } else if let Some(slot) = self.slots.get_mut(at) {
            slot.is_landed = true;
            slot.mapping = mapping;
        }
        followers
    }

    fn collect(&mut self, ticket: Ticket, name: &Name) -> Option<Mapping> {
        let at = self.find(ticket, name)?;
        let slot = self.slots.get_mut(at)?;
        slot.followers = slot.followers.saturating_sub(1);
        let mapping = slot.mapping.filter(|_| slot.claims > 0);
        slot.claims = slot.claims.saturating_sub(1);
        if slot.followers == 0 && slot.is_landed {
            self.remove(at);
        }
        mapping
    }
}

/// What a worker has in flight.
struct Own<V> {
    number: u64,
    /// Its data, until the flight is closed.
    view: Option<V>,
}

impl<V> Rules for Own<V> {
    type Key = ();

    fn left(&mut self, (): &(), _: &mut Entries<'_, ()>) {}
}

/// The names of blocks that are on their way. `V` lets others read the buffer of a batch.
pub struct Flights<V> {
    shards: KVec<Lock<Shard>>,
    workers: KVec<Monitor<Own<V>>>,
}

fn shard_of(name: &Name) -> usize {
    let [first, ..] = *name;
    usize::from(first) * SHARDS / 256
}

impl<V: Clone> Flights<V> {
    /// For so many workers, which have so many names together. Without workers nothing is in flight.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(workers: usize, names: usize) -> Result<Self> {
        let mut own = KVec::with_capacity(workers, GFP_KERNEL)?;
        for _ in 0..workers {
            let none = Own {
                number: 0,
                view: None,
            };
            own.push(Monitor::new(none), GFP_KERNEL)?;
        }
        let room = (names / SHARDS).saturating_mul(2).saturating_add(SPARE);
        let count = if workers > 0 { SHARDS } else { 0 };
        let mut shards = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let slots = KVec::with_capacity(room, GFP_KERNEL)?;
            shards.push(Lock::new(Shard { slots }), GFP_KERNEL)?;
        }
        Ok(Self {
            shards,
            workers: own,
        })
    }

    /// Runs `f` for every passenger with its shard, and takes the lock of each shard once if they are
    /// sorted by name.
    fn each(&self, passengers: &mut [Passenger], mut f: impl FnMut(&mut Shard, &mut Passenger)) {
        let is_together = |a: &Passenger, b: &Passenger| shard_of(&a.name) == shard_of(&b.name);
        for group in passengers.chunk_by_mut(is_together) {
            let shard = group.first().map_or(0, |first| shard_of(&first.name));
            if let Some(shard) = self.shards.get(shard) {
                shard.with(|shard| group.iter_mut().for_each(|own| f(shard, own)));
            }
        }
    }

    fn with<R>(&self, name: &Name, f: impl FnOnce(&mut Shard) -> R) -> Option<R> {
        let shard = self.shards.get(shard_of(name))?;
        Some(shard.with(f))
    }

    /// Opens a flight of a worker, whose last one is closed. What `view` shows does not change before
    /// this one is.
    pub fn open(&self, worker: usize, view: V) -> Ticket {
        let number = self.workers.get(worker).map(|own| {
            own.with(|own, _| {
                own.number += 1;
                own.view = Some(view);
                own.number
            })
        });
        let number = number.unwrap_or(0);
        Ticket { worker, number }
    }

    /// Boards names, which are sorted and all different, and tells each its seat.
    pub fn board(&self, ticket: Ticket, passengers: &mut [Passenger]) {
        self.each(passengers, |shard, own| {
            own.seat = shard.board(ticket, own);
            own.followers = 0;
        });
    }

    /// Returns what a flight shows, if it is not closed.
    pub fn view(&self, ticket: Ticket) -> Option<V> {
        self.workers.get(ticket.worker)?.with(|own, _| {
            let is_open = own.number == ticket.number;
            own.view.clone().filter(|_| is_open)
        })
    }

    /// Tells what has become of those who lead: `landed` returns where the data of each is now. Leaves
    /// with each how many follow, who are to be given a claim. Nobody begins to follow from now on.
    pub fn land(
        &self,
        ticket: Ticket,
        passengers: &mut [Passenger],
        landed: impl Fn(&Passenger) -> Option<Mapping>,
    ) {
        self.each(passengers, |shard, own| {
            if own.seat == Seat::Leads {
                own.followers = shard.land(ticket, &own.name, landed(own));
            }
        });
    }

    /// Gives those who follow a name so many claims. Returns how many are left.
    pub fn grant(&self, ticket: Ticket, name: &Name, claims: u8) -> u8 {
        let taken = self.with(name, |shard| {
            let at = shard.find(ticket, name)?;
            let slot = shard.slots.get_mut(at)?;
            slot.claims = claims.min(slot.followers);
            Some(slot.claims)
        });
        claims.saturating_sub(taken.flatten().unwrap_or(0))
    }

    /// Closes a flight, and wakes who waits for that.
    pub fn close(&self, ticket: Ticket) {
        let view = self.workers.get(ticket.worker).and_then(|own| {
            own.with(|own, waiting| {
                waiting.wake_all();
                own.view.take()
            })
        });
        // Dropped outside of the lock.
        drop(view);
    }

    /// Waits until a flight is closed.
    pub async fn closed(&self, ticket: Ticket) {
        let Some(own) = self.workers.get(ticket.worker) else {
            return;
        };
        let entry = pin!(own.entry(()));
        entry
            .as_ref()
            .wait(|turn| {
                let is_open = turn.state.number == ticket.number && turn.state.view.is_some();
                (!is_open).then_some(())
            })
            .await;
    }

    /// Follows a name no longer. If the flight is closed, returns where the data of the name is, unless it
    /// was lost or has all references that it can have: with a claim on that.
    pub fn collect(&self, ticket: Ticket, name: &Name) -> Option<Mapping> {
        self.with(name, |shard| shard.collect(ticket, name))
            .flatten()
    }

    /// Returns true if nothing is in flight, and nothing left to collect.
    pub fn is_empty(&self) -> bool {
        let mut shards = self.shards.iter();
        let mut workers = self.workers.iter();
        shards.all(|shard| shard.with(|shard| shard.slots.is_empty()))
            && workers.all(|own| own.with(|own, _| own.view.is_none()))
    }
}

#[cfg(test)]
mod tests;
