// SPDX-License-Identifier: GPL-2.0

//! The status line.

use crate::engine::Engine;
use crate::engine::World;
use core::fmt;
use core::fmt::Write;
use runtime::disk::PAGE_SECTORS;

impl<W: World> Engine<W> {
    /// Writes the status line, as mainline has it.
    pub fn write_status(&self, out: &mut impl Write) -> fmt::Result {
        let volume = &self.volume;
        let space = volume.space();
        write!(
            out,
            "{PAGE_SECTORS} {}/{} {} {}/{} {}",
            space.used,
            space.total,
            volume.geometry.region_size(),
            volume.map.hydrated(),
            volume.geometry.regions(),
            self.hydrating(),
        )?;
        let (enabled, tuning) = self.hydration();
        let passdown = self.passes_discards_down();
        write!(out, " {}", u32::from(!enabled) + u32::from(!passdown))?;
        if !enabled {
            out.write_str(" no_hydration")?;
        }
        if !passdown {
            out.write_str(" no_discard_passdown")?;
        }
        // What was not stated shows as mainline's default.
        write!(
            out,
            " 4 hydration_threshold {} hydration_batch_size {} {}",
            tuning.threshold.unwrap_or(1),
            tuning.batch_size.unwrap_or(1),
            volume.mode(),
        )
    }
}
