// SPDX-License-Identifier: GPL-2.0

//! Who waits for which commit.
//!
//! The commits of a volume are made one after the other, however many tables there are over it: by
//! the committer, a task of the engine that is *in charge*, which is that of the active table from
//! its resume to its suspend. Whoever needs a commit asks for *one that starts from now on* and
//! waits for its end; all who ask while one runs share the next. A table that is not active can
//! neither ask nor commit: it may name another destination, and knows nothing of who waits.
//!
//! Who waits stands in a line. The end of a commit wakes the first, and each who leaves the line
//! wakes the next, so that nobody holds a lock for longer the more there are.

use crate::engine::Engine;
use crate::engine::World;
use crate::hydration::Hydration;
use crate::metadata::CommitError;
use crate::region_map::RegionMap;
use core::mem::take;
use core::pin::pin;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::stack::apart;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;

/// The queue for the commits of a volume.
pub struct CommitQueue {
    monitor: Monitor<Progress>,
    running: AtomicU32,
}

/// Commits are numbered from 1.
struct Progress {
    /// The last commit that somebody asked for.
    wanted: u64,
    /// The last commit that was started.
    started: u64,
    /// The last commit that has ended.
    ended: u64,
    /// The first commit that failed. All later ones fail, too, until somebody else is in charge.
    failed: Option<u64>,
    /// The last committer that was made.
    committers: u64,
    /// The committer that is in charge, or 0.
    in_charge: u64,
}

impl Rules for Progress {
    /// The commit that is waited for: never an earlier one than that of who came before.
    type Key = u64;

    fn left(&mut self, _: &u64, waiting: &mut Entries<'_, u64>) {
        self.wake_next(waiting);
    }
}

impl Progress {
    /// Wakes the first who waits, if it need not wait any more.
    fn wake_next(&self, waiting: &mut Entries<'_, u64>) {
        if waiting
            .iter()
            .next()
            .is_some_and(|commit| *commit <= self.ended)
        {
            waiting.wake_first();
        }
    }

    /// Asks for a commit that starts from now on. Returns true if that is news.
    fn ask(&mut self) -> bool {
        let news = self.wanted == self.started;
        self.wanted = self.started + 1;
        news
    }
}

/// The part of an engine in the commits of its volume.
pub struct Committer {
    number: u64,
    bell: Monitor<Bell>,
}

/// What wakes a committer, and nobody else.
struct Bell {
    rung: bool,
    stopping: bool,
}

impl Rules for Bell {
    type Key = ();

    fn left(&mut self, (): &(), _: &mut Entries<'_, ()>) {}
}

impl Committer {
    fn ring(&self) {
        self.bell.with(|bell, waiting| {
            bell.rung = true;
            waiting.wake_first();
        });
    }

    /// Makes the committer end once nothing is wanted.
    pub fn stop(&self) {
        self.bell.with(|bell, waiting| {
            bell.stopping = true;
            waiting.wake_first();
        });
    }

    /// Waits until somebody rings. Returns false when the committer is to end.
    async fn rung(&self) -> bool {
        let entry = pin!(self.bell.entry(()));
        entry
            .as_ref()
            .wait(|turn| {
                let rung = take(&mut turn.state.rung);
                (rung || turn.state.stopping).then_some(rung)
            })
            .await
    }
}

/// What a flush has to wait for.
#[derive(Debug, PartialEq, Eq)]
pub enum Covered {
    /// A commit was made after the call; it flushed the destination as well.
    ByCommit,
    /// Nothing awaited a commit (any more): only the destination's own cache is left.
    Already,
}

impl CommitQueue {
    /// Creates the queue; nothing is committed yet, and nobody is in charge.
    pub fn new() -> Self {
        Self {
            monitor: Monitor::new(Progress {
                wanted: 0,
                started: 0,
                ended: 0,
                failed: None,
                committers: 0,
                in_charge: 0,
            }),
            running: AtomicU32::new(0),
        }
    }

    /// Returns a new committer, which is not in charge.
    pub fn committer(&self) -> Committer {
        let number = self.monitor.with(|progress, _| {
            progress.committers += 1;
            progress.committers
        });
        let bell = Bell {
            rung: false,
            stopping: false,
        };
        Committer {
            number,
            bell: Monitor::new(bell),
        }
    }

    /// Puts `committer` in charge. Whoever was so before has been relieved.
    pub fn appoint(&self, committer: &Committer) {
        self.monitor.with(|progress, _| {
            progress.in_charge = committer.number;
            progress.failed = None;
        });
    }

    /// Waits until nothing is wanted; from then on `committer` is not in charge.
    pub async fn relieve(&self, committer: &Committer) {
        loop {
            let entry = pin!(self.monitor.entry(0));
            let idle = entry.as_ref().with(|turn| {
                let progress = &mut *turn.state;
                *turn.key = progress.wanted;
                let idle = progress.wanted == progress.ended;
                if idle && progress.in_charge == committer.number {
                    progress.in_charge = 0;
                }
                idle
            });
            if idle {
                return;
            }
            entry
                .as_ref()
                .wait(|turn| (*turn.key <= turn.state.ended).then_some(()))
                .await;
        }
    }

    /// Returns true if everything that was set in `map` so far is on stable storage.
    pub fn is_idle(&self, map: &RegionMap) -> bool {
        // The committer raises `running` before it takes `changed`: who finds the latter taken
        // finds the former raised until the commit has ended. One that has failed has put back
        // before that what it took.
        !map.is_changed() && self.running.load_acquire() == 0 && !map.is_changed()
    }

    /// Waits until everything that was set in `map` before the call is on stable storage.
    ///
    /// # Errors
    ///
    /// `EIO` if the commit failed, the volume is then read-only; or if `committer` is not in charge.
    pub async fn cover(&self, map: &RegionMap, committer: &Committer) -> Result<Covered> {
        // What was set and is not announced any more is in a commit that has started.
        let changed = map.is_changed();
        let entry = pin!(self.monitor.entry(0));
        let (news, covered) = entry.as_ref().with(|turn| {
            let progress = &mut *turn.state;
            if progress.in_charge != committer.number {
                *turn.key = progress.wanted;
                return Err(EIO);
            }
            let news = changed && progress.ask();
            *turn.key = progress.wanted;
            if progress.wanted > progress.started {
                Ok((news, Covered::ByCommit))
            } else {
                Ok((news, Covered::Already))
            }
        })?;
        if news {
            committer.ring();
        }
        entry
            .as_ref()
            .wait(|turn| {
                let (needed, progress) = (*turn.key, &*turn.state);
                let failed = progress.failed.is_some_and(|first| first <= needed);
                (needed <= progress.ended).then_some(if failed { Err(EIO) } else { Ok(()) })
            })
            .await?;
        Ok(covered)
    }

    /// Asks for a commit if `map` has changed and `committer` is in charge; waits for nothing.
    pub fn request(&self, map: &RegionMap, committer: &Committer) {
        let changed = map.is_changed();
        let news = self.monitor.with(|progress, _| {
            changed && progress.in_charge == committer.number && progress.ask()
        });
        if news {
            committer.ring();
        }
    }

    /// For a committer: waits until it is in charge and a commit is wanted, and starts it. Returns
    /// false when it is to end.
    pub async fn next(&self, committer: &Committer) -> bool {
        loop {
            let starts = self.monitor.with(|progress, _| {
                let mine = progress.in_charge == committer.number;
                let starts = mine && progress.wanted > progress.started;
                if starts {
                    progress.started = progress.wanted;
                    self.running.store_release(1);
                }
                starts
            });
            if starts {
                return true;
            }
            if !committer.rung().await {
                return false;
            }
        }
    }

    /// For a committer: the commit that it started has ended.
    pub fn end(&self, result: Result) {
        self.monitor.with(|progress, waiting| {
            progress.ended = progress.started;
            if result.is_err() {
                progress.failed.get_or_insert(progress.ended);
            }
            self.running.store_release(0);
            progress.wake_next(waiting);
        });
    }
}

impl<W: World> Engine<W> {
    /// The committer: makes the commits that are asked for until the engine stops.
    pub async fn run_committer(engine: Arc<Self>) {
        let commits = &engine.volume.commits;
        while commits.next(&engine.committer).await {
            let result = engine.commit_once().await;
            commits.end(result);
        }
    }

    /// Waits until everything that was set before the call is on stable storage.
    pub(crate) async fn cover(&self) -> Result<Covered> {
        let commits = &self.volume.commits;
        commits.cover(&self.volume.map, &self.committer).await
    }

    async fn commit_once(&self) -> Result {
        if !self.may_write() {
            return Err(EIO);
        }
        let commit = pin!(self.volume.commit(|| self.flush_destination()));
        match apart(commit).await {
            Ok(()) => {
                if self.volume.is_newly_complete() {
                    self.volume.map.shrink();
                    self.retire_workers();
                    self.world.event();
                }
                Ok(())
            }
            Err(CommitError::Flush(error)) => self.fall_back("flush destination device", error),
            Err(CommitError::Metadata(error)) => self.fall_back("dm_clone_metadata_commit", error),
        }
    }

    /// A commit failed: goes on with what is in memory. Nothing that was acknowledged is unsaid.
    fn fall_back(&self, operation: &str, error: Error) -> Result {
        let errno = error.to_errno();
        self.world.error(fmt!(
            "Metadata operation `{operation}' failed: error = {errno}"
        ));
        self.world
            .error(fmt!("Aborting current metadata transaction"));
        if self.volume.set_read_only() {
            self.world.error(fmt!("Switching to read-only mode"));
            self.copier.tune(Hydration::halt);
            self.world.event();
        }
        Err(error)
    }

    async fn flush_destination(&self) -> Result {
        let (carrier, result) = self.destination.flush(self.carrier.take().await).await;
        self.carrier.give(carrier);
        result
    }
}

impl Default for CommitQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
