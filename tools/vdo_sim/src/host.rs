// SPDX-License-Identifier: GPL-2.0

//! What the core sees of the machine beside its storage.

use crate::bio::Line;
use crate::codec;
use crate::device::Device;
use kernel::fmt;
use kernel::prelude::*;
use runtime::clock::Clock;
use sim::SimClock;
use sim::World;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::Mutex;
use std::sync::PoisonError;
use vdo::format::Page;
use vdo::world::Compressor;
use vdo::world::Level;
use vdo::world::Repeated;

/// What the core sees of the machine beside its storage.
pub struct Host {
    clock: SimClock,
    world: World,
    log: Mutex<Vec<(Level, String)>>,
    repeated: AtomicUsize,
}

impl Host {
    /// Returns what a core sees of `world`.
    pub fn new(world: &World) -> Self {
        Self {
            clock: SimClock::new(world),
            world: world.clone(),
            log: Mutex::default(),
            repeated: AtomicUsize::new(0),
        }
    }

    /// Returns the lines of the log.
    pub fn log(&self) -> Vec<(Level, String)> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns how many lines of the log a kernel would have cut off if there were too many.
    pub fn repeated(&self) -> usize {
        self.repeated.load(Ordering::Relaxed)
    }
}

impl vdo::world::World for Host {
    type Disk = Device;
    type Clock = SimClock;
    type Bios = Line;
    type Compressor = Toy;

    fn clock(&self) -> &SimClock {
        &self.clock
    }

    fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        let text = text.to_string();
        self.world.trace(|| format!("log      {text}"));
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((level, text));
    }

    fn log_repeated(&self, _: Repeated, text: fmt::Arguments<'_>) {
        self.repeated.fetch_add(1, Ordering::Relaxed);
        vdo::world::World::log(self, Level::Error, text);
    }

    fn time_of_day_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn random(&self) -> u64 {
        self.clock.now_ms().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn event(&self) {
        self.world.trace(|| "event".to_owned());
    }

    fn decompress(&self, fragment: &[u8], block: &mut Page) -> Result {
        let data = codec::decompress(fragment).ok_or(EIO)?;
        block.copy_from_slice(&data);
        Ok(())
    }

    fn compressor(&self) -> Result<Toy> {
        Ok(Toy)
    }
}

/// Compresses blocks of simulated data.
pub struct Toy;

impl Compressor for Toy {
    fn compress(&mut self, page: &Page, into: &mut [u8], _: u32) -> Option<usize> {
        let fragment = codec::compress(page)?;
        into.get_mut(..fragment.len())?.copy_from_slice(&fragment);
        Some(fragment.len())
    }
}
