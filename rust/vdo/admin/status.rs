// SPDX-License-Identifier: GPL-2.0

//! The status line, and the answer to the message `config`.

use crate::format::index::IndexMemory;
use crate::format::Pbn;
use core::fmt::Display;
use core::fmt::Formatter;
use core::fmt::Result;
use core::fmt::Write;

/// How a volume is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All is well.
    #[default]
    Normal,
    /// Some slabs wait for their reference counts after a crash.
    Recovering,
    /// Its metadata can no longer be trusted, or written.
    ReadOnly,
}

impl Mode {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Recovering => "recovering",
            Self::ReadOnly => "read-only",
        }
    }
}

/// How the index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// Closed.
    Closed,
    /// On the way to being closed.
    Closing,
    /// Opening it has failed.
    Error,
    /// Open, but not used.
    Offline,
    /// Open and used.
    Online,
    /// On the way to being open.
    Opening,
    /// As long as the volume is.
    Suspended,
}

impl IndexState {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Closing => "closing",
            Self::Error => "error",
            Self::Offline => "offline",
            Self::Online => "online",
            Self::Opening => "opening",
            Self::Suspended => "suspended",
        }
    }
}

/// What the status line tells.
pub struct Status<D> {
    /// The name of the storage, without folder.
    pub device: D,
    /// How the volume is.
    pub mode: Mode,
    /// How the index is.
    pub index: IndexState,
    /// Whether blocks are compressed.
    pub compression: bool,
    /// Blocks in use, with all metadata.
    pub used: u64,
    /// Blocks.
    pub total: u64,
}

impl<D: Display> Status<D> {
    /// Writes the line.
    pub fn write(&self, out: &mut impl Write) -> Result {
        let recovery = match self.mode {
            Mode::Recovering => "recovering",
            _ => "-",
        };
        let compression = if self.compression {
            "online"
        } else {
            "offline"
        };
        write!(
            out,
            "/dev/{} {} {recovery} {} {compression} {} {}",
            self.device,
            self.mode.name(),
            self.index.name(),
            self.used,
            self.total,
        )
    }
}

/// What the answer to `config` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Blocks of storage.
    pub physical_blocks: Pbn,
    /// Blocks that users see.
    pub logical_blocks: u64,
    /// Blocks in a slab.
    pub slab_blocks: u64,
    /// The memory of the index.
    pub index_memory: IndexMemory,
    /// Whether the index is sparse.
    pub index_sparse: bool,
}

impl Config {
    /// Writes the answer.
    pub fn write(&self, out: &mut impl Write) -> Result {
        let bytes = |blocks: u64| blocks.saturating_mul(4096);
        write!(
            out,
            "{{ version : 1, physicalSize : {}, logicalSize : {}, slabSize : {}, index :  {{ \
             memorySize : {}, isSparse : {}, }}, }}",
            bytes(self.physical_blocks),
            bytes(self.logical_blocks),
            self.slab_blocks,
            MemorySize(self.index_memory),
            u8::from(self.index_sparse),
        )
    }
}

/// The memory of an index, as people write it.
struct MemorySize(IndexMemory);

impl Display for MemorySize {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            IndexMemory::QUARTER => f.write_str("0.25"),
            IndexMemory::HALF => f.write_str("0.50"),
            IndexMemory::THREE_QUARTERS => f.write_str("0.75"),
            IndexMemory(count) => write!(f, "{count}"),
        }
    }
}

#[cfg(test)]
mod tests;
