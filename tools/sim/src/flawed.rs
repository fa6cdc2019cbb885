// SPDX-License-Identifier: GPL-2.0

//! A disk that breaks rules: what a core is given instead of the simulated disk, to see whether
//! that is found.

use crate::disk::all;
use crate::disk::Operation;
use crate::disk::SimBuffer;
use crate::disk::SimDisk;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::Part;
use std::future::pending;
use std::future::poll_fn;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

/// What happens to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Nothing: it is done as it was asked for.
    Fair,
    /// It is not done, and seems to complete.
    Dropped,
    /// It seems to complete when it is issued.
    Unawaited,
    /// It never gets stable.
    Fickle,
    /// It is stable at once.
    Stable,
}

/// Decides which operations of a disk are not done as they should be.
pub trait Flaws: Clone + Send + Sync + 'static {
    /// Returns true if the next read of `disk` never completes.
    fn loses_read(&self, disk: &SimDisk) -> bool {
        let _ = disk;
        false
    }

    /// Says what happens to a write of `data`.
    fn treat(&self, sector: u64, data: &[u8]) -> Treatment;

    /// Returns true if flushes are not done, and seem to succeed.
    fn drops_flushes(&self) -> bool {
        false
    }
}

/// A simulated disk with flaws. Clones are handles on the same disk.
#[derive(Clone)]
pub struct FlawedDisk<F> {
    disk: SimDisk,
    flaws: F,
}

impl<F: Flaws> FlawedDisk<F> {
    /// Returns a handle of `disk` with these flaws.
    pub fn new(disk: SimDisk, flaws: F) -> Self {
        Self { disk, flaws }
    }

    /// Issues a write and does not wait for it.
    async fn write_behind(&self, sector: u64, data: Vec<u8>) {
        let mut write = pin!(self.disk.submit(Operation::write(sector, data, false)));
        poll_fn(|context| {
            let _ = write.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
    }

    async fn write(&self, sector: u64, data: Vec<u8>, durability: Durability) -> Result {
        let treatment = self.flaws.treat(sector, &data);
        let durability = match treatment {
            Treatment::Dropped => return Ok(()),
            Treatment::Unawaited => {
                self.write_behind(sector, data).await;
                return Ok(());
            }
            Treatment::Stable => Durability::Stable,
            Treatment::Fair | Treatment::Fickle => durability,
        };
        if durability == Durability::Ordered {
            self.disk.submit(Operation::flush()).await.1?;
        }
        let fua = durability != Durability::Volatile;
        let write = Operation::write(sector, data, fua);
        let write = match treatment {
            Treatment::Fickle => write.fickle(),
            _ => write,
        };
        self.disk.submit(write).await.1
    }
}

impl<F: Flaws> Disk for FlawedDisk<F> {
    type Buffer = SimBuffer;

    fn sectors(&self) -> u64 {
        self.disk.sectors()
    }

    fn block_sectors(&self) -> u32 {
        self.disk.block_sectors()
    }

    fn buffer(&self, pages: usize) -> Result<SimBuffer> {
        self.disk.buffer(pages)
    }

    fn buffer_of_parts(&self, pages: usize, parts: usize) -> Result<SimBuffer> {
        self.disk.buffer_of_parts(pages, parts)
    }

    fn buffer_now(&self, pages: usize, parts: usize) -> Result<SimBuffer> {
        self.disk.buffer_now(pages, parts)
    }

    async fn read_into(
        &self,
        sector: u64,
        sectors: u32,
        buffer: SimBuffer,
        page: usize,
    ) -> (SimBuffer, Result) {
        if self.flaws.loses_read(&self.disk) {
            pending::<()>().await;
        }
        self.disk.read_into(sector, sectors, buffer, page).await
    }

    async fn write_from(
        &self,
        sector: u64,
        sectors: u32,
        buffer: SimBuffer,
        page: usize,
        durability: Durability,
    ) -> (SimBuffer, Result) {
        let data = buffer.to_bytes(page, sectors.into());
        let result = self.write(sector, data, durability).await;
        (buffer, result)
    }

    async fn read_parts(&self, buffer: SimBuffer, parts: &mut [Part]) -> SimBuffer {
        if parts.iter().any(|_| self.flaws.loses_read(&self.disk)) {
            pending::<()>().await;
        }
        self.disk.read_parts(buffer, parts).await
    }

    async fn write_parts(&self, buffer: SimBuffer, parts: &mut [Part]) -> SimBuffer {
        for some in parts.chunks_mut(buffer.parts()) {
            let write = |part: &Part| {
                let data = buffer.to_bytes(part.page, part.sectors.into());
                Box::pin(self.write(part.sector, data, Durability::Volatile))
            };
            let results = all(some.iter().map(write).collect()).await;
            for (part, result) in some.iter_mut().zip(results) {
                part.result = result;
            }
        }
        buffer
    }

    async fn flush(&self, buffer: SimBuffer) -> (SimBuffer, Result) {
        if self.flaws.drops_flushes() {
            return (buffer, Ok(()));
        }
        self.disk.flush(buffer).await
    }
}
