// SPDX-License-Identifier: GPL-2.0

//! A range of lists, under one lock.
//!
//! A list has a header of 32 bytes and, if it has entries, a slot of the store. The payload of an
//! entry is the low bits of a chapter's number; of the chapters that are remembered no two have the
//! same. But entries of chapters that are not remembered any more stay until somebody comes by. So
//! each list has a *bound*: none of its entries is of an older chapter. As long as the bound is
//! not below the oldest chapter that is remembered, all entries are what they seem. Else the
//! list is *stale*, and cleaned before anything else is done with it.

mod clean;
mod room;

use super::guide::Guide;
use super::store::Chunk;
use super::store::Shortage;
use super::store::Slot;
use super::store::Store;
use super::Answer;
use super::Counts;
use super::Known;
use super::Mark;
use super::Outcome;
use super::Request;
use crate::delta::edit::set_payload;
use crate::delta::walk::walk_all;
use crate::delta::Code;
use crate::delta::Damaged;
use crate::delta::Found;
use crate::delta::List;
use crate::delta::Query;
use crate::delta::Search;
use crate::delta::Splice;
use crate::delta::MAX_LIST_BITS;
use crate::format::geometry::SubIndex;
use crate::format::Chapter;
use crate::format::Name;
use core::array;
use kernel::prelude::*;

/// How many lists are looked at while the lock is held once.
pub(super) const GROUP: usize = 8;

/// Lists with less bits need no guide.
const SURVEYED: u16 = 1024;

/// What is known of a list without looking at it.
#[derive(Clone, Copy)]
struct Header {
    slot: Slot,
    /// The low bits of the bound.
    bound: u32,
    bits: u16,
    /// Counts the changes that move entries.
    version: u16,
    guide: Guide,
}

/// A range of lists.
pub(super) struct Shard {
    code: Code,
    /// The bits of a payload, as a mask.
    mask: u64,
    /// The number of the first list.
    pub(super) first: u32,
    headers: KVVec<Header>,
    store: Store,
    /// The oldest chapter that is remembered, and the newest.
    pub(super) low: Chapter,
    pub(super) high: Chapter,
    pub(super) counts: Counts,
    pub(super) used_bits: u64,
    /// Changes that move entries, of all lists.
    pub(super) changes: u64,
}

impl Shard {
    /// For the `lists` lists from `first` on, without entries.
    pub(super) fn new(geometry: &SubIndex, first: u32, lists: u32) -> Result<Self> {
        let header = Header {
            slot: Slot::NONE,
            bound: 0,
            bits: 0,
            version: 0,
            guide: Guide::EMPTY,
        };
        let memory = geometry.memory.next_multiple_of(1 << 16);
        let memory = memory / u64::from(geometry.lists.max(1)) + 1;
        Ok(Self {
            code: geometry.code,
            mask: (1 << geometry.code.payload_bits()) - 1,
            first,
            headers: KVVec::from_elem(header, lists as usize, GFP_KERNEL)?,
            store: Store::new(memory.saturating_mul(lists.into()))?,
            low: 0,
            high: 0,
            counts: Counts::default(),
            used_bits: 0,
            changes: 0,
        })
    }

    /// Returns the bytes that the shard takes.
    pub(super) fn memory(&self) -> u64 {
        (self.headers.capacity() * size_of::<Header>()) as u64 + self.store.memory()
    }

    /// Returns the number of lists.
    pub(super) fn lists(&self) -> u32 {
        self.headers.len() as u32
    }

    /// Gives the shard memory, if it needs some.
    pub(super) fn give(&mut self, chunk: Chunk) -> Option<Chunk> {
        self.store.give(chunk)
    }

    /// Returns whether memory is there that is not in use.
    pub(super) fn has_spare(&self) -> bool {
        self.store.has_spare()
    }

    /// Returns the bits of a list.
    pub(super) fn bits(&self, list: u32) -> u32 {
        self.header(list).map_or(0, |header| header.bits.into())
    }

    /// Returns the bytes from those of a list on.
    pub(super) fn bytes(&self, list: u32) -> &[u8] {
        self.header(list)
            .map_or(&[], |header| self.store.bytes(header.slot))
    }

    /// Returns a list.
    fn list(&self, list: u32) -> List<'_> {
        let Some(header) = self.header(list) else {
            return List::default();
        };
        List::new(self.store.bytes(header.slot), 0, header.bits.into()).unwrap_or_default()
    }

    /// Returns the bound of a list: no entry is of an older chapter.
    pub(super) fn bound(&self, list: u32) -> Chapter {
        match self.header(list) {
            Some(header) if header.bits > 0 => self.bound_of(header),
            _ => self.low,
        }
    }

    /// Says that no entry of a list, of which nothing else is known, is of an older chapter.
    pub(super) fn set_bound(&mut self, list: u32, bound: Chapter) {
        if let Some(header) = self.header_mut(list) {
            header.bound = bound as u32;
            header.guide = Guide::UNKNOWN;
        }
    }

    /// The entry at `at` of a list is of this chapter.
    fn note(&mut self, list: u32, at: usize, chapter: Chapter) {
        let Some(header) = self.header(list) else {
            return;
        };
        let bound = self.bound_of(header);
        let lower = bound.saturating_sub(chapter) as u32;
        let age = chapter.saturating_sub(bound).min(u32::MAX.into()) as u32;
        if let Some(header) = self.header_mut(list) {
            if lower > 0 {
                header.bound = chapter as u32;
                header.guide.lower(lower);
            }
            header.guide.note(at, age);
        }
    }

    /// Moves the bound of a list up as far as is known.
    fn raise(&mut self, list: u32) {
        let low = self.low as u32;
        if let Some(header) = self.header_mut(list) {
            header.bound = match header.guide.raise() {
                Some(chapters) => header.bound.wrapping_add(chapters),
                None => low,
            };
        }
    }

    fn header(&self, list: u32) -> Option<&Header> {
        self.headers.get(list.checked_sub(self.first)? as usize)
    }

    fn header_mut(&mut self, list: u32) -> Option<&mut Header> {
        self.headers.get_mut(list.checked_sub(self.first)? as usize)
    }

    /// The bound is near the chapters that are remembered, so that its low bits tell all.
    fn bound_of(&self, header: &Header) -> Chapter {
        let distance = header.bound.wrapping_sub(self.low as u32) as i32;
        self.low.saturating_add_signed(distance.into())
    }

    fn is_stale(&self, list: u32) -> bool {
        self.header(list)
            .is_some_and(|header| header.bits > 0 && self.bound_of(header) < self.low)
    }

    /// Returns the chapter that a payload stands for, in a list that is not stale.
    fn chapter(&self, payload: u32) -> Option<Chapter> {
        let age = u64::from(payload).wrapping_sub(self.low) & self.mask;
        let chapter = self.low.checked_add(age)?;
        (chapter <= self.high).then_some(chapter)
    }

    fn payload(&self, chapter: Chapter) -> u32 {
        (chapter & self.mask) as u32
    }

    /// Looks names up, of at most [`GROUP`] requests for lists of this shard.
    pub(super) fn look_up(&mut self, requests: &mut [Request]) {
        let lists: [_; GROUP] = array::from_fn(|at| requests.get(at).map(|request| request.list));
        for list in lists.iter().flatten() {
            self.survey(*list);
        }
        self.clean(&lists);
        let mut found = [None; GROUP];
        {
            let mut queries: [_; GROUP] = array::from_fn(|at| match requests.get(at) {
                Some(request) => self.query(at, request),
                None => Query::search(&self.code, at, List::default(), 0),
            });
            let used = requests.len().min(GROUP);
            walk_all(&self.code, queries.get_mut(..used).unwrap_or_default());
            for query in &queries {
                let request = requests.get(query.number);
                if let Some((found, request)) = found.get_mut(query.number).zip(request) {
                    *found = query.result(&self.code, &request.name).ok();
                }
            }
        }
        for (request, found) in requests.iter_mut().zip(found) {
            self.answer(request, found);
        }
    }

    fn query(&self, number: usize, request: &Request) -> Query<'_> {
        let address = request.address;
        let query = Query::search(&self.code, number, self.list(request.list), address);
        match self.header(request.list) {
            Some(header) => {
                let (at, base) = header.guide.beginning(address);
                query.starting_behind(&self.code, at, base)
            }
            None => query,
        }
    }

    /// Gets to know lists that are long and of which nothing is known: those that were loaded.
    fn survey(&mut self, list: u32) {
        let Some(header) = self.header(list) else {
            return;
        };
        if header.bits < SURVEYED || !header.guide.is_unknown() {
            return;
        }
        let scanner = self.scanner(list);
        match Guide::of(&self.code, self.list(list), |payload| scanner.age(payload)) {
            Ok(guide) => {
                if let Some(header) = self.header_mut(list) {
                    header.guide = guide;
                }
            }
            Err(Damaged) => self.forget(list),
        }
    }

    /// Answers a request from what a search found; nothing, in a damaged list.
    fn answer(&mut self, request: &mut Request, found: Option<Search>) {
        let mut found = found;
        // What stands for no chapter goes, and with it the reason to try again.
        for _ in 0..2 {
            let chapter = match found {
                Some(search) => match search.found {
                    Found::Nothing => Some((Answer::Absent, search)),
                    Found::Plain(payload) => self
                        .chapter(payload)
                        .map(|chapter| (Answer::Hint(chapter), search)),
                    Found::Collision(payload) => self
                        .chapter(payload)
                        .map(|chapter| (Answer::Exact(chapter), search)),
                },
                None => None,
            };
            if let Some((answer, search)) = chapter {
                let version = self.header(request.list).map_or(0, |header| header.version);
                request.answer = answer;
                request.mark = Mark {
                    at: search.at,
                    base: search.base,
                    version,
                    changes: self.changes,
                };
                return;
            }
            self.forget(request.list);
            found = self.search(request).ok();
        }
    }

    fn search(&self, request: &Request) -> Result<Search, Damaged> {
        let mut query = self.query(0, request);
        query.run(&self.code);
        query.result(&self.code, &request.name)
    }

    /// Returns what a look-up found, if it is still where it was; else looks up again.
    fn found(&mut self, request: &mut Request) -> Option<Search> {
        let mark = request.mark;
        let is_fresh = self.header(request.list).is_some_and(|header| {
            header.version == mark.version
                && self.changes.wrapping_sub(mark.changes) <= u16::MAX.into()
        });
        if !is_fresh || self.is_stale(request.list) {
            let answer = request.answer;
            self.look_up(array::from_mut(request));
            if request.answer != answer {
                return None;
            }
        }
        let found = match request.answer {
            Answer::Absent => Found::Nothing,
            Answer::Hint(chapter) => Found::Plain(self.payload(chapter)),
            Answer::Exact(chapter) => Found::Collision(self.payload(chapter)),
        };
        Some(Search {
            found,
            at: request.mark.at,
            base: request.mark.base,
        })
    }

    fn remembers(&self, chapter: Chapter) -> bool {
        (self.low..=self.high).contains(&chapter)
    }

    /// Adds a name that is in `chapter`.
    pub(super) fn insert(
        &mut self,
        request: &mut Request,
        chapter: Chapter,
    ) -> Result<Outcome, Shortage> {
        if !self.remembers(chapter) {
            return Ok(Outcome::Dropped);
        }
        let Some(search) = self.found(request) else {
            return Ok(Outcome::Changed);
        };
        if matches!(request.answer, Answer::Exact(_)) {
            return Ok(Outcome::Changed);
        }
        let is_added = self.insert_at(
            request.list,
            &search,
            request.address,
            &request.name,
            chapter,
        )?;
        Ok(match is_added {
            true => Outcome::Done,
            false => Outcome::Dropped,
        })
    }

    /// Adds a name where `search` says; false if it does not fit.
    fn insert_at(
        &mut self,
        list: u32,
        search: &Search,
        address: u32,
        name: &Name,
        chapter: Chapter,
    ) -> Result<bool, Shortage> {
        let old_bits = self.bits(list) as usize;
        let splice = Splice::insert(
            &self.code,
            &self.list(list),
            search,
            address,
            self.payload(chapter),
            name,
        );
        let Ok(splice) = splice else {
            self.forget(list);
            return Ok(false);
        };
        let bits = splice.bits_after(&self.code, old_bits);
        if bits > MAX_LIST_BITS {
            self.counts.overflows += 1;
            return Ok(false);
        }
        self.make_room(list, bits)?;
        self.apply(list, &splice, bits);
        if let Some(header) = self.header_mut(list) {
            let growth = bits.saturating_sub(old_bits);
            let guide = &mut header.guide;
            guide.insert(splice.at(), splice.first_bits(), growth, address);
            if old_bits == 0 {
                header.bound = chapter as u32;
            }
        }
        self.note(list, splice.at(), chapter);
        self.counts.entries = self.counts.entries.wrapping_add(1);
        Ok(true)
    }

    /// Says that a name, which was found, is in `chapter` now.
    pub(super) fn re_point(&mut self, request: &mut Request, chapter: Chapter) -> Outcome {
        if !self.remembers(chapter) {
            return Outcome::Dropped;
        }
        let Some(search) = self.found(request) else {
            return Outcome::Changed;
        };
        request.answer = match request.answer {
            Answer::Absent => return Outcome::Changed,
            Answer::Hint(_) => Answer::Hint(chapter),
            Answer::Exact(_) => Answer::Exact(chapter),
        };
        self.set_payload(request.list, search.at, chapter);
        Outcome::Done
    }

    fn set_payload(&mut self, list: u32, at: u32, chapter: Chapter) {
        self.note(list, at as usize, chapter);
        let payload = self.payload(chapter);
        if let Some(slot) = self.header(list).map(|header| header.slot) {
            set_payload(&self.code, self.store.bytes_mut(slot), at, payload);
        }
    }

    /// Removes a name, which was found.
    pub(super) fn remove(&mut self, request: &mut Request) -> Outcome {
        let Some(search) = self.found(request) else {
            return Outcome::Changed;
        };
        if search.found == Found::Nothing {
            return Outcome::Changed;
        }
        self.remove_at(request.list, search.at);
        self.fit(request.list);
        request.answer = Answer::Absent;
        // What is behind has another difference now.
        request.mark.changes = self.changes.wrapping_sub(1 << 32);
        Outcome::Done
    }

    /// Takes an entry out; returns false if the list turned out to be damaged.
    fn remove_at(&mut self, list: u32, at: u32) -> bool {
        let old_bits = self.bits(list) as usize;
        match Splice::remove(&self.code, &self.list(list), at) {
            Ok(splice) => {
                let bits = splice.bits_after(&self.code, old_bits);
                self.apply(list, &splice, bits);
                if let Some(header) = self.header_mut(list) {
                    let loss = old_bits.saturating_sub(bits);
                    let guide = &mut header.guide;
                    guide.remove(splice.at(), splice.first_bits(), loss, splice.delta());
                }
                self.counts.entries = self.counts.entries.wrapping_sub(1);
                self.counts.discarded += 1;
                true
            }
            Err(Damaged) => {
                self.forget(list);
                false
            }
        }
    }

    /// Changes a list, for which there is room.
    fn apply(&mut self, list: u32, splice: &Splice, bits: usize) {
        let Some(header) = self.header(list).copied() else {
            return;
        };
        splice.apply(
            &self.code,
            self.store.bytes_mut(header.slot),
            header.bits.into(),
        );
        let collisions = i64::from(splice.collisions());
        self.counts.collisions = self.counts.collisions.wrapping_add_signed(collisions);
        self.set_bits(list, bits);
    }

    /// The entries of a list have moved.
    fn set_bits(&mut self, list: u32, bits: usize) {
        self.used_bits = (self.used_bits + bits as u64).saturating_sub(self.bits(list).into());
        self.changes = self.changes.wrapping_add(1);
        if let Some(header) = self.header_mut(list) {
            header.bits = bits as u16;
            header.version = header.version.wrapping_add(1);
        }
    }

    /// Returns what is in a list, as far as it can be read.
    pub(super) fn count(&self, list: u32) -> Counts {
        let mut counts = Counts::default();
        for entry in self.list(list).entries(&self.code).flatten() {
            counts.entries += 1;
            counts.collisions += u64::from(entry.name.is_some());
        }
        counts
    }

    /// Empties a list: it is damaged, or says what cannot be.
    fn forget(&mut self, list: u32) {
        let lost = self.count(list);
        self.counts.entries = self.counts.entries.wrapping_sub(lost.entries);
        self.counts.collisions = self.counts.collisions.wrapping_sub(lost.collisions);
        self.counts.discarded += lost.entries;
        self.counts.damaged += 1;
        self.set_bits(list, 0);
        self.fit(list);
    }

    /// Adds names of one list to it, from `done` on, which counts them. `conflict` gets a name that
    /// meets an entry of the chapter, unless that was added just now.
    pub(super) fn merge(
        &mut self,
        list: u32,
        names: &[Known],
        done: &mut usize,
        mut conflict: impl FnMut(&Known, Chapter),
    ) -> Result<(), Shortage> {
        let mut stale = [None; GROUP];
        stale[0] = Some(list);
        self.clean(&stale);
        // The search goes on where the last one has stopped.
        let (mut from, mut base) = (0, 0);
        // The address of the last plain entry that is ours.
        let mut ours = None;
        while let Some(known) = names.get(*done) {
            let next = names.get(*done + 1);
            let is_last = next.is_none_or(|next| next.name != known.name);
            if !is_last || !self.remembers(known.chapter) {
                *done += 1;
                continue;
            }
            let query = Query::search(&self.code, 0, self.list(list), known.address);
            let mut query = query.starting_behind(&self.code, from, base);
            query.run(&self.code);
            let Ok(search) = query.result(&self.code, &known.name) else {
                self.forget(list);
                (from, base, ours) = (0, 0, None);
                continue;
            };
            match search.found {
                Found::Collision(payload) => {
                    if self.chapter(payload) < Some(known.chapter) {
                        self.set_payload(list, search.at, known.chapter);
                    }
                }
                Found::Plain(payload) if ours != Some(known.address) => {
                    (from, base) = (search.at, search.base);
                    conflict(known, self.chapter(payload).unwrap_or(self.low));
                }
                found => {
                    (from, base) = (search.at, search.base);
                    let is_added =
                        self.insert_at(list, &search, known.address, &known.name, known.chapter)?;
                    if is_added && found == Found::Nothing {
                        ours = Some(known.address);
                    }
                }
            }
            *done += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Shard {
    /// What is known of lists is true.
    pub(super) fn check(&self) {
        for list in self.first..self.first + self.lists() {
            let Some(header) = self.header(list).filter(|header| header.bits > 0) else {
                continue;
            };
            let scanner = self.scanner(list);
            let age = |payload| scanner.age(payload);
            header.guide.check(&self.code, self.list(list), age);
        }
    }
}
