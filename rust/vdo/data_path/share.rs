// SPDX-License-Identifier: GPL-2.0

//! Duplicates in a batch, which refer to a block that is there instead of being stored.
//!
//! | Step | What it takes for granted |
//! |---|---|
//! | name | the data is ours, and nobody changes it any more |
//! | lead | of blocks in the batch with the same data the first one leads, and the others follow |
//! | board | who finds its name [in flight](crate::dedupe::flight) waits for that [later](crate::data_path::join) |
//! | look up | the index is asked for the other leaders; what it answers may be wrong in every way |
//! | verify | a block is claimed first, so that nobody reuses it, then read and compared |
//! | follow | who has found a block refers to it, with a claim for each; so do those it leads |
//!
//! What has to be stored [is](crate::data_path::settle) afterwards.
//!
//! A block has at most 254 references. Who gets no claim any more is stored anew and leads those
//! behind it; the index hears of that copy, in place of the full one.

use crate::data_path::batch::Batch;
use crate::data_path::batch::Block;
use crate::data_path::batch::Fate;
use crate::data_path::fragment;
use crate::data_path::settle::NOWHERE;
use crate::data_path::write::Writer;
use crate::dedupe::advice;
use crate::dedupe::index::Index;
use crate::dedupe::index::Listener;
use crate::dedupe::name;
use crate::dedupe::name::Name;
use crate::depot::Run;
use crate::error::Result;
use crate::format::Mapping;
use crate::format::Page;
use crate::format::Pbn;
use crate::storage::Purpose;
use crate::world::World;
use core::pin::pin;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::sort::sort_by_key;
use runtime::stack::apart;
use runtime::sync::Arc;

/// Blocks that are verified at once.
pub(crate) const VERIFIED: usize = 64;

/// What a worker needs to find duplicates.
pub(crate) struct Names {
    /// The blocks whose data may be somewhere, by name.
    pub(super) all: KVec<Named>,
    /// Their names, as the index is asked.
    asked: uds::index::Batch,
    /// What may be duplicates of leaders.
    candidates: KVec<Candidate>,
}

/// A block with a name.
pub(super) struct Named {
    name: Name,
    /// Its place in the batch.
    block: usize,
    /// Which of these it has its data from: itself, if it leads.
    leader: usize,
    /// If it leads: the block that the index hears of.
    told: usize,
}

/// Where the data of a leader may be.
#[derive(Clone, Copy)]
struct Candidate {
    mapping: Mapping,
    /// Which of the names.
    named: usize,
}

impl Names {
    /// For so many blocks.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(blocks: usize) -> Result<Self> {
        Ok(Self {
            all: KVec::with_capacity(blocks, GFP_KERNEL)?,
            asked: uds::index::Batch::new(blocks).map_err(|_| ENOMEM)?,
            candidates: KVec::with_capacity(blocks, GFP_KERNEL)?,
        })
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.asked.clear();
        self.candidates.clear();
    }
}

impl<W: World> Writer<W> {
    /// Finds the duplicates in a batch, but for those whose data others are about to store. Returns who
    /// is to hear of it when it is stored.
    pub(crate) async fn share(&self, batch: &mut Batch<W>) -> Option<Listener<W>> {
        let listener = self.session.listener()?;
        self.fetch_names(batch);
        batch.names.clear();
        self.name(batch);
        self.lead(batch);
        self.board(batch);
        if let Listener::Index(index) = &listener {
            self.look_up(index, batch).await;
        }
        self.claim_candidates(batch);
        apart(pin!(self.verify(batch))).await;
        self.follow_found(batch);
        batch.follow_leaders();
        Some(listener)
    }

    /// Asks the index for leaders, but not for longer than is reasonable.
    async fn look_up(&self, index: &Arc<Index<W>>, batch: &mut Batch<W>) {
        let names = &mut batch.names;
        if names.are_late() {
            // An earlier look-up is not back.
            return self.askers.skip(batch.aboard.asks());
        }
        if index.look_up_at_once(&mut names.asked) {
            return;
        }
        let asked = core::mem::replace(&mut names.asked, uds::index::Batch::elsewhere());
        let answer = self.askers.look_up(batch.worker, index.clone(), asked);
        if let Some(asked) = apart(pin!(answer)).await {
            names.asked = asked;
        }
    }

    /// Takes the names back with which an earlier look-up was late.
    fn fetch_names(&self, batch: &mut Batch<W>) {
        if batch.names.are_late() {
            if let Some(asked) = self.askers.fetch(batch.worker) {
                batch.names.asked = asked;
            }
        }
    }

    /// Tells the depot which blocks others may look at, now that the batch is stored.
    pub(crate) fn set_stored(&self, batch: &Batch<W>) {
        let mut run: Option<Run> = None;
        for block in &batch.blocks {
            let (Fate::Placed(_, pbn)
            | Fate::Packed(_, Mapping { pbn, .. })
            | Fate::Shared(_, Mapping { pbn, .. })) = block.fate
            else {
                continue;
            };
            match &mut run {
                Some(run) if run.start.saturating_add(run.blocks.into()) == pbn => run.blocks += 1,
                _ => {
                    let next = Run {
                        start: pbn,
                        blocks: 1,
                    };
                    if let Some(run) = run.replace(next) {
                        self.depot.set_stored(run);
                    }
                }
            }
        }
        if let Some(run) = run {
            self.depot.set_stored(run);
        }
    }

    /// Tells the index where those names are that it was asked for.
    pub(crate) fn remember(&self, index: &Index<W>, batch: &mut Batch<W>) {
        let Batch { names, blocks, .. } = batch;
        let all = &names.all;
        index.remember(&mut names.asked, |item| {
            let block = blocks.get(all.get(item.tag as usize)?.told)?;
            block.page()?;
            Some(advice::encode(block.mapping()?))
        });
    }

    /// Names the blocks that are to be stored, two at a time.
    fn name(&self, batch: &mut Batch<W>) {
        let Batch {
            names,
            blocks,
            buffer,
            ..
        } = batch;
        let page = |page| buffer.as_ref().and_then(|own| own.page(page));
        let mut add = |block, name| {
            // There is room for all blocks.
            let _ = names.all.push_within_capacity(Named {
                name,
                block,
                leader: 0,
                told: block,
            });
        };
        let mut first: Option<(usize, &Page)> = None;
        let placed = blocks
            .iter()
            .enumerate()
            .filter_map(|(at, block)| match block.fate {
                Fate::Placed(own, _) | Fate::Data(own) => Some((at, page(own)?)),
                _ => None,
            });
        for second in placed {
            match first.take() {
                None => first = Some(second),
                Some(first) => {
                    let (a, b) = name::names(first.1, second.1);
                    add(first.0, a);
                    add(second.0, b);
                }
            }
        }
        if let Some((block, page)) = first {
            add(block, name::name(page));
        }
        sort_by_key(&mut names.all, |named| (named.name, named.block));
    }

    /// Finds who leads.
    fn lead(&self, batch: &mut Batch<W>) {
        let (mut matches, mut collisions) = (0, 0);
        let mut leader = 0;
        for at in 0..batch.names.all.len() {
            let is_same_name = batch.name_of(at) == batch.name_of(leader);
            if at > leader && is_same_name && batch.have_same_data(leader, at) {
                matches += 1;
            } else if at > leader && is_same_name {
                // Very rare: it goes its own way, and the index does not hear of it.
                collisions += 1;
                leader = at;
            } else {
                leader = at;
                batch.add_passenger(at);
            }
            batch.set_leader(at, leader);
        }
        self.session.found.matches.add(matches);
        self.session.found.collisions.add(collisions);
    }

    /// Claims the blocks that the index speaks of.
    fn claim_candidates(&self, batch: &mut Batch<W>) {
        let Names {
            asked, candidates, ..
        } = &mut batch.names;
        let (mut stale, mut invalid) = (0, 0);
        for item in asked.items() {
            let Some(own) = item.advice else {
                continue;
            };
            match advice::decode(&own).filter(|own| self.depot.layout().is_data_block(own.pbn)) {
                None => invalid += 1,
                Some(mapping) if self.depot.claim(mapping.pbn) => {
                    // There is room for all of them.
                    let _ = candidates.push_within_capacity(Candidate {
                        mapping,
                        named: item.tag as usize,
                    });
                }
                Some(_) => stale += 1,
            }
        }
        sort_by_key(candidates, |own| own.mapping.pbn);
        let found = &self.session.found;
        found.stale.add(stale);
        found.invalid.add(invalid);
    }

    /// Reads what may be the data of leaders, and compares it.
    async fn verify(&self, batch: &mut Batch<W>) {
        let mut next = 0;
        while next < batch.names.candidates.len() {
            let end = batch.names.candidates.len().min(next + VERIFIED);
            let mut buffer = self.verifiers.take().await;
            batch.parts.clear();
            for at in next..end {
                self.add_candidate(batch, at, at - next);
            }
            let parts = &mut batch.parts;
            buffer = self.storage.read_parts(Purpose::Data, buffer, parts).await;
            for at in next..end {
                self.compare(batch, at, buffer.page(at - next), at - next);
            }
            self.verifiers.give(buffer);
            next = end;
        }
    }

    /// Has a candidate read into a page: with the one before it, if they are neighbours.
    fn add_candidate(&self, batch: &mut Batch<W>, at: usize, page: usize) {
        let Some(pbn) = batch.names.candidates.get(at).map(|own| own.mapping.pbn) else {
            return;
        };
        let own = self.storage.part(pbn, 1, page);
        if let Some(before) = batch.parts.last_mut() {
            let follows = before.sector.saturating_add(before.sectors.into()) == own.sector;
            if follows {
                before.sectors = before.sectors.saturating_add(own.sectors);
                return;
            }
        }
        // There is room for all of them.
        let _ = batch.parts.push_within_capacity(own);
    }

    /// Has a leader refer to a candidate, if that was read and has the same data.
    fn compare(&self, batch: &mut Batch<W>, at: usize, stored: Option<&Page>, page: usize) {
        let Batch {
            names,
            blocks,
            buffer,
            scratch,
            parts,
            ..
        } = batch;
        let Some(candidate) = names.candidates.get(at).copied() else {
            return;
        };
        let part = parts.iter().rfind(|part| part.page <= page);
        let is_read = part.is_some_and(|part| part.result.is_ok());
        let stored = stored.filter(|_| is_read);
        let stored = match candidate.mapping.state.slot() {
            None => stored,
            Some(slot) => {
                let into = scratch.as_mut().and_then(|own| own.page_mut(0));
                let unpacked = fragment::decompress(&*self.world, stored, slot, into);
                let page = scratch.as_ref().and_then(|own| own.page(0));
                page.filter(|_| unpacked.is_ok())
            }
        };
        let named = names.all.get(candidate.named);
        let block = named.and_then(|named| blocks.get_mut(named.block));
        if let Some(block) = block {
            let own = block.page();
            let data = own.and_then(|page| buffer.as_ref()?.page(page));
            if let (Some(page), Some(data), Some(stored)) = (own, data, stored) {
                if data == stored {
                    block.fate = Fate::Shared(page, candidate.mapping);
                    return self.session.found.valid.add(1);
                }
            }
        }
        self.session.found.stale.add(1);
        self.unclaim(candidate.mapping.pbn);
    }

    pub(super) fn unclaim(&self, pbn: Pbn) {
        self.depot.release(Run {
            start: pbn,
            blocks: 1,
        });
    }

    /// Has those refer to a block that was found who follow one that has found it. If it has not
    /// enough claims for all of them, the first that gets none leads the rest.
    fn follow_found(&self, batch: &mut Batch<W>) {
        let mut at = 0;
        while at < batch.names.all.len() {
            let end = batch.end_of_group(at);
            if let Some(Fate::Shared(_, mapping)) = batch.fate_of(at) {
                let _stored_anew = self.share_out(batch, at, mapping);
            }
            at = end;
        }
    }

    /// Has those refer to a block that was found whom `at` leads, who has found it. Returns the first that
    /// gets no claim: it leads the rest.
    pub(crate) fn share_out(
        &self,
        batch: &mut Batch<W>,
        at: usize,
        mapping: Mapping,
    ) -> Option<usize> {
        let end = batch.end_of_group(at);
        let claims = match (end - at - 1).min(u8::MAX.into()) as u8 {
            0 => 0,
            wanted => self.depot.claim_more(mapping.pbn, wanted),
        };
        let left = at + 1 + usize::from(claims);
        for follower in at + 1..left {
            batch.set_fate(follower, |page| Fate::Shared(page, mapping));
        }
        if left == end {
            return None;
        }
        batch.lead_anew(at, left..end);
        Some(left)
    }
}

impl Names {
    /// Returns the block that the index hears of, if a name leads.
    pub(crate) fn told(&self, at: usize) -> Option<usize> {
        self.all.get(at).map(|named| named.told)
    }

    /// Returns a name, and the page with its data.
    pub(crate) fn name_and_page(&self, at: usize, blocks: &[Block]) -> Option<(Name, usize)> {
        let named = self.all.get(at)?;
        Some((named.name, blocks.get(named.block)?.page()?))
    }

    /// The index is to be asked for a name, which is remembered for sure if it `has_place`. There is room
    /// for all of them.
    pub(crate) fn ask(&mut self, at: usize, has_place: bool) {
        if let Some(named) = self.all.get(at) {
            let name = uds::format::Name(named.name);
            match has_place {
                true => self.asked.push(name, at as u32),
                false => self.asked.push_query(name, at as u32),
            };
        }
    }

    /// Returns true if the index has not answered in time, or could not be asked because of that.
    pub(crate) fn are_late(&self) -> bool {
        self.asked.is_elsewhere()
    }
}

impl<W: World> Batch<W> {
    /// Returns the name of a block, if it has one.
    pub(super) fn name_of_block(&self, at: usize) -> Option<Name> {
        let named = self.names.all.iter().find(|named| named.block == at);
        named.map(|named| named.name)
    }

    /// Returns true if other blocks follow this one.
    pub(super) fn is_followed(&self, at: usize) -> bool {
        let number = self.names.all.iter().position(|named| named.block == at);
        number.is_some_and(|number| self.end_of_group(number) > number + 1)
    }

    fn name_of(&self, at: usize) -> Option<&Name> {
        self.names.all.get(at).map(|named| &named.name)
    }

    fn leader_of(&self, at: usize) -> Option<usize> {
        self.names.all.get(at).map(|named| named.leader)
    }

    fn set_leader(&mut self, at: usize, leader: usize) {
        if let Some(named) = self.names.all.get_mut(at) {
            named.leader = leader;
        }
    }

    /// Returns the end of those that `at` leads; they stand behind it.
    pub(super) fn end_of_group(&self, at: usize) -> usize {
        let behind = self.names.all.get(at + 1..).unwrap_or_default();
        let followers = behind.iter().take_while(|named| named.leader == at);
        at + 1 + followers.count()
    }

    fn data_of(&self, at: usize) -> Option<&Page> {
        let page = self.blocks.get(self.names.all.get(at)?.block)?.page()?;
        self.buffer.as_ref()?.page(page)
    }

    fn have_same_data(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.data_of(a), self.data_of(b));
        a.is_some() && a == b
    }

    pub(super) fn fate_of(&self, at: usize) -> Option<Fate> {
        let block = self.names.all.get(at)?.block;
        self.blocks.get(block).map(|block| block.fate)
    }

    pub(super) fn set_fate(&mut self, at: usize, fate: impl FnOnce(usize) -> Fate) {
        let block = self.names.all.get(at).map(|named| named.block);
        let block = block.and_then(|block| self.blocks.get_mut(block));
        if let Some(block) = block {
            if let Some(page) = block.page() {
                block.fate = fate(page);
            }
        }
    }

    /// The first of these, who got no claim of what `at` has found, leads the others, and the index
    /// hears of it.
    fn lead_anew(&mut self, at: usize, rest: core::ops::Range<usize>) {
        let first = rest.start;
        for own in rest {
            self.set_leader(own, first);
        }
        let block = self.names.all.get(first).map(|named| named.block);
        if let (Some(named), Some(block)) = (self.names.all.get_mut(at), block) {
            named.told = block;
        }
    }

    /// Those who follow one that has found nothing wait for its place. If they have one and it has
    /// none, it gets theirs.
    pub(super) fn follow_leaders(&mut self) {
        for at in 0..self.names.all.len() {
            let Some(leader) = self.leader_of(at).filter(|leader| *leader != at) else {
                continue;
            };
            match (self.fate_of(leader), self.fate_of(at)) {
                (Some(Fate::Data(_)), Some(Fate::Placed(_, pbn))) => {
                    self.set_fate(leader, |page| Fate::Placed(page, pbn));
                }
                (
                    Some(Fate::Data(_) | Fate::Placed(..)),
                    Some(Fate::Data(_) | Fate::Placed(..)),
                ) => {}
                _ => continue,
            }
            self.set_fate(at, |page| Fate::Same(page, NOWHERE));
        }
    }
}
