// SPDX-License-Identifier: GPL-2.0

//! The `vdo` target: from device-mapper's calls to the volume's.

use crate::bios::UserBio;
use crate::bios::UserRead;
use crate::limits;
use crate::log::Log;
use crate::registry;
use crate::registry::Claim;
use crate::volume::copy;
use crate::volume::Path;
use crate::volume::Volume;
use core::fmt::Arguments;
use core::ops::ControlFlow;
use dm::args::word;
use dm::map::Kind;
use dm::Args;
use dm::CtrError;
use dm::CtrResultExt;
use dm::CtrTarget;
use dm::Device;
use dm::DeviceCallout;
use dm::Features;
use dm::MapBio;
use dm::MapResult;
use dm::Mode;
use dm::StatusType;
use dm::StatusWriter;
use dm::Target;
use dm::TargetRef;
use kernel::prelude::*;
use kernel::sync::Arc;
use kext::bio::BioSet;
use kext::block::QueueLimits;
use kext::errno::eopnotsupp;
use kext::random;
use kext::timer;
use platform::bio_task;
use platform::bio_task::BioIo;
use platform::bio_task::BioResult;
use platform::block_on::block_on;
use platform::disk::Class;
use platform::disk::KernelDisk;
use platform::held_bio;
use runtime::disk::SECTOR_SIZE;
use runtime::stack::boxed;
use runtime::sync::AtomicU32;
use vdo::admin::message;
use vdo::admin::table;
use vdo::admin::table::Refusal;
use vdo::admin::table::Settings;
use vdo::error::Error as VdoError;
use vdo::error::Status;
use vdo::format::super_block::State;
use vdo::storage::BLOCK_SECTORS;
use vdo::volume::open;
use vdo::volume::open::Identity;

/// Bios for parts of reads that are always there.
const PARTS_RESERVE: u32 = 32;

/// A vdo device: the one line of its table.
pub(crate) struct VdoTarget {
    volume: Arc<Volume>,
    settings: Settings,
    /// What the table may be used for.
    mode: Mode,
    /// The arguments, as they were given.
    arguments: KVec<u8>,
    parts: BioSet,
    /// The device as the table names it.
    name: KVec<u8>,
    device: Device,
    disk: Arc<KernelDisk>,
    line: TargetRef,
    claim: Claim,
    /// Not 0 while a suspend is under way after which the volume need not be saved.
    hasty: AtomicU32,
}

#[vtable]
impl Target for VdoTarget {
    const NAME: &'static CStr = c"vdo";
    const VERSION: [u32; 3] = [9, 2, 0];
    const FEATURES: Features = Features::SINGLETON;

    fn ctr(ti: &mut CtrTarget<'_>, args: Args<'_>) -> Result<Self, CtrError> {
        let running = registry::log_of(ti.target_ref().mapped_device());
        let log = running.unwrap_or_else(|| Log {
            instance: registry::number(),
        });
        let loaded = Self::load(ti, args, running.is_some(), log);
        if let Ok(target) = &loaded {
            target.reserve(ti)?;
        }
        loaded
    }

    fn map<'a>(&'a self, mut bio: MapBio<'a>) -> MapResult<'a> {
        match bio.kind() {
            Kind::Read => bio_task::serve(self.volume.executor(), bio, |io| self.read(io)),
            Kind::Write | Kind::Discard => self.submit(bio),
            Kind::WriteZeroes => {
                // Device-mapper cuts only what has data.
                let before = (bio.sector() % u64::from(limits::MAX_IO_SECTORS)) as u32;
                bio.accept_partial_bio(limits::MAX_IO_SECTORS.saturating_sub(before));
                self.submit(bio)
            }
            Kind::Flush => bio_task::serve(self.volume.executor(), bio, |io| self.flush(io)),
            _ => bio.end(Err(eopnotsupp())),
        }
    }

    fn presuspend(&self) {
        self.hasty
            .store_relaxed(self.line.is_noflush_suspending().into());
    }

    fn presuspend_undo(&self) {
        self.hasty.store_relaxed(0);
    }

    fn postsuspend(&self) {
        self.volume.suspend(self.hasty.swap(0) == 0);
    }

    fn preresume(&self) -> Result {
        self.volume.resume(&self.path(), &self.settings, self.mode)
    }

    fn status(&self, kind: StatusType, _noflush: bool, out: &mut StatusWriter<'_>) {
        match kind {
            StatusType::Info => self.volume.write_status(out),
            StatusType::Table => out.write_bytes(&self.arguments),
            StatusType::Ima => (),
        }
    }

    fn message(&self, args: Args<'_>, reply: &mut StatusWriter<'_>) -> Result {
        let log = self.volume.log();
        let message = message::parse(args.map(word), &mut |level, text: Arguments<'_>| {
            log.line(level, text);
        })?;
        self.volume.message(message, reply)
    }

    fn iterate_devices(&self, callout: &mut DeviceCallout<'_>) -> ControlFlow<()> {
        // Of a table that makes the volume larger, what it has now: the rest is for the resume.
        let blocks = self.volume.settings().physical_blocks;
        let sectors = blocks.saturating_mul(BLOCK_SECTORS);
        callout.call(&self.device, 0, sectors)
    }

    fn io_hints(&self, queue_limits: &mut QueueLimits) {
        limits::set(queue_limits, &self.settings);
    }
}

impl VdoTarget {
    fn load(
        ti: &mut CtrTarget<'_>,
        args: Args<'_>,
        is_running: bool,
        log: Log,
    ) -> Result<Self, CtrError> {
        let line = ti.target_ref();
        let arguments = args
            .clone()
            .join()
            .ctr_error(c"Could not populate string")?;
        if !is_running {
            log.info(format_args!("table line: {}", text(&arguments)));
            let device = line.mapped_device();
            log.info(format_args!("loading device '{device}'"));
        }
        let (settings, device, name) = parse(ti, args, log).map_err(|refusal| {
            if !is_running {
                log.error(format_args!(
                    "parsing failed: {}: {}",
                    refusal.text.to_str().unwrap_or(""),
                    VdoError::from(Status::BadConfiguration),
                ));
            }
            refused(refusal)
        })?;
        let disk = Arc::new(KernelDisk::new(device.clone(), Class::Data), GFP_KERNEL)
            .ctr_error(c"Could not allocate config structure")?;
        let own_name = copy(name).ctr_error(c"Could not copy parent device name")?;
        let parts = BioSet::new(PARTS_RESERVE).ctr_error(c"Cannot allocate data_vio pool")?;
        let mode = ti.table_mode();
        let (claim, running) = registry::claim(&line, disk.clone()).map_err(|error| {
            if error == EBUSY {
                log.error(format_args!("Existing vdo already uses device {name}"));
            }
            CtrError::new(
                EINVAL,
                c"Cannot share storage device with already-running VDO",
            )
        })?;
        let is_new = running.is_none();
        let volume = match running {
            Some(volume) => volume,
            None => {
                let path = Path {
                    line: &line,
                    name,
                    device: &device,
                    disk: &disk,
                };
                let volume = start_volume(&path, &settings, mode, log)?;
                claim.set_volume(&volume);
                volume
            }
        };
        // From here on it leaves the volume as any other, also if it is refused.
        let target = Self {
            volume,
            settings,
            mode,
            arguments,
            parts,
            name: own_name,
            device,
            disk,
            line,
            claim,
            hasty: AtomicU32::new(0),
        };
        if !is_new {
            let volume = &target.volume;
            volume
                .prepare(&target.path(), &target.settings)
                .map_err(refused)?;
        }
        Ok(target)
    }

    /// Asks device-mapper for what bios need.
    fn reserve(&self, ti: &mut CtrTarget<'_>) -> Result<(), CtrError> {
        let size = held_bio::SIZE
            .max(bio_task::size_of_task(Self::read))
            .max(bio_task::size_of_task(Self::flush));
        ti.set_flush_supported();
        ti.set_discards_supported();
        ti.set_write_zeroes_supported();
        ti.set_per_io_data_size(size)
            .and_then(|()| ti.set_max_io_len(limits::MAX_IO_SECTORS.into()))
            .ctr_error(c"Cannot allocate data_vio pool")
    }

    fn path(&self) -> Path<'_> {
        Path {
            line: &self.line,
            name: text(&self.name),
            device: &self.device,
            disk: &self.disk,
        }
    }

    fn submit<'a>(&'a self, bio: MapBio<'a>) -> MapResult<'a> {
        held_bio::hold(bio, |bio| self.volume.engine().submit(UserBio::new(bio)))
    }

    async fn read<'a>(&'a self, io: BioIo<'a>) -> BioResult<'a> {
        let mut bio = UserRead {
            io,
            device: &self.device,
            parts: &self.parts,
        };
        let result = self.volume.engine().read(&mut bio).await;
        bio.io.end(result)
    }

    async fn flush<'a>(&'a self, io: BioIo<'a>) -> BioResult<'a> {
        let result = self.volume.engine().flush().await;
        io.end(result)
    }
}

impl Drop for VdoTarget {
    fn drop(&mut self) {
        let volume = &self.volume;
        let goes_on = self.claim.leave(volume, |other| {
            volume.hand_over(&self.disk, &other.target, &other.disk);
        });
        if !goes_on {
            volume.stop();
        }
        volume.forget(&self.line);
    }
}

/// Finds or makes the volume of a table line, and what it needs in memory. If the table is for
/// reading only, nothing is written, now or later.
fn start_volume(
    path: &Path<'_>,
    settings: &Settings,
    mode: Mode,
    log: Log,
) -> Result<Arc<Volume>, CtrError> {
    let identity = (mode == Mode::ReadWrite).then(|| Identity {
        nonce: timer::real_us(),
        uuid: random::uuid(),
    });
    let line = |level, text: Arguments<'_>| log.line(level, text);
    let mut opened = block_on(boxed(|| open::open(path.disk, settings, identity, line)))
        .ctr_error(c"Cannot allocate VDO")?
        .map_err(|failure| CtrError::new(log.errno(failure.error), failure.text))?;
    if mode == Mode::Read {
        // Only what the engine knows: it is not written either.
        opened.super_block.state = State::ReadOnly;
    }
    let threads = &settings.threads;
    log.info(format_args!(
        "zones: {} logical, {} physical, {} hash; total threads: {}",
        threads.logical,
        threads.physical,
        threads.hash,
        threads.total(),
    ));
    Volume::new(path, &opened, settings, log)
}

/// Parses the words of a table and opens the device that they name; returns the name, too.
fn parse<'a>(
    ti: &mut CtrTarget<'_>,
    args: Args<'a>,
    log: Log,
) -> Result<(Settings, Device, &'a str), Refusal> {
    let mut line = |level, text: Arguments<'_>| log.line(level, text);
    let start = ti.target_ref().begin();
    let table = table::parse(start, ti.len(), args.clone().map(word), &mut line)?;
    let path = args.clone().find(|path| word(path) == table.device);
    let mode = ti.table_mode();
    let device = ti.device(path.unwrap_or(c""), mode).map_err(|error| {
        log.error(format_args!(
            "couldn't open device \"{}\": error {}",
            table.device,
            error.to_errno()
        ));
        Refusal {
            error: EINVAL,
            text: c"Unable to open storage device",
        }
    })?;
    let block_size = device.logical_block_size();
    if u64::from(block_size) > BLOCK_SECTORS * SECTOR_SIZE as u64 {
        log.error(format_args!(
            "the logical blocks of \"{}\" have {block_size} bytes, at most 4096 can be used",
            table.device
        ));
        return Err(Refusal {
            error: EINVAL,
            text: c"Logical blocks of the storage device are too large",
        });
    }
    let mut settings = table.settings;
    if table.version == 0 {
        settings.physical_blocks = device.sectors() / BLOCK_SECTORS;
    }
    Ok((settings, device, table.device))
}

fn refused(refusal: Refusal) -> CtrError {
    CtrError::new(refusal.error, refusal.text)
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or("?")
}
