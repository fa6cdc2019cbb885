// SPDX-License-Identifier: GPL-2.0

//! A request that reads, as the core gets it.

use kernel::prelude::*;
use runtime::disk::SECTOR_SIZE;
use sim::clock::sleep;
use sim::disk::Io;
use sim::disk::Operation;
use sim::SimDisk;
use std::future::poll_fn;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;
use vdo::world::ReadBio;

/// Parts that are under way at once.
const PARTS: usize = 3;

/// A request that reads.
pub struct SimRead {
    disk: SimDisk,
    sector: u64,
    sectors: u32,
    /// What was read.
    pub data: Vec<u8>,
    /// Which bytes have been delivered.
    delivered: Vec<bool>,
    parts: Vec<(usize, Pin<Box<Io>>)>,
    result: Result,
}

impl SimRead {
    /// A read of sectors of the volume on `disk`.
    pub fn new(disk: SimDisk, sector: u64, sectors: u32) -> Self {
        let bytes = sectors as usize * SECTOR_SIZE;
        Self {
            disk,
            sector,
            sectors,
            data: vec![0xA5; bytes],
            delivered: vec![false; sectors as usize],
            parts: Vec::new(),
            result: Ok(()),
        }
    }

    /// Returns whether every sector was delivered.
    pub fn is_complete(&self) -> bool {
        self.delivered.iter().all(|done| *done)
    }

    fn deliver(&mut self, offset: usize, bytes: &[u8]) {
        self.data[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.mark(offset..offset + bytes.len());
    }

    fn mark(&mut self, bytes: Range<usize>) {
        self.delivered[bytes.start / SECTOR_SIZE..bytes.end / SECTOR_SIZE].fill(true);
    }

    /// Waits until at most `left` parts are under way.
    async fn drain(&mut self, left: usize) -> Result {
        while self.parts.len() > left {
            let (index, (data, result)) = poll_fn(|context| {
                for (index, (_, io)) in self.parts.iter_mut().enumerate() {
                    if let Poll::Ready(end) = io.as_mut().poll(context) {
                        return Poll::Ready((index, end));
                    }
                }
                Poll::Pending
            })
            .await;
            let (offset, _) = self.parts.swap_remove(index);
            if result.is_ok() {
                self.deliver(offset, &data);
            }
            self.result = self.result.and(result);
        }
        self.result
    }
}

impl ReadBio for SimRead {
    fn sector(&self) -> u64 {
        self.sector
    }

    fn sectors(&self) -> u32 {
        self.sectors
    }

    async fn forward(&mut self, sector: u64) -> Result {
        let read = Operation::read(sector, self.sectors.into());
        let (data, result) = self.disk.submit(read).await;
        if result.is_ok() {
            self.deliver(0, &data);
        }
        result
    }

    async fn start_part(&mut self, offset: usize, sector: u64, sectors: u32) -> Result {
        self.drain(PARTS - 1).await?;
        let mut io = Box::pin(self.disk.submit(Operation::read(sector, sectors.into())));
        // Polled once, it is on its way.
        let ended = poll_fn(|context| Poll::Ready(io.as_mut().poll(context).is_ready())).await;
        assert!(!ended, "an I/O takes time");
        self.parts.push((offset, io));
        Ok(())
    }

    async fn finish_parts(&mut self) -> Result {
        self.drain(0).await
    }

    fn zero(&mut self, offset: usize, bytes: usize) {
        self.data[offset..offset + bytes].fill(0);
        self.mark(offset..offset + bytes);
    }

    fn copy_in(&mut self, offset: usize, data: &[u8]) {
        self.deliver(offset, data);
    }

    async fn leave_map(&mut self) {
        sleep(self.disk.world(), 0).await;
    }
}

impl Drop for SimRead {
    fn drop(&mut self) {
        // A read is never given up while the storage works for it, but by a crash.
        assert!(
            self.parts.is_empty() || self.disk.world().crashed() || std::thread::panicking(),
            "a read was dropped with parts under way"
        );
    }
}
