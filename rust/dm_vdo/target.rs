// SPDX-License-Identifier: GPL-2.0

//! The `vdo` target: from device-mapper's calls to the engine's.

use crate::log::Log;
use core::fmt::Arguments;
use dm::Args;
use dm::Device;
use dm::Features;
use dm::LoadError;
use dm::MapBio;
use dm::Mapped;
use dm::Mode;
use dm::OrFail;
use dm::Setup;
use dm::StatusKind;
use dm::StatusWriter;
use dm::Target;
use kernel::prelude::*;
use kext::errno::eopnotsupp;
use vdo::error::Error as VdoError;
use vdo::error::Status;
use vdo::storage::BLOCK_SECTORS;
use vdo::table;
use vdo::table::Refusal;
use vdo::table::Settings;

/// A vdo device: the one line of its table.
pub(crate) struct VdoTarget;

impl Target for VdoTarget {
    const NAME: &'static CStr = c"vdo";
    const LOG_NAME: &'static str = "vdo";
    const VERSION: [u32; 3] = [9, 2, 0];
    const FEATURES: Features = Features::SINGLETON;

    fn new(setup: &mut Setup<'_>, args: Args<'_>) -> Result<Self, LoadError> {
        let log = Log { instance: 0 };
        let line = join(args.clone()).or_fail(c"Could not populate string")?;
        log.info(format_args!("table line: {}", text(&line)));
        let device = setup.handle().mapped_device();
        log.info(format_args!("loading device '{device}'"));
        let opened = parse(setup, args, log).map_err(|refusal| {
            log.error(format_args!(
                "parsing failed: {}: {}",
                refusal.text.to_str().unwrap_or(""),
                VdoError::from(Status::BadConfiguration),
            ));
            LoadError::new(refusal.error, refusal.text)
        })?;
        let _ = opened;
        let error = VdoError::from(Status::NotImplemented);
        Err(LoadError::new(
            log.errno(error),
            c"Cannot load metadata from device",
        ))
    }

    fn map<'a>(&'a self, bio: MapBio<'a>) -> Mapped<'a> {
        bio.end(Err(eopnotsupp()))
    }

    fn status(&self, _: StatusKind, _: bool, _: &mut StatusWriter<'_>) {}
}

/// Parses the words of a table and opens the device that they name.
fn parse(setup: &mut Setup<'_>, args: Args<'_>, log: Log) -> Result<(Settings, Device), Refusal> {
    let mut line = |level, text: Arguments<'_>| log.line(level, text);
    let table = table::parse(0, setup.len(), args.clone().map(word), &mut line)?;
    let path = args.clone().find(|path| word(path) == table.device);
    let path = path.unwrap_or(c"");
    let device = setup.device(path, Mode::ReadWrite).map_err(|error| {
        log.error(format_args!(
            "couldn't open device \"{}\": error {}",
            table.device,
            error.to_errno()
        ));
        Refusal {
            error: EINVAL,
            text: c"Unable to open storage device",
        }
    })?;
    let mut settings = table.settings;
    if table.version == 0 {
        settings.physical_blocks = device.sectors() / BLOCK_SECTORS;
    }
    Ok((settings, device))
}

/// Joins words with blanks.
fn join(words: Args<'_>) -> Result<KVec<u8>> {
    let mut line = KVec::new();
    for word in words {
        if !line.is_empty() {
            line.push(b' ', GFP_KERNEL)?;
        }
        line.extend_from_slice(word.to_bytes(), GFP_KERNEL)?;
    }
    Ok(line)
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or("?")
}

/// Returns a word as text. What is no text is no word that we know, so it becomes an empty one.
fn word(word: &CStr) -> &str {
    word.to_str().unwrap_or("")
}
