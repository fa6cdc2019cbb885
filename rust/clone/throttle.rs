// SPDX-License-Identifier: GPL-2.0

//! Keeps copying active for no more than a share of the time.

use runtime::clock::Millis;

/// Longest time that a copy is put off: a user's write, or a suspend, may be waiting for it.
const DELAY_MS_MAX: Millis = 1000;

/// Most that is owed, in milliseconds of copying: what was copied against the limit long ago, or
/// under another one, is forgiven.
const DEBT_MS_MAX: Millis = 2000;

/// Weighs the time that copying is active against the time that it may be.
#[derive(Default)]
pub(crate) struct Throttle {
    copies: u32,
    /// The share that counts until somebody asks again.
    percent: u64,
    /// Until when time is accounted for.
    until: Millis,
    /// What copying was active beyond its share, in hundredths of a millisecond. A rest pays it
    /// back, and earns nothing beyond that.
    debt: u64,
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
        self.percent = percent.into();
        let waited = now.saturating_sub(asked);
        // Less than a millisecond cannot be waited for.
        let due = self.debt < self.percent;
        if self.percent < 100 && !due && waited < DELAY_MS_MAX {
            let pause = self.debt.checked_div(self.percent);
            return Err(pause
                .unwrap_or(DELAY_MS_MAX)
                .clamp(1, DELAY_MS_MAX - waited));
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
        if self.copies > 0 {
            self.debt = self.debt.saturating_add(elapsed.saturating_mul(100));
        }
        let earned = elapsed.saturating_mul(self.percent);
        self.debt = self.debt.saturating_sub(earned).min(DEBT_MS_MAX * 100);
    }
}

#[cfg(test)]
mod tests;
