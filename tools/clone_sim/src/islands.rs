// SPDX-License-Identifier: GPL-2.0

//! Clones of several bitmap blocks, with data for a few regions of each.
//!
//! The bits of 32,576 regions are one block of metadata. A clone that has several such blocks, and
//! data for all of its regions, would be too large to be read, compared and crashed often. So there
//! are *islands*, the first few regions of each bitmap block. They are all that users see, one
//! behind the other, and all that the disks hold. The *sea* between them is hydrated from the start.

use clone::geometry::Geometry;
use clone::region_map::BLOCK_REGIONS;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::disk::Durability;
use std::ops::Range;

/// Where the islands of a clone are.
#[derive(Clone, Copy, Debug)]
pub struct Islands {
    /// Regions of an island.
    regions: u64,
    /// Sectors from one island to the next: a bitmap block's.
    stride: u64,
    /// Sectors of an island.
    size: u64,
}

impl Islands {
    /// Returns the islands of `regions` regions of a clone whose users see `geometry`.
    pub fn new(geometry: &Geometry, regions: u64) -> Self {
        Self {
            regions,
            stride: BLOCK_REGIONS * geometry.region_size(),
            size: regions * geometry.region_size(),
        }
    }

    /// Returns the geometry of the clone whose users see `geometry`.
    pub fn spread(&self, geometry: &Geometry) -> Geometry {
        let length = self.place(geometry.length() - 1) + 1;
        let shift = geometry.region_size().trailing_zeros();
        Geometry::new(length, shift).expect("not too many regions")
    }

    /// Returns where the clone has what users see at `sector`.
    pub fn place(&self, sector: u64) -> u64 {
        sector / self.size * self.stride + sector % self.size
    }

    /// Returns the end of the island on which users see `sector`.
    pub fn end(&self, sector: u64) -> u64 {
        (sector / self.size + 1) * self.size
    }

    /// Returns where users see what the clone has at `place`.
    pub fn seen_at(&self, place: u64) -> u64 {
        let offset = place % self.stride;
        assert!(offset < self.size, "sector {place} is in the sea");
        place / self.stride * self.size + offset
    }

    /// Returns the regions of the sea of a clone of `blocks` bitmap blocks.
    pub fn sea(&self, blocks: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        let starts = (0..blocks - 1).map(|block| block * BLOCK_REGIONS);
        starts.map(|start| start + self.regions..start + BLOCK_REGIONS)
    }
}

/// A disk that has the islands of a device only.
#[derive(Clone)]
pub struct Archipelago<D> {
    disk: D,
    islands: Option<Islands>,
}

impl<D> Archipelago<D> {
    /// Returns the device of which `disk` has the islands; without any it has everything.
    pub fn new(disk: D, islands: Option<Islands>) -> Self {
        Self { disk, islands }
    }

    fn sector(&self, place: u64) -> u64 {
        let islands = self.islands.as_ref();
        islands.map_or(place, |islands| islands.seen_at(place))
    }
}

impl<D: Disk> Disk for Archipelago<D> {
    type Buffer = D::Buffer;

    fn sectors(&self) -> u64 {
        self.disk.sectors()
    }

    fn buffer(&self, pages: usize) -> Result<D::Buffer> {
        self.disk.buffer(pages)
    }

    async fn read_into(
        &self,
        sector: u64,
        sectors: u32,
        buffer: D::Buffer,
        page: usize,
    ) -> (D::Buffer, Result) {
        let sector = self.sector(sector);
        self.disk.read_into(sector, sectors, buffer, page).await
    }

    async fn write_from(
        &self,
        sector: u64,
        sectors: u32,
        buffer: D::Buffer,
        page: usize,
        durability: Durability,
    ) -> (D::Buffer, Result) {
        let sector = self.sector(sector);
        self.disk
            .write_from(sector, sectors, buffer, page, durability)
            .await
    }

    async fn flush(&self, buffer: D::Buffer) -> (D::Buffer, Result) {
        self.disk.flush(buffer).await
    }
}
