// SPDX-License-Identifier: GPL-2.0

//! A volume: its engine, the tasks of that, and what the tables say that were loaded for it.
//!
//! It lives as long as a table knows it, the one in use or one that was loaded to replace it.

use crate::engine;
use crate::engine::Engine;
use crate::log::Log;
use crate::world::KernelWorld;
use core::fmt::Arguments;
use dm::CtrError;
use dm::CtrResultExt;
use dm::Device;
use dm::Mode;
use dm::StatusWriter;
use dm::TargetRef;
use kernel::prelude::*;
use kernel::sync::Arc;
use kext::block::DevT;
use kext::pages;
use platform::block_on::block_on;
use platform::disk::KernelDisk;
use platform::executor::Executor;
use platform::executor::Placement;
use platform::ticker::Ticker;
use runtime::stack::boxed;
use runtime::stack::boxed_at_once;
use runtime::sync::AtomicU32;
use runtime::sync::Lock;
use vdo::admin::dump::Frame;
use vdo::admin::dump::Gauge;
use vdo::admin::message::Message;
use vdo::admin::statistics::Statistics;
use vdo::admin::status::Config;
use vdo::admin::status::Status;
use vdo::admin::table::growth_refused;
use vdo::admin::table::Refusal;
use vdo::admin::table::Settings;
use vdo::error::Error as VdoError;
use vdo::format::geometry::Geometry;
use vdo::storage::Storage;
use vdo::storage::BLOCK_SECTORS;
use vdo::volume::load;
use vdo::volume::load::Found;
use vdo::volume::open::Opened;
use vdo::world::Level;

/// How hard blocks are compressed until a message says something else: as mainline does it.
const ACCELERATION: u32 = 1;

/// A volume.
pub(crate) struct Volume {
    // Dropped in this order: the ticker ends its task, the engine was told to end its own.
    ticker: Ticker,
    engine: Arc<Engine>,
    // Waits for the tasks.
    executor: Executor,
    log: Log,
    mapped: DevT,
    geometry: Geometry,
    slab_blocks: u64,
    state: Lock<State>,
    /// The storage as the table in use names it.
    name: Lock<KVec<u8>>,
    dump_on_shutdown: AtomicU32,
}

impl Drop for Volume {
    fn drop(&mut self) {
        // The executor, dropped next, waits for the tasks.
        self.engine.stop();
    }
}

/// What administrators have set.
struct State {
    /// The settings in force: of the table that was resumed last.
    settings: Settings,
    /// Whether blocks are compressed, now.
    compression: bool,
    /// How hard, if they are.
    acceleration: u32,
    started: bool,
    /// The storage that is known to hold the volume.
    storage: DevT,
}

/// A way to the storage of a volume.
pub(crate) struct Path<'a> {
    /// The line of the table.
    pub(crate) line: &'a TargetRef,
    /// The name of the device in the table.
    pub(crate) name: &'a str,
    /// The device it has opened.
    pub(crate) device: &'a Device,
    /// The same for the engine.
    pub(crate) disk: &'a Arc<KernelDisk>,
}

impl Volume {
    /// Makes a volume of what was found on its storage.
    pub(crate) fn new(
        path: &Path<'_>,
        opened: &Opened,
        settings: &Settings,
        log: Log,
    ) -> Result<Arc<Self>, CtrError> {
        let world = KernelWorld::new(log, path.line.clone());
        let failed =
            |error: VdoError| CtrError::new(log.errno(error), c"Cannot load metadata from device");
        let engine = engine::new(world, path.disk.clone(), opened, settings).map_err(failed)?;
        // Data is copied and looked at in a poll: not at the expense of who submits more.
        let executor = Executor::new(c"dm-vdo", Placement::AnyCpu)
            .ctr_error(c"Cannot allocate thread structures")?;
        let ticking = engine.clone();
        let ticker = Ticker::new(&executor, move || ticking.tick())
            .ctr_error(c"Cannot make admin thread")?;
        let volume = Self {
            ticker,
            engine,
            executor,
            log,
            mapped: path.line.mapped_device(),
            geometry: opened.geometry,
            slab_blocks: opened.super_block.slab_size,
            state: Lock::new(State {
                settings: *settings,
                compression: settings.compression,
                acceleration: ACCELERATION,
                started: false,
                storage: path.device.dev(),
            }),
            name: Lock::new(copy(path.name).ctr_error(c"Could not copy parent device name")?),
            dump_on_shutdown: AtomicU32::new(0),
        };
        // From here on the drop of the volume ends the tasks, also of a load that fails.
        let volume = Arc::new(volume, GFP_KERNEL).ctr_error(c"Cannot allocate VDO")?;
        engine::spawn_tasks(&volume.engine, &volume.executor).map_err(failed)?;
        Ok(volume)
    }

    /// Returns the log.
    pub(crate) fn log(&self) -> Log {
        self.log
    }

    /// Returns the settings in force.
    pub(crate) fn settings(&self) -> Settings {
        self.state.with(|state| state.settings)
    }

    /// Returns the engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns where the work of its users is done.
    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Checks a table that was loaded for the volume, and says what it would change.
    pub(crate) fn prepare(&self, path: &Path<'_>, new: &Settings) -> Result<(), Refusal> {
        let log = self.log;
        let device = self.mapped;
        log.info(format_args!("preparing to modify device '{device}'"));
        let (old, started) = self.state.with(|state| (state.settings, state.started));
        let changes = old.changes_to(new)?;
        if let Some(blocks) = changes.physical_blocks {
            if !started {
                return Err(Refusal {
                    error: EINVAL,
                    text: c"VDO physical size may not grow in current state",
                });
            }
            log.info(format_args!("Preparing to resize physical to {blocks}"));
            self.engine.check_physical_growth(blocks).map_err(|error| {
                log.errno(error);
                growth_refused(error)
            })?;
            log.info(format_args!("Done preparing to resize physical"));
        }
        if let Some(blocks) = changes.logical_blocks {
            log.info(format_args!("Preparing to resize logical to {blocks}"));
            log.info(format_args!("Done preparing to resize logical"));
        }
        self.check_storage(path)
    }

    /// Another device is taken only if it holds this volume, as it is now: an older copy of it will
    /// not do.
    fn check_storage(&self, path: &Path<'_>) -> Result<(), Refusal> {
        let known = self.state.with(|state| state.storage);
        if known == path.device.dev() || self.is_on(path.disk).unwrap_or(false) {
            return Ok(());
        }
        Err(Refusal {
            error: EINVAL,
            text: c"Storage device does not hold this VDO",
        })
    }

    /// Returns whether `disk` has the geometry and the super block that the volume has.
    #[inline(never)]
    fn is_on(&self, disk: &Arc<KernelDisk>) -> Result<bool> {
        let Ok(Found::Volume(geometry)) = block_on(boxed(|| load::find(&**disk)))? else {
            return Ok(false);
        };
        let storage = Storage::new(disk.clone(), geometry.bio_offset);
        let found = block_on(boxed(|| load::read_super_block(&storage, &geometry)))?;
        let super_block = self.engine.super_block();
        Ok(geometry == self.geometry && matches!(found, Ok(Ok(found)) if found == super_block))
    }

    /// Takes note of another name of the storage, and tells of it.
    fn rename(&self, name: &str) -> Result {
        let new = copy(name)?;
        let old = self.name.with(|own| core::mem::replace(own, new));
        if *old != *name.as_bytes() {
            self.log.info(format_args!(
                "Updating backing device of {} from {} to {name}",
                self.mapped,
                core::str::from_utf8(&old).unwrap_or("?"),
            ));
        }
        Ok(())
    }

    /// Starts the volume, or goes on with it, by the table of `path`, which may be used for `mode`.
    pub(crate) fn resume(&self, path: &Path<'_>, settings: &Settings, mode: Mode) -> Result {
        // The device of the table before may be closed soon, whatever comes of this.
        self.set_path(path.line.clone(), path.disk.clone());
        let (log, device) = (self.log, self.mapped);
        let blocks = path.device.sectors() / BLOCK_SECTORS;
        if blocks < settings.physical_blocks {
            log.error(format_args!(
                "resume of device '{device}' failed: backing device has {blocks} blocks but VDO \
                 physical size is {} blocks",
                settings.physical_blocks
            ));
            return Err(EINVAL);
        }
        // What was on it when the table was loaded may have become an old copy since.
        if let Err(refusal) = self.check_storage(path) {
            log.error(format_args!(
                "resume of device '{device}' failed: {}",
                refusal.text.to_str().unwrap_or("")
            ));
            return Err(refusal.error);
        }
        self.rename(path.name)?;
        let (old, started) = self.state.with(|state| (state.settings, state.started));
        if started && mode == Mode::Read {
            return self.resume_protected(path, &old, settings);
        }
        self.engine.set_deduplication(settings.deduplication);
        if started {
            log.info(format_args!("resuming device '{device}'"));
            self.grow(&old, settings)?;
        } else {
            log.info(format_args!("starting device '{device}'"));
            block_on(boxed(|| self.engine.start(settings.logical_blocks)))?
                .map_err(|error| log.errno(error))?;
            self.state.with(|state| state.started = true);
            log.info(format_args!("device '{device}' started"));
            log.info(format_args!("resuming device '{device}'"));
        }
        block_on(boxed(|| self.engine.resume()))?.map_err(|error| log.errno(error))?;
        self.is_resumed(path, settings);
        self.ticker.start();
        if started {
            self.tell_compression();
        }
        log.info(format_args!("device '{device}' resumed"));
        Ok(())
    }

    /// Goes on with a volume that was in use by a table for reading only.
    fn resume_protected(&self, path: &Path<'_>, old: &Settings, settings: &Settings) -> Result {
        let (log, device) = (self.log, self.mapped);
        log.info(format_args!("resuming device '{device}' for reading only"));
        let sizes = |of: &Settings| (of.logical_blocks, of.physical_blocks);
        if sizes(old) != sizes(settings) {
            log.error(format_args!(
                "a table for reading only does not grow device '{device}'"
            ));
            return Err(EROFS);
        }
        block_on(boxed(|| self.engine.resume_protected()))?.map_err(|error| {
            log.error(format_args!(
                "device '{device}' was suspended without being saved, and cannot be used for \
                 reading only"
            ));
            log.errno(error)
        })?;
        self.is_resumed(path, settings);
        log.info(format_args!("device '{device}' resumed for reading only"));
        Ok(())
    }

    /// Takes note of the table that is in use now.
    fn is_resumed(&self, path: &Path<'_>, settings: &Settings) {
        self.change(|state| {
            // What a message has set holds until a table says something else.
            if state.settings.compression != settings.compression {
                state.compression = settings.compression;
            }
            state.settings = *settings;
            state.storage = path.device.dev();
        });
    }

    /// Changes what is set, and has the engine compress accordingly; of two at once the last one wins
    /// in both.
    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.with(|state| {
            change(state);
            let acceleration = state.compression.then_some(state.acceleration);
            self.engine.set_compression(acceleration);
        });
    }

    fn grow(&self, old: &Settings, new: &Settings) -> Result {
        let result = self.try_grow(old, new);
        result.map_err(|error| {
            self.log.error(format_args!(
                "Commit of modifications to device '{}' failed: {error}",
                self.mapped
            ));
            self.log.errno(error)
        })
    }

    fn try_grow(&self, old: &Settings, new: &Settings) -> Result<(), VdoError> {
        // What may not change was refused when the table was loaded.
        if new.logical_blocks > old.logical_blocks {
            let grown = block_on(boxed(|| self.engine.grow_logical(new.logical_blocks)))?;
            grown.inspect_err(|error| {
                self.log.error(format_args!(
                    "grow logical operation failed, result = {}",
                    error.number()
                ));
            })?;
        }
        if new.physical_blocks > old.physical_blocks {
            let grown = block_on(boxed(|| self.engine.grow_physical(new.physical_blocks)))?;
            grown.inspect_err(|error| {
                self.log.error(format_args!(
                    "grow physical operation failed, result = {}",
                    error.number()
                ));
            })?;
        }
        Ok(())
    }

    /// Suspends the volume; with `save` it is left as one that was stopped in order.
    pub(crate) fn suspend(&self, save: bool) {
        let (log, device) = (self.log, self.mapped);
        log.info(format_args!("suspending device '{device}'"));
        self.ticker.pause();
        if block_on(boxed_at_once(|| self.engine.suspend(save))).is_err() {
            // No memory to do it in, and what is dirty cannot be written to this device meanwhile:
            // it is done on this stack, where there is room.
            block_on(self.engine.suspend(save));
        }
        log.info(format_args!("device '{device}' suspended"));
    }

    /// Goes on by the table of `line`, and its way to the storage.
    pub(crate) fn set_path(&self, line: TargetRef, disk: Arc<KernelDisk>) {
        self.engine.world().set_line(line);
        self.engine.set_disk(disk);
    }

    /// The table whose way to the storage is `old` goes away, and the one of `line` goes on with the
    /// volume.
    pub(crate) fn hand_over(
        &self,
        old: &Arc<KernelDisk>,
        line: &TargetRef,
        disk: &Arc<KernelDisk>,
    ) {
        if Arc::ptr_eq(&self.engine.disk(), old) {
            self.set_path(line.clone(), disk.clone());
        }
    }

    /// The table of `line` goes away.
    pub(crate) fn forget(&self, line: &TargetRef) {
        self.engine.world().forget_line(line);
    }

    /// Tells of the end, which comes when the last table lets go of the volume.
    pub(crate) fn stop(&self) {
        let (log, device) = (self.log, self.mapped);
        log.info(format_args!("stopping device '{device}'"));
        if self.dump_on_shutdown.load_relaxed() != 0 {
            self.dump("device shutdown");
        }
        log.info(format_args!("device '{device}' stopped"));
    }

    /// Obeys a message.
    pub(crate) fn message(&self, message: Message, reply: &mut StatusWriter<'_>) -> Result {
        match message {
            // The writer cuts off what does not fit, and never fails.
            Message::Stats => {
                let _ = self.statistics()?.write(reply);
            }
            Message::Config => {
                let _ = self.config().write(reply);
            }
            Message::Compression(enabled) => {
                self.change(|state| state.compression = enabled);
                self.tell_compression();
            }
            Message::Acceleration(acceleration) => {
                self.change(|state| state.acceleration = acceleration);
                self.log
                    .info(format_args!("compression acceleration is {acceleration}"));
            }
            Message::Index(order) => self.engine.order_index(order),
            Message::Dump(_) => self.dump("dmsetup message"),
            Message::DumpOnShutdown => self.dump_on_shutdown.store_relaxed(1),
        }
        Ok(())
    }

    fn tell_compression(&self) {
        let enabled = self.state.with(|state| state.compression);
        let state = if enabled { "enabled" } else { "disabled" };
        self.log.info(format_args!("compression is {state}"));
    }

    /// Writes the status line.
    pub(crate) fn write_status(&self, out: &mut StatusWriter<'_>) {
        let disk = self.engine.disk();
        let status = Status {
            device: disk.device().name(),
            mode: self.engine.mode(),
            index: self.engine.index_state(),
            compression: self.state.with(|state| state.compression),
            used: self.engine.used_blocks(),
            total: self.engine.super_block().physical_blocks,
        };
        // The writer cuts off what does not fit, and never fails.
        let _ = status.write(out);
    }

    fn config(&self) -> Config {
        Config {
            physical_blocks: self.engine.super_block().physical_blocks,
            logical_blocks: self.engine.super_block().logical_blocks,
            slab_blocks: self.slab_blocks,
            index_memory: self.geometry.index_memory,
            index_sparse: self.geometry.sparse != 0,
        }
    }

    #[inline(never)]
    fn statistics(&self) -> Result<KBox<Statistics>> {
        let mut all = KBox::new(Statistics::default(), GFP_KERNEL)?;
        self.engine.put_statistics(&mut all);
        let settings = self.state.with(|state| state.settings);
        all.instance = self.log.instance;
        all.memory_usage.bytes_used = pages::bytes_used();
        all.memory_usage.peak_bytes_used = pages::bytes_peak();
        all.logical_block_size = settings.logical_block_size.into();
        Ok(all)
    }

    fn dump(&self, reason: &str) {
        let Ok(statistics) = self.statistics() else {
            return;
        };
        let bios = &statistics.bios_in_progress;
        let (hash_zones, compression, acceleration) = self.state.with(|state| {
            let hash_zones = state.settings.threads.hash;
            (hash_zones, state.compression, state.acceleration)
        });
        let frame = Frame {
            reason,
            device: &self.mapped,
            requests: Gauge {
                now: bios.read + bios.write + bios.discard + bios.flush,
                most: statistics.max_vios.into(),
            },
            bios: 0,
            blocks: Gauge {
                now: statistics.current_vios_in_progress.into(),
                most: statistics.max_vios.into(),
            },
            discards: Gauge {
                now: bios.discard,
                most: bios.discard,
            },
            waiting: false,
            index: self.engine.index_state(),
            hash_zones,
            compression,
            acceleration,
            memory: Gauge {
                now: statistics.memory_usage.bytes_used,
                most: statistics.memory_usage.peak_bytes_used,
            },
        };
        let log = self.log;
        frame.write(
            &mut |level: Level, text: Arguments<'_>| log.line(level, text),
            |_| (),
        );
    }
}

/// Returns a copy of a name.
pub(crate) fn copy(name: &str) -> Result<KVec<u8>> {
    let mut own = KVec::new();
    own.extend_from_slice(name.as_bytes(), GFP_KERNEL)?;
    Ok(own)
}
