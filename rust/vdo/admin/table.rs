// SPDX-License-Identifier: GPL-2.0

//! The table line.
//!
//! ```text
//! [V0..V4] DEVICE ... [KEY VALUE]...
//! ```
//!
//! The rules, the texts and the lines of the log are mainline's; see `Documentation/vdo.md`. What
//! only the volume can tell (its sizes, its number of slabs) is checked when it is loaded.

mod options;
mod reload;
mod words;

pub use reload::growth_refused;
pub use reload::Changes;

use crate::format::index::IndexMemory;
use crate::world::Level;
use core::ffi::CStr;
use core::fmt::Arguments;
use kernel::prelude::*;

/// The version that this code would write.
const VERSION: u32 = 4;

/// Largest logical size, in blocks: 4 PiB.
const LOGICAL_BLOCKS_MAX: u64 = 1 << 40;

/// Sectors in a block.
const BLOCK_SECTORS: u64 = 8;

/// Blocks of page cache that each logical thread must have.
const CACHE_BLOCKS_PER_LOGICAL_THREAD: u64 = 4096;

/// Where lines for the log go.
pub type Log<'l> = dyn FnMut(Level, Arguments<'_>) + 'l;

/// Why a table line was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The errno.
    pub error: Error,
    /// The text for the log.
    pub text: &'static CStr,
}

/// Returns the refusal of an invalid argument.
const fn invalid(text: &'static CStr) -> Refusal {
    Refusal {
        error: EINVAL,
        text,
    }
}

/// How many threads of each kind mainline would start; 0 logical, physical and hash threads mean
/// that one thread does it all. Here they are checked, remembered, and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// Threads that acknowledge.
    pub ack: u32,
    /// Threads that submit to the storage.
    pub bio: u32,
    /// Blocks after which the next of these is used.
    pub bio_rotation_interval: u32,
    /// Threads that compute.
    pub cpu: u32,
    /// Zones of deduplication.
    pub hash: u32,
    /// Zones of the block map.
    pub logical: u32,
    /// Zones of the slabs.
    pub physical: u32,
}

impl Default for Threads {
    fn default() -> Self {
        Self {
            ack: 1,
            bio: 4,
            bio_rotation_interval: 64,
            cpu: 1,
            hash: 0,
            logical: 0,
            physical: 0,
        }
    }
}

impl Threads {
    /// Returns how many threads mainline would say there are: those that acknowledge count as
    /// one, as do those that compute, and there are one for deduplication and, in zones, one for
    /// the journal and one for the packer.
    pub fn total(&self) -> u32 {
        let zones = match self.logical {
            0 => 1,
            _ => self.hash + self.logical + self.physical + 2,
        };
        self.ack.min(1) + 1 + self.bio + zones + 1
    }
}

/// What a table line says, but for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The first sector, always 0.
    pub start: u64,
    /// The logical size, in blocks.
    pub logical_blocks: u64,
    /// The size of the storage that is used, in blocks; 0 in a line of version 0, which says that
    /// all of the device is used.
    pub physical_blocks: u64,
    /// The logical block size that users see, 512 or 4096.
    pub logical_block_size: u32,
    /// The size of the page cache, in blocks.
    pub cache_blocks: u32,
    /// After how many journal blocks, times a factor, a changed leaf page is written.
    pub maximum_age: u32,
    /// The threads.
    pub threads: Threads,
    /// The largest discard, in blocks.
    pub max_discard_blocks: u32,
    /// Whether equal blocks are to be stored once.
    pub deduplication: bool,
    /// Whether blocks are to be compressed.
    pub compression: bool,
    /// For a format: the memory of the index.
    pub index_memory: IndexMemory,
    /// For a format: a sparse index.
    pub index_sparse: bool,
    /// For a format: blocks in a slab.
    pub slab_blocks: u64,
}

/// What a table line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    /// The version of the line.
    pub version: u32,
    /// The storage: a path or `major:minor`.
    pub device: &'a str,
    /// The rest.
    pub settings: Settings,
}

/// Parses the words of a table line for `length` sectors from `start`.
///
/// # Errors
///
/// Why it is refused. In mainline's order, which decides what is reported of several faults.
pub fn parse<'a>(
    start: u64,
    length: u64,
    words: impl ExactSizeIterator<Item = &'a str> + Clone,
    log: &mut Log<'_>,
) -> Result<Table<'a>, Refusal> {
    if length > LOGICAL_BLOCKS_MAX * BLOCK_SECTORS {
        return Err(invalid(c"Logical size exceeds the maximum"));
    }
    if length % BLOCK_SECTORS != 0 {
        return Err(invalid(c"Logical size must be a multiple of 4096"));
    }
    let (version, mut words) = parse_version(words, log)?;
    let settings = Settings {
        start,
        logical_blocks: length / BLOCK_SECTORS,
        physical_blocks: 0,
        logical_block_size: 0,
        cache_blocks: 0,
        maximum_age: 0,
        threads: Threads::default(),
        max_discard_blocks: 1,
        deduplication: true,
        compression: false,
        index_memory: IndexMemory::QUARTER,
        index_sparse: false,
        slab_blocks: options::DEFAULT_SLAB_BLOCKS,
    };
    let mut table = Table {
        version,
        device: words.next().unwrap_or(""),
        settings,
    };
    let settings = &mut table.settings;
    parse_sizes(version, &mut words, settings)?;
    match version {
        0 | 1 => {
            let threads = words.last().unwrap_or("");
            options::parse_threads(threads, settings, log)
                .map_err(|()| invalid(c"Invalid thread-count configuration"))?;
        }
        _ => options::parse_pairs(words, settings, log)?,
    }
    check_zones(settings)?;
    Ok(table)
}

/// How many words a version has, with the version's own word: at least; and whether at most, too.
fn word_count(version: u32) -> (usize, bool) {
    match version {
        0 => (10, true),
        1 => (12, true),
        2 => (9, false),
        3 => (7, false),
        _ => (6, false),
    }
}

/// Returns the version and the words behind it.
fn parse_version<'a, W>(words: W, log: &mut Log<'_>) -> Result<(u32, W), Refusal>
where
    W: ExactSizeIterator<Item = &'a str> + Clone,
{
    let mut rest = words.clone();
    let first = rest
        .next()
        .ok_or(invalid(c"Incorrect number of arguments"))?;
    let stated = words::version(first);
    let version = stated.unwrap_or(0);
    if version > VERSION || stated == Some(0) {
        return Err(invalid(c"Unknown version number detected"));
    }
    if version < VERSION {
        log(
            Level::Warning,
            format_args!(
                "Detected version mismatch between kernel module and tools kernel: {VERSION}, \
                 tool: {version}"
            ),
        );
        log(
            Level::Warning,
            format_args!("Please consider upgrading management tools to match kernel."),
        );
    }
    let (least, exact) = word_count(version);
    if words.len() < least || (exact && words.len() > least) {
        return Err(invalid(c"Incorrect number of arguments for version"));
    }
    // Without a version's word the first is a parameter already.
    Ok((version, if stated.is_some() { rest } else { words }))
}

/// Parses what follows the device, up to the optional words or the list of threads.
fn parse_sizes<'a>(
    version: u32,
    words: &mut impl Iterator<Item = &'a str>,
    settings: &mut Settings,
) -> Result<(), Refusal> {
    let mut next = || words.next().unwrap_or("");
    if version > 0 {
        settings.physical_blocks =
            words::number(next()).ok_or(invalid(c"Invalid physical block count"))?;
    }
    settings.logical_block_size = match next() {
        "512" => 512,
        "4096" => 4096,
        _ => return Err(invalid(c"Invalid logical block size")),
    };
    // A cache of a compressed read cache, and how much, that never were.
    if version < 2 {
        next();
        next();
    }
    settings.cache_blocks =
        words::number(next()).ok_or(invalid(c"Invalid block map page cache size"))?;
    settings.maximum_age =
        words::number(next()).ok_or(invalid(c"Invalid block map maximum age"))?;
    // The layout below, the write policy, the name of the pool: of no interest any more.
    let ignored = match version {
        0..=2 => 3,
        3 => 1,
        _ => 0,
    };
    for _ in 0..ignored {
        next();
    }
    Ok(())
}

fn check_zones(settings: &Settings) -> Result<(), Refusal> {
    let zones = [
        settings.threads.logical,
        settings.threads.physical,
        settings.threads.hash,
    ];
    if zones.contains(&0) && zones != [0; 3] {
        return Err(invalid(
            c"Logical, physical, and hash zones counts must all be zero or all non-zero",
        ));
    }
    let logical = u64::from(settings.threads.logical);
    if u64::from(settings.cache_blocks) < logical * CACHE_BLOCKS_PER_LOGICAL_THREAD {
        return Err(invalid(c"Insufficient block map cache for logical zones"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
