// SPDX-License-Identifier: GPL-2.0

//! Messages.

use crate::table::parse_u32;
use kernel::prelude::*;

/// A message, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Start copying in the background.
    EnableHydration,
    /// Start no further background copies.
    DisableHydration,
    /// Most regions in flight.
    Threshold(u32),
    /// Most neighbouring regions in one copy.
    BatchSize(u32),
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `EINVAL`; nothing is logged.
    Invalid,
    /// `EINVAL`; the log names the word.
    Unsupported,
}

impl From<Refused> for Error {
    fn from(_: Refused) -> Error {
        EINVAL
    }
}

/// Parses a message. Words behind `enable_hydration` and `disable_hydration` are ignored, as
/// mainline does.
pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Message, Refused> {
    let mut words = words.into_iter();
    let word = words.next().ok_or(Refused::Invalid)?;
    if word.eq_ignore_ascii_case("enable_hydration") {
        return Ok(Message::EnableHydration);
    }
    if word.eq_ignore_ascii_case("disable_hydration") {
        return Ok(Message::DisableHydration);
    }
    let (value, surplus) = (words.next(), words.next());
    let known = if word.eq_ignore_ascii_case("hydration_threshold") {
        Message::Threshold
    } else if word.eq_ignore_ascii_case("hydration_batch_size") {
        Message::BatchSize
    } else if value.is_some() && surplus.is_none() {
        return Err(Refused::Unsupported);
    } else {
        return Err(Refused::Invalid);
    };
    match (value.and_then(parse_u32), surplus) {
        (Some(value), None) => Ok(known(value)),
        _ => Err(Refused::Invalid),
    }
}

#[cfg(test)]
mod tests;
