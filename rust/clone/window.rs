// SPDX-License-Identifier: GPL-2.0

//! How much hydration keeps in flight when nobody has said how much.
//!
//! The window tries other sizes from time to time. A larger one must move clearly more data to be
//! kept, a smaller one only not much less: a remote source gets enough in flight to hide its
//! latency, and what a saturated device has queued before a user's request stays short. As soon as
//! users read from the source, smaller windows are tried, down to a floor that is lower then; a fifth of
//! the throughput is a fair price for their shorter wait.

use crate::geometry::Sectors;
use runtime::clock::Millis;

/// The smallest window while nobody else uses the source.
const SECTORS_MIN: Sectors = (512 << 10) / 512;

/// The smallest window beside users.
const SECTORS_MIN_SHARED: Sectors = (128 << 10) / 512;

/// How long users count after they were seen.
const USERS_MS: Millis = 1000;

/// The window that hydration starts with.
const SECTORS_START: Sectors = (1 << 20) / 512;

/// The largest window: what the buffers hold.
pub(crate) const SECTORS_MAX: Sectors = (8 << 20) / 512;

/// Shortest time over which throughput is taken.
const INTERVAL_MS: Millis = 40;

/// Times that the window is turned over in an interval, at least.
const TURNS: u64 = 4;

/// Intervals between two trials.
const HOLD: u32 = 25;

/// The adaptive window.
pub(crate) struct Window {
    sectors: Sectors,
    /// Start of the running interval; `None` while the window turns over for the first time.
    since: Option<Millis>,
    /// Sectors copied since then.
    done: Sectors,
    trial: Trial,
    /// Intervals since the last trial.
    held: u32,
    /// Whether the next trial is of a smaller window.
    down: bool,
    /// Until when users count; `None` while there are none.
    users_until: Option<Millis>,
}

/// What the running interval is to show.
enum Trial {
    /// The throughput of the window as it is.
    None,
    /// Whether the window is better than the one that moved `rate` before.
    Of { before: Sectors, rate: u64 },
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            sectors: SECTORS_START,
            since: None,
            done: 0,
            trial: Trial::None,
            held: HOLD,
            down: false,
            users_until: None,
        }
    }

    /// Returns how many sectors may be in flight.
    pub(crate) fn sectors(&self) -> Sectors {
        self.sectors
    }

    /// Hydration stands still or starts anew: what was measured says nothing about what comes.
    pub(crate) fn restart(&mut self) {
        if let Trial::Of { before, .. } = self.trial {
            self.sectors = before;
        }
        self.trial = Trial::None;
        self.begin_interval(None);
    }

    /// A copy of `sectors` has ended; `users` says if users were seen since the last one ended.
    pub(crate) fn completed(&mut self, sectors: Sectors, users: bool, now: Millis) {
        self.look_at_users(users, now);
        self.done = self.done.saturating_add(sectors);
        let Some(since) = self.since else {
            // What was in flight before belongs to what was before.
            if self.done >= self.sectors {
                self.begin_interval(Some(now));
            }
            return;
        };
        let elapsed = now.saturating_sub(since);
        if elapsed < INTERVAL_MS || self.done < self.sectors * TURNS {
            return;
        }
        let rate = self.done.saturating_mul(1000).checked_div(elapsed);
        self.judge(rate.unwrap_or(0));
        let changed = matches!(self.trial, Trial::Of { .. });
        self.begin_interval((!changed).then_some(now));
    }

    fn look_at_users(&mut self, users: bool, now: Millis) {
        let before = self.users_until;
        if users {
            self.users_until = Some(now + USERS_MS);
        } else if before.is_some_and(|until| until <= now) {
            self.users_until = None;
        }
        if self.users_until.is_some() != before.is_some() {
            // They came or went: the other direction is the one to try now.
            self.restart();
            self.sectors = self.sectors.max(self.floor());
            self.held = HOLD;
            self.down = self.users_until.is_some();
        }
    }

    fn floor(&self) -> Sectors {
        if self.users_until.is_some() {
            SECTORS_MIN_SHARED
        } else {
            SECTORS_MIN
        }
    }

    fn begin_interval(&mut self, since: Option<Millis>) {
        self.since = since;
        self.done = 0;
    }

    /// An interval has shown `rate`, in sectors per second.
    fn judge(&mut self, rate: u64) {
        match self.trial {
            Trial::Of {
                before,
                rate: old_rate,
            } => {
                let (gain, loss) = if self.users_until.is_some() {
                    (4, 4)
                } else {
                    (8, 16)
                };
                let better = if self.sectors > before {
                    rate > old_rate + old_rate / gain
                } else {
                    rate + rate / loss >= old_rate
                };
                if better && self.try_next(rate) {
                    return;
                }
                if !better {
                    self.sectors = before;
                }
                self.trial = Trial::None;
                // If a smaller one is worse, a larger one may be better: that is tried at once.
                let next = self.down && !better && self.sectors < SECTORS_MAX;
                self.held = if next { HOLD } else { 0 };
                self.down = !self.down;
            }
            Trial::None if self.held < HOLD => self.held += 1,
            Trial::None => {
                if !self.try_next(rate) {
                    self.down = !self.down;
                }
            }
        }
    }

    /// Tries the next size in the direction of the trial; returns false if there is none.
    fn try_next(&mut self, rate: u64) -> bool {
        let next = if self.down {
            (self.sectors / 2).max(self.floor())
        } else {
            (self.sectors * 2).min(SECTORS_MAX)
        };
        if next == self.sectors {
            return false;
        }
        self.trial = Trial::Of {
            before: self.sectors,
            rate,
        };
        self.sectors = next;
        true
    }
}

#[cfg(test)]
mod tests;
