// SPDX-License-Identifier: GPL-2.0

//! How much hydration keeps in flight when nobody has said how much.
//!
//! The window climbs while a larger one moves more data, and falls back when throughput falls: a
//! remote source gets enough in flight to hide its latency, a local one is not flooded.

use crate::geometry::Sectors;
use runtime::clock::Millis;

/// The smallest window: one full copy.
const SECTORS_MIN: Sectors = (512 << 10) / 512;

/// The window that hydration starts with.
const SECTORS_START: Sectors = (2 << 20) / 512;

/// The largest window: what the buffers hold.
pub(crate) const SECTORS_MAX: Sectors = (8 << 20) / 512;

/// Shortest time over which throughput is taken.
const INTERVAL_MS: Millis = 100;

/// The adaptive window.
pub(crate) struct Window {
    sectors: Sectors,
    /// Start of the running interval; `None` before its first copy has ended.
    since: Option<Millis>,
    /// Sectors copied in the running interval.
    done: Sectors,
    /// Sectors per second in the last interval.
    last_rate: u64,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            sectors: SECTORS_START,
            since: None,
            done: 0,
            last_rate: 0,
        }
    }

    /// Returns how many sectors may be in flight.
    pub(crate) fn sectors(&self) -> Sectors {
        self.sectors
    }

    /// Hydration stands still or starts anew: what was measured says nothing about what comes.
    pub(crate) fn restart(&mut self) {
        self.since = None;
        self.done = 0;
        self.last_rate = 0;
    }

    /// A copy of `sectors` has ended.
    pub(crate) fn completed(&mut self, sectors: Sectors, now: Millis) {
        let Some(since) = self.since else {
            self.since = Some(now);
            return;
        };
        self.done = self.done.saturating_add(sectors);
        let elapsed = now.saturating_sub(since);
        // A window that was not turned over a few times says nothing yet.
        if elapsed < INTERVAL_MS || self.done < self.sectors * 4 {
            return;
        }
        let rate = self
            .done
            .saturating_mul(1000)
            .checked_div(elapsed)
            .unwrap_or(0);
        if rate > self.last_rate + self.last_rate / 16 {
            self.sectors = (self.sectors * 2).min(SECTORS_MAX);
        } else if rate + rate / 8 < self.last_rate {
            self.sectors = (self.sectors / 2).max(SECTORS_MIN);
        }
        self.last_rate = rate;
        self.since = Some(now);
        self.done = 0;
    }
}

#[cfg(test)]
mod tests;
