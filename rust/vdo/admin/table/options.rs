// SPDX-License-Identifier: GPL-2.0

//! The optional words of a table line, and the list of threads of old ones.

use super::invalid;
use super::words::number;
use super::Log;
use super::Refusal;
use super::Settings;
use crate::format::index::IndexMemory;
use crate::world::Level;
use core::fmt;

/// Blocks in a slab, if nobody says otherwise: 2 GiB.
pub(super) const DEFAULT_SLAB_BLOCKS: u64 = 1 << 19;

const SLAB_BLOCKS_MIN: u64 = 1 << 13;
const SLAB_BLOCKS_MAX: u64 = 1 << 23;

const THREADS_MAX: u32 = 100;
const LOGICAL_THREADS_MAX: u32 = 60;
const PHYSICAL_THREADS_MAX: u32 = 16;
const ROTATION_INTERVAL_MAX: u32 = 1024;

/// As much as fits into the 32 bits that the block layer has for the bytes of a discard.
const DISCARD_BLOCKS_MAX: u32 = u32::MAX / 4096;

/// A value was refused, and the log says why, as far as mainline's does.
type Parsed = Result<(), ()>;

/// Parses pairs of keys and values.
pub(super) fn parse_pairs<'a>(
    mut words: impl ExactSizeIterator<Item = &'a str>,
    settings: &mut Settings,
    log: &mut Log<'_>,
) -> Result<(), Refusal> {
    if words.len() % 2 != 0 {
        return Err(invalid(
            c"Odd number of optional arguments given but they should be <key> <value> pairs",
        ));
    }
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        parse_pair(key, value, settings, log)
            .map_err(|()| invalid(c"Invalid optional argument configuration"))?;
    }
    Ok(())
}

fn parse_pair(key: &str, value: &str, settings: &mut Settings, log: &mut Log<'_>) -> Parsed {
    match key {
        "deduplication" => settings.deduplication = parse_switch(value)?,
        "compression" => settings.compression = parse_switch(value)?,
        "indexSparse" => settings.index_sparse = parse_switch(value)?,
        "indexMemory" => settings.index_memory = parse_index_memory(value, log)?,
        "slabSize" => settings.slab_blocks = parse_slab_blocks(value, log)?,
        _ => {
            let count = parse_count("optional config string", value, log)?;
            if key == "maxDiscard" {
                settings.max_discard_blocks = check_max_discard(count, log)?;
            } else {
                set_threads(key, count, settings, log)?;
            }
        }
    }
    Ok(())
}

fn parse_switch(value: &str) -> Result<bool, ()> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(()),
    }
}

fn parse_index_memory(value: &str, log: &mut Log<'_>) -> Result<IndexMemory, ()> {
    match value {
        "0.25" => return Ok(IndexMemory::QUARTER),
        "0.5" | "0.50" => return Ok(IndexMemory::HALF),
        "0.75" => return Ok(IndexMemory::THREE_QUARTERS),
        _ => (),
    }
    let fault = match number(value) {
        // None at all is for a format to refuse.
        Some(count) if count <= IndexMemory::MAX_GIB => return Ok(IndexMemory(count)),
        Some(_) => "must not be greater than 1024",
        None => "must be a positive integer",
    };
    log(
        Level::Error,
        format_args!("optional parameter error: invalid memory size, {fault}"),
    );
    Err(())
}

fn parse_slab_blocks(value: &str, log: &mut Log<'_>) -> Result<u64, ()> {
    let blocks = number(value);
    let fault = match blocks {
        Some(blocks @ SLAB_BLOCKS_MIN..=SLAB_BLOCKS_MAX) if blocks.is_power_of_two() => {
            return Ok(blocks)
        }
        Some(_) => "must be a power of two between 8192 and 8388608",
        // Spelt as mainline spells it.
        None => "must be a postive integer",
    };
    log(
        Level::Error,
        format_args!("optional parameter error: invalid slab size, {fault}"),
    );
    Err(())
}

fn parse_count(what: &str, value: &str, log: &mut Log<'_>) -> Result<u32, ()> {
    number(value).ok_or_else(|| {
        log(
            Level::Error,
            format_args!("{what} error: integer value needed, found \"{value}\""),
        );
    })
}

fn check_max_discard(blocks: u32, log: &mut Log<'_>) -> Result<u32, ()> {
    let fault = match blocks {
        0 => "at least one max discard block required",
        1..=DISCARD_BLOCKS_MAX => return Ok(blocks),
        _ => "at most 1048575 max discard blocks are allowed",
    };
    log(
        Level::Error,
        format_args!("optional parameter error: {fault}"),
    );
    Err(())
}

/// Parses a list of threads, as `cpu=2,ack=1`; `.` stands for none.
pub(super) fn parse_threads(list: &str, settings: &mut Settings, log: &mut Log<'_>) -> Parsed {
    if list == "." {
        return Ok(());
    }
    for item in list.split(',') {
        let mut parts = item.split('=');
        let (Some(key), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
            log(
                Level::Error,
                format_args!(
                    "thread config string error: expected thread parameter assignment, saw \
                     \"{item}\""
                ),
            );
            return Err(());
        };
        let count = parse_count("thread config string", value, log)?;
        set_threads(key, count, settings, log)?;
    }
    Ok(())
}

/// Sets one number of threads. A key that nobody knows is only mentioned.
fn set_threads(key: &str, count: u32, settings: &mut Settings, log: &mut Log<'_>) -> Parsed {
    let mut refuse = |fault: fmt::Arguments<'_>| {
        log(
            Level::Error,
            format_args!("thread config string error: {fault}"),
        );
        Err(())
    };
    let threads = &mut settings.threads;
    if key == "bioRotationInterval" {
        return match count {
            // With two blanks, as mainline has it.
            0 => refuse(format_args!(" '{key}' of at least 1 is required")),
            1..=ROTATION_INTERVAL_MAX => {
                threads.bio_rotation_interval = count;
                Ok(())
            }
            _ => refuse(format_args!(
                "'{key}' cannot be higher than {ROTATION_INTERVAL_MAX}"
            )),
        };
    }
    let max = match key {
        "logical" => LOGICAL_THREADS_MAX,
        "physical" => PHYSICAL_THREADS_MAX,
        _ => THREADS_MAX,
    };
    if count > max {
        return refuse(format_args!("at most {max} '{key}' threads are allowed"));
    }
    let (own, least) = match key {
        "ack" => (&mut threads.ack, 0),
        "bio" => (&mut threads.bio, 1),
        "cpu" => (&mut threads.cpu, 1),
        "hash" => (&mut threads.hash, 0),
        "logical" => (&mut threads.logical, 0),
        "physical" => (&mut threads.physical, 0),
        _ => {
            log(
                Level::Info,
                format_args!("unknown thread parameter type \"{key}\""),
            );
            return Ok(());
        }
    };
    if count < least {
        return refuse(format_args!("at least one '{key}' thread required"));
    }
    *own = count;
    Ok(())
}
