// SPDX-License-Identifier: GPL-2.0

//! Keeps copying active for no more than a share of the time.

use runtime::clock::Millis;

/// Time after which the past counts half.
const MEMORY_MS: Millis = 200;

/// Longest time that a copy is put off: a user's write, or a suspend, may be waiting for it.
const DELAY_MS_MAX: Millis = 1000;

/// Measures how long copying is active.
#[derive(Default)]
pub(crate) struct Throttle {
    copies: u32,
    /// Until when time is accounted for.
    until: Millis,
    active: Millis,
    total: Millis,
}

impl Throttle {
    /// A copy that has asked since `asked` wants to begin, and copying may be active for `percent`
    /// of the time.
    ///
    /// # Errors
    ///
    /// How long it has to wait before it may ask again.
    pub(crate) fn begin(&mut self, percent: u32, asked: Millis, now: Millis) -> Result<(), Millis> {
        self.account(now);
        let percent = u64::from(percent);
        let earned = self.total.saturating_mul(percent);
        let used = self.active.saturating_mul(100);
        let waited = now.saturating_sub(asked);
        if percent < 100 && used > earned && waited < DELAY_MS_MAX {
            let pause = (used - earned).checked_div(percent).unwrap_or(DELAY_MS_MAX);
            return Err(pause.clamp(1, DELAY_MS_MAX - waited));
        }
        self.copies += 1;
        Ok(())
    }

    /// A copy has ended.
    pub(crate) fn end(&mut self, now: Millis) {
        self.account(now);
        self.copies = self.copies.saturating_sub(1);
    }

    fn account(&mut self, now: Millis) {
        let elapsed = now.saturating_sub(self.until);
        self.until = now;
        self.total = self.total.saturating_add(elapsed);
        if self.copies > 0 {
            self.active = self.active.saturating_add(elapsed);
        }
        // What is long past counts little, so a long rest earns no more than a short one.
        while self.total > 2 * MEMORY_MS {
            self.total /= 2;
            self.active /= 2;
        }
    }
}

#[cfg(test)]
mod tests;
