// SPDX-License-Identifier: GPL-2.0

//! Finding a volume on a device, or making one.

use crate::error::Error;
use crate::error::Result;
use crate::format::component::Fault;
use crate::format::geometry;
use crate::format::geometry::Geometry;
use crate::format::layout::Parameters;
use crate::format::super_block::SuperBlock;
use crate::format::Pbn;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::storage::BLOCK_SECTORS;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::sync::Arc;

/// Blocks that are zeroed by one I/O.
const ZERO_BLOCKS: usize = 256;

/// What the first block of a device says.
pub enum Found {
    /// It is all zeroes: the device may be formatted.
    Blank,
    /// A volume begins here.
    Volume(Geometry),
}

/// Why the first block says nothing that helps.
#[derive(Clone, Copy, Debug)]
pub enum GeometryFault {
    /// It cannot be read.
    Unreadable(Error),
    /// It is not a geometry block.
    Invalid(Fault),
}

/// Reads the first block of `disk`.
///
/// # Errors
///
/// What is wrong with it, or `ENOMEM`.
pub async fn find<D: Disk>(disk: &D) -> Result<Found, GeometryFault> {
    let unreadable = |error| GeometryFault::Unreadable(Error::Errno(error));
    let buffer = disk.buffer(1).map_err(unreadable)?;
    let (buffer, result) = disk.read(0, BLOCK_SECTORS as u32, buffer).await;
    result.map_err(unreadable)?;
    let page = buffer.page(0).ok_or(unreadable(EIO))?;
    if geometry::is_blank(page) {
        return Ok(Found::Blank);
    }
    let found = Geometry::decode(page).map_err(GeometryFault::Invalid)?;
    found.check().map_err(GeometryFault::Invalid)?;
    Ok(Found::Volume(found))
}

/// Reads the super block of a volume. Whether it makes sense, [`SuperBlock::check`] says.
///
/// # Errors
///
/// What is wrong with it, or that of the read.
pub async fn read_super_block<D: Disk>(
    storage: &Storage<D>,
    geometry: &Geometry,
) -> Result<Result<SuperBlock, Fault>> {
    let buffer = storage.buffer(1)?;
    let (buffer, result) = storage
        .read(Purpose::Metadata, geometry.data_start, 1, buffer, 0)
        .await;
    result?;
    let page = buffer.page(0).ok_or(Error::Errno(EIO))?;
    Ok(SuperBlock::decode(page))
}

/// Formats a device. The geometry block is written last: a format that was interrupted leaves a
/// blank device.
///
/// # Errors
///
/// Sizes that make no volume, a device that is too small (nothing was written then), or those of
/// the writes.
pub async fn format<D: Disk>(disk: Arc<D>, parameters: &Parameters) -> Result<Geometry> {
    let (geometry, super_block) = parameters.plan()?;
    let storage = Storage::new(disk.clone(), geometry.bio_offset);
    if storage.end() < super_block.physical_blocks {
        return Err(Error::Errno(EIO));
    }
    let mut buffer = storage.buffer(ZERO_BLOCKS)?;
    for page in 0..ZERO_BLOCKS {
        if let Some(page) = buffer.page_mut(page) {
            page.fill(0);
        }
    }
    let partitions = &super_block.partitions;
    let areas = [
        geometry.index_start..geometry.index_start.saturating_add(1),
        partitions.block_map.start..partitions.block_map.end(),
        partitions.journal.start..partitions.journal.end(),
    ];
    for area in areas {
        buffer = zero(&storage, area, buffer).await?;
    }
    if let Some(page) = buffer.page_mut(0) {
        super_block.encode(page);
    }
    let (mut buffer, result) = storage
        .write(
            Purpose::Metadata,
            geometry.data_start,
            1,
            buffer,
            0,
            Durability::Ordered,
        )
        .await;
    result?;
    if let Some(page) = buffer.page_mut(0) {
        geometry.encode(page);
    }
    let (_, result) = disk
        .write(0, BLOCK_SECTORS as u32, buffer, Durability::Ordered)
        .await;
    result?;
    Ok(geometry)
}

/// Writes zeroes, from a buffer that is all zero.
async fn zero<D: Disk>(
    storage: &Storage<D>,
    area: core::ops::Range<Pbn>,
    mut buffer: D::Buffer,
) -> Result<D::Buffer> {
    let mut next = area.start;
    while next < area.end {
        let blocks = (area.end - next).min(ZERO_BLOCKS as u64) as u32;
        let result;
        (buffer, result) = storage
            .write(
                Purpose::Metadata,
                next,
                blocks,
                buffer,
                0,
                Durability::Volatile,
            )
            .await;
        result?;
        next += u64::from(blocks);
    }
    Ok(buffer)
}
