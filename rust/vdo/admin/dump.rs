// SPDX-License-Identifier: GPL-2.0

//! The message `dump`: the state of a volume, for the log, for people.

use crate::admin::status::IndexState;
use crate::admin::table::Log;
use crate::world::Level;
use core::fmt::Display;
use kernel::prelude::*;

/// Blocks that may be under way at once, as users of mainline know it.
pub const BLOCKS_MAX: u64 = 2048;

/// Of these, blocks of discards.
pub const DISCARD_BLOCKS_MAX: u64 = 1536;

/// Which parts of the state are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The queues of work.
    pub queues: bool,
    /// The requests.
    pub requests: bool,
    /// The volume.
    pub volume: bool,
}

impl Parts {
    /// Everything.
    pub const ALL: Self = Self {
        queues: true,
        requests: true,
        volume: true,
    };

    /// What is meant if nobody says which.
    pub const DEFAULT: Self = Self {
        queues: true,
        requests: false,
        volume: true,
    };

    fn and(self, other: Self) -> Self {
        Self {
            queues: self.queues || other.queues,
            requests: self.requests || other.requests,
            volume: self.volume || other.volume,
        }
    }

    /// Returns the parts that a word names; what follows the name does not matter.
    fn named(word: &str) -> Option<Self> {
        const NONE: Parts = Parts {
            queues: false,
            requests: false,
            volume: false,
        };
        const QUEUES: Parts = Parts {
            queues: true,
            ..NONE
        };
        const REQUESTS: Parts = Parts {
            requests: true,
            ..NONE
        };
        const VOLUME: Parts = Parts {
            volume: true,
            ..NONE
        };
        let names = [
            ("queues", QUEUES),
            ("threads", QUEUES),
            ("viopool", REQUESTS),
            ("pools", REQUESTS),
            ("vdo", VOLUME),
            ("default", Self::DEFAULT),
            ("all", Self::ALL),
        ];
        let begins = |name: &str| {
            word.as_bytes()
                .get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        };
        names
            .iter()
            .find(|(name, _)| begins(name))
            .map(|(_, parts)| *parts)
    }
}

/// Parses the words behind `dump`.
///
/// # Errors
///
/// `EINVAL`; the log names each unknown word.
pub fn parse<'a>(
    words: impl ExactSizeIterator<Item = &'a str>,
    log: &mut Log<'_>,
) -> Result<Parts> {
    if words.len() == 0 {
        return Ok(Parts::DEFAULT);
    }
    let mut all = Some(Parts::default());
    for word in words {
        match Parts::named(word) {
            Some(parts) => all = all.map(|all| all.and(parts)),
            None => {
                log(
                    Level::Warning,
                    format_args!("dump option name '{word}' unknown"),
                );
                all = None;
            }
        }
    }
    all.ok_or(EINVAL)
}

/// A number of things in use, and the most there ever were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// Now.
    pub now: u64,
    /// At most.
    pub most: u64,
}

/// What a dump always tells.
pub struct Frame<'a> {
    /// What asked for it.
    pub reason: &'a str,
    /// The mapped device.
    pub device: &'a dyn Display,
    /// Bios from above.
    pub requests: Gauge,
    /// Bios below.
    pub bios: u64,
    /// Blocks under way.
    pub blocks: Gauge,
    /// Blocks of discards under way.
    pub discards: Gauge,
    /// Whether bios wait to be admitted.
    pub waiting: bool,
    /// The index.
    pub index: IndexState,
    /// Zones of deduplication.
    pub hash_zones: u32,
    /// Whether blocks are compressed.
    pub compression: bool,
    /// How hard blocks are compressed while they are.
    pub acceleration: u32,
    /// Bytes of memory.
    pub memory: Gauge,
}

impl Frame<'_> {
    /// Logs the frame, and in it what `body` has to say.
    pub fn write(&self, log: &mut Log<'_>, body: impl FnOnce(&mut Log<'_>)) {
        let mut line = |text: core::fmt::Arguments<'_>| log(Level::Info, text);
        line(format_args!(
            "device-mapper: vdo dump triggered via {}",
            self.reason
        ));
        line(format_args!(
            "{} device requests outstanding (max {}), {} bio requests outstanding, device '{}'",
            self.requests.now, self.requests.most, self.bios, self.device,
        ));
        body(log);
        let mut line = |text: core::fmt::Arguments<'_>| log(Level::Info, text);
        line(format_args!("UDS index: state: {}", self.index.name()));
        for zone in 0..self.hash_zones.max(1) {
            line(format_args!("struct hash_zone {zone}: mapSize=0"));
        }
        line(format_args!(
            "compression: {}, acceleration {}",
            if self.compression { "on" } else { "off" },
            self.acceleration,
        ));
        let waiters = |waiting| {
            if waiting {
                "has waiters"
            } else {
                "no waiters"
            }
        };
        line(format_args!(
            "data_vios: {} of {BLOCKS_MAX} busy (max {}), {}",
            self.blocks.now,
            self.blocks.most,
            waiters(self.waiting),
        ));
        line(format_args!(
            "discard permits: {} of {DISCARD_BLOCKS_MAX} busy (max {}), {}",
            self.discards.now,
            self.discards.most,
            waiters(false),
        ));
        line(format_args!(
            "memory: {} bytes now, {} at most",
            self.memory.now, self.memory.most
        ));
        line(format_args!("end of device-mapper: vdo dump"));
    }
}

#[cfg(test)]
mod tests;
