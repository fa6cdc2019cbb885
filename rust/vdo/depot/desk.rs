// SPDX-License-Identifier: GPL-2.0

//! Where the tasks of a depot meet: what there is to do, and that something was done.
//!
//! Whoever waits for a slab looks at the slab, under its lock, and waits here for the next change
//! of `progress` if it is not yet as it should be. Whoever changes a slab so that somebody else may
//! go on counts `progress` up afterwards.

use super::holds::Holds;
use super::ring::Ring;
use super::slab_journal::Closed;
use super::slab_set::SlabSet;
use crate::error::Error;
use crate::error::Result;
use crate::format::SlabNumber;
use crate::health::Health;
use core::pin::pin;
use kernel::prelude::KVec;
use kernel::prelude::GFP_KERNEL;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;

/// What there is to do.
pub(super) struct Work<B> {
    /// Counts what may let somebody go on.
    pub(super) progress: u64,
    pub(super) is_stopping: bool,
    /// Nothing is written any more.
    is_paused: bool,
    /// How many tasks are writing.
    busy: u32,
    /// Memory for blocks of slab journals.
    pub(super) pages: KVec<B>,
    /// How many there are.
    page_count: usize,
    /// Closed blocks of slab journals, for the committer.
    pub(super) closed: Ring<Closed<B>>,
    /// Slabs whose block under construction the committer is to seal.
    pub(super) seal: SlabSet,
    /// Slabs that can be clean, for the committer.
    pub(super) clean: SlabSet,
    /// Slabs with counts to write, for the reference writer.
    pub(super) write: SlabSet,
    /// What is held of the recovery journal.
    pub(super) holds: Holds,
    pub(super) scrubbing: Scrubbing,
}

/// What the scrubber has to do.
pub(super) struct Scrubbing {
    /// The slabs that were not ready at the start, in the order in which they are read.
    pub(super) queue: KVec<SlabNumber>,
    /// How many of them are done.
    pub(super) next: usize,
    /// A slab that somebody waits for.
    pub(super) urgent: Option<SlabNumber>,
    /// Slabs never used that will need memory soon.
    pub(super) unused: SlabSet,
    /// Counts how often it was tried to give memory to one of them.
    pub(super) prepared: u64,
    /// What is just being done.
    pub(super) current: Option<Job>,
    /// How many slabs are not ready.
    pub(super) left: u32,
    /// Only what is urgent is done.
    pub(super) is_paused: bool,
}

/// Who waits at the desk: the number of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// For free blocks. These may be many: only the first looks, and the next when it has left.
    Room,
    /// For anything that is done: those who change the volume as a whole, and the applier.
    Progress,
    Committer,
    ReferenceWriter,
    Scrubber,
}

/// The number of lines.
const LINES: usize = 5;

impl<B> Rules for Work<B> {
    type Key = Seat;

    fn left(&mut self, seat: &Seat, rest: &mut Entries<'_, Seat>) {
        if *seat == Seat::Room {
            rest.wake_first();
        }
    }
}

/// Room for more slabs.
pub(super) struct DeskRoom {
    holds: Holds,
    sets: [SlabSet; 4],
}

/// Where the tasks of a depot meet.
pub(super) struct Desk<B>(Monitor<Work<B>>);

impl<B> Desk<B> {
    /// Creates the desk for so many slabs, with memory for blocks that are on their way.
    pub(super) fn new(slabs: u32, pages: KVec<B>) -> Result<Self> {
        let work = Work {
            progress: 0,
            is_stopping: false,
            is_paused: false,
            busy: 0,
            closed: Ring::new(pages.len())?,
            holds: Holds::new(slabs as usize + pages.len())?,
            page_count: pages.len(),
            pages,
            seal: SlabSet::new(slabs)?,
            clean: SlabSet::new(slabs)?,
            write: SlabSet::new(slabs)?,
            scrubbing: Scrubbing {
                queue: KVec::with_capacity(slabs as usize, GFP_KERNEL)?,
                next: 0,
                urgent: None,
                unused: SlabSet::new(slabs)?,
                prepared: 0,
                current: None,
                left: 0,
                is_paused: true,
            },
        };
        Ok(Self(Monitor::with_lists(work, LINES)?))
    }

    /// Allocates room for so many slabs.
    pub(super) fn room_to_grow(&self, slabs: u32) -> Result<DeskRoom> {
        let pages = self.with(|work| work.pages.len() + work.closed.len());
        Ok(DeskRoom {
            holds: Holds::new(slabs as usize + pages)?,
            sets: [
                SlabSet::new(slabs)?,
                SlabSet::new(slabs)?,
                SlabSet::new(slabs)?,
                SlabSet::new(slabs)?,
            ],
        })
    }

    /// Moves to more room. What was there before is freed without the lock.
    pub(super) fn grow(&self, mut room: DeskRoom) {
        let DeskRoom { holds, sets } = &mut room;
        self.with(|work| {
            let [seal, clean, write, unused] = sets;
            let pairs = [
                (&mut work.seal, seal),
                (&mut work.clean, clean),
                (&mut work.write, write),
                (&mut work.scrubbing.unused, unused),
            ];
            for (own, new) in pairs {
                new.take_over(own);
                core::mem::swap(own, new);
            }
            holds.take_over(&mut work.holds);
            core::mem::swap(&mut work.holds, holds);
        });
    }

    /// Runs `f` with what there is to do; wakes nobody.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Work<B>) -> R) -> R {
        self.0.with(|work, _| f(work))
    }

    /// Runs `f`, which gives somebody something to do, or lets somebody go on.
    pub(super) fn tell<R>(&self, f: impl FnOnce(&mut Work<B>) -> R) -> R {
        self.0.with(|work, waiting| {
            let result = f(work);
            work.progress += 1;
            work.wake(waiting);
            result
        })
    }

    /// Waits until `ready` returns something, or until the end; `None` then.
    pub(super) async fn wait<R>(
        &self,
        seat: Seat,
        mut ready: impl FnMut(&mut Work<B>) -> Option<R>,
    ) -> Option<R> {
        let entry = pin!(self.0.entry_in(seat as usize, seat));
        entry
            .as_ref()
            .wait(|turn| {
                if turn.state.is_stopping {
                    return Some(None);
                }
                ready(turn.state).map(Some)
            })
            .await
    }

    /// As [`wait`](Self::wait), for a task that will write; nobody writes during a pause. It is busy
    /// until it says that it is [`done`](Self::done).
    pub(super) async fn wait_to_write<R>(
        &self,
        seat: Seat,
        mut ready: impl FnMut(&mut Work<B>) -> Option<R>,
    ) -> Option<R> {
        self.wait(seat, |work| {
            if work.is_paused {
                return None;
            }
            let what = ready(work)?;
            work.busy += 1;
            Some(what)
        })
        .await
    }

    /// A task that was to write has done so.
    pub(super) fn done(&self) {
        self.tell(|work| work.busy = work.busy.saturating_sub(1));
    }

    /// Lets nobody begin to write, and waits until nobody does; also in read-only mode.
    pub(super) async fn pause(&self) {
        self.with(|work| work.is_paused = true);
        let is_over = |work: &mut Work<B>| (work.busy == 0).then_some(());
        let _ = self.wait(Seat::Progress, is_over).await;
    }

    /// Ends a pause.
    pub(super) fn unpause(&self) {
        self.tell(|work| work.is_paused = false);
    }

    /// Returns how far things have got.
    pub(super) fn progress(&self) -> u64 {
        self.with(|work| work.progress)
    }

    /// Waits until something was done since `seen`.
    ///
    /// # Errors
    ///
    /// `ReadOnly`, also at the end: nothing will be done any more.
    pub(super) async fn progress_since(&self, seen: u64, health: &Health) -> Result {
        self.until(health, |work| work.progress != seen).await
    }

    /// Waits in line, and looks whenever something was done; only the first does so. What it looks
    /// at beside the number of slabs that are not ready may be under other locks.
    ///
    /// # Errors
    ///
    /// As [`progress_since`](Self::progress_since).
    pub(super) async fn in_turn<R>(
        &self,
        health: &Health,
        look: impl Fn(u32) -> Option<R>,
    ) -> Result<R> {
        let entry = pin!(self.0.entry_in(Seat::Room as usize, Seat::Room));
        let mut seen = None;
        loop {
            let news = entry.as_ref().wait(|turn| {
                let work = &*turn.state;
                if work.is_stopping || health.is_read_only() {
                    return Some(Err(Error::READ_ONLY));
                }
                let is_first = turn.others.before().next().is_none();
                let is_news = is_first && seen != Some(work.progress);
                is_news.then_some(Ok((work.progress, work.scrubbing.left)))
            });
            let (progress, left) = news.await?;
            seen = Some(progress);
            if let Some(result) = look(left) {
                return Ok(result);
            }
        }
    }

    /// As [`progress_since`](Self::progress_since), until something is so.
    pub(super) async fn until(&self, health: &Health, is_so: impl Fn(&Work<B>) -> bool) -> Result {
        let entry = pin!(self.0.entry_in(Seat::Progress as usize, Seat::Progress));
        entry
            .as_ref()
            .wait(|turn| {
                let work = &*turn.state;
                if work.is_stopping || health.is_read_only() {
                    return Some(Err(Error::READ_ONLY));
                }
                is_so(work).then_some(Ok(()))
            })
            .await
    }
}

impl<B> Work<B> {
    /// Returns what is under way during a pause, or after everything was `saved` has not been
    /// written.
    pub(super) fn not_at_rest(&self, saved: bool) -> Option<&'static str> {
        let rests = [
            (self.busy == 0, "a task of the depot writes"),
            (
                self.pages.len() + self.closed.len() == self.page_count,
                "a page for a slab journal is away",
            ),
            (
                !saved || (self.closed.is_empty() && self.holds.is_empty()),
                "a slab journal holds the recovery journal",
            ),
            (self.scrubbing.current.is_none(), "the scrubber has a job"),
        ];
        let first = rests.into_iter().find(|(rests, _)| !rests);
        first.map(|(_, what)| what)
    }
}

impl<B> Work<B> {
    /// Wakes those who may go on.
    fn wake(&self, waiting: &mut Entries<'_, Seat>) {
        let seats = [
            (Seat::Committer, self.has_commits() && !self.is_paused),
            (
                Seat::ReferenceWriter,
                !self.write.is_empty() && !self.is_paused,
            ),
            (Seat::Scrubber, self.scrubbing.has_job()),
            (Seat::Progress, true),
        ];
        for (seat, can_go_on) in seats {
            if can_go_on || self.is_stopping {
                waiting.wake_where_in(seat as usize, |_| true);
            }
        }
        waiting.wake_first();
    }

    /// Returns whether there is something for the committer.
    pub(super) fn has_commits(&self) -> bool {
        !self.closed.is_empty() || !self.seal.is_empty() || !self.clean.is_empty()
    }
}

impl Scrubbing {
    /// Returns whether there is something for the scrubber.
    fn has_job(&self) -> bool {
        let is_queue = self.next < self.queue.len();
        self.urgent.is_some() || !self.unused.is_empty() || is_queue && !self.is_paused
    }

    /// Returns what the scrubber is to do next.
    pub(super) fn next_job(&mut self) -> Option<Job> {
        let job = if let Some(slab) = self.urgent.take() {
            Job::Scrub(slab)
        } else if let Some(slab) = self.unused.pop() {
            Job::Prepare(slab)
        } else if self.is_paused {
            return None;
        } else {
            Job::Scrub(*self.queue.get(self.next)?)
        };
        self.current = Some(job);
        Some(job)
    }
}

/// What the scrubber is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Give memory to a slab that was never used.
    Prepare(SlabNumber),
    /// Read the counts of a slab.
    Scrub(SlabNumber),
}
