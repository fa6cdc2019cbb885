// SPDX-License-Identifier: GPL-2.0

//! Log messages of a target type rather than of one mapped device, and those whose prefix a target
//! chooses itself.

use kernel::fmt::Arguments;
use kernel::prelude::*;

/// Logs a warning, as `device-mapper: clone: Text`.
pub fn warn(target: &str, text: Arguments<'_>) {
    line(Level::Warning, fmt!("{target}: {text}"));
}

/// Logs an error, as `device-mapper: clone: Text`.
pub fn error(target: &str, text: Arguments<'_>) {
    line(Level::Error, fmt!("{target}: {text}"));
}

/// The level of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warning,
    /// What an administrator may want to know.
    Info,
}

/// Logs a line, as `device-mapper: Text`.
pub fn line(level: Level, text: Arguments<'_>) {
    match level {
        Level::Error => pr_err!("{text}\n"),
        Level::Warning => pr_warn!("{text}\n"),
        Level::Info => pr_info!("{text}\n"),
    }
}
