// SPDX-License-Identifier: GPL-2.0

//! Where bios wait for a worker, and workers for bios.
//!
//! Bios that wait together are taken together: a second worker is woken only when there is more
//! than one batch to do, so a burst of small bios becomes one batch. What comes while a worker is
//! at work on some CPU is left for it, unless it is much: who submits small bios on another CPU
//! would else get a worker for each of them. A worker that has to wait calls another one.
//!
//! When all these workers wait for the storage, *small* ones are called, who have room for few blocks
//! only: so that one who writes block by block has more writes on their way than there are large
//! batches, where the storage takes its time. They take no discards, and nothing that does not fit.
//! Where it is the journal that has no room, they are not called: what waits makes larger batches then.
//!
//! A write whose blocks somebody else has is [held up](held_up) beside, with nobody behind it, and comes
//! back with its claim. It is the next one then.
//!
//! Writes and discards wait in a line each, in order of arrival, because not every worker may be
//! kept busy by a discard. Neither line starves the other: while discards wait, the workers that
//! serve them take one after at most [`WRITES_BEFORE_DISCARD`] batches of writes.

pub(crate) mod held_up;

use crate::world::Bio;
use crate::world::BioList;
use crate::world::Operation;
use core::future::poll_fn;
use core::future::Future;
use core::num::NonZeroU64;
use core::pin::pin;
use core::pin::Pin;
use kernel::prelude::Result;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::monitor::Turn;

/// Less than this part of a batch is left for a worker that runs.
const PATIENCE: u64 = 4;

/// Batches of writes that workers which serve discards begin, at most, while a discard is the first
/// in its line.
const WRITES_BEFORE_DISCARD: u32 = 3;

/// Where bios wait.
pub struct Inbox<L: BioList> {
    monitor: Monitor<Desk<L>>,
}

struct Desk<L> {
    writes: L,
    /// Writes that were held up, whose blocks are claimed.
    claimed: L,
    discards: L,
    /// Blocks of the writes that wait.
    blocks: u64,
    /// Blocks in a batch.
    batch: NonZeroU64,
    /// Batches of writes that went before the first discard.
    went_before: u32,
    /// Workers that were woken and have not come yet.
    coming: usize,
    /// Workers that run at this moment, and look here before they rest.
    running: usize,
    /// Workers that wait for room in the journal.
    throttled: usize,
    stopping: bool,
}

/// A worker that waits.
struct Worker {
    kind: Kind,
    idle: bool,
}

/// What a worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Writes.
    Writer,
    /// Writes and discards.
    All,
    /// Writes of so many blocks at most, when no other worker is idle.
    Small(u64),
}

/// The list of small workers that are idle, and that of those who were called; the others are in
/// list 0.
const SMALL: usize = 1;
const CALLED: usize = 2;

impl Kind {
    fn list(self) -> usize {
        match self {
            Self::Small(_) => SMALL,
            _ => 0,
        }
    }

    fn fits(self, bio: &impl Bio) -> bool {
        match self {
            Self::Small(blocks) => touched_by(bio) <= blocks,
            _ => true,
        }
    }
}

/// A write for a worker.
pub struct Write<B> {
    /// The write.
    pub bio: B,
    /// Whether its blocks are claimed for it already.
    pub is_claimed: bool,
}

/// What a worker is to do.
pub enum Work<B> {
    /// This bio, and what waits behind it: see [`Inbox::next_write`] and [`Inbox::leave`].
    Write(Write<B>),
    /// This discard.
    Discard(B),
    /// Nothing any more.
    Stop,
}

impl<L: BioList> Rules for Desk<L> {
    type Key = Worker;

    fn left(&mut self, _: &Worker, _: &mut Entries<'_, Worker>) {}
}

impl<L: BioList> Desk<L> {
    /// Wakes as many idle workers as there are batches that nobody comes for.
    #[inline(never)]
    fn call(&mut self, workers: &mut Entries<'_, Worker>) {
        let batches = match self.running > 0 && self.blocks < self.batch.get() / PATIENCE {
            true => 0,
            false => self.blocks.saturating_add(self.batch.get() - 1) / self.batch,
        };
        let batches = batches as usize;
        let mut discards = self.discards.first().is_some();
        if self.coming >= batches && !discards {
            return;
        }
        let coming = &mut self.coming;
        workers.wake_where(|worker| {
            let serves_discards = worker.kind == Kind::All;
            let wanted = *coming < batches || (discards && serves_discards);
            if !worker.idle || !wanted {
                return false;
            }
            if *coming >= batches {
                discards = false;
            }
            worker.idle = false;
            *coming += 1;
            true
        });
        if self.coming < batches && self.throttled == 0 {
            if let (Some(first), Some(worker)) = (self.first_write(), workers.first_of(SMALL)) {
                if worker.idle && worker.kind.fits(first) {
                    worker.idle = false;
                    self.coming += 1;
                    workers.wake_first_of(SMALL, CALLED);
                }
            }
        }
    }

    fn first_write(&self) -> Option<&L::Bio> {
        self.claimed.first().or_else(|| self.writes.first())
    }

    fn take_write(&mut self) -> Option<Write<L::Bio>> {
        let claimed = self.claimed.pop();
        let is_claimed = claimed.is_some();
        let bio = claimed.or_else(|| self.writes.pop())?;
        self.blocks = self.blocks.saturating_sub(blocks_of(&bio));
        Some(Write { bio, is_claimed })
    }

    /// Takes what a worker is to begin with.
    fn take(&mut self, kind: Kind) -> Option<Work<L::Bio>> {
        let may_discard = kind == Kind::All && self.discards.first().is_some();
        if !may_discard || self.went_before < WRITES_BEFORE_DISCARD {
            let fits = self.first_write().is_some_and(|bio| kind.fits(bio));
            if let Some(write) = fits.then(|| self.take_write()).flatten() {
                self.went_before += u32::from(may_discard);
                return Some(Work::Write(write));
            }
        }
        if !may_discard {
            return None;
        }
        self.went_before = 0;
        self.discards.pop().map(Work::Discard)
    }
}

impl<L: BioList> Inbox<L> {
    /// Creates an empty one, for batches of `batch` blocks.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(batch: NonZeroU64) -> Result<Self> {
        Ok(Self {
            monitor: Monitor::with_lists(
                Desk {
                    writes: L::default(),
                    claimed: L::default(),
                    discards: L::default(),
                    blocks: 0,
                    batch,
                    went_before: 0,
                    coming: 0,
                    running: 0,
                    throttled: 0,
                    stopping: false,
                },
                CALLED + 1,
            )?,
        })
    }

    /// Leaves a bio for the workers. Never waits.
    pub fn push(&self, bio: L::Bio) {
        self.monitor.with(|desk, workers| {
            if bio.operation() == Operation::Discard {
                desk.discards.push(bio);
            } else {
                desk.blocks = desk.blocks.saturating_add(blocks_of(&bio));
                desk.writes.push(bio);
            }
            desk.call(workers);
        });
    }

    /// Leaves a write that was held up, whose blocks are claimed now.
    pub(crate) fn push_claimed(&self, bio: L::Bio) {
        self.monitor.with(|desk, workers| {
            desk.blocks = desk.blocks.saturating_add(blocks_of(&bio));
            desk.claimed.push(bio);
            desk.call(workers);
        });
    }

    /// Returns true if nothing waits, and no worker is at work on a write.
    pub fn is_empty(&self) -> bool {
        self.monitor.with(|desk, _| {
            desk.first_write().is_none()
                && desk.discards.first().is_none()
                && desk.blocks == 0
                && desk.running == 0
        })
    }

    /// Waits for something to do.
    pub async fn next(&self, kind: Kind) -> Work<L::Bio> {
        let worker = Worker { kind, idle: false };
        let entry = pin!(self.monitor.entry_in(kind.list(), worker));
        let mut called = false;
        entry
            .as_ref()
            .wait(|turn| {
                if core::mem::replace(&mut called, true) && !turn.key.idle {
                    turn.state.coming = turn.state.coming.saturating_sub(1);
                }
                turn.key.idle = false;
                let work = find(turn);
                turn.key.idle = work.is_none();
                if turn.key.idle && kind.list() == SMALL {
                    turn.move_to(SMALL);
                }
                work
            })
            .await
    }

    /// Takes the next waiting write if it `fits`.
    pub fn next_write(&self, fits: impl FnOnce(&L::Bio) -> bool) -> Option<Write<L::Bio>> {
        self.monitor.with(|desk, _| {
            if !fits(desk.first_write()?) {
                return None;
            }
            desk.take_write()
        })
    }

    /// The worker that was given a write has taken as many of those behind it as it can: calls
    /// others for what is left.
    pub fn leave(&self) {
        self.monitor.with(|desk, workers| desk.call(workers));
    }

    /// Does what a worker does for writes: while that runs, little of what comes is given to others.
    pub async fn at_work(&self, mut work: Pin<&mut impl Future<Output = ()>>) {
        poll_fn(|context| {
            self.monitor.with(|desk, _| desk.running += 1);
            let progress = work.as_mut().poll(context);
            self.monitor.with(|desk, workers| {
                desk.running -= 1;
                if progress.is_pending() {
                    desk.call(workers);
                }
            });
            progress
        })
        .await;
    }

    /// Waits for room in the journal. No small worker is called meanwhile: more batches, and smaller
    /// ones, would not get more of it.
    pub async fn throttled<T>(&self, wait: impl Future<Output = T>) -> T {
        self.monitor.with(|desk, _| desk.throttled += 1);
        let done = wait.await;
        self.monitor.with(|desk, workers| {
            desk.throttled -= 1;
            desk.call(workers);
        });
        done
    }

    /// Lets every worker end when nothing is left to do.
    pub fn stop(&self) {
        self.monitor.with(|desk, workers| {
            desk.stopping = true;
            for list in [0, SMALL] {
                workers.wake_where_in(list, |worker| core::mem::replace(&mut worker.idle, false));
            }
        });
    }
}

/// Finds work for the worker whose turn it is. Calls others for what it leaves, unless it begins
/// with a write: then it takes more first, see [`Inbox::leave`].
#[inline(never)]
fn find<L: BioList>(turn: &mut Turn<'_, Desk<L>>) -> Option<Work<L::Bio>> {
    let desk = &mut *turn.state;
    let work = match desk.take(turn.key.kind) {
        None if desk.stopping => Some(Work::Stop),
        work => work,
    };
    if !matches!(work, Some(Work::Write(_))) {
        desk.call(&mut turn.others);
    }
    work
}

/// Returns how many blocks a bio touches.
fn touched_by(bio: &impl Bio) -> u64 {
    let end = bio.sector().saturating_add(bio.sectors().into());
    end.div_ceil(8).saturating_sub(bio.sector() / 8)
}

/// Returns how many blocks a bio has, at least one.
fn blocks_of(bio: &impl Bio) -> u64 {
    u64::from(bio.sectors()).div_ceil(8).max(1)
}

#[cfg(test)]
mod tests;
