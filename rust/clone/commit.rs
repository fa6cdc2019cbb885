// SPDX-License-Identifier: GPL-2.0

//! Who waits for which commit.
//!
//! One task, the committer, makes the commits, one after the other. Whoever needs one asks for *a commit that
//! starts from now on* and waits for its end; all who ask while one runs share the next.

use crate::engine::Engine;
use crate::engine::World;
use crate::hydration::Hydration;
use crate::metadata::CommitError;
use crate::region_map::RegionMap;
use crate::volume::Mode;
use core::pin::pin;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::stack::apart;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;

/// The queue for commits.
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
    /// The first commit that failed. All later ones fail, too.
    failed: Option<u64>,
    stopping: bool,
}

impl Rules for Progress {
    type Key = ();

    fn left(&mut self, (): &(), _: &mut Entries<'_, ()>) {}
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
    /// Creates the queue; nothing is committed yet.
    pub fn new() -> Self {
        Self {
            monitor: Monitor::new(Progress {
                wanted: 0,
                started: 0,
                ended: 0,
                failed: None,
                stopping: false,
            }),
            running: AtomicU32::new(0),
        }
    }

    /// Returns true if everything that was set in `map` so far is on stable storage.
    pub fn is_idle(&self, map: &RegionMap) -> bool {
        // The committer raises `running` before it takes `changed`: who finds the latter taken
        // finds the former raised until the commit has ended.
        !map.is_changed() && self.running.load_acquire() == 0
    }

    /// Waits until everything that was set in `map` before the call is on stable storage.
    ///
    /// # Errors
    ///
    /// `EIO` if the commit failed; the volume is then read-only.
    pub async fn cover(&self, map: &RegionMap) -> Result<Covered> {
        let entry = pin!(self.monitor.entry(()));
        let (needed, covered) = entry.as_ref().with(|turn| {
            let progress = &mut *turn.state;
            if map.is_changed() {
                progress.wanted = progress.started + 1;
                turn.others.wake_all();
                (progress.wanted, Covered::ByCommit)
            } else {
                (progress.started, Covered::Already)
            }
        });
        let failed = entry
            .as_ref()
            .wait(|turn| (turn.state.ended >= needed).then_some(turn.state.failed))
            .await;
        match failed {
            Some(first) if first <= needed => Err(EIO),
            _ => Ok(covered),
        }
    }

    /// Asks for a commit if `map` has changed; waits for nothing.
    pub fn request(&self, map: &RegionMap) {
        self.monitor.with(|progress, waiting| {
            if map.is_changed() {
                progress.wanted = progress.started + 1;
                waiting.wake_all();
            }
        });
    }

    /// For the committer: waits until a commit is wanted and starts it. Returns false when the
    /// committer is to end.
    pub async fn next(&self) -> bool {
        let entry = pin!(self.monitor.entry(()));
        entry
            .as_ref()
            .wait(|turn| {
                let progress = &mut *turn.state;
                if progress.wanted > progress.started {
                    progress.started = progress.wanted;
                    self.running.store_release(1);
                    return Some(true);
                }
                progress.stopping.then_some(false)
            })
            .await
    }

    /// For the committer: the commit that was started has ended.
    pub fn end(&self, result: Result) {
        self.monitor.with(|progress, waiting| {
            progress.ended = progress.started;
            if result.is_err() {
                progress.failed.get_or_insert(progress.ended);
            }
            self.running.store_release(0);
            waiting.wake_all();
        });
    }

    /// Makes the committer end once nothing is wanted.
    pub fn stop(&self) {
        self.monitor.with(|progress, waiting| {
            progress.stopping = true;
            waiting.wake_all();
        });
    }
}

impl<W: World> Engine<W> {
    /// The committer: makes the commits that are asked for until the engine stops.
    pub async fn run_committer(engine: Arc<Self>) {
        while engine.commit.next().await {
            let result = engine.commit_once().await;
            engine.commit.end(result);
        }
    }

    async fn commit_once(&self) -> Result {
        if self.volume.mode() != Mode::ReadWrite {
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
