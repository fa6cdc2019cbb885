// SPDX-License-Identifier: GPL-2.0

//! What the parts of a volume see of the world, and how one thread runs several tasks.

use interleavings::world::Memory;
use interleavings::world::Still;
use kernel::fmt;
use kernel::prelude::*;
use std::future::Future;
use std::pin::pin;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use vdo::format::Page;
use vdo::world::Compressor;
use vdo::world::Level;
use vdo_sim::bio::Line;

/// A world of memory and a clock that stands still.
pub struct Host(pub Still);

impl vdo::world::World for Host {
    type Disk = Memory;
    type Clock = Still;
    type Bios = Line;
    type Compressor = NoCompressor;

    fn clock(&self) -> &Still {
        &self.0
    }

    fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        assert_ne!(level, Level::Error, "{text}");
    }

    fn event(&self) {}

    fn time_of_day_ms(&self) -> u64 {
        0
    }

    fn random(&self) -> u64 {
        0
    }

    fn decompress(&self, _: &[u8], _: &mut Page) -> Result {
        Err(EIO)
    }

    fn compressor(&self) -> Result<NoCompressor> {
        Ok(NoCompressor)
    }
}

/// Compresses nothing.
pub struct NoCompressor;

impl Compressor for NoCompressor {
    fn compress(&mut self, _: &Page, _: &mut [u8], _: u32) -> Option<usize> {
        None
    }
}

/// A task of a volume.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Polls `future` and all tasks until it is done; none of them ends before.
pub fn drive<'a, T>(
    future: impl Future<Output = T>,
    tasks: impl IntoIterator<Item = &'a mut Task>,
) -> T {
    let mut future = pin!(future);
    let mut tasks: Vec<_> = tasks.into_iter().collect();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        for task in &mut tasks {
            assert!(task.as_mut().poll(&mut context).is_pending());
        }
    }
}
