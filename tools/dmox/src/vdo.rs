// SPDX-License-Identifier: GPL-2.0

//! `dmox vdo`: the commands for vdo volumes.

mod check;
mod dump;
mod format;
mod rebuild;
mod size;
mod stats;

use crate::device::Device;
use crate::failure::Result;
use clap::Subcommand;
use std::process::ExitCode;
use vdo::format::Geometry;
use vdo::format::SuperBlock;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check every invariant of a volume that is not running; nothing is written
    Check(check::Arguments),
    /// Show what is on disk: geometry, super block, slabs, the way to a logical block
    Dump(dump::Arguments),
    /// Show the statistics of a running device
    Stats(stats::Arguments),
    /// Make a volume of a device; what was there is lost
    Format(format::Arguments),
    /// Have a read-only volume rebuilt from its block map when it starts next
    ForceRebuild(rebuild::Arguments),
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Check(arguments) => arguments.run(),
            Self::Dump(arguments) => arguments.run(),
            Self::Stats(arguments) => arguments.run(),
            Self::Format(arguments) => arguments.run(),
            Self::ForceRebuild(arguments) => arguments.run(),
        }
    }
}

/// Reads geometry block and super block.
fn open_volume(device: &Device) -> Result<(Geometry, SuperBlock)> {
    let geometry = Geometry::decode(&*device.read(0)?)
        .map_err(|fault| device.failure(format!("no vdo volume: {fault}")))?;
    geometry
        .check()
        .map_err(|fault| device.failure(format!("geometry block: {fault}")))?;
    let super_block = SuperBlock::decode(&*device.read(super_block_at(&geometry))?)
        .map_err(|fault| device.failure(format!("super block: {fault}")))?;
    super_block
        .check(&geometry)
        .map_err(|error| device.failure(format!("super block: {error}")))?;
    Ok((geometry, super_block))
}

/// Returns the block of the device that has the super block.
fn super_block_at(geometry: &Geometry) -> u64 {
    geometry.data_start - geometry.bio_offset
}

/// Returns a uuid as people write it.
fn uuid_text(uuid: &[u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(*uuid));
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}
