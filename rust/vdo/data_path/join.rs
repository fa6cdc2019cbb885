// SPDX-License-Identifier: GPL-2.0

//! Duplicates of blocks that are on their way with other batches.
//!
//! Before a batch asks the index, its names [board](crate::dedupe::flight). Who follows another batch keeps
//! the place that it was promised, behind all that is stored at once, so that no run gets a hole. When
//! the batch has stored what it has of its own, and has told so, it waits for those whom it follows. Who
//! gets a claim refers to their block; the others board anew, and what leads now is stored.

use crate::data_path::batch::Batch;
use crate::data_path::batch::Fate;
use crate::data_path::batch::Stored;
use crate::data_path::settle::add_to;
use crate::data_path::write::Writer;
use crate::dedupe::advice;
use crate::dedupe::advice::Advice;
use crate::dedupe::flight::Passenger;
use crate::dedupe::flight::Seat;
use crate::dedupe::flight::Ticket;
use crate::dedupe::index::Listener;
use crate::dedupe::name::Name;
use crate::error::Result;
use crate::format::Pbn;
use crate::world::World;
use core::pin::pin;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::View;
use runtime::stack::apart;

/// So often what finds no claim boards anew; then it is stored, whoever else has the same.
const TRIES: u32 = 8;

/// What a worker has in flight.
pub(crate) struct Aboard {
    ticket: Option<Ticket>,
    /// The names, by ascending name. Each is that of a leader, by its place among the names.
    passengers: KVec<Passenger>,
    /// Places of blocks that wait for others.
    kept: KVec<Stored>,
}

impl Aboard {
    /// For so many blocks.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(blocks: usize) -> Result<Self> {
        Ok(Self {
            ticket: None,
            passengers: KVec::with_capacity(blocks, GFP_KERNEL)?,
            kept: KVec::with_capacity(blocks, GFP_KERNEL)?,
        })
    }

    /// Returns for how many names the index is to be asked.
    pub(crate) fn asks(&self) -> usize {
        let own = self.passengers.iter();
        own.filter(|own| !matches!(own.seat, Seat::Follows(..)))
            .count()
    }

    /// Keeps the passengers that `is_kept` chooses, in order.
    fn retain(&mut self, is_kept: impl Fn(&Passenger) -> bool) {
        let mut kept = 0;
        for at in 0..self.passengers.len() {
            let chosen = self.passengers.get(at).copied().filter(|own| is_kept(own));
            if let (Some(own), Some(to)) = (chosen, self.passengers.get_mut(kept)) {
                *to = own;
                kept += 1;
            }
        }
        self.passengers.truncate(kept);
    }
}

impl<W: World> Writer<W> {
    /// Boards the names of leaders. The index is to be asked for those that follow nobody.
    pub(crate) fn board(&self, batch: &mut Batch<W>) {
        self.take_seats(batch);
        for at in 0..batch.aboard.passengers.len() {
            let own = batch.aboard.passengers.get(at).copied();
            let own = own.filter(|own| !matches!(own.seat, Seat::Follows(..)));
            if let Some(own) = own {
                let has_place = matches!(batch.fate_of(own.tag), Some(Fate::Placed(..)));
                batch.names.ask(own.tag, has_place);
            }
        }
    }

    fn take_seats(&self, batch: &mut Batch<W>) {
        let Some(buffer) = &batch.buffer else {
            return;
        };
        if batch.aboard.passengers.is_empty() {
            return;
        }
        let ticket = self.flights.open(batch.worker, buffer.view());
        batch.aboard.ticket = Some(ticket);
        self.flights.board(ticket, &mut batch.aboard.passengers);
        for at in 0..batch.aboard.passengers.len() {
            let Some(own) = batch.aboard.passengers.get(at).copied() else {
                break;
            };
            let Seat::Follows(other, page) = own.seat else {
                continue;
            };
            if self.is_same(batch, &own, other, page) {
                batch.follow(own.tag);
            } else {
                if let Some(mapping) = self.flights.collect(other, &own.name) {
                    self.unclaim(mapping.pbn);
                }
                batch.set_seat(at, own.tag, Seat::Alone);
            }
        }
    }

    /// Compares the data of a block with that of the same name in another batch. That may be gone by now.
    fn is_same(&self, batch: &Batch<W>, own: &Passenger, other: Ticket, page: usize) -> bool {
        let Some(view) = self.flights.view(other) else {
            return false;
        };
        let data = batch
            .buffer
            .as_ref()
            .and_then(|buffer| buffer.page(own.page));
        let is_same = data.is_some() && data == view.page(page);
        if !is_same {
            self.session.found.collisions.add(1);
        }
        is_same
    }

    /// Tells of what is stored, and waits for what others store; until everything has its place, or none.
    pub(crate) async fn join(&self, listener: &Listener<W>, batch: &mut Batch<W>) {
        self.set_stored(batch);
        self.tell_first(listener, batch);
        self.land(batch);
        let mut tries = 0;
        while !batch.aboard.passengers.is_empty() {
            batch.set_shared();
            apart(pin!(self.follow(batch))).await;
            if tries < TRIES {
                tries += 1;
                self.take_seats(batch);
            }
            batch.follow_leaders();
            // What was packed is stored.
            batch.bins.clear();
            self.settle(batch);
            self.store(batch).await;
            self.set_stored(batch);
            self.tell_more(listener, batch);
            self.land(batch);
        }
        batch.fail_followers();
    }

    /// Tells those who follow where the data is, and gives them claims. Who leads nobody any more leaves.
    fn land(&self, batch: &mut Batch<W>) {
        let Batch {
            aboard,
            names,
            blocks,
            ..
        } = batch;
        if let Some(ticket) = aboard.ticket.take() {
            let landed = |own: &Passenger| blocks.get(names.told(own.tag)?)?.mapping();
            self.flights.land(ticket, &mut aboard.passengers, landed);
            for own in &aboard.passengers {
                if own.followers == 0 {
                    continue;
                }
                if let Some(mapping) = landed(own) {
                    let claims = self.depot.claim_more(mapping.pbn, own.followers);
                    let left = self.flights.grant(ticket, &own.name, claims);
                    for _ in 0..left {
                        self.unclaim(mapping.pbn);
                    }
                }
            }
            self.flights.close(ticket);
        }
        aboard.retain(|own| matches!(own.seat, Seat::Follows(..)));
    }

    /// Waits for those whom the batch follows. Who gets no claim on what they have stored is alone then.
    async fn follow(&self, batch: &mut Batch<W>) {
        let mut found = 0;
        for at in 0..batch.aboard.passengers.len() {
            let Some(own) = batch.aboard.passengers.get(at).copied() else {
                break;
            };
            let Seat::Follows(other, _) = own.seat else {
                continue;
            };
            self.flights.closed(other).await;
            batch.unfollow(own.tag);
            match self.flights.collect(other, &own.name) {
                Some(mapping) => {
                    batch.set_fate(own.tag, |page| Fate::Shared(page, mapping));
                    found += 1;
                    if let Some(left) = self.share_out(batch, own.tag, mapping) {
                        batch.set_seat(at, left, Seat::Alone);
                    }
                }
                None => batch.set_seat(at, own.tag, Seat::Alone),
            }
        }
        self.session.found.matches.add(found);
        let Batch { aboard, runs, .. } = batch;
        aboard.retain(|own| own.seat == Seat::Alone);
        core::mem::swap(runs, &mut aboard.kept);
        aboard.kept.clear();
    }

    /// Tells where those are that the index was asked for, or would have been.
    fn tell_first(&self, listener: &Listener<W>, batch: &mut Batch<W>) {
        // The index rests while nothing can be written.
        if self.health.check().is_err() {
            return;
        }
        match listener {
            Listener::Index(index) if !batch.names.are_late() => self.remember(index, batch),
            Listener::Index(index) => {
                batch.each_told(|name, advice| {
                    index.remember_unasked(uds::format::Name(name), advice);
                });
            }
            Listener::Keeper => batch.each_told(|name, advice| self.session.keep(name, advice)),
        }
    }

    /// Tells of those who are stored though others have had the same.
    fn tell_more(&self, listener: &Listener<W>, batch: &Batch<W>) {
        if self.health.check().is_err() {
            return;
        }
        batch.each_told(|name, advice| match listener {
            Listener::Index(index) => index.update(uds::format::Name(name), advice),
            Listener::Keeper => self.session.keep(name, advice),
        });
    }
}

impl<W: World> Batch<W> {
    /// The name in this place, which leads, is to board.
    pub(crate) fn add_passenger(&mut self, at: usize) {
        if let Some((name, page)) = self.names.name_and_page(at, &self.blocks) {
            // There is room for all of them.
            let own = Passenger::new(name, page, at);
            let _ = self.aboard.passengers.push_within_capacity(own);
        }
    }

    /// Calls `tell` for all names that follow nobody, and have a place.
    fn each_told(&self, tell: impl Fn(Name, Advice)) {
        for own in &self.aboard.passengers {
            let told = self.names.told(own.tag);
            let mapping = told.and_then(|block| self.blocks.get(block)?.mapping());
            if let (Some(mapping), false) = (mapping, matches!(own.seat, Seat::Follows(..))) {
                tell(own.name, advice::encode(mapping));
            }
        }
    }

    fn set_seat(&mut self, at: usize, tag: usize, seat: Seat) {
        if let Some(own) = self.aboard.passengers.get_mut(at) {
            (own.tag, own.seat) = (tag, seat);
        }
    }

    /// The blocks with this name wait for another batch, and keep the places that they were promised.
    fn follow(&mut self, leader: usize) {
        for at in leader..self.end_of_group(leader) {
            match self.fate_of(at) {
                Some(Fate::Placed(page, pbn)) => {
                    self.set_fate(at, |_| Fate::Awaits(page, Some(pbn)));
                }
                Some(Fate::Data(page)) => self.set_fate(at, |_| Fate::Awaits(page, None)),
                _ => {}
            }
        }
    }

    /// The blocks with this name wait no longer.
    fn unfollow(&mut self, leader: usize) {
        for at in leader..self.end_of_group(leader) {
            match self.fate_of(at) {
                Some(Fate::Awaits(page, Some(pbn))) => {
                    self.set_fate(at, |_| Fate::Placed(page, pbn));
                }
                Some(Fate::Awaits(page, None)) => self.set_fate(at, |_| Fate::Data(page)),
                _ => {}
            }
        }
    }

    /// Keeps a place for each of those that wait and were promised one.
    pub(crate) fn keep_places(&mut self, mut next: impl FnMut() -> Option<Pbn>) {
        let Self { blocks, aboard, .. } = self;
        for block in blocks.iter_mut() {
            if let Fate::Awaits(page, Some(_)) = block.fate {
                if let Some(pbn) = next() {
                    block.fate = Fate::Awaits(page, Some(pbn));
                    add_to(&mut aboard.kept, page, pbn);
                }
            }
        }
    }

    /// What is stored has its place for good.
    fn set_shared(&mut self) {
        for block in self.blocks.iter_mut() {
            let mapping = block.mapping();
            if let (
                Fate::Placed(page, _) | Fate::Same(page, _) | Fate::Packed(page, _),
                Some(mapping),
            ) = (block.fate, mapping)
            {
                if mapping.pbn != 0 {
                    block.fate = Fate::Shared(page, mapping);
                }
            }
        }
    }
}
