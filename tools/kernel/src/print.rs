// SPDX-License-Identifier: GPL-2.0

//! Logging: to standard error when `DMOX_LOG` is set, else nowhere.

/// Prints one line of the log. Called by the macros.
pub fn line(level: &str, args: core::fmt::Arguments<'_>) {
    if std::env::var_os("DMOX_LOG").is_some() {
        eprint!("{level}: {args}");
    }
}

/// Formats arguments, as `kernel::prelude::fmt!`.
#[macro_export]
macro_rules! fmt {
    ($($arg:tt)*) => { core::format_args!($($arg)*) };
}

/// Prints an error.
#[macro_export]
macro_rules! pr_err {
    ($($arg:tt)*) => { $crate::print::line("err", core::format_args!($($arg)*)) };
}

/// Prints a warning.
#[macro_export]
macro_rules! pr_warn {
    ($($arg:tt)*) => { $crate::print::line("warn", core::format_args!($($arg)*)) };
}

/// Prints something worth knowing.
#[macro_export]
macro_rules! pr_info {
    ($($arg:tt)*) => { $crate::print::line("info", core::format_args!($($arg)*)) };
}

/// Prints something for a developer.
#[macro_export]
macro_rules! pr_debug {
    ($($arg:tt)*) => { $crate::print::line("debug", core::format_args!($($arg)*)) };
}
