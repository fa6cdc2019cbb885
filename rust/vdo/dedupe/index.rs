// SPDX-License-Identifier: GPL-2.0

//! The index of a volume: when there is one to ask.
//!
//! What opens, saves and closes it is the service of the crate `uds`. Here it learns what the table
//! and messages want, and follows the volume: it rests while the volume is suspended or cannot be
//! written, so that no index I/O happens then.
//!
//! Whatever happens to the index, the volume goes on without: it loses only what is not deduplicated.

use crate::admin::message::IndexOrder;
use crate::admin::statistics::Statistics;
use crate::admin::status::IndexState;
use crate::dedupe::advice::Advice;
use crate::dedupe::disk::IndexDisk;
use crate::dedupe::found::Found;
use crate::dedupe::name::Name;
use crate::error::Result;
use crate::format::geometry::Geometry;
use crate::health::Health;
use crate::storage::Storage;
use crate::world;
use crate::world::World;
use core::fmt;
use kernel::prelude::*;
use runtime::sync::Arc;
use runtime::sync::Lock;
use uds::format::geometry::Shape;
use uds::format::Memory;
use uds::index::Config;
use uds::service::Service;
use uds::service::State;

/// The index of a volume in a world.
pub type Index<W> = uds::index::Index<IndexWorld<W>>;

/// What the index sees of the world of its volume.
pub struct IndexWorld<W> {
    own: Arc<W>,
    /// What is wanted of the index, or [`IndexState::Error`] if that cannot be had.
    target: Lock<IndexState>,
}

impl<W: World> IndexWorld<W> {
    /// Takes note of what is wanted of the index, and tells of it if that is another thing than before.
    fn set_target(&self, target: IndexState) {
        let before = self.target.with(|own| core::mem::replace(own, target));
        if before != target {
            let name = target.name();
            self.own.log(
                world::Level::Info,
                fmt!("Setting UDS index target state to {name}"),
            );
        }
    }
}

impl<W: World> uds::world::World for IndexWorld<W> {
    type Disk = IndexDisk<W::Disk>;

    fn log(&self, level: uds::world::Level, text: fmt::Arguments<'_>) {
        let level = match level {
            uds::world::Level::Error => world::Level::Error,
            uds::world::Level::Warning => world::Level::Warning,
            uds::world::Level::Info => world::Level::Info,
        };
        self.own.log(level, text);
    }

    fn event(&self) {
        self.set_target(IndexState::Error);
        self.own.event();
    }

    fn time_of_day_ms(&self) -> u64 {
        self.own.time_of_day_ms()
    }

    fn random(&self) -> u64 {
        self.own.random()
    }
}

/// Returns how large the index of a volume is; `None` if that makes no sense.
pub fn shape(geometry: &Geometry) -> Option<Shape> {
    let memory = Memory(geometry.index_memory.0 as i32);
    Shape::of(memory, geometry.sparse != 0)
}

/// Returns where the index of a volume is; `None` if it makes no sense.
pub fn place(geometry: &Geometry, shape: Option<Shape>) -> Option<Config> {
    Some(Config {
        geometry: uds::format::Geometry::of_shape(shape?)?,
        start: geometry.device_block(geometry.index_start)?,
        blocks: geometry.data_start.checked_sub(geometry.index_start)?,
        owner: geometry.nonce,
    })
}

/// Who is told where names are.
pub(crate) enum Listener<W: World> {
    /// The index, which can be asked as well.
    Index(Arc<Index<W>>),
    /// Who keeps them for an index that is being opened.
    Keeper,
}

/// The index of a volume, if it has room for one, and what was found with it.
pub(crate) struct Session<W: World> {
    open: Option<Open<W>>,
    health: Arc<Health>,
    pub(crate) found: Found,
}

struct Open<W: World> {
    world: Arc<IndexWorld<W>>,
    service: Service<IndexWorld<W>>,
}

impl<W: World> Session<W> {
    /// Returns a session whose index is closed, and rests. If the volume `is_new`, the index is as well.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        world: Arc<W>,
        storage: Arc<Storage<W::Disk>>,
        health: Arc<Health>,
        place: Option<Config>,
        is_new: bool,
    ) -> Result<Self> {
        let open = match place {
            None => None,
            Some(place) => {
                let world = IndexWorld {
                    own: world,
                    target: Lock::new(IndexState::Closed),
                };
                let world = Arc::new(world, GFP_KERNEL)?;
                let disk = Arc::new(IndexDisk(storage), GFP_KERNEL)?;
                let service = Service::new(world.clone(), disk, place, is_new);
                Some(Open { world, service })
            }
        };
        Ok(Self {
            open,
            health,
            found: Found::default(),
        })
    }

    /// Returns who is told of names, if they are of any use.
    pub(crate) fn listener(&self) -> Option<Listener<W>> {
        let service = &self.open.as_ref()?.service;
        match service.index() {
            Some(index) => Some(Listener::Index(index)),
            None => service.is_keeping().then_some(Listener::Keeper),
        }
    }

    /// Returns the index, if it can be asked.
    #[cfg(test)]
    fn index(&self) -> Option<Arc<Index<W>>> {
        self.open.as_ref()?.service.index()
    }

    /// Keeps what is known of a name for the index that is being opened, or tells it if it is open by now.
    pub(crate) fn keep(&self, name: Name, advice: Advice) {
        let Some(open) = &self.open else {
            return;
        };
        let name = uds::format::Name(name);
        match open.service.index() {
            Some(index) => index.remember_unasked(name, advice),
            None => open.service.keep(name, advice),
        }
    }

    /// Returns how the index is. While it rests it is shown as closed: nobody uses it, and mainline's
    /// word for that is one that LVM does not know.
    pub(crate) fn state(&self) -> IndexState {
        let Some(open) = self.open.as_ref().filter(|_| self.health.check().is_ok()) else {
            return IndexState::Closed;
        };
        match open.service.state() {
            State::Closed | State::Suspended => IndexState::Closed,
            State::Closing => IndexState::Closing,
            State::Error => IndexState::Error,
            State::Offline => IndexState::Offline,
            State::Online => IndexState::Online,
            State::Opening => IndexState::Opening,
        }
    }

    /// Does what an administrator wants. Returns before it is done.
    pub(crate) fn order(&self, order: IndexOrder) {
        let Some(Open { world, service }) = &self.open else {
            return;
        };
        world.set_target(match order {
            IndexOrder::Close => IndexState::Closed,
            IndexOrder::Disable => IndexState::Offline,
            IndexOrder::Create | IndexOrder::Enable => IndexState::Online,
        });
        match order {
            IndexOrder::Close => service.close(),
            IndexOrder::Create => service.create(),
            IndexOrder::Disable => service.disable(),
            IndexOrder::Enable => service.enable(),
        }
    }

    /// Lets it rest: no I/O is under way any more, and none begins before [`resume`](Self::resume). No
    /// batch is under way. The index is saved if that is wanted.
    pub(crate) async fn suspend(&self, save: bool) {
        if let Some(open) = &self.open {
            open.service.suspend(save).await;
        }
    }

    /// Goes on, if the volume can be written.
    pub(crate) fn resume(&self) {
        if let Some(open) = self.open.as_ref().filter(|_| self.health.check().is_ok()) {
            open.service.resume();
        }
    }

    /// Has its tasks end.
    pub(crate) fn stop(&self) {
        if let Some(open) = &self.open {
            open.service.stop();
        }
    }

    /// Opens, saves and closes the index, until it is stopped.
    pub(crate) async fn run(&self) {
        if let Some(open) = &self.open {
            open.service.run().await;
        }
    }

    /// Writes chapters of the index, until it is stopped.
    pub(crate) async fn write_chapters(&self) {
        if let Some(open) = &self.open {
            open.service.write().await;
        }
    }

    /// Fills in what is counted here.
    pub(crate) fn put(&self, statistics: &mut Statistics) {
        let found = &self.found;
        let locks = &mut statistics.hash_lock;
        locks.dedupe_advice_valid = found.valid.get();
        locks.dedupe_advice_stale = found.stale.get();
        locks.concurrent_data_matches = found.matches.get();
        locks.concurrent_hash_collisions = found.collisions.get();
        statistics.errors.invalid_advice_pbn_count = found.invalid.get();
        let Some(index) = self.open.as_ref().and_then(|open| open.service.opened()) else {
            return;
        };
        let counts = index.counts();
        let own = &mut statistics.index;
        own.entries_indexed = counts.entries;
        own.entries_discarded = counts.discarded;
        let asked = index.asked();
        own.posts_found = asked.found;
        own.posts_not_found = asked.not_found;
        own.queries_found = asked.queried;
        own.queries_not_found = asked.not_queried;
        own.updates_found = asked.updated;
    }
}

#[cfg(test)]
mod tests;
