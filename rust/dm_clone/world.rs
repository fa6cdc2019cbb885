// SPDX-License-Identifier: GPL-2.0

//! What the core sees of the kernel, beside the devices.

use crate::parameters::HYDRATION_THROTTLE;
use clone::engine::World;
use core::fmt::Arguments;
use dm::TargetRef;
use kernel::prelude::*;
use platform::clock::KernelClock;
use platform::disk::KernelDisk;

/// The kernel, as the engine of one line of a table sees it.
pub(crate) struct KernelWorld {
    clock: KernelClock,
    line: TargetRef,
}

impl KernelWorld {
    pub(crate) fn new(line: TargetRef) -> Self {
        Self {
            clock: KernelClock,
            line,
        }
    }

    pub(crate) fn line(&self) -> &TargetRef {
        &self.line
    }
}

impl World for KernelWorld {
    type Disk = KernelDisk;
    type Clock = KernelClock;

    fn clock(&self) -> &KernelClock {
        &self.clock
    }

    fn event(&self) {
        self.line.event();
    }

    fn error(&self, text: Arguments<'_>) {
        self.line.error(text);
    }

    fn hydration_failed(&self) {
        let (line, name) = (0, c"clone: failed hydrations");
        self.line
            .error_limited(line, name, fmt!("hydration failed"));
    }

    fn throttle_percent(&self) -> u32 {
        HYDRATION_THROTTLE.get()
    }
}
