// SPDX-License-Identifier: GPL-2.0

//! A device of a table, as `runtime` wants its disks.

mod parts;

use crate::buffer::KernelBuffer;
use crate::task::may_begin;
use core::future::Future;
use core::mem;
use core::pin::Pin;
use core::task::Context;
use core::task::Poll;
use dm::Device;
use kernel::prelude::*;
pub use kext::bio::Class;
use kext::bio::Operation;
use parts::Parts;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::Part;

const SECTOR_SHIFT: u32 = 9;

/// A device of a table, for I/O of our own.
pub struct KernelDisk {
    device: Device,
    class: Class,
}

impl KernelDisk {
    /// Makes a disk of a device; `class` tells the block layer what its I/O is.
    pub fn new(device: Device, class: Class) -> Self {
        Self { device, class }
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn transfer(
        &self,
        operation: Operation,
        sector: u64,
        sectors: u32,
        buffer: KernelBuffer,
        page: usize,
    ) -> Transfer<'_> {
        let io = Io {
            device: &self.device,
            operation,
            sector,
            sectors,
            page,
        };
        Transfer {
            io,
            stage: Stage::Ready(buffer),
        }
    }
}

impl Disk for KernelDisk {
    type Buffer = KernelBuffer;

    fn sectors(&self) -> u64 {
        self.device.sectors()
    }

    fn block_sectors(&self) -> u32 {
        self.device.logical_block_size() >> SECTOR_SHIFT
    }

    fn buffer(&self, pages: usize) -> Result<KernelBuffer> {
        KernelBuffer::new(pages, 1, true)
    }

    fn buffer_of_parts(&self, pages: usize, parts: usize) -> Result<KernelBuffer> {
        KernelBuffer::new(pages, parts, true)
    }

    fn buffer_now(&self, pages: usize, parts: usize) -> Result<KernelBuffer> {
        KernelBuffer::new(pages, parts, false)
    }

    fn read_into(
        &self,
        sector: u64,
        sectors: u32,
        buffer: KernelBuffer,
        page: usize,
    ) -> impl Future<Output = (KernelBuffer, Result)> + Send {
        self.transfer(Operation::read(self.class), sector, sectors, buffer, page)
    }

    fn write_from(
        &self,
        sector: u64,
        sectors: u32,
        buffer: KernelBuffer,
        page: usize,
        durability: Durability,
    ) -> impl Future<Output = (KernelBuffer, Result)> + Send {
        let operation = match durability {
            Durability::Volatile => Operation::write(self.class, false),
            Durability::Stable => Operation::write(self.class, true),
            Durability::Ordered => Operation::ordered_write(self.class),
        };
        self.transfer(operation, sector, sectors, buffer, page)
    }

    async fn read_parts(&self, mut buffer: KernelBuffer, parts: &mut [Part]) -> KernelBuffer {
        if parts.len() > 1 && buffer.parts() > 1 {
            let operation = Operation::read(self.class);
            return Parts::new(&self.device, operation, buffer, parts).await;
        }
        for part in parts {
            let read = self.read_into(part.sector, part.sectors, buffer, part.page);
            (buffer, part.result) = read.await;
        }
        buffer
    }

    async fn write_parts(&self, mut buffer: KernelBuffer, parts: &mut [Part]) -> KernelBuffer {
        let operation = Operation::write(self.class, false);
        if parts.len() > 1 && buffer.parts() > 1 {
            return Parts::new(&self.device, operation, buffer, parts).await;
        }
        for part in parts {
            let write = self.transfer(operation, part.sector, part.sectors, buffer, part.page);
            (buffer, part.result) = write.await;
        }
        buffer
    }

    fn flush(&self, buffer: KernelBuffer) -> impl Future<Output = (KernelBuffer, Result)> + Send {
        self.transfer(Operation::flush(), 0, 0, buffer, 0)
    }
}

struct Io<'d> {
    device: &'d Device,
    operation: Operation,
    sector: u64,
    sectors: u32,
    /// The first page of the buffer.
    page: usize,
}

/// One I/O. Dropped in flight it leaks its buffer, which the device may still write to, and a
/// handle of the device, which then is never closed.
///
/// If the task has done much I/O in this poll already, which then completed at once, others are let
/// run before it begins: a work queue expects that an item ends soon.
struct Transfer<'d> {
    io: Io<'d>,
    stage: Stage,
}

enum Stage {
    Ready(KernelBuffer),
    /// With a handle of its own: a future may be forgotten, and what it borrows be gone then.
    Flying(KernelBuffer, Device),
    Done,
}

impl Future for Transfer<'_> {
    type Output = (KernelBuffer, Result);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if matches!(this.stage, Stage::Ready(_)) && !may_begin(context.waker(), this.io.sectors) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (mut buffer, open) = match mem::replace(&mut this.stage, Stage::Done) {
            Stage::Ready(mut buffer) => {
                let Io {
                    device,
                    operation,
                    sector,
                    sectors,
                    page,
                } = this.io;
                let open = device.clone();
                // SAFETY: Buffer and handle stay in this future, unused, until the buffer has
                // landed, or are leaked. The handle keeps the device open.
                let launched = unsafe { buffer.launch(&open, operation, sector, sectors, page) };
                if let Err(error) = launched {
                    return Poll::Ready((buffer, Err(error)));
                }
                (buffer, open)
            }
            Stage::Flying(buffer, open) => (buffer, open),
            Stage::Done => return Poll::Pending,
        };
        match buffer.land(context.waker()) {
            Some(result) => Poll::Ready((buffer, result)),
            None => {
                this.stage = Stage::Flying(buffer, open);
                Poll::Pending
            }
        }
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        if let Stage::Flying(buffer, open) = mem::replace(&mut self.stage, Stage::Done) {
            kernel::pr_err_once!("an I/O was given up while in flight, its buffer is lost\n");
            mem::forget((buffer, open));
        }
    }
}
