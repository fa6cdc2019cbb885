// SPDX-License-Identifier: GPL-2.0

//! What the core sees of the kernel, beside the storage.

use crate::bios::UserBios;
use crate::log::Log;
use core::fmt::Arguments;
use dm::TargetRef;
use kernel::prelude::*;
use kext::lz4;
use kext::random;
use kext::timer;
use platform::clock::KernelClock;
use platform::disk::KernelDisk;
use runtime::disk::Page;
use runtime::sync::Lock;
use vdo::world::Compressor;
use vdo::world::Level;
use vdo::world::Repeated;
use vdo::world::World;

/// The kernel, as the engine of one volume sees it.
pub(crate) struct KernelWorld {
    log: Log,
    /// The line of the table in use. A table may be replaced, and the volume go on.
    line: Lock<Option<TargetRef>>,
}

impl KernelWorld {
    pub(crate) fn new(log: Log, line: TargetRef) -> Self {
        Self {
            log,
            line: Lock::new(Some(line)),
        }
    }

    /// Another line of a table takes over.
    pub(crate) fn set_line(&self, line: TargetRef) {
        drop(self.line.with(|own| own.replace(line)));
    }

    /// `line` goes away.
    pub(crate) fn forget_line(&self, line: &TargetRef) {
        let own = self
            .line
            .with(|own| own.take_if(|own| own.is_same_target(line)));
        drop(own);
    }
}

impl World for KernelWorld {
    type Disk = KernelDisk;
    type Clock = KernelClock;
    type Bios = UserBios;
    type Compressor = Lz4;

    fn clock(&self) -> &KernelClock {
        &KernelClock
    }

    fn log(&self, level: Level, text: Arguments<'_>) {
        self.log.line(level, text);
    }

    fn log_repeated(&self, line: Repeated, text: Arguments<'_>) {
        self.log.repeated(line, text);
    }

    fn time_of_day_ms(&self) -> u64 {
        timer::real_us() / 1000
    }

    fn random(&self) -> u64 {
        random::bits()
    }

    fn event(&self) {
        if let Some(line) = self.line.with(|own| own.clone()) {
            line.event();
        }
    }

    fn decompress(&self, fragment: &[u8], block: &mut Page) -> Result {
        lz4::decompress(fragment, block)
    }

    fn compressor(&self) -> Result<Lz4> {
        Ok(Lz4(lz4::Compressor::new()?))
    }
}

/// Compresses blocks.
pub(crate) struct Lz4(lz4::Compressor);

impl Compressor for Lz4 {
    fn compress(&mut self, block: &Page, into: &mut [u8], acceleration: u32) -> Option<usize> {
        self.0.compress(block, into, acceleration)
    }
}
