// SPDX-License-Identifier: GPL-2.0

//! A world in which I/O completes at once and no time goes by.

use kernel::prelude::*;
use runtime::clock::Clock;
use runtime::clock::Timer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use sim::disk::SimBuffer;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;

/// A disk; clones are handles on the same one.
#[derive(Clone)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// A disk that holds `image`.
    pub fn new(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(image)))
    }

    /// Fills sectors with a byte.
    pub fn fill(&self, sectors: Range<u64>, content: u8) {
        let mut bytes = self.0.lock().unwrap();
        bytes[sectors.start as usize * 512..sectors.end as usize * 512].fill(content);
    }

    /// Returns the first byte of `sector`.
    pub fn at(&self, sector: u64) -> u8 {
        self.0.lock().unwrap()[sector as usize * 512]
    }

    /// Returns all that it holds.
    pub fn image(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    /// Returns the bytes of some sectors.
    pub fn bytes(&self, sector: u64, sectors: u32) -> Vec<u8> {
        self.0.lock().unwrap()[sector as usize * 512..][..sectors as usize * 512].to_vec()
    }
}

impl Disk for Memory {
    type Buffer = SimBuffer;

    fn sectors(&self) -> u64 {
        self.0.lock().unwrap().len() as u64 / 512
    }

    fn buffer(&self, pages: usize) -> Result<SimBuffer> {
        SimBuffer::new(pages)
    }

    async fn read_into(
        &self,
        sector: u64,
        sectors: u32,
        mut buffer: SimBuffer,
        page: usize,
    ) -> (SimBuffer, Result) {
        buffer.scatter(page, &self.bytes(sector, sectors));
        (buffer, Ok(()))
    }

    async fn write_from(
        &self,
        sector: u64,
        sectors: u32,
        buffer: SimBuffer,
        page: usize,
        _: Durability,
    ) -> (SimBuffer, Result) {
        let mut bytes = self.0.lock().unwrap();
        let to = &mut bytes[sector as usize * 512..][..sectors as usize * 512];
        to.copy_from_slice(&buffer.to_bytes(page, sectors.into()));
        drop(bytes);
        (buffer, Ok(()))
    }

    async fn flush(&self, buffer: SimBuffer) -> (SimBuffer, Result) {
        (buffer, Ok(()))
    }
}

/// A clock that stands still.
pub struct Still;

impl Clock for Still {
    type Timer = Still;

    fn now_ms(&self) -> u64 {
        0
    }

    fn timer(&self) -> Result<Still> {
        Ok(Still)
    }
}

impl Timer for Still {
    async fn sleep(&mut self, _: u64) {}
}
