// SPDX-License-Identifier: GPL-2.0

//! The `clone` target: from device-mapper's calls to the engine's.

use crate::limits;
use crate::registry;
use crate::registry::Claim;
use crate::registry::Volume;
use crate::world::KernelWorld;
use clone::copier;
use clone::copier::Tools;
use clone::engine::Engine;
use clone::engine::Settings;
use clone::geometry::Geometry;
use clone::geometry::SectorRange;
use clone::geometry::Sectors;
use clone::message;
use clone::message::Refused;
use clone::route::Job;
use clone::route::Operation;
use clone::route::Request;
use clone::route::Route;
use clone::route::Side;
use clone::route::Verdict;
use clone::table;
use clone::table::Refusal;
use core::fmt::Write;
use core::ops::ControlFlow;
use dm::args::word;
use dm::map::Kind;
use dm::Args;
use dm::CtrError;
use dm::CtrResultExt;
use dm::CtrTarget;
use dm::Device;
use dm::DeviceCallout;
use dm::MapBio;
use dm::MapResult;
use dm::Mode;
use dm::StatusType;
use dm::StatusWriter;
use dm::Target;
use kernel::prelude::*;
use kernel::sync::Arc;
use kext::bio::Class;
use kext::block::QueueLimits;
use kext::errno::eopnotsupp;
use platform::bio_task;
use platform::bio_task::BioIo;
use platform::bio_task::BioResult;
use platform::block_on::block_on;
use platform::disk::KernelDisk;
use platform::executor::Executor;
use platform::executor::Placement;
use platform::ticker::Ticker;
use runtime::stack::boxed;

/// The target's name, for the log.
pub(crate) const NAME: &str = "clone";

/// Sectors of a metadata device beyond which mainline warns that it is too large.
const METADATA_SECTORS_WARN: Sectors = 33_554_432;

/// Sectors of a metadata device that can be used.
const METADATA_SECTORS_MAX: Sectors = 33_292_800;

/// A clone device, or a part of one: one line of a table.
pub(crate) struct CloneTarget {
    // Dropped in this order: no more ticks, then the end of the engine's tasks, then the claim.
    ticker: Ticker,
    executor: Executor,
    engine: Arc<Engine<KernelWorld>>,
    metadata: Device,
    metadata_disk: Arc<KernelDisk>,
    destination: Device,
    source: Device,
    /// The arguments behind the devices, as they were given.
    arguments: KVec<u8>,
    read_only: bool,
    _claim: Claim,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure(CtrError::new(refusal.error, refusal.text))
    }
}

impl From<CtrError> for Failure {
    fn from(error: CtrError) -> Self {
        Failure(error)
    }
}

/// A [`CtrError`] that a [`Refusal`] can become.
struct Failure(CtrError);

#[vtable]
impl Target for CloneTarget {
    const NAME: &'static CStr = c"clone";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(ti: &mut CtrTarget<'_>, args: Args<'_>) -> Result<Self, CtrError> {
        Self::load(ti, args).map_err(|failure| failure.0)
    }

    fn map<'a>(&'a self, bio: MapBio<'a>) -> MapResult<'a> {
        let plain = matches!(bio.kind(), Kind::Read | Kind::Write) && !bio.is_fua();
        if plain && self.engine.is_finished() {
            let sector = bio.sector();
            return bio.remap(&self.destination, sector);
        }
        self.map_by_route(bio)
    }

    fn preresume(&self) -> Result {
        let disk = self.metadata_disk.clone();
        block_on(boxed(|| {
            self.engine.volume().activate(disk, self.read_only)
        }))?
    }

    fn resume(&self) {
        self.engine.resume();
        self.ticker.start();
    }

    fn postsuspend(&self) {
        self.ticker.pause();
        block_on(self.engine.suspend());
    }

    fn status(&self, kind: StatusType, noflush: bool, out: &mut StatusWriter<'_>) {
        match kind {
            StatusType::Info => {
                // Of a table that is not active, too: its engine knows, and does nothing then.
                if !noflush {
                    block_on(self.engine.commit_now());
                }
                // The writer cuts off what does not fit, and never fails.
                let _ = self.engine.write_status(out);
            }
            StatusType::Table => {
                for device in [&self.metadata, &self.destination, &self.source] {
                    // The writer cuts off what does not fit, and never fails.
                    let _ = write!(out, "{} ", device.dev());
                }
                out.write_bytes(&self.arguments);
            }
            StatusType::Ima => (),
        }
    }

    fn message(&self, args: Args<'_>, _reply: &mut StatusWriter<'_>) -> Result {
        match message::parse(args.clone().map(word)) {
            Ok(message) => {
                self.engine.message(message);
                Ok(())
            }
            Err(refused) => {
                if let (Refused::Unsupported, Some(word)) = (refused, args.map(word).next()) {
                    self.engine
                        .world()
                        .line()
                        .error(fmt!("Unsupported message `{word}'"));
                }
                Err(refused.into())
            }
        }
    }

    fn iterate_devices(&self, callout: &mut DeviceCallout<'_>) -> ControlFlow<()> {
        let length = self.engine.volume().geometry().length();
        callout.call(&self.source, 0, length)?;
        callout.call(&self.destination, 0, length)
    }

    fn io_hints(&self, queue_limits: &mut QueueLimits) {
        let region_size = self.engine.volume().geometry().region_size();
        if self.engine.passes_discards_down()
            && !limits::can_pass_discards_down(&self.destination, region_size)
        {
            self.engine.disable_discard_passdown();
        }
        let passdown = self.engine.passes_discards_down();
        limits::set(queue_limits, region_size, &self.destination, passdown);
    }
}

impl CloneTarget {
    fn load(ti: &mut CtrTarget<'_>, mut args: Args<'_>) -> Result<Self, Failure> {
        let count = args.len();
        if count < table::ARGUMENTS_MIN {
            return Err(table::invalid(c"Invalid number of arguments").into());
        }
        let read_only = ti.table_mode() == Mode::Read;
        let [metadata, destination, source] = open_devices(ti, &mut args, read_only)?;
        let arguments = args
            .clone()
            .join()
            .ctr_error(c"Failed to allocate memory for table line")?;
        let length = ti.len();
        let block_sizes = [&source, &destination].map(|device| device.logical_block_size() >> 9);
        let region_size = args.next().map_or("", word);
        let geometry = table::parse_geometry(region_size, length, block_sizes)?;
        let options = table::parse_options(args.map(word))?;
        check_length(&destination, length, c"Destination device is too small")?;
        check_length(&source, length, c"Source device is too small")?;

        let line = ti.target_ref();
        let metadata_disk = Arc::new(
            KernelDisk::new(metadata.clone(), Class::Metadata),
            GFP_KERNEL,
        )
        .ctr_error(c"Failed to allocate clone structure")?;
        let (claim, active) = registry::claim(&line, metadata_disk.clone())
            .ctr_error(c"Metadata device is already in use")?;
        let volume = match active {
            Some(volume) => {
                volume
                    .check_geometry(&geometry)
                    .ctr_error(c"Failed to load metadata")?;
                volume
            }
            None => load_volume(metadata_disk.clone(), geometry, read_only)
                .and_then(|volume| Ok(Arc::new(volume, GFP_KERNEL)?))
                .ctr_error(c"Failed to load metadata")?,
        };
        claim.set_volume(&volume);
        let settings = Settings {
            hydration: !options.no_hydration,
            discard_passdown: !options.no_discard_passdown,
            tuning: options.tuning,
            large_pages: copier::LARGE_PAGES,
            read_only,
        };
        let engine = Engine::new(
            KernelWorld::new(line),
            volume,
            KernelDisk::new(source.clone(), Class::Data),
            KernelDisk::new(destination.clone(), Class::Data),
            settings,
        );
        let engine = engine
            .and_then(|engine| Ok(Arc::new(engine, GFP_KERNEL)?))
            .ctr_error(c"Failed to allocate clone structure")?;
        let executor = Executor::new(c"dm-clone", Placement::SameCpu)
            .ctr_error(c"Failed to allocate workqueue")?;
        let ticking = engine.clone();
        let ticker = Ticker::new(&executor, move || ticking.tick())
            .ctr_error(c"Failed to allocate clone structure")?;
        // From here on the drop of the target ends the tasks, also of a load that fails.
        let target = Self {
            ticker,
            executor,
            engine,
            metadata,
            metadata_disk,
            destination,
            source,
            arguments,
            read_only,
            _claim: claim,
        };
        target
            .spawn_tasks()
            .ctr_error(c"Failed to allocate copy buffers")?;
        ti.set_flush_supported();
        ti.set_discards_supported();
        ti.set_per_io_data_size(bio_task::size_of_task(|this: &Self, io| {
            this.serve(Job::Flush, io)
        }))
        .ctr_error(c"Failed to set per-bio size")?;
        Ok(target)
    }

    fn spawn_tasks(&self) -> Result {
        self.executor
            .spawn(Engine::run_committer(self.engine.clone()))?;
        // Small copies go to the workers that come first, if they can.
        for number in 0..copier::SMALL_WORKERS + copier::LARGE_WORKERS {
            let pages = if number < copier::SMALL_WORKERS {
                1
            } else {
                copier::LARGE_PAGES
            };
            let tools = Tools::new(&self.engine, pages)?;
            self.executor
                .spawn(Engine::run_worker(self.engine.clone(), tools))?;
        }
        Ok(())
    }

    // Never inlined: what it needs on the stack would cost every bio.
    #[inline(never)]
    fn map_by_route<'a>(&'a self, mut bio: MapBio<'a>) -> MapResult<'a> {
        let operation = match bio.kind() {
            Kind::Read => Operation::Read,
            Kind::Write => Operation::Write { fua: bio.is_fua() },
            Kind::Discard => Operation::Discard,
            Kind::Flush => Operation::Flush,
            _ => return bio.end(Err(eopnotsupp())),
        };
        let start = bio.sector();
        let sectors = start..start.saturating_add(bio.sectors().into());
        match self.engine.route(operation, sectors) {
            Route::Remap(side, front) => {
                cut(&mut bio, &front);
                let device = match side {
                    Side::Source => &self.source,
                    Side::Destination => &self.destination,
                };
                bio.remap(device, front.start)
            }
            Route::Serve(job, front) => {
                cut(&mut bio, &front);
                bio_task::serve(&self.executor, bio, |io| self.serve(job, io))
            }
            Route::Complete => bio.end(Ok(())),
            Route::Fail(error) => bio.end(Err(error)),
        }
    }

    async fn serve<'a>(&'a self, job: Job, io: BioIo<'a>) -> BioResult<'a> {
        let sector = io.info().sector;
        let mut request = UserRequest {
            io,
            destination: &self.destination,
        };
        match self.engine.serve(job, &mut request).await {
            Verdict::Remap => request.io.remap(&self.destination, sector),
            Verdict::End(result) => request.io.end(result),
        }
    }
}

impl Drop for CloneTarget {
    fn drop(&mut self) {
        self.ticker.pause();
        self.engine.stop();
        // A table that is to replace this one may live on with the volume; the device handle goes.
        block_on(self.engine.volume().release(&self.metadata_disk));
    }
}

/// A bio in the hands of the core.
struct UserRequest<'a> {
    io: BioIo<'a>,
    destination: &'a Device,
}

impl Request for UserRequest<'_> {
    async fn forward(&mut self) -> Result {
        let sector = self.io.info().sector;
        self.io.forward(self.destination, sector).await
    }

    async fn forward_briefly(&mut self) -> Result {
        let sector = self.io.info().sector;
        self.io.forward_briefly(self.destination, sector).await
    }
}

/// Shortens `bio` to `front`.
fn cut(bio: &mut MapBio<'_>, front: &SectorRange) {
    let sectors = front.end.saturating_sub(front.start) as u32;
    if sectors == bio.sectors() {
        return;
    }
    match bio.kind() {
        Kind::Discard => bio.trim(front.start, sectors),
        _ => bio.accept_partial_bio(sectors),
    }
}

/// Opens metadata, destination and source.
fn open_devices(
    ti: &mut CtrTarget<'_>,
    args: &mut Args<'_>,
    read_only: bool,
) -> Result<[Device; 3], CtrError> {
    let writable = if read_only {
        Mode::Read
    } else {
        Mode::ReadWrite
    };
    let mut open = |mode, text, read_only_text| {
        let path = args
            .next()
            .ok_or(CtrError::new(EINVAL, c"Invalid number of arguments"))?;
        let device = ti.device(path, mode).ctr_error(text)?;
        if mode == Mode::ReadWrite && device.is_read_only() {
            return Err(CtrError::new(EROFS, read_only_text));
        }
        Ok(device)
    };
    let metadata = open(
        writable,
        c"Error opening metadata device",
        c"Metadata device is read-only",
    )?;
    if metadata.sectors() > METADATA_SECTORS_WARN {
        dm::log::warn(
            NAME,
            fmt!(
                "Metadata device {} is larger than {METADATA_SECTORS_MAX} sectors: excess space \
                 will not be used.",
                metadata.name()
            ),
        );
    }
    let destination = open(
        writable,
        c"Error opening destination device",
        c"Destination device is read-only",
    )?;
    let source = open(Mode::Read, c"Error opening source device", c"")?;
    if metadata == destination || metadata == source || destination == source {
        let text = c"Metadata, destination and source must be different devices";
        return Err(CtrError::new(EINVAL, text));
    }
    Ok([metadata, destination, source])
}

/// Checks that `device` holds `length` sectors, before anything is written anywhere.
fn check_length(device: &Device, length: Sectors, text: &'static CStr) -> Result<(), CtrError> {
    let sectors = device.sectors();
    if sectors >= length {
        return Ok(());
    }
    dm::log::error(
        NAME,
        fmt!(
            "{} too small for target: start=0, len={length}, dev_size={sectors}",
            device.name()
        ),
    );
    Err(CtrError::new(EINVAL, text))
}

fn load_volume(disk: Arc<KernelDisk>, geometry: Geometry, read_only: bool) -> Result<Volume> {
    block_on(boxed(|| Volume::load(disk, geometry, read_only)))?
}
