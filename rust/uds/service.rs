// SPDX-License-Identifier: GPL-2.0

//! An index that is opened and closed while its user lives.
//!
//! Opening takes time, and may fail; the user goes on without. Two tasks do what is wanted of an index:
//! one opens, saves and closes it ([`Service::run`]), the other writes chapters ([`Service::write`]).
//! Others say what they want, and learn the [`State`], which is true: `online` means that look-ups
//! are answered and names are remembered.
//!
//! What the user would have remembered while the index is being opened is kept, as much as one
//! chapter, and remembered then.

use crate::control::Control;
use crate::error::Error;
use crate::error::Result;
use crate::format::Metadata;
use crate::format::Name;
use crate::format::Record;
use crate::index;
use crate::index::Config;
use crate::index::Index;
use crate::world::Level;
use crate::world::World;
use core::pin::pin;
use kernel::prelude::*;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::stack::apart;
use runtime::stack::boxed;
use runtime::sync::Arc;
use runtime::sync::Lock;
use runtime::task::yield_now;

/// No more names are kept while an index is being opened.
const MAX_KEPT: u32 = 1 << 16;

/// Names that are remembered between two looks at who else wants to run.
const TURN: usize = 256;

/// What an index is doing, by the words of mainline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not open.
    Closed,
    /// It is being saved, to be closed.
    Closing,
    /// It could not be opened, or has failed.
    Error,
    /// It is open, and not used.
    Offline,
    /// It is in use.
    Online,
    /// It is being opened.
    Opening,
    /// Its user is suspended.
    Suspended,
}

impl State {
    /// Returns the word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Closing => "closing",
            Self::Error => "error",
            Self::Offline => "offline",
            Self::Online => "online",
            Self::Opening => "opening",
            Self::Suspended => "suspended",
        }
    }
}

/// What the control task is doing, or has done last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Opening,
    Open,
    Closing,
    Failed,
}

/// What is wanted, and what is.
struct Desk<W: World> {
    phase: Phase,
    index: Option<Arc<Index<W>>>,
    /// It is of no use any more.
    failed: bool,
    /// The index is to be open.
    open: bool,
    /// It is to be used.
    used: bool,
    /// A new one is to be made.
    anew: bool,
    /// Everything is to be at rest; with a save?
    suspend: Option<bool>,
    is_suspended: bool,
    stopping: bool,
    stopped: bool,
}

impl<W: World> Rules for Desk<W> {
    type Key = ();

    fn left(&mut self, (): &(), _: &mut Entries<'_, ()>) {}
}

/// What the control task is to do next.
enum Job<W: World> {
    Open {
        anew: bool,
    },
    Close {
        index: Arc<Index<W>>,
        save: bool,
    },
    Rest {
        index: Option<Arc<Index<W>>>,
        save: bool,
    },
    End,
}

impl<W: World> Desk<W> {
    fn next(&mut self) -> Option<Job<W>> {
        if let Some(index) = self.index.clone() {
            let failed = self.failed;
            if failed || self.anew || self.stopping || !self.open {
                let save = !failed && !self.anew;
                if self.suspend.is_none() || self.stopping {
                    return Some(self.close(index, save));
                }
            }
        }
        if self.stopping {
            return Some(Job::End);
        }
        if let Some(save) = self.suspend {
            let index = self.index.clone();
            return (!self.is_suspended).then_some(Job::Rest { index, save });
        }
        let may = matches!(self.phase, Phase::Closed) || self.anew;
        if self.open && self.index.is_none() && may {
            self.phase = Phase::Opening;
            let anew = core::mem::take(&mut self.anew);
            return Some(Job::Open { anew });
        }
        None
    }

    fn close(&mut self, index: Arc<Index<W>>, save: bool) -> Job<W> {
        // One that is suspended was saved, unless that was not wanted.
        let save = save && !self.is_suspended;
        self.phase = Phase::Closing;
        self.index = None;
        Job::Close { index, save }
    }
}

/// Names that came while the index was being opened.
struct Kept {
    records: KVVec<Record>,
    /// The next place, once all were used.
    next: usize,
}

/// An index that is opened and closed while its user lives.
pub struct Service<W: World> {
    world: Arc<W>,
    disk: Arc<W::Disk>,
    config: Config,
    desk: Monitor<Desk<W>>,
    control: Control,
    kept: Lock<Kept>,
}

impl<W: World> Service<W> {
    /// Returns a service whose index is not open yet, and suspended. `anew`: one is to be made first.
    pub fn new(world: Arc<W>, disk: Arc<W::Disk>, config: Config, anew: bool) -> Self {
        Self {
            world,
            disk,
            config,
            desk: Monitor::new(Desk {
                phase: Phase::Closed,
                index: None,
                failed: false,
                open: false,
                used: false,
                anew,
                suspend: Some(false),
                is_suspended: true,
                stopping: false,
                stopped: false,
            }),
            control: Control::new(),
            kept: Lock::new(Kept {
                records: KVVec::new(),
                next: 0,
            }),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Desk<W>)) {
        self.desk.with(|desk, waiting| {
            change(desk);
            waiting.wake_all();
        });
    }

    /// Returns what the index is doing.
    pub fn state(&self) -> State {
        self.desk.with(|desk, _| {
            if desk.is_suspended && !desk.stopping {
                return State::Suspended;
            }
            match desk.phase {
                Phase::Closed if desk.open => State::Opening,
                Phase::Closed => State::Closed,
                Phase::Opening => State::Opening,
                Phase::Closing => State::Closing,
                Phase::Failed => State::Error,
                Phase::Open if !desk.open || desk.anew || desk.failed => State::Closing,
                Phase::Open if desk.used => State::Online,
                Phase::Open => State::Offline,
            }
        })
    }

    /// Returns the index, if it is in use.
    pub fn index(&self) -> Option<Arc<Index<W>>> {
        self.desk.with(|desk, _| {
            let is_wanted = desk.open && desk.used && !desk.anew;
            let may = is_wanted && !desk.failed && desk.suspend.is_none();
            desk.index.clone().filter(|_| may)
        })
    }

    /// Returns true if the index is being opened, to be used: names are [kept](Self::keep) then.
    pub fn is_keeping(&self) -> bool {
        self.desk.with(|desk, _| {
            let is_wanted = desk.open && desk.used && !desk.anew;
            is_wanted && desk.phase == Phase::Opening && desk.suspend.is_none()
        })
    }

    /// Returns the index, if it is open: for its figures.
    pub fn opened(&self) -> Option<Arc<Index<W>>> {
        self.desk.with(|desk, _| desk.index.clone())
    }

    /// Has the index opened, if it is not, and used. One that could not be opened is tried again.
    pub fn enable(&self) {
        self.want(true);
    }

    /// Has the index opened, if it is not, but not used.
    pub fn disable(&self) {
        self.want(false);
    }

    fn want(&self, used: bool) {
        self.change(|desk| {
            desk.open = true;
            desk.used = used;
            if desk.phase == Phase::Failed {
                desk.phase = Phase::Closed;
            }
        });
    }

    /// Has a new index made in place of what is there.
    pub fn create(&self) {
        self.change(|desk| {
            desk.open = true;
            desk.used = true;
            desk.anew = true;
        });
        self.control.stop();
    }

    /// Has the index saved and closed.
    pub fn close(&self) {
        self.change(|desk| {
            desk.open = false;
            if desk.phase == Phase::Failed {
                desk.phase = Phase::Closed;
            }
        });
        self.control.stop();
    }

    /// Has everything rest, and returns when it does. The index is saved if that is wanted.
    pub async fn suspend(&self, save: bool) {
        self.change(|desk| desk.suspend = Some(save));
        // What is being opened rests where it is.
        self.control.pause().await;
        self.wait(|desk| desk.is_suspended || desk.phase == Phase::Opening)
            .await;
        self.change(|desk| desk.is_suspended = true);
    }

    /// Lets everything go on.
    pub fn resume(&self) {
        self.change(|desk| {
            desk.suspend = None;
            desk.is_suspended = false;
        });
        self.control.resume();
    }

    /// Has both tasks end. An index that is open is closed before, and saved if it is not suspended.
    pub fn stop(&self) {
        self.change(|desk| desk.stopping = true);
        self.control.stop();
    }

    async fn wait(&self, is_so: impl Fn(&Desk<W>) -> bool) {
        let entry = pin!(self.desk.entry(()));
        entry
            .as_ref()
            .wait(|turn| is_so(turn.state).then_some(()))
            .await;
    }

    /// Keeps what is known of a name, if the index is being opened: it is remembered then.
    pub fn keep(&self, name: Name, metadata: Metadata) {
        self.kept.with(|kept| {
            let record = Record { name, metadata };
            if kept.records.push_within_capacity(record).is_ok() {
                return;
            }
            // The oldest goes.
            let next = kept.next;
            if let Some(place) = kept.records.get_mut(next) {
                *place = record;
                kept.next = (next + 1) % kept.records.len();
            }
        });
    }

    /// Does what is wanted, until the service is stopped.
    pub async fn run(&self) {
        loop {
            match self.next_job().await {
                Job::Open { anew } => apart(pin!(self.open(anew))).await,
                Job::Close { index, save } => apart(pin!(self.end(&index, save))).await,
                Job::Rest { index, save } => apart(pin!(self.rest(index, save))).await,
                Job::End => break,
            }
        }
        self.change(|desk| desk.stopped = true);
    }

    async fn next_job(&self) -> Job<W> {
        let entry = pin!(self.desk.entry(()));
        entry.as_ref().wait(|turn| turn.state.next()).await
    }

    async fn open(&self, anew: bool) {
        self.control.set_running(true);
        let what = match anew {
            true => "creating index",
            false => "loading or rebuilding index",
        };
        self.world.log(Level::Info, format_args!("{what}"));
        self.begin_keeping();
        let opened = self.try_open(anew).await;
        let phase = match &opened {
            Ok(_) => Phase::Open,
            // Somebody wants something else.
            Err(Error::Errno(error)) if *error == EAGAIN => Phase::Closed,
            Err(_) => Phase::Failed,
        };
        if let (Phase::Failed, Some(error)) = (phase, opened.as_ref().err()) {
            self.world
                .log(Level::Error, format_args!("Error opening index: {error}"));
            self.world.event();
        }
        if let Ok(index) = &opened {
            self.remember_kept(index).await;
        }
        self.change(|desk| {
            desk.phase = phase;
            desk.failed = false;
            desk.index = opened.ok();
        });
        // What came between the last look and now; from here on nobody keeps anything.
        if let Some(index) = self.opened() {
            self.remember_kept(&index).await;
        }
        self.end_keeping();
        self.control.set_running(false);
    }

    async fn try_open(&self, anew: bool) -> Result<Arc<Index<W>>> {
        // Whoever wanted something else before this has stopped nothing.
        if self.desk.with(|desk, _| !desk.open || desk.stopping) {
            return Err(EAGAIN.into());
        }
        self.control.check().await?;
        let open = || index::open(&self.world, &self.disk, &self.config, anew, &self.control);
        boxed(open).await?
    }

    fn begin_keeping(&self) {
        let count = self.config.geometry.records.min(MAX_KEPT);
        // Without memory nothing is kept.
        let records = KVVec::with_capacity(count as usize, GFP_KERNEL).unwrap_or_default();
        let old = self.kept.with(|kept| {
            kept.next = 0;
            core::mem::replace(&mut kept.records, records)
        });
        drop(old);
    }

    fn end_keeping(&self) {
        let old = self.kept.with(|kept| core::mem::take(&mut kept.records));
        drop(old);
    }

    async fn remember_kept(&self, index: &Index<W>) {
        let count = self.config.geometry.records.min(MAX_KEPT);
        let fresh = KVVec::with_capacity(count as usize, GFP_KERNEL).unwrap_or_default();
        let (kept, next) = self.kept.with(|kept| {
            let next = core::mem::take(&mut kept.next);
            (core::mem::replace(&mut kept.records, fresh), next)
        });
        let (later, first) = kept.split_at(next.min(kept.len()));
        for part in [first, later] {
            for records in part.chunks(TURN) {
                for record in records {
                    index.remember_unasked(record.name, record.metadata);
                }
                yield_now().await;
            }
        }
    }

    /// Closes an index.
    async fn end(&self, index: &Index<W>, save: bool) {
        let failed = index.failure().is_some();
        let is_save = self.begins_save(index, save);
        let closed = apart(pin!(index.close(save))).await;
        self.tell_save(is_save, closed);
        let phase = match failed || index.failure().is_some() {
            true => Phase::Failed,
            false => Phase::Closed,
        };
        if phase == Phase::Failed {
            self.world.event();
        }
        self.change(|desk| desk.phase = phase);
    }

    async fn rest(&self, index: Option<Arc<Index<W>>>, save: bool) {
        if let Some(index) = index {
            // Also without a save, chapters are written to their end.
            let _ = index.settle().await;
            if save {
                let is_save = self.begins_save(&index, save);
                let saved = apart(pin!(index.save())).await;
                self.tell_save(is_save, saved);
            }
        }
        self.change(|desk| desk.is_suspended = desk.suspend.is_some());
    }

    /// Tells of a save, if one begins; returns whether one does.
    fn begins_save(&self, index: &Index<W>, save: bool) -> bool {
        let is_save = save && index.is_dirty() && index.failure().is_none();
        if is_save {
            self.world.log(Level::Info, format_args!("beginning save"));
        }
        is_save
    }

    /// Tells what became of a save, if it was one.
    fn tell_save(&self, is_save: bool, result: Result) {
        match result {
            _ if !is_save => {}
            Ok(()) => self.world.log(Level::Info, format_args!("finished save")),
            Err(error) => self
                .world
                .log(Level::Error, format_args!("save index failed: {error}")),
        }
    }

    /// Writes chapters of whatever index is open, until the service is stopped.
    pub async fn write(&self) {
        while let Some(index) = self.next_index().await {
            apart(pin!(index.write_chapters())).await;
            let failed = index.failure().is_some();
            self.change(|desk| desk.failed |= failed);
            self.wait(|desk| {
                let is_other = |other: &Arc<Index<W>>| !Arc::ptr_eq(other, &index);
                desk.index.as_ref().is_none_or(is_other)
            })
            .await;
        }
    }

    async fn next_index(&self) -> Option<Arc<Index<W>>> {
        let entry = pin!(self.desk.entry(()));
        let next = entry.as_ref().wait(|turn| match &turn.state.index {
            Some(index) => Some(Some(index.clone())),
            None if turn.state.stopped => Some(None),
            None => None,
        });
        next.await
    }
}

#[cfg(test)]
mod tests;
