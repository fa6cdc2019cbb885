// SPDX-License-Identifier: GPL-2.0

//! Free blocks for who needs them.

use super::counts::Found;
use super::desk::Work;
use super::Depot;
use super::IMPOSSIBLE;
use crate::block_map::Allocator;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::Pbn;
use crate::format::Sbn;
use crate::format::SlabNumber;
use crate::world::World;
use kernel::prelude::ENOMEM;

/// How far away a block is that may be good where another is not.
const AWAY: u64 = 1024;

/// A lack of memory for so many slabs is one for all.
const MOST_WITHOUT_MEMORY: u32 = 4;

/// Neighbouring blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub start: Pbn,
    /// How many.
    pub blocks: u32,
}

/// The most runs that are taken under one lock: few, since futures hold them.
const RUNS: usize = 4;

/// Runs of one slab that were taken together.
pub struct Runs {
    runs: [Run; RUNS],
    len: usize,
    most: usize,
}

impl Runs {
    /// None yet, and room for `most`.
    pub(super) fn new(most: usize) -> Self {
        Self {
            runs: [Run {
                start: 0,
                blocks: 0,
            }; RUNS],
            len: 0,
            most: most.clamp(1, RUNS),
        }
    }

    /// Returns the runs.
    pub fn as_slice(&self) -> &[Run] {
        self.runs.get(..self.len).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= self.most
    }

    /// Adds a run of a slab, for which there is room.
    pub(super) fn push(&mut self, start: Sbn, blocks: u32) {
        if let Some(run) = self.runs.get_mut(self.len) {
            let start = start.into();
            *run = Run { start, blocks };
            self.len += 1;
        }
    }

    /// The runs were counted from the start of a slab, which is at `start`.
    fn moved_to(mut self, start: Pbn) -> Self {
        for run in self.runs.iter_mut().take(self.len) {
            run.start = run.start.saturating_add(start);
        }
        self
    }

    fn blocks(&self) -> i64 {
        let blocks = self.as_slice().iter().map(|run| i64::from(run.blocks));
        blocks.sum()
    }
}

impl<W: World> Depot<W> {
    /// Takes a run of at most `wanted` neighbouring free blocks; see
    /// [`allocate_runs`](Self::allocate_runs).
    ///
    /// # Errors
    ///
    /// `ReadOnly`.
    pub async fn allocate(&self, wanted: u32) -> Result<Option<Run>> {
        let runs = self.take_runs(wanted, 1).await?;
        Ok(runs.and_then(|runs| runs.as_slice().first().copied()))
    }

    /// Takes `wanted` free blocks, or some of them, in as few runs as there are, and makes them
    /// provisional: they are free again after [`release`](Self::release), or after a crash. Returns
    /// `None` if no block of a slab that is ready is free;
    /// [`wait_for_scrubbed`](Self::wait_for_scrubbed) tells whether to try again.
    ///
    /// Waits for nothing, but where slabs are needed that were never used, and there is no memory for
    /// them.
    ///
    /// # Errors
    ///
    /// `ReadOnly`.
    pub async fn allocate_runs(&self, wanted: u32) -> Result<Option<Runs>> {
        self.take_runs(wanted, RUNS).await
    }

    async fn take_runs(&self, wanted: u32, most: usize) -> Result<Option<Runs>> {
        // Each slab may be at its end, then be looked at from its start, in as many parts as it has
        // reference blocks.
        let parts = self.slab_config.reference_blocks.saturating_add(3);
        let tries = self.layout().slab_count.saturating_mul(parts);
        let mut left = tries;
        let mut without_memory = 0;
        while left > 0 {
            left -= 1;
            self.health.check()?;
            let Some(open) = self.allocator.with(|allocator| allocator.open()) else {
                return Ok(None);
            };
            if open.is_full {
                return Ok(None);
            }
            if let Some(next) = open.next {
                // Its memory is there when it is needed.
                self.desk.tell(|work| work.scrubbing.unused.insert(next));
            }
            let slab = open.slab;
            let mut runs = Runs::new(most);
            match self.slab(slab, |slab| slab.find_runs(wanted, &mut runs))? {
                Some(Found::Runs) => {
                    let taken = -runs.blocks();
                    self.allocator
                        .with(|allocator| allocator.adjust(slab, taken));
                    return Ok(Some(runs.moved_to(self.layout().pbn(slab, 0))));
                }
                Some(Found::NotYet) => {}
                Some(Found::End) => self.allocator.with(|allocator| allocator.close(slab)),
                // The scrubber has not come to it yet; that may take long.
                None => match self.prepare(slab, false) {
                    Err(Error::Errno(error)) if error == ENOMEM => {
                        self.allocator.with(|allocator| allocator.postpone(slab));
                        without_memory += 1;
                        if without_memory >= MOST_WITHOUT_MEMORY {
                            self.wait_for_memory(slab).await?;
                            left = tries;
                        }
                    }
                    prepared => prepared?,
                },
            }
        }
        Ok(None)
    }

    /// Waits until the scrubber, who does so again and again, has tried to get memory for a slab.
    async fn wait_for_memory(&self, slab: SlabNumber) -> Result {
        let seen = self.desk.tell(|work| {
            work.scrubbing.unused.insert(slab);
            work.scrubbing.prepared
        });
        let is_tried = |work: &Work<_>| work.scrubbing.prepared != seen;
        self.desk.until(&self.health, is_tried).await
    }

    /// As [`allocate`](Self::allocate), but not near `from`, where the storage has failed.
    pub async fn allocate_away(&self, wanted: u32, from: Pbn) -> Result<Option<Run>> {
        let near = from.saturating_sub(AWAY)..from.saturating_add(AWAY);
        if let Some((number, sbn)) = self.layout().slab_of(from) {
            let start = sbn.saturating_sub(AWAY as u32);
            let end = sbn.saturating_add(AWAY as u32);
            self.slab(number, |slab| {
                if let Some(counts) = slab.counts() {
                    counts.skip(start, end);
                }
            })?;
            if end >= self.slab_config.data_blocks {
                self.allocator.with(|allocator| allocator.set_aside(number));
            }
        }
        let Some(run) = self.allocate(wanted).await? else {
            return Ok(None);
        };
        let is_in_slab = |pbn| {
            let slab_of = |pbn| self.layout().slab_of(pbn).map(|(slab, _)| slab);
            slab_of(pbn) == slab_of(from)
        };
        if !is_in_slab(run.start) || run.start >= near.end {
            return Ok(Some(run));
        }
        // What is near is given back.
        let far = near.start.saturating_sub(run.start).min(run.blocks.into()) as u32;
        self.release(Run {
            start: run.start.saturating_add(far.into()),
            blocks: run.blocks - far,
        });
        let start = run.start;
        Ok((far > 0).then_some(Run { start, blocks: far }))
    }

    /// Gives back a claim on each of these blocks, which were allocated or claimed, and not referred
    /// to. They are free again if nobody else has a claim or refers to them.
    pub fn release(&self, run: Run) {
        let Some((number, sbn)) = self.layout().slab_of(run.start) else {
            return self.health.enter_read_only(IMPOSSIBLE);
        };
        let freed = self.slab(number, |slab| {
            let counts = slab.counts();
            counts.map(|counts| counts.release(sbn, run.blocks))
        });
        let Ok(Some(freed)) = freed else {
            return self.health.enter_read_only(IMPOSSIBLE);
        };
        self.allocator
            .with(|allocator| allocator.adjust(number, freed.into()));
    }

    /// Claims a reference to a data block that a batch has not allocated itself, to look at it, and
    /// refer to it in the journal later; until then, or until it is given back with
    /// [`release`](Self::release), nobody reuses the block. Returns false if nobody can refer to it:
    /// there is no such block, it is of a slab whose counts are not known, it has all references that
    /// it can have, or somebody has it who may be writing it.
    pub fn claim(&self, pbn: Pbn) -> bool {
        let Some((number, sbn)) = self.layout().slab_of(pbn) else {
            return false;
        };
        let claimed = self.slab(number, |slab| {
            let counts = slab.counts()?;
            let was_free = counts.free();
            let is_claimed = counts.claim(sbn);
            Some((is_claimed, was_free != counts.free()))
        });
        let (is_claimed, was_free) = claimed.ok().flatten().unwrap_or((false, false));
        if was_free {
            self.allocator
                .with(|allocator| allocator.adjust(number, -1));
        }
        is_claimed
    }

    /// Data of a batch is in these blocks, and will be referred to: others may claim them from now on.
    pub fn set_stored(&self, run: Run) {
        if let Some((number, sbn)) = self.layout().slab_of(run.start) {
            // Nothing depends on it.
            let _ = self.slab(number, |slab| {
                if let Some(counts) = slab.counts() {
                    counts.set_stored(sbn, run.blocks);
                }
            });
        }
    }

    /// Claims up to `wanted` more references to a data block of which the caller has one; returns how
    /// many it can have.
    pub fn claim_more(&self, pbn: Pbn, wanted: u8) -> u8 {
        let Some((number, sbn)) = self.layout().slab_of(pbn) else {
            return 0;
        };
        let claimed = self.slab(number, |slab| {
            let counts = slab.counts();
            counts.map_or(0, |counts| counts.claim_more(sbn, wanted))
        });
        claimed.unwrap_or(0)
    }

    /// For who found no free block: waits until another slab is ready. Returns whether it is worth
    /// trying again; if not, no slab is left that could become ready.
    pub async fn wait_for_scrubbed(&self) -> Result<bool> {
        let look = |left| {
            let has_free = self.allocator.with(|allocator| allocator.has_free());
            (has_free || left == 0).then_some(has_free)
        };
        self.desk.in_turn(&self.health, look).await
    }
}

impl<W: World> Allocator for Depot<W> {
    async fn allocate_one(&self) -> Result<Pbn> {
        let run = self.allocate(1).await?;
        Ok(run.ok_or(Status::NoSpace)?.start)
    }

    fn release_one(&self, pbn: Pbn) {
        self.release(Run {
            start: pbn,
            blocks: 1,
        });
    }
}
