// SPDX-License-Identifier: GPL-2.0

//! Lines of the log, with the number of the volume and who wrote them.
//!
//! `device-mapper: vdo0:dmsetup: text` in a process, `device-mapper: vdo: vdo0:worker: text` in the
//! volume's own threads.

use crate::parameters;
use crate::parameters::LEVEL_INFO;
use core::fmt::Arguments;
use kernel::prelude::*;
use vdo::error::Error;
use vdo::world::Level;
use vdo::world::Repeated;

/// The log of one volume.
#[derive(Clone, Copy)]
pub(crate) struct Log {
    /// The number of the volume.
    pub(crate) instance: u32,
}

impl Log {
    /// Writes a line.
    pub(crate) fn line(self, level: Level, text: Arguments<'_>) {
        let number = match level {
            Level::Error => 3,
            Level::Warning => 4,
            Level::Info => LEVEL_INFO,
        };
        if number > parameters::log_level() {
            return;
        }
        let instance = self.instance;
        match kext::process::name() {
            Some(name) => dm::log::line(
                level_of(level),
                fmt!("vdo{instance}:{}: {text}", name.as_str()),
            ),
            None => dm::log::line(level_of(level), fmt!("vdo: vdo{instance}:worker: {text}")),
        }
    }

    /// Writes a line about an error, unless there were too many of its kind of late.
    pub(crate) fn repeated(self, line: Repeated, text: Arguments<'_>) {
        let name = match line {
            Repeated::Read => c"vdo: failed reads",
            Repeated::ReadModifyWrite => c"vdo: failed reads for writes",
            Repeated::Write => c"vdo: failed writes",
            Repeated::PageIo => c"vdo: failed block map I/O",
            Repeated::BadPage => c"vdo: bad block map pages",
            Repeated::BadMapping => c"vdo: bad mappings",
            Repeated::BadTree => c"vdo: bad block map entries",
        };
        if kext::print::ratelimit(line as u32, name) {
            self.error(text);
        }
    }

    /// Writes a line for information.
    pub(crate) fn info(self, text: Arguments<'_>) {
        self.line(Level::Info, text);
    }

    /// Writes a line about an error.
    pub(crate) fn error(self, text: Arguments<'_>) {
        self.line(Level::Error, text);
    }

    /// Returns the errno of `error`, and tells of it where the errno says less.
    pub(crate) fn errno(self, error: Error) -> kernel::error::Error {
        if let (true, Error::Status(status)) = (error.is_mapping_logged(), error) {
            self.line(
                Level::Warning,
                format_args!(
                    "vdo_status_to_errno: mapping internal status code {} ({}: {}) to EIO",
                    error.number(),
                    status.name(),
                    status.text(),
                ),
            );
        }
        error.errno()
    }
}

fn level_of(level: Level) -> dm::log::Level {
    match level {
        Level::Error => dm::log::Level::Error,
        Level::Warning => dm::log::Level::Warning,
        Level::Info => dm::log::Level::Info,
    }
}
