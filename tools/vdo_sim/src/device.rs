// SPDX-License-Identifier: GPL-2.0

//! The storage as the core gets it: a simulated disk that knows what a write is for, and so can
//! break a rule of order.

use crate::flaw::Flaw;
use crate::flaw::Treatment;
use crate::toy::Layout;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::PAGE_SECTORS;
use runtime::disk::PAGE_SIZE;
use sim::disk::Operation;
use sim::disk::SimBuffer;
use sim::SimDisk;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use vdo::format::block_map;
use vdo::format::block_map::Validity;
use vdo::format::Page;
use vdo::format::Pbn;

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The geometry block.
    Geometry,
    /// The index.
    Index,
    /// The super block.
    SuperBlock,
    /// A root of the block map.
    Interior,
    /// Any other page of the block map.
    Leaf,
    /// A page of the block map that is not said to be initialized.
    NewPage,
    /// Data of users.
    Data,
    /// Reference counts.
    Counts,
    /// A slab journal.
    SlabJournal,
    /// The recovery journal.
    Journal,
    /// The slab summary.
    Summary,
}

/// A device in the hands of the core.
#[derive(Clone)]
pub struct Device {
    disk: SimDisk,
    layout: Layout,
    flaw: Option<Flaw>,
    started: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
}

impl Device {
    /// Returns a handle of `disk`, whose volume is laid out like this, with a flaw.
    pub fn new(disk: SimDisk, layout: Layout, flaw: Option<Flaw>) -> Self {
        Self {
            disk,
            layout,
            flaw,
            started: Arc::default(),
            closing: Arc::default(),
        }
    }

    /// Returns the disk.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The volume is in use now.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// The volume is about to be closed.
    pub fn set_closing(&self, closing: bool) {
        self.closing.store(closing, Ordering::Relaxed);
    }

    /// Returns true while the volume is being closed.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn treat(&self, pbn: Pbn, page: Option<&Page>) -> Treatment {
        let Some(flaw) = self.flaw else {
            return Treatment::Fair;
        };
        let applies = match flaw {
            Flaw::CleanTooEarly => self.is_closing(),
            Flaw::ChangeBeforeDirty | Flaw::GeometryFirst => true,
            _ => self.started.load(Ordering::Relaxed),
        };
        match applies {
            true => flaw.treat(self.kind(pbn, page)),
            false => Treatment::Fair,
        }
    }

    fn kind(&self, pbn: Pbn, page: Option<&Page>) -> Kind {
        let kind = self.layout.kind(pbn);
        let Some(page) = page.filter(|_| kind == Kind::Data) else {
            return kind;
        };
        let mut copy = *page;
        block_map::set_initialized(&mut copy, true);
        match block_map::validate(&copy, self.layout.nonce, pbn) {
            Validity::Valid if block_map::is_initialized(page) => Kind::Leaf,
            Validity::Valid => Kind::NewPage,
            _ => Kind::Data,
        }
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
        let first: Option<&Page> = data
            .get(..PAGE_SIZE)
            .and_then(|bytes| bytes.try_into().ok());
        let treatment = self.treat(sector / PAGE_SECTORS, first);
        match treatment {
            Treatment::Fair => {
                self.disk
                    .write_from(sector, sectors, buffer, page, durability)
                    .await
            }
            Treatment::Stable => {
                self.disk
                    .write_from(sector, sectors, buffer, page, Durability::Stable)
                    .await
            }
            Treatment::Dropped => (buffer, Ok(())),
            Treatment::Fickle => {
                if durability == Durability::Ordered {
                    let (_, flushed) = self.disk.submit(Operation::flush()).await;
                    if flushed.is_err() {
                        return (buffer, flushed);
                    }
                }
                let write = Operation::write(sector, data, false).fickle();
                let (_, result) = self.disk.submit(write).await;
                (buffer, result)
            }
        }
    }

    async fn flush(&self, buffer: SimBuffer) -> (SimBuffer, Result) {
        self.disk.flush(buffer).await
    }
}
