// SPDX-License-Identifier: GPL-2.0

//! The module `dm-passthrough`, for tests only: a target that does nothing in particular, with
//! all that `kext`, `dm` and `platform` offer.

use core::fmt::Write;
use core::future::poll_fn;
use core::future::Future;
use core::ops::ControlFlow;
use core::pin::pin;
use core::task::Poll;
use dm::Args;
use dm::CtrError;
use dm::CtrResultExt;
use dm::CtrTarget;
use dm::Device;
use dm::DeviceCallout;
use dm::MapBio;
use dm::MapResult;
use dm::Mode;
use dm::Registration;
use dm::StatusType;
use dm::StatusWriter;
use dm::Target;
use dm::TargetRef;
use dm::TargetType;
use kernel::prelude::*;
use kernel::sync::Arc;
use kext::atomic::AtomicU64;
use kext::bio::Kind;
use platform::bio_task;
use platform::bio_task::BioIo;
use platform::bio_task::BioResult;
use platform::block_on::block_on;
use platform::buffer::KernelBuffer;
use platform::clock::KernelClock;
use platform::disk::Class;
use platform::disk::KernelDisk;
use platform::executor::Executor;
use platform::executor::Placement;
use runtime::clock::Clock;
use runtime::clock::Timer;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::oneshot::Oneshot;
use runtime::pool::Pool;

module! {
    type: DmPassthrough,
    name: "dm_passthrough",
    authors: ["The dmox developers"],
    description: "Device-mapper target for tests",
    license: "GPL",
}

static TARGET: TargetType<Passthrough> = TargetType::new();

struct DmPassthrough {
    _registration: Registration,
}

impl kernel::Module for DmPassthrough {
    fn init(module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _registration: TARGET.register(module)?,
        })
    }
}

/// What the ticking task and the target share.
struct Shared {
    handle: TargetRef,
    stop: AtomicU64,
    ticks: AtomicU64,
    stopped: Oneshot<()>,
    metadata: KernelDisk,
    buffers: Pool<KernelBuffer>,
}

struct Passthrough {
    shared: Arc<Shared>,
    destination: Device,
    source: Device,
    served: AtomicU64,
    executor: Executor,
}

/// Sectors that the served kinds of bios are cut to.
const CHUNK: u32 = 24;

async fn tick(shared: Arc<Shared>) {
    if let Ok(mut timer) = KernelClock.timer() {
        while shared.stop.load_acquire() == 0 {
            timer.sleep(20).await;
            shared.ticks.fetch_add(1);
            if shared.ticks.load_relaxed() == 10 {
                shared.handle.event();
            }
        }
    }
    shared.stopped.send(());
}

async fn first_byte(disk: &KernelDisk) -> Result<u8> {
    let buffer = disk.buffer(1)?;
    let (buffer, result) = disk.read(0, 8, buffer).await;
    result?;
    buffer
        .page(0)
        .and_then(|page| page.first().copied())
        .ok_or(EIO)
}

/// Copies 1 MiB within the metadata device by a buffer of several pieces, then flushes.
async fn exercise(disk: &KernelDisk) -> Result {
    let (mut buffer, result) = disk.read(0, 2048, disk.buffer(256)?).await;
    result?;
    if let Some(page) = buffer.page_mut(255) {
        page.fill(0xa5);
    }
    let (buffer, result) = disk.write(2048, 2048, buffer, Durability::Volatile).await;
    result?;
    let (buffer, result) = disk.write(4096, 8, buffer, Durability::Stable).await;
    result?;
    let (buffer, result) = disk.flush(buffer).await;
    result?;
    // Too long for any bio, of a buffer that has done no I/O before; too long for the buffer; and
    // behind the end of the device.
    let (_, result) = disk.read(0, 0x80_0000, disk.buffer(1)?).await;
    if result.is_ok() {
        return Err(EINVAL);
    }
    let (buffer, result) = disk.read(0, 2049, buffer).await;
    if result.is_ok() {
        return Err(EINVAL);
    }
    let (_, result) = disk.read(disk.sectors(), 8, buffer).await;
    if result.is_ok() {
        return Err(EINVAL);
    }
    Ok(())
}

/// Reads 16 MiB of the metadata device; returns how often that was polled.
async fn polls_to_read(disk: &KernelDisk) -> Result<u32> {
    let mut read = pin!(async {
        let mut buffer = disk.buffer(256)?;
        for _ in 0..16 {
            let result;
            (buffer, result) = disk.read(0, 2048, buffer).await;
            result?;
        }
        Ok(())
    });
    let mut polls = 0;
    let done: Result = poll_fn(|context| {
        polls += 1;
        read.as_mut().poll(context)
    })
    .await;
    done.map(|()| polls)
}

impl Passthrough {
    /// Writes a block of its own first, then the bio, then tells.
    async fn write<'a>(&'a self, mut io: BioIo<'a>) -> BioResult<'a> {
        let shared = &self.shared;
        let mut buffer = shared.buffers.take().await;
        if let Some(page) = buffer.page_mut(0) {
            page.fill(io.info().sector as u8);
        }
        let (buffer, result) = shared
            .metadata
            .write(8, 8, buffer, Durability::Volatile)
            .await;
        shared.buffers.give(buffer);
        if let Err(error) = result {
            return io.end(Err(error));
        }
        self.served.fetch_add(1);
        let sector = io.info().sector;
        if sector % 16 == 0 {
            let result = io.forward(&self.destination, sector).await;
            return io.end(result);
        }
        if sector % 32 == 8 {
            // BioResult where it comes back, also if there is something to wait for then.
            let result = io.forward_briefly(&self.destination, sector).await;
            let buffer = shared.buffers.take().await;
            shared.buffers.give(buffer);
            return io.end(result);
        }
        if sector % 64 == 24 {
            self.begin(&mut io).await;
            return io.end(Ok(()));
        }
        io.remap(&self.destination, sector)
    }

    /// Sends the bio below and does not wait for it, which is for others to do.
    async fn begin<'a>(&'a self, io: &mut BioIo<'a>) {
        let sector = io.info().sector;
        let mut forward = pin!(io.forward(&self.destination, sector));
        poll_fn(|context| {
            let _ = forward.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
    }

    async fn flush<'a>(&'a self, mut io: BioIo<'a>) -> BioResult<'a> {
        // It has none, wherever the target begins.
        if io.info().sector != 0 {
            return io.end(Err(EINVAL));
        }
        if let Err(error) = io.forward(&self.destination, 0).await {
            return io.end(Err(error));
        }
        let buffer = self.shared.buffers.take().await;
        let (buffer, result) = self.shared.metadata.flush(buffer).await;
        self.shared.buffers.give(buffer);
        io.end(result)
    }
}

#[vtable]
impl Target for Passthrough {
    const NAME: &'static CStr = c"passthrough";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(ti: &mut CtrTarget<'_>, mut args: Args<'_>) -> Result<Self, CtrError> {
        if args.len() < 3 {
            return Err(CtrError::new(EINVAL, c"Invalid number of arguments"));
        }
        let mut open = |mode, text| {
            let path = args.next().unwrap_or(c"");
            ti.device(path, mode).ctr_error(text)
        };
        let metadata = open(Mode::ReadWrite, c"Error opening metadata device")?;
        let destination = open(Mode::ReadWrite, c"Error opening destination device")?;
        let source = open(Mode::Read, c"Error opening source device")?;
        let handle = ti.target_ref();
        let disk = KernelDisk::new(metadata, Class::Metadata);
        block_on(exercise(&disk)).ctr_error(c"Failed to load metadata")?;
        let byte = block_on(first_byte(&disk)).ctr_error(c"Failed to load metadata")?;
        handle.info(fmt!(
            "{} sectors over {}, first byte {}",
            ti.len(),
            destination.name(),
            byte
        ));
        let mut buffers = KVec::new();
        for _ in 0..4 {
            let buffer = disk.buffer(1).ctr_error(c"Failed to allocate buffers")?;
            buffers
                .push(buffer, GFP_KERNEL)
                .ctr_error(c"Failed to allocate buffers")?;
        }
        let shared = Shared {
            handle,
            stop: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            stopped: Oneshot::new(),
            metadata: disk,
            buffers: Pool::new(buffers),
        };
        let size = bio_task::size_of_task(Self::write).max(bio_task::size_of_task(Self::flush));
        shared.handle.info(fmt!("{} bytes per bio", size));
        ti.set_per_io_data_size(size)
            .ctr_error(c"Failed to reserve memory")?;
        ti.set_flush_supported();
        ti.set_discards_supported();
        let shared = Arc::new(shared, GFP_KERNEL).ctr_error(c"Failed to allocate target")?;
        let executor = Executor::new(c"dm-passthrough", Placement::SameCpu)
            .ctr_error(c"Failed to allocate workqueue")?;
        executor
            .spawn(tick(shared.clone()))
            .ctr_error(c"Failed to spawn")?;
        Ok(Self {
            shared,
            destination,
            source,
            served: AtomicU64::new(0),
            executor,
        })
    }

    fn map<'a>(&'a self, mut bio: MapBio<'a>) -> MapResult<'a> {
        let sector = bio.sector();
        match bio.kind() {
            Kind::Read => bio.remap(&self.destination, sector),
            Kind::Write => {
                bio.accept_partial_bio(CHUNK);
                bio_task::serve(&self.executor, bio, |io| self.write(io))
            }
            Kind::Flush => bio_task::serve(&self.executor, bio, |io| self.flush(io)),
            Kind::Discard => {
                let (start, end) = (
                    sector.next_multiple_of(8),
                    sector + u64::from(bio.sectors()),
                );
                let len = (end / 8 * 8).saturating_sub(start);
                if len == 0 {
                    return bio.end(Ok(()));
                }
                bio.trim(start, len as u32);
                bio.remap(&self.destination, start)
            }
            _ => bio.end(Err(kext::errno::eopnotsupp())),
        }
    }

    fn postsuspend(&self) {
        self.shared.handle.info(fmt!("suspended"));
    }

    fn resume(&self) {
        self.shared.handle.info(fmt!("resumed"));
    }

    fn status(&self, kind: StatusType, _noflush: bool, out: &mut StatusWriter<'_>) {
        let _ = match kind {
            StatusType::Info => write!(
                out,
                "served {} ticks {}",
                self.served.load_relaxed(),
                self.shared.ticks.load_relaxed()
            ),
            StatusType::Table => write!(
                out,
                "{} {} {}",
                self.shared.metadata.sectors(),
                self.destination.dev(),
                self.source.dev()
            ),
            StatusType::Ima => Ok(()),
        };
    }

    fn message(&self, mut args: Args<'_>, reply: &mut StatusWriter<'_>) -> Result {
        match args.next().map(CStr::to_bytes) {
            Some(b"echo") => {
                for word in args {
                    reply.write_bytes(word.to_bytes());
                }
                Ok(())
            }
            Some(b"event") => {
                self.shared.handle.event();
                Ok(())
            }
            Some(b"polls") => {
                let polls = block_on(polls_to_read(&self.shared.metadata))?;
                write!(reply, "{polls}").map_err(|_| EINVAL)
            }
            _ => Err(EINVAL),
        }
    }

    fn iterate_devices(&self, callout: &mut DeviceCallout<'_>) -> ControlFlow<()> {
        let len = self.shared.handle.len();
        callout.call(&self.source, 0, len)?;
        callout.call(&self.destination, 0, len)
    }
}

impl Drop for Passthrough {
    fn drop(&mut self) {
        self.shared.stop.store_release(1);
        block_on(self.shared.stopped.recv());
    }
}
