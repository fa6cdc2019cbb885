// SPDX-License-Identifier: GPL-2.0

//! The engine of one table: devices, claims, copies, commits.
//!
//! A table load makes an engine over a [`Volume`], which outlives it if the table is replaced.
//! The engine's tasks ([`Engine::run_committer`], [`Engine::run_worker`]) are spawned at load and
//! end after [`Engine::stop`].
//!
//! Locks: a task holds at most one claim, and nothing else while it waits for it.

use crate::commit::Committer;
use crate::copier::Copier;
use crate::geometry::RegionRange;
use crate::geometry::Regions;
use crate::hydration::Hydration;
use crate::hydration::Tuning;
use crate::message::Message;
use crate::sweep::Sweep;
use crate::throttle::Throttle;
use crate::volume::Mode;
use crate::volume::Volume;
use core::fmt;
use kernel::prelude::*;
use runtime::clock::Clock;
use runtime::disk::Disk;
use runtime::pool::Pool;
use runtime::range_lock::RangeLock;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;
use runtime::sync::AtomicU64;
use runtime::sync::Lock;

/// What an engine sees of the world, beside its devices.
pub trait World: Send + Sync + 'static {
    /// The devices.
    type Disk: Disk;
    /// The clock.
    type Clock: Clock;

    /// Returns the clock.
    fn clock(&self) -> &Self::Clock;

    /// Raises the event of the device.
    fn event(&self);

    /// Logs an error of the device.
    fn error(&self, text: fmt::Arguments<'_>);

    /// Logs, not too often, that a background copy failed.
    fn hydration_failed(&self);

    /// Returns the percentage of time that copying may be active.
    fn throttle_percent(&self) -> u32;
}

/// How a table wants its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether background hydration starts enabled.
    pub hydration: bool,
    /// Whether discards are passed down to the destination, as far as it takes them.
    pub discard_passdown: bool,
    /// What was stated of the tuning.
    pub tuning: Tuning,
    /// Pages in the buffer of a worker for large copies: no I/O of a copy is larger.
    pub large_pages: usize,
    /// Whether the mapping is read-only: nothing may be written then.
    pub read_only: bool,
}

/// The engine of one table.
pub struct Engine<W: World> {
    pub(crate) world: W,
    pub(crate) volume: Arc<Volume<W::Disk>>,
    pub(crate) source: W::Disk,
    pub(crate) destination: W::Disk,
    pub(crate) claims: RangeLock,
    pub(crate) copier: Copier,
    pub(crate) sweep: Lock<Sweep>,
    pub(crate) throttle: Lock<Throttle>,
    pub(crate) committer: Committer,
    read_only: bool,
    discard_passdown: AtomicU32,
    hydrating: AtomicU64,
    /// Lends its I/O resources to the flushes of the destination.
    pub(crate) carrier: Pool<<W::Disk as Disk>::Buffer>,
}

impl<W: World> Engine<W> {
    /// Creates the engine of a table. It does nothing before [`resume`](Self::resume).
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(
        world: W,
        volume: Arc<Volume<W::Disk>>,
        source: W::Disk,
        destination: W::Disk,
        settings: Settings,
    ) -> Result<Self> {
        let mut carriers = KVec::with_capacity(1, GFP_KERNEL)?;
        carriers.push(destination.buffer(1)?, GFP_KERNEL)?;
        let region_size = volume.geometry.region_size();
        let regions = volume.geometry.regions();
        let hydration = Hydration::new(region_size, settings.hydration, settings.tuning);
        let committer = volume.commits.committer();
        Ok(Self {
            world,
            volume,
            source,
            destination,
            claims: RangeLock::below(regions),
            copier: Copier::new(hydration, settings.large_pages)?,
            sweep: Lock::new(Sweep::new()),
            throttle: Lock::new(Throttle::default()),
            committer,
            read_only: settings.read_only,
            discard_passdown: AtomicU32::new(settings.discard_passdown.into()),
            hydrating: AtomicU64::new(0),
            carrier: Pool::new(carriers),
        })
    }

    /// Returns the volume.
    pub fn volume(&self) -> &Arc<Volume<W::Disk>> {
        &self.volume
    }

    /// Returns the world.
    pub fn world(&self) -> &W {
        &self.world
    }

    /// The device is resumed: this engine, and no other over the volume, may hydrate and commit.
    pub fn resume(&self) {
        self.volume.commits.appoint(&self.committer);
        if self.volume.map.is_complete() {
            self.retire_workers();
        } else if self.may_write() {
            self.copier.tune(Hydration::run);
        }
    }

    /// The device is suspended, and no request is under way: ends hydration and commits. From then
    /// on the engine does nothing until it is resumed.
    ///
    /// An error of the commit shows in the mode.
    pub async fn suspend(&self) {
        self.copier.tune(Hydration::halt);
        self.copier.drained().await;
        self.commit_now().await;
        self.volume.commits.relieve(&self.committer).await;
    }

    /// Once a second while the device is active: commits what has changed, and lets hydration
    /// come back to what it could not copy.
    pub fn tick(&self) {
        if !self.may_write() {
            return;
        }
        self.volume
            .commits
            .request(&self.volume.map, &self.committer);
        if !self.volume.map.is_complete() {
            self.copier.tune(Hydration::kick);
        }
    }

    /// Commits what has changed, and waits for it. An engine that is not resumed, because its table
    /// is only loaded or the device is suspended, does nothing.
    ///
    /// An error shows in the mode.
    pub async fn commit_now(&self) {
        if self.may_write() {
            // The mode tells.
            let _ = self.cover().await;
        }
    }

    /// Carries out a message.
    pub fn message(&self, message: Message) {
        self.copier.tune(|hydration| {
            match message {
                Message::EnableHydration => hydration.enabled = true,
                Message::DisableHydration => hydration.enabled = false,
                Message::Threshold(value) => hydration.tuning.threshold = Some(value),
                Message::BatchSize(value) => hydration.tuning.batch_size = Some(value),
            }
            hydration.kick();
        });
    }

    /// Ends the engine's tasks. No request may come after this.
    pub fn stop(&self) {
        self.copier.stop();
        self.committer.stop();
    }

    /// Returns whether hydration is enabled, and its tuning.
    pub fn hydration(&self) -> (bool, Tuning) {
        self.copier.tuning()
    }

    /// Returns the number of regions that are being copied or overwritten.
    pub fn hydrating(&self) -> Regions {
        self.hydrating.load_relaxed()
    }

    /// Returns whether discards are passed down to the destination.
    pub fn passes_discards_down(&self) -> bool {
        self.discard_passdown.load_relaxed() != 0
    }

    /// The destination cannot take discards: they end here.
    pub fn disable_discard_passdown(&self) {
        self.discard_passdown.store_relaxed(0);
    }

    /// Every region is hydrated, for good: ends the workers, whose buffers are then freed.
    pub(crate) fn retire_workers(&self) {
        self.copier.stop();
    }

    /// Returns true if the mapping is read-only: whatever the metadata allows, nothing is written.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Returns true if the mapping and the metadata allow that regions are hydrated, and that this
    /// is recorded.
    pub(crate) fn may_write(&self) -> bool {
        !self.read_only && self.volume.mode() == Mode::ReadWrite
    }

    /// Counts `regions` as being copied or overwritten for as long as the result lives.
    pub(crate) fn count_hydrating(&self, regions: &RegionRange) -> Hydrating<'_> {
        let count = regions.end.saturating_sub(regions.start);
        self.hydrating.fetch_add(count);
        Hydrating {
            counter: &self.hydrating,
            count,
        }
    }
}

/// Regions that are being copied or overwritten.
pub(crate) struct Hydrating<'e> {
    counter: &'e AtomicU64,
    count: Regions,
}

impl Drop for Hydrating<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.count);
    }
}
