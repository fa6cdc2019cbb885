// SPDX-License-Identifier: GPL-2.0

//! Look-ups that have to read chapters of the index. They are not waited for without end.
//!
//! Most names are answered from memory, by the worker itself. For the others it hands its names to an
//! *asker*, and waits. If that takes too long, the names are late: the worker goes on as if nothing was found,
//! and asks nothing more before they are back. So nobody waits for a place to ask from, and what a
//! look-up writes to is never in use by anybody else.
//!
//! One look-up alone has five seconds, as with mainline. The more are not back, the less time each has,
//! down to one second.

use crate::dedupe::index::Index;
use crate::error::Result;
use crate::world::World;
use core::pin::pin;
use kernel::prelude::*;
use runtime::clock::Clock;
use runtime::clock::Millis;
use runtime::clock::Timer;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::stack::apart;
use runtime::sync::Arc;
use runtime::sync::Lock;
use uds::index::Batch;

/// Tasks that ask.
pub const ASKERS: usize = 16;

/// What all look-ups have together.
const PATIENCE_MS: Millis = 5000;

/// What each has at least.
const LEAST_MS: Millis = 1000;

/// So often it is looked for what is late.
const PERIOD_MS: Millis = 100;

/// The lists of tasks that wait for a look-up to begin, and of the one that looks for what is late. The
/// workers are in list 0.
const IDLE: usize = 1;
const TIMER: usize = 2;

/// What the names of a worker are up to.
enum Names<W: World> {
    /// The worker has them.
    Home,
    /// They wait for an asker.
    Queued(Arc<Index<W>>, Batch),
    /// An asker has them.
    Asked,
    /// They are to be fetched.
    Answered(Batch),
}

struct Place<W: World> {
    names: Names<W>,
    /// How many there are.
    count: usize,
    since: Millis,
    /// The worker does not wait for them any more.
    is_late: bool,
}

struct Desk<W: World> {
    /// By worker.
    places: KVec<Place<W>>,
    /// Look-ups that somebody waits for.
    waiting: u32,
    /// Look-ups that are not back.
    away: u32,
    /// Names in them.
    names: usize,
    /// Names that nobody has waited for.
    late: u64,
    stopping: bool,
}

impl<W: World> Rules for Desk<W> {
    /// The number of a worker.
    type Key = usize;

    fn left(&mut self, _: &usize, _: &mut Entries<'_, usize>) {}
}

impl<W: World> Desk<W> {
    /// Takes the look-up that has waited longest.
    fn take(&mut self) -> Option<(usize, Arc<Index<W>>, Batch)> {
        let queued = self.places.iter().enumerate();
        let queued = queued.filter(|(_, place)| matches!(place.names, Names::Queued(..)));
        let (worker, _) = queued.min_by_key(|(_, place)| place.since)?;
        let place = self.places.get_mut(worker)?;
        match core::mem::replace(&mut place.names, Names::Asked) {
            Names::Queued(index, batch) => Some((worker, index, batch)),
            other => {
                place.names = other;
                None
            }
        }
    }

    /// Takes the names of a worker, if they are back.
    fn fetch(&mut self, worker: usize) -> Option<Batch> {
        let place = self.places.get_mut(worker)?;
        match core::mem::replace(&mut place.names, Names::Home) {
            Names::Answered(batch) => Some(batch),
            other => {
                place.names = other;
                None
            }
        }
    }

    /// Returns how long each may take.
    fn patience(&self) -> Millis {
        let each = PATIENCE_MS / Millis::from(self.away.max(1));
        each.max(LEAST_MS)
    }
}

/// Who asks the index for names that are in chapters on the storage.
pub(crate) struct Askers<W: World> {
    world: Arc<W>,
    monitor: Monitor<Desk<W>>,
    timer: Lock<Option<<W::Clock as Clock>::Timer>>,
}

impl<W: World> Askers<W> {
    /// For so many workers.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(world: Arc<W>, workers: usize) -> Result<Self> {
        let mut places = KVec::with_capacity(workers, GFP_KERNEL)?;
        for _ in 0..workers {
            let place = Place {
                names: Names::Home,
                count: 0,
                since: 0,
                is_late: false,
            };
            places.push(place, GFP_KERNEL)?;
        }
        let desk = Desk {
            places,
            waiting: 0,
            away: 0,
            names: 0,
            late: 0,
            stopping: false,
        };
        let timer = world.clock().timer()?;
        Ok(Self {
            world,
            monitor: Monitor::with_lists(desk, TIMER + 1)?,
            timer: Lock::new(Some(timer)),
        })
    }

    /// Has the names of a worker looked up, and waits for that. Returns nothing if that takes too long:
    /// then they will be [fetched](Self::fetch).
    pub(crate) async fn look_up(
        &self,
        worker: usize,
        index: Arc<Index<W>>,
        batch: Batch,
    ) -> Option<Batch> {
        let now = self.world.clock().now_ms();
        let entry = pin!(self.monitor.entry(worker));
        let count = batch.items().len();
        self.monitor.with(|desk, tasks| {
            if let Some(place) = desk.places.get_mut(worker) {
                *place = Place {
                    names: Names::Queued(index, batch),
                    count,
                    since: now,
                    is_late: false,
                };
                desk.waiting += 1;
                desk.away += 1;
                desk.names += count;
            }
            tasks.wake_first_of(IDLE, 0);
            tasks.wake_first_of(TIMER, TIMER);
        });
        entry
            .as_ref()
            .wait(|turn| {
                let is_late = turn.state.places.get(worker).is_none_or(|own| own.is_late);
                match is_late {
                    true => Some(None),
                    false => turn.state.fetch(worker).map(Some),
                }
            })
            .await
    }

    /// Takes the names of a worker back that were late, if they are back.
    pub(crate) fn fetch(&self, worker: usize) -> Option<Batch> {
        self.monitor.with(|desk, _| desk.fetch(worker))
    }

    /// So many names were not asked for, as those of the worker before are not back.
    pub(crate) fn skip(&self, count: usize) {
        self.monitor.with(|desk, _| desk.late += count as u64);
    }

    /// Asks, until nobody does any more.
    pub(crate) async fn run(&self) {
        while let Some((worker, index, mut batch)) = self.next().await {
            apart(pin!(index.look_up_on_disk(&mut batch))).await;
            drop(index);
            self.monitor.with(|desk, tasks| {
                let Some(place) = desk.places.get_mut(worker) else {
                    return;
                };
                place.names = Names::Answered(batch);
                desk.away -= 1;
                desk.names -= place.count;
                desk.waiting -= u32::from(!place.is_late);
                tasks.wake_where(|key| *key == worker || *key == usize::MAX);
            });
        }
    }

    async fn next(&self) -> Option<(usize, Arc<Index<W>>, Batch)> {
        let entry = pin!(self.monitor.entry_in(IDLE, 0));
        entry
            .as_ref()
            .wait(|turn| {
                let job = turn.state.take();
                if job.is_none() && turn.state.stopping {
                    return Some(None);
                }
                if job.is_none() {
                    turn.move_to(IDLE);
                }
                job.map(Some)
            })
            .await
    }

    /// Looks for what is late, until nobody asks any more.
    pub(crate) async fn run_timer(&self) {
        let Some(mut timer) = self.timer.with(Option::take) else {
            return;
        };
        while self.timer_is_needed().await {
            timer.sleep(PERIOD_MS).await;
            let now = self.world.clock().now_ms();
            self.monitor.with(|desk, tasks| {
                let patience = desk.patience();
                let Desk {
                    places,
                    waiting,
                    late,
                    ..
                } = desk;
                let waits =
                    |place: &Place<W>| !matches!(place.names, Names::Home | Names::Answered(_));
                for place in places.iter_mut().filter(|own| waits(own) && !own.is_late) {
                    if now.saturating_sub(place.since) >= patience {
                        place.is_late = true;
                        *waiting -= 1;
                        *late += place.count as u64;
                    }
                }
                let is_late = |worker: usize| places.get(worker).is_some_and(|own| own.is_late);
                tasks.wake_where(|worker| is_late(*worker));
            });
        }
        self.timer.with(|own| *own = Some(timer));
    }

    async fn timer_is_needed(&self) -> bool {
        let entry = pin!(self.monitor.entry_in(TIMER, 0));
        entry
            .as_ref()
            .wait(|turn| match turn.state.waiting > 0 {
                true => Some(true),
                false => turn.state.stopping.then_some(false),
            })
            .await
    }

    /// Waits until all look-ups are back.
    pub(crate) async fn settled(&self) {
        let entry = pin!(self.monitor.entry(usize::MAX));
        entry
            .as_ref()
            .wait(|turn| (turn.state.away == 0).then_some(()))
            .await;
    }

    /// Returns true if all look-ups are back.
    pub(crate) fn is_idle(&self) -> bool {
        self.monitor.with(|desk, _| desk.away == 0)
    }

    /// Lets the tasks end.
    pub(crate) fn stop(&self) {
        self.monitor.with(|desk, tasks| {
            desk.stopping = true;
            tasks.wake_all();
        });
    }

    /// Returns how many names are asked for now, and how many nobody has waited for.
    pub(crate) fn counts(&self) -> (usize, u64) {
        self.monitor.with(|desk, _| (desk.names, desk.late))
    }
}
