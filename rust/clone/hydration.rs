// SPDX-License-Identifier: GPL-2.0

//! Background hydration: how much of it may run.

use crate::geometry::Regions;
use crate::geometry::Sectors;
use crate::window::Window;
use runtime::clock::Millis;

/// Runs that may fail in a row, with nothing hydrated, before hydration pauses until the next tick.
const FAILURES_MAX: u32 = 16;

/// What a user may set. A value that was not stated leaves the choice to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Most regions in flight; 0 stops hydration.
    pub threshold: Option<u32>,
    /// Most neighbouring regions in one copy; 0 counts as 1.
    pub batch_size: Option<u32>,
}

/// How much hydration may run.
pub(crate) struct Hydration {
    region_size: Sectors,
    pub(crate) enabled: bool,
    pub(crate) tuning: Tuning,
    /// False while the device is suspended, read-only, or not resumed yet.
    running: bool,
    /// The sweep has passed the last region; it starts again with the next tick.
    resting: bool,
    in_flight: Regions,
    /// Runs that failed since the last one that did not.
    failures: u32,
    window: Window,
}

/// Leave to hydrate up to so many neighbouring regions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    pub(crate) regions: Regions,
}

impl Hydration {
    pub(crate) fn new(region_size: Sectors, enabled: bool, tuning: Tuning) -> Self {
        Self {
            region_size,
            enabled,
            tuning,
            running: false,
            resting: false,
            in_flight: 0,
            failures: 0,
            window: Window::new(),
        }
    }

    pub(crate) fn run(&mut self) {
        self.running = true;
        self.kick();
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    pub(crate) fn halt(&mut self) {
        self.running = false;
        self.window.restart();
    }

    /// A new sweep may start.
    pub(crate) fn kick(&mut self) {
        self.resting = false;
    }

    /// The sweep has passed the last region.
    pub(crate) fn rest(&mut self) {
        self.resting = true;
        self.window.restart();
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.in_flight == 0
    }

    /// Returns leave for one more copy by a worker with a buffer of `capacity` sectors.
    pub(crate) fn permit(&mut self, capacity: Sectors, full_capacity: Sectors) -> Option<Permit> {
        let regions = self.next_regions(full_capacity);
        // A worker with a small buffer takes small copies only.
        let fits =
            capacity == full_capacity || regions.saturating_mul(self.region_size) <= capacity;
        if regions == 0 || !fits {
            return None;
        }
        self.in_flight += regions;
        Some(Permit { regions })
    }

    /// Returns how many sectors the next permit is for, if there may be one.
    pub(crate) fn next_copy(&self, full_capacity: Sectors) -> Option<Sectors> {
        let regions = self.next_regions(full_capacity);
        (regions > 0).then(|| regions.saturating_mul(self.region_size))
    }

    fn next_regions(&self, full_capacity: Sectors) -> Regions {
        if !self.enabled || !self.running || self.resting {
            return 0;
        }
        // Two copies at least in the window, so that one reads while the other writes.
        let copy = match self.tuning.threshold {
            Some(_) => full_capacity,
            None => full_capacity.min(self.window.sectors() / 2),
        };
        let per_buffer = regions_in(copy, self.region_size);
        let batch = self
            .tuning
            .batch_size
            .map_or(per_buffer, |size| u64::from(size.max(1)));
        let room = match self.tuning.threshold {
            Some(threshold) => u64::from(threshold).saturating_sub(self.in_flight),
            // The first copy may always run, however large a region is.
            None if self.in_flight == 0 => per_buffer,
            None => {
                let sectors = self.in_flight.saturating_mul(self.region_size);
                let room = self.window.sectors().saturating_sub(sectors);
                // Rather wait than cut the window's rest into small copies.
                if room < self.region_size.max(copy) {
                    0
                } else {
                    per_buffer
                }
            }
        };
        batch.min(room).min(per_buffer)
    }

    /// Some of the regions of a permit are not needed.
    pub(crate) fn give_back(&mut self, regions: Regions) {
        self.in_flight = self.in_flight.saturating_sub(regions);
    }

    /// A run of `regions` regions has ended, `hydrated` of them well; `users` says if users have
    /// used the source meanwhile.
    pub(crate) fn completed(
        &mut self,
        regions: Regions,
        hydrated: Regions,
        users: bool,
        now: Millis,
    ) {
        self.give_back(regions);
        if hydrated > 0 {
            self.failures = 0;
            let sectors = hydrated.saturating_mul(self.region_size);
            self.window.completed(sectors, users, now);
            return;
        }
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            self.failures = 0;
            self.rest();
        }
    }
}

/// Returns how many regions fit a buffer; a larger region is copied in parts.
fn regions_in(capacity: Sectors, region_size: Sectors) -> Regions {
    // A region size is a power of two.
    (capacity >> region_size.trailing_zeros()).max(1)
}

#[cfg(test)]
mod tests;
