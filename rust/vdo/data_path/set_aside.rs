// SPDX-License-Identifier: GPL-2.0

//! Data blocks that the storage did not take, while it took others.
//!
//! They stay allocated, so that nobody tries them again soon; on disk they are free. But not for
//! ever: a path that comes and goes, or a FUA writer beside a storage that fails, would use up the
//! volume. They are given back
//! - when there are too many, those that failed first;
//! - when data was taken nowhere, all of them: then it is not they that are bad;
//! - when no other block is free, all of them.

use crate::depot::Depot;
use crate::depot::Run;
use crate::error::Result;
use crate::world::World;
use kernel::prelude::*;
use runtime::sync::Lock;

/// The most blocks that are set aside: a batch or two, for more than one bad spot.
const BLOCKS: u32 = 1024;

/// The most runs of them.
const RUNS: usize = 128;

/// Data blocks that the storage did not take.
pub(crate) struct SetAside(Lock<Runs>);

struct Runs {
    /// In the order in which they failed.
    runs: KVec<Run>,
    blocks: u32,
}

impl Runs {
    fn take_first(&mut self) -> Option<Run> {
        if !self.runs.is_empty() {
            self.runs.rotate_left(1);
        }
        let run = self.runs.pop()?;
        self.blocks -= run.blocks;
        Some(run)
    }
}

impl SetAside {
    /// None; nothing is allocated later.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let runs = KVec::with_capacity(RUNS, GFP_KERNEL)?;
        Ok(Self(Lock::new(Runs { runs, blocks: 0 })))
    }

    /// Adds a run. Returns one that has to go for it, to be given back.
    fn add(&self, run: Run) -> Option<Run> {
        self.0.with(|all| {
            let is_full = all.runs.len() >= RUNS;
            let first = if is_full { all.take_first() } else { None };
            // There is room now.
            let _ = all.runs.push_within_capacity(run);
            all.blocks += run.blocks;
            first
        })
    }

    fn take_surplus(&self) -> Option<Run> {
        self.0.with(|all| match all.blocks > BLOCKS {
            true => all.take_first(),
            false => None,
        })
    }

    fn take(&self) -> Option<Run> {
        self.0.with(Runs::take_first)
    }
}

impl SetAside {
    /// The storage did not take these blocks of a depot.
    pub(crate) fn set_aside<W: World>(&self, run: Run, depot: &Depot<W>) {
        if let Some(first) = self.add(run) {
            depot.release(first);
        }
        while let Some(run) = self.take_surplus() {
            depot.release(run);
        }
    }

    /// Gives back all blocks that were set aside. Returns whether there were any.
    pub(crate) fn give_back<W: World>(&self, depot: &Depot<W>) -> bool {
        let mut any = false;
        while let Some(run) = self.take() {
            depot.release(run);
            any = true;
        }
        any
    }
}
