// SPDX-License-Identifier: GPL-2.0

//! What administrators are told without asking: the end of a recovery, and that space runs out.

use crate::volume::engine::Engine;
use crate::world::Level;
use crate::world::World;
use kernel::prelude::*;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;

/// When used space rises through one of these percentages, an event is raised.
const PERCENTAGES: [u32; 5] = [80, 85, 90, 95, 100];

/// How full the volume was when it was last looked at.
pub(crate) struct Fullness(AtomicU32);

impl Fullness {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Takes note of how full the volume is. Returns true if that is more than one of the
    /// percentages, and was less before.
    fn rises(&self, percentage: u32) -> bool {
        let passed = |percentage| PERCENTAGES.iter().filter(|&&p| percentage >= p).count();
        let before = self.0.swap(percentage);
        passed(percentage) > passed(before)
    }
}

impl<W: World> Engine<W> {
    /// Waits for the end of a recovery, and tells of it.
    pub async fn run_watch(engine: Arc<Self>) {
        let is_recovery = engine.started.recv().await;
        if engine.depot.scrubbed().await.is_err() || !engine.is_started() {
            return;
        }
        let text = if is_recovery {
            "Exiting recovery mode"
        } else {
            "VDO commencing normal operation"
        };
        engine.world.log(Level::Info, fmt!("{text}"));
        if is_recovery {
            engine.world.event();
        }
    }

    /// To be called about once a second, in any context.
    pub fn tick(&self) {
        let depot = self.depot.statistics();
        // The number of blocks has 36 bits.
        let percentage = depot
            .used_blocks()
            .saturating_mul(100)
            .checked_div(depot.data_blocks);
        if self.fullness.rises(percentage.unwrap_or(0) as u32) {
            self.world.event();
        }
    }
}

#[cfg(test)]
mod tests;
