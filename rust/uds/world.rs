// SPDX-License-Identifier: GPL-2.0

//! What an index sees of the world, beside the storage.

use core::fmt;
use runtime::disk::Disk;

/// How urgent a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warning,
    /// What an administrator may want to know.
    Info,
}

/// The world around one index.
pub trait World: Send + Sync + 'static {
    /// The storage.
    type Disk: Disk;

    /// Writes a line to the log.
    fn log(&self, level: Level, text: fmt::Arguments<'_>);

    /// Raises the event of the device: an administrator may want to look.
    fn event(&self);

    /// Returns the time of day, in milliseconds since 1970. It may go back.
    fn time_of_day_ms(&self) -> u64;

    /// Returns bits that nobody can guess.
    fn random(&self) -> u64;
}
