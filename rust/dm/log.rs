// SPDX-License-Identifier: GPL-2.0

//! Lines of the log that belong to a kind of target, not to one mapped device.

use kernel::fmt::Arguments;
use kernel::prelude::*;

/// Logs a warning, as `device-mapper: clone: Text`.
pub fn warn(target: &str, text: Arguments<'_>) {
    pr_warn!("{target}: {text}\n");
}

/// Logs an error, as `device-mapper: clone: Text`.
pub fn error(target: &str, text: Arguments<'_>) {
    pr_err!("{target}: {text}\n");
}
