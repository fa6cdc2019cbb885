// SPDX-License-Identifier: GPL-2.0

//! Queue limits of a vdo device.

use kext::block::QueueLimits;
use vdo::admin::table::Settings;

const BLOCK_SIZE: u32 = 4096;
const BLOCK_SECTORS: u32 = 8;

/// Reads and writes are cut at multiples of this many sectors: so much is served at once.
pub(crate) const MAX_IO_SECTORS: u32 = 2048;

/// Sets the limits of a vdo device; `limits` are those stacked from the storage.
pub(crate) fn set(limits: &mut QueueLimits, settings: &Settings) {
    // As the table says, also on storage that has larger ones: what is read of a block there is
    // read with the whole block.
    limits.set_logical_block_size(settings.logical_block_size);
    limits.set_physical_block_size(BLOCK_SIZE);
    limits.set_io_min(BLOCK_SIZE);
    limits.set_io_opt(BLOCK_SIZE);
    // Discards end here, whatever the storage thinks of them.
    let discard = settings.max_discard_blocks.saturating_mul(BLOCK_SECTORS);
    limits.set_max_discard_sectors(discard);
    limits.set_max_hw_discard_sectors(discard);
    limits.set_discard_granularity(BLOCK_SIZE);
    limits.set_discard_alignment(0);
    // Device-mapper takes it back if the storage has no such thing.
    let zeroes = limits.max_write_zeroes_sectors().min(MAX_IO_SECTORS);
    limits.set_max_write_zeroes_sectors(zeroes);
    // The block layer wants both to be the same, or this one 0. It is true, too: zeroes take no
    // room.
    if limits.max_hw_wzeroes_unmap_sectors() != 0 {
        limits.set_max_hw_wzeroes_unmap_sectors(zeroes);
    }
}
