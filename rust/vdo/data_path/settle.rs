// SPDX-License-Identifier: GPL-2.0

//! What of a batch is stored, and where, once it is known what is a duplicate and what was compressed.
//!
//! Whoever was acknowledged has a place already, so that what is neither can be stored. The places that
//! are not needed any more go back at once. The others move together in what is left, compressed
//! blocks first, so that duplicates leave no holes in what is written. Where there was no place any
//! more nobody was acknowledged: such blocks can be duplicates all the same, or take a place that
//! another does not need; else they fail.

use crate::data_path::batch::Batch;
use crate::data_path::batch::Fate;
use crate::data_path::batch::Stored;
use crate::data_path::write::Writer;
use crate::depot::Run;
use crate::format::Mapping;
use crate::format::Pbn;
use crate::world::World;
use kernel::prelude::*;

/// Where a block is that follows another, while nobody knows where that will be.
pub(super) const NOWHERE: Pbn = 0;

impl Fate {
    /// Returns true if it follows another block, and nobody knows where that will be.
    fn is_open(self) -> bool {
        matches!(self, Self::Same(_, NOWHERE))
    }
}

impl<W: World> Writer<W> {
    /// Decides what is stored, and where; who is not refers to somebody else's block.
    pub(crate) fn settle(&self, batch: &mut Batch<W>) {
        let mut places = Places::new(core::mem::take(&mut batch.runs));
        batch.moved.clear();
        // First those who have been promised a place.
        self.park(batch, &mut places);
        self.store_packed(batch, &mut places);
        batch.store_at(&mut places, |fate| matches!(fate, Fate::Placed(..)));
        self.follow_stored(batch, &mut places);
        batch.keep_places(|| places.next());
        batch.store_at(&mut places, |fate| matches!(fate, Fate::Data(_)));
        self.follow_stored(batch, &mut places);
        places.give_back(|run| self.depot.release(run));
        batch.runs = places.into_memory();
        let Batch { runs, moved, .. } = batch;
        core::mem::swap(runs, moved);
    }

    /// Gives compressed blocks the next places, unless there is only one fragment: then that block is
    /// stored as it is, and so is who gets no claim.
    fn store_packed(&self, batch: &mut Batch<W>, places: &mut Places) {
        let (mut blocks, mut packed) = (0, 0);
        for bin in 0..batch.bins.len() {
            let more = batch.bins.fragments(bin).saturating_sub(1);
            let place = if more > 0 { places.next() } else { None };
            if let Some(pbn) = place {
                let claims = self.depot.claim_more(pbn, more).saturating_add(1);
                batch.bins.place(bin, pbn, claims);
                let page = batch.page_of_bin(bin);
                add_to(&mut batch.moved, page, pbn);
                blocks += 1;
                packed += u64::from(claims);
            }
        }
        batch.refer_to_bins();
        if blocks > 0 {
            self.compression.packed(packed, blocks);
        }
    }

    /// Has those refer to a block of the batch who follow one that is stored, now that it is known
    /// where. Who gets no claim is stored as well.
    fn follow_stored(&self, batch: &mut Batch<W>, places: &mut Places) {
        let mut at = 0;
        while at < batch.names.all.len() {
            let end = batch.end_of_group(at);
            let is_open = batch.fate_of(at + 1).is_some_and(Fate::is_open);
            let stored = match batch.fate_of(at) {
                Some(Fate::Placed(_, pbn)) if is_open => Some(Mapping::plain(pbn)),
                Some(Fate::Packed(_, mapping)) if is_open => Some(mapping),
                _ => None,
            };
            if let Some(mapping) = stored {
                let followers = end - at - 1;
                let wanted = followers.min(u8::MAX.into()) as u8;
                let claims = usize::from(self.depot.claim_more(mapping.pbn, wanted));
                for follower in at + 1..at + 1 + claims {
                    batch.set_fate(follower, |page| match mapping.state.slot() {
                        None => Fate::Same(page, mapping.pbn),
                        Some(_) => Fate::Packed(page, mapping),
                    });
                }
                for alone in at + 1 + claims..end {
                    batch.store_alone(alone, places);
                }
            }
            at = end;
        }
    }

    /// A run is not where blocks of the batch refer to it, beside the one whose data it is: they are
    /// stored each on its own. Of a compressed block these are all.
    pub(crate) async fn part_from(&self, batch: &mut Batch<W>, failed: &Stored) {
        let range = failed.start..failed.start.saturating_add(failed.blocks.into());
        // The claim of one of its fragments stays with a compressed block.
        let mut kept = None;
        for pbn in range {
            for at in 0..batch.blocks.len() {
                let fate = batch.blocks.get(at).map(|block| block.fate);
                let page = match fate {
                    Some(Fate::Same(page, own)) if own == pbn => page,
                    Some(Fate::Packed(page, own)) if own.pbn == pbn => page,
                    _ => continue,
                };
                match fate {
                    Some(Fate::Packed(..)) if kept != Some(pbn) => kept = Some(pbn),
                    _ => self.unclaim(pbn),
                }
                let fate = match batch.unpack_parked(&*self.world, at) {
                    true => self.store_away(batch, at, page, failed).await,
                    false => Fate::Failed,
                };
                if let Some(block) = batch.blocks.get_mut(at) {
                    block.fate = fate;
                }
            }
        }
    }

    /// Finds a place for the page of a block, away from a run that has failed.
    async fn store_away(
        &self,
        batch: &mut Batch<W>,
        at: usize,
        page: usize,
        failed: &Stored,
    ) -> Fate {
        let start = match batch.take_place(at) {
            Some(own) => own,
            None => match self.depot.allocate_away(1, failed.start).await {
                Ok(Some(run)) => run.start,
                // Its request fails with those of the run.
                _ => return Fate::Failed,
            },
        };
        // There is room for a run for each page.
        let _ = batch.moved.push_within_capacity(Stored {
            start,
            blocks: 1,
            page,
            tries: failed.tries + 1,
        });
        Fate::Placed(page, start)
    }
}

impl<W: World> Batch<W> {
    /// Fragments of compressed blocks that have a place refer to it.
    fn refer_to_bins(&mut self) {
        let Self { blocks, bins, .. } = self;
        for block in blocks.iter_mut() {
            if let Fate::Fragment(page, bin, slot) = block.fate {
                let pbn = bins.refer(bin);
                let mapping = pbn.and_then(|pbn| Mapping::fragment(pbn, slot));
                block.fate = match mapping {
                    Some(mapping) => Fate::Packed(page, mapping),
                    None => Fate::Placed(page, NOWHERE),
                };
            }
        }
    }

    /// Gives each of these blocks the next place, so that what is written has no holes.
    fn store_at(&mut self, places: &mut Places, wanted: impl Fn(Fate) -> bool) {
        for block in self.blocks.iter_mut().filter(|block| wanted(block.fate)) {
            if let (Some(page), Some(pbn)) = (block.page(), places.next()) {
                block.fate = Fate::Placed(page, pbn);
                add_to(&mut self.moved, page, pbn);
            }
        }
    }

    fn store_alone(&mut self, at: usize, places: &mut Places) {
        let Some(pbn) = places.next() else {
            return;
        };
        self.set_fate(at, |page| Fate::Placed(page, pbn));
        if let Some(Fate::Placed(page, _)) = self.fate_of(at) {
            add_to(&mut self.moved, page, pbn);
        }
    }

    /// Who still follows one that has no place has none either.
    pub(super) fn fail_followers(&mut self) {
        for block in self.blocks.iter_mut().filter(|block| block.fate.is_open()) {
            block.fate = Fate::Failed;
        }
    }
}

/// Has a page written at `pbn`, with the one before it if they are neighbours.
pub(super) fn add_to(runs: &mut KVec<Stored>, page: usize, pbn: Pbn) {
    if let Some(last) = runs.last_mut() {
        let blocks = last.blocks;
        let is_next = last.start.checked_add(blocks.into()) == Some(pbn)
            && last.page.checked_add(blocks as usize) == Some(page);
        if is_next {
            last.blocks += 1;
            return;
        }
    }
    // There is room for a run for each page.
    let _ = runs.push_within_capacity(Stored {
        start: pbn,
        blocks: 1,
        page,
        tries: 0,
    });
}

/// The places that a batch was given, one after the other.
pub(super) struct Places {
    runs: KVec<Stored>,
    run: usize,
    /// Blocks of the run that are given away.
    taken: u32,
}

impl Places {
    fn new(runs: KVec<Stored>) -> Self {
        Self {
            runs,
            run: 0,
            taken: 0,
        }
    }

    pub(super) fn next(&mut self) -> Option<Pbn> {
        let pbn = self.peek()?;
        self.taken += 1;
        Some(pbn)
    }

    /// Returns the next place, which stays the next.
    pub(super) fn peek(&mut self) -> Option<Pbn> {
        loop {
            let run = self.runs.get(self.run)?;
            if self.taken < run.blocks {
                return Some(run.start.saturating_add(self.taken.into()));
            }
            self.run += 1;
            self.taken = 0;
        }
    }

    /// Calls `release` for what is left.
    fn give_back(&mut self, release: impl Fn(Run)) {
        while let Some(run) = self.runs.get(self.run) {
            if self.taken < run.blocks {
                release(Run {
                    start: run.start.saturating_add(self.taken.into()),
                    blocks: run.blocks - self.taken,
                });
            }
            self.run += 1;
            self.taken = 0;
        }
    }

    fn into_memory(mut self) -> KVec<Stored> {
        self.runs.clear();
        self.runs
    }
}
