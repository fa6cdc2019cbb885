// SPDX-License-Identifier: GPL-2.0

//! The devices as the core gets them: simulated disks, with a flaw if one is asked for.

use crate::flaw::Flaw;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::disk::Durability;
use sim::disk::Operation;
use sim::disk::SimBuffer;
use sim::SimDisk;
use std::future::pending;
use std::future::poll_fn;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

/// What a device is to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The metadata device.
    Metadata,
    /// The destination.
    Destination,
    /// The source.
    Source,
}

/// A device in the hands of the core.
#[derive(Clone)]
pub struct Device {
    disk: SimDisk,
    role: Role,
    flaw: Option<Flaw>,
}

impl Device {
    /// Returns a handle of `disk` with `flaw`.
    pub fn new(disk: SimDisk, role: Role, flaw: Option<Flaw>) -> Self {
        Self { disk, role, flaw }
    }

    fn has(&self, role: Role, flaw: Flaw) -> bool {
        self.role == role && self.flaw == Some(flaw)
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
}

impl Disk for Device {
    type Buffer = SimBuffer;

    fn sectors(&self) -> u64 {
        self.disk.sectors()
    }

    fn buffer(&self, pages: usize) -> Result<SimBuffer> {
        self.disk.buffer(pages)
    }

    async fn read_into(
        &self,
        sector: u64,
        sectors: u32,
        buffer: SimBuffer,
        page: usize,
    ) -> (SimBuffer, Result) {
        if self.has(Role::Source, Flaw::LostCompletion)
            && self.disk.world().with_rng(|rng| rng.chance(1, 8))
        {
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
        if self.has(Role::Destination, Flaw::BitBeforeData) {
            self.write_behind(sector, buffer.to_bytes(page, sectors.into()))
                .await;
            return (buffer, Ok(()));
        }
        let durability = match durability {
            Durability::Volatile
                if sector == 0 && self.has(Role::Metadata, Flaw::SuperblockFirst) =>
            {
                Durability::Stable
            }
            durability => durability,
        };
        self.disk
            .write_from(sector, sectors, buffer, page, durability)
            .await
    }

    async fn flush(&self, buffer: SimBuffer) -> (SimBuffer, Result) {
        if self.has(Role::Destination, Flaw::NoFlushBeforeCommit)
            || self.has(Role::Metadata, Flaw::SuperblockFirst)
        {
            return (buffer, Ok(()));
        }
        self.disk.flush(buffer).await
    }
}
