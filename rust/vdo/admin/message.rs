// SPDX-License-Identifier: GPL-2.0

//! Messages.

use crate::admin::dump;
use crate::admin::table::Log;
use crate::world::Level;
use kernel::prelude::*;

/// A message, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Answer with the statistics.
    Stats,
    /// Answer with the configuration.
    Config,
    /// Compress from now on, or no more.
    Compression(bool),
    /// Compress this hard: from 1 on, the higher, the less.
    Acceleration(u32),
    /// Change what is done with the index.
    Index(IndexOrder),
    /// Log the state.
    Dump(dump::Parts),
    /// Log the whole state when the device goes away.
    DumpOnShutdown,
}

/// With this much the compressor looks at the first bytes of a block only, and more changes nothing.
const ACCELERATION_MAX: u32 = 4096;

/// What is to be done with the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexOrder {
    /// Save and close it.
    Close,
    /// Make a new one and use it.
    Create,
    /// Keep it open, but do not use it.
    Disable,
    /// Use it.
    Enable,
}

/// Parses a message; what is wrong with it goes to the log.
///
/// # Errors
///
/// `EINVAL`.
pub fn parse<'a>(
    mut words: impl ExactSizeIterator<Item = &'a str>,
    log: &mut Log<'_>,
) -> Result<Message> {
    let Some(name) = words.next() else {
        log(Level::Warning, format_args!("unspecified dmsetup message"));
        return Err(EINVAL);
    };
    let is = |expected: &str| name.eq_ignore_ascii_case(expected);
    if is("dump") {
        return Ok(Message::Dump(dump::parse(words, log)?));
    }
    let argument = words.next();
    let known = match argument {
        None if is("stats") => Some(Message::Stats),
        None if is("config") => Some(Message::Config),
        None if is("dump-on-shutdown") => Some(Message::DumpOnShutdown),
        None if is("index-close") => Some(Message::Index(IndexOrder::Close)),
        None if is("index-create") => Some(Message::Index(IndexOrder::Create)),
        None if is("index-disable") => Some(Message::Index(IndexOrder::Disable)),
        None if is("index-enable") => Some(Message::Index(IndexOrder::Enable)),
        Some(value) if is("compression") && words.len() == 0 => {
            Some(Message::Compression(parse_compression(value, log)?))
        }
        Some(value) if is("compression-acceleration") && words.len() == 0 => {
            Some(Message::Acceleration(parse_acceleration(value, log)?))
        }
        _ => None,
    };
    known.ok_or_else(|| {
        log(
            Level::Warning,
            format_args!("unrecognized dmsetup message '{name}' received"),
        );
        EINVAL
    })
}

fn parse_compression(value: &str, log: &mut Log<'_>) -> Result<bool> {
    if value.eq_ignore_ascii_case("on") {
        return Ok(true);
    }
    if value.eq_ignore_ascii_case("off") {
        return Ok(false);
    }
    log(
        Level::Warning,
        format_args!("invalid argument '{value}' to dmsetup compression message"),
    );
    Err(EINVAL)
}

fn parse_acceleration(value: &str, log: &mut Log<'_>) -> Result<u32> {
    match value.parse() {
        Ok(acceleration @ 1..=ACCELERATION_MAX) => Ok(acceleration),
        _ => {
            log(
                Level::Warning,
                format_args!(
                    "invalid argument '{value}' to dmsetup compression-acceleration message: not a \
                     number from 1 to {ACCELERATION_MAX}"
                ),
            );
            Err(EINVAL)
        }
    }
}

#[cfg(test)]
mod tests;
