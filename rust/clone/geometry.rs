// SPDX-License-Identifier: GPL-2.0

//! Sectors and regions.

use core::ops::Range;

/// A number of sectors of 512 bytes, or the number of one.
pub type Sectors = u64;

/// A number of regions.
pub type Regions = u64;

/// A range of region numbers.
pub type RegionRange = Range<u64>;

/// A range of sector numbers of the clone device.
pub type SectorRange = Range<Sectors>;

/// Largest number of regions.
pub const REGIONS_MAX: Regions = 1 << 31;

/// How a device is cut into regions.
///
/// # Invariants
///
/// The device has between 1 and [`REGIONS_MAX`] regions; a region has 2^`region_shift` sectors,
/// the last one possibly less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    length: Sectors,
    region_shift: u32,
}

impl Geometry {
    /// Returns the geometry of a device of `length` sectors with regions of 2^`region_shift`
    /// sectors, or `None` if it would have no region or too many.
    pub fn new(length: Sectors, region_shift: u32) -> Option<Self> {
        let geometry = Self {
            length,
            region_shift,
        };
        // INVARIANT: checked here.
        (region_shift < 32 && (1..=REGIONS_MAX).contains(&geometry.regions())).then_some(geometry)
    }

    /// Returns the length of the device.
    pub fn length(&self) -> Sectors {
        self.length
    }

    /// Returns the size of a region.
    pub fn region_size(&self) -> Sectors {
        1 << self.region_shift
    }

    /// Returns the number of regions.
    pub fn regions(&self) -> Regions {
        self.round_up(self.length)
    }

    /// Returns the region whose start is `sector`, or the next one. (A shift: the kernel has no
    /// use for the panic that a division by a variable brings along.)
    fn round_up(&self, sector: Sectors) -> u64 {
        (sector >> self.region_shift) + u64::from(sector & (self.region_size() - 1) != 0)
    }

    /// Returns the regions that `sectors` touches.
    pub fn touched(&self, sectors: &SectorRange) -> RegionRange {
        sectors.start >> self.region_shift..self.round_up(sectors.end).min(self.regions())
    }

    /// Returns the regions that lie wholly in `sectors`; the range may be empty. The short last
    /// region counts as whole when its sectors are in.
    pub fn covered(&self, sectors: &SectorRange) -> RegionRange {
        let start = self.round_up(sectors.start);
        let end = if sectors.end >= self.length {
            self.regions()
        } else {
            sectors.end >> self.region_shift
        };
        start..end.max(start)
    }

    /// Returns the sectors of `regions`, without what would lie behind the end of the device.
    pub fn sectors(&self, regions: &RegionRange) -> SectorRange {
        regions.start << self.region_shift..(regions.end << self.region_shift).min(self.length)
    }
}

#[cfg(test)]
mod tests;
