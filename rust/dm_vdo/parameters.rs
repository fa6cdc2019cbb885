// SPDX-License-Identifier: GPL-2.0

//! Module parameters.

/// The level of messages for information; the default.
pub(crate) const LEVEL_INFO: u32 = 6;

/// The largest level there is.
const LEVEL_DEBUG: u32 = 7;

kext::uint_param! {
    /// Messages above this level are not logged.
    static LOG_LEVEL: log_level = 6, "Log level for log messages";
}

/// Returns the level up to which messages are logged; what is not one is set right.
pub(crate) fn log_level() -> u32 {
    let level = LOG_LEVEL.get();
    if level <= LEVEL_DEBUG {
        return level;
    }
    LOG_LEVEL.set(LEVEL_INFO);
    LEVEL_INFO
}
