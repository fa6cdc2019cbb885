// SPDX-License-Identifier: GPL-2.0

//! A disk in memory: every operation completes at once and is remembered.

use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::PAGE_SIZE;
use runtime::disk::SECTOR_SIZE;
use runtime::sync::Arc;
use sim::disk::SimBuffer;
use std::future::ready;
use std::future::Future;
use std::sync::Mutex;

/// Something that was done to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A write that completed.
    Write {
        /// Where it began.
        sector: u64,
        /// What was written.
        data: Vec<u8>,
    },
    /// A flush that completed.
    Flush,
}

#[derive(Default)]
struct State {
    image: Vec<u8>,
    log: Vec<Op>,
    reads: u64,
    sectors_read: u64,
    /// Operations until one fails, and whether all later ones do too.
    failing: Option<(u64, bool)>,
}

/// A disk in memory.
pub struct MemDisk {
    sectors: u64,
    state: Mutex<State>,
}

impl MemDisk {
    /// Creates a disk with these contents.
    pub fn new(image: Vec<u8>) -> Arc<Self> {
        let sectors = (image.len() / SECTOR_SIZE) as u64;
        let state = Mutex::new(State {
            image,
            ..State::default()
        });
        match Arc::new(Self { sectors, state }, GFP_KERNEL) {
            Ok(disk) => disk,
            Err(_) => panic!("out of memory"),
        }
    }

    /// Creates a disk of `blocks` zeroed blocks.
    pub fn blank(blocks: u64) -> Arc<Self> {
        Self::new(vec![0; blocks as usize * PAGE_SIZE])
    }

    /// Returns what is on the disk.
    pub fn image(&self) -> Vec<u8> {
        self.with(|state| state.image.clone())
    }

    /// Changes what is on the disk behind everybody's back.
    pub fn change(&self, change: impl FnOnce(&mut [u8])) {
        self.with(|state| change(&mut state.image));
    }

    /// Returns the writes and flushes since the last call.
    pub fn take_log(&self) -> Vec<Op> {
        self.with(|state| std::mem::take(&mut state.log))
    }

    /// Returns the number of reads and of sectors read since the last call.
    pub fn take_reads(&self) -> (u64, u64) {
        self.with(|state| {
            (
                std::mem::take(&mut state.reads),
                std::mem::take(&mut state.sectors_read),
            )
        })
    }

    /// Lets the operation after the next `operations` fail; with `dead` all later ones too.
    pub fn fail_after(&self, operations: u64, dead: bool) {
        self.with(|state| state.failing = Some((operations, dead)));
    }

    /// Lets all operations succeed again; returns true if one was left to fail.
    pub fn heal(&self) -> bool {
        self.with(|state| {
            state
                .failing
                .take()
                .is_some_and(|(left, dead)| left > 0 || !dead)
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn operate(&self, f: impl FnOnce(&mut State) -> Result) -> Result {
        self.with(|state| {
            match &mut state.failing {
                Some((0, true)) => return Err(EIO),
                Some((0, false)) => {
                    state.failing = None;
                    return Err(EIO);
                }
                Some((left, _)) => *left -= 1,
                None => {}
            }
            f(state)
        })
    }
}

fn range(sector: u64, sectors: u32) -> std::ops::Range<usize> {
    let start = sector as usize * SECTOR_SIZE;
    start..start + sectors as usize * SECTOR_SIZE
}

impl Disk for MemDisk {
    type Buffer = SimBuffer;

    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn buffer(&self, pages: usize) -> Result<SimBuffer> {
        SimBuffer::new(pages)
    }

    fn read_into(
        &self,
        sector: u64,
        sectors: u32,
        mut buffer: SimBuffer,
        page: usize,
    ) -> impl Future<Output = (SimBuffer, Result)> + Send {
        let result = self.operate(|state| {
            let data = state.image.get(range(sector, sectors)).ok_or(EIO)?;
            buffer.scatter(page, data);
            state.reads += 1;
            state.sectors_read += u64::from(sectors);
            Ok(())
        });
        ready((buffer, result))
    }

    fn write_from(
        &self,
        sector: u64,
        sectors: u32,
        buffer: SimBuffer,
        page: usize,
        durability: Durability,
    ) -> impl Future<Output = (SimBuffer, Result)> + Send {
        let result = self.operate(|state| {
            let target = state.image.get_mut(range(sector, sectors)).ok_or(EIO)?;
            let data = buffer.to_bytes(page, sectors.into());
            target.copy_from_slice(&data);
            if durability == Durability::Ordered {
                state.log.push(Op::Flush);
            }
            state.log.push(Op::Write { sector, data });
            Ok(())
        });
        ready((buffer, result))
    }

    fn flush(&self, buffer: SimBuffer) -> impl Future<Output = (SimBuffer, Result)> + Send {
        let result = self.operate(|state| {
            state.log.push(Op::Flush);
            Ok(())
        });
        ready((buffer, result))
    }
}
