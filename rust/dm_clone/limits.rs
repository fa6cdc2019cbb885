// SPDX-License-Identifier: GPL-2.0

//! Queue limits of a clone device.

use crate::target::NAME;
use clone::geometry::Sectors;
use dm::Device;
use kernel::prelude::*;
use kext::block::QueueLimits;

const SECTOR_SIZE: u64 = 512;

/// The largest discard, in bytes, that the block layer can count.
const DISCARD_BYTES_MAX: u64 = u32::MAX as u64;

/// Returns why `destination` cannot take the discards of a clone device, if so, for the log.
fn discard_obstacle(destination: &QueueLimits, region_size: Sectors) -> Option<&'static str> {
    match u64::from(destination.max_discard_sectors()) {
        0 => Some("discard unsupported"),
        sectors if sectors < region_size => Some("max discard sectors smaller than a region"),
        _ => None,
    }
}

/// Returns true if discards can be passed down to `destination`; else says why not.
pub(crate) fn can_pass_discards_down(destination: &Device, region_size: Sectors) -> bool {
    let Some(obstacle) = discard_obstacle(&destination.limits(), region_size) else {
        return true;
    };
    dm::log::warn(
        NAME,
        fmt!(
            "Destination device ({}) {obstacle}: Disabling discard passdown.",
            destination.name()
        ),
    );
    false
}

/// Sets the limits of a clone device; `limits` are those stacked from source and destination.
pub(crate) fn set(
    limits: &mut QueueLimits,
    region_size: Sectors,
    destination: &Device,
    discard_passdown: bool,
) {
    // At most 1 GiB.
    let region_bytes = (region_size * SECTOR_SIZE) as u32;
    // A region is a power of two, so this is the remainder of a division by it.
    if limits.io_opt() < region_bytes || limits.io_opt() & (region_bytes - 1) != 0 {
        limits.set_io_min(region_bytes);
        limits.set_io_opt(region_bytes);
    }
    if discard_passdown {
        let below = destination.limits();
        limits.set_max_discard_sectors(below.max_discard_sectors());
        limits.set_max_hw_discard_sectors(below.max_hw_discard_sectors());
        limits.set_discard_granularity(below.discard_granularity());
        limits.set_discard_alignment(below.discard_alignment());
    } else {
        let sectors = (DISCARD_BYTES_MAX / SECTOR_SIZE) & !(region_size - 1);
        limits.set_max_discard_sectors(sectors as u32);
        limits.set_max_hw_discard_sectors(sectors as u32);
        limits.set_discard_granularity(region_bytes);
        limits.set_discard_alignment(0);
    }
}
