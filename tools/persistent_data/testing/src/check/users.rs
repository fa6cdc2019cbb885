// SPDX-License-Identifier: GPL-2.0

//! The superblocks of the targets, and what hangs on them.

use super::number;
use super::Checker;
use super::SpaceMap;
use crate::BLOCK;
use std::collections::BTreeMap;

/// Metadata of a clone.
pub struct Clone<'i> {
    /// What was walked, with the errors.
    pub checker: Checker<'i>,
    /// Sectors of a region.
    pub region_size: u64,
    /// Sectors of the target.
    pub target_size: u64,
    /// The region bitset.
    pub bits: Vec<bool>,
    /// The space map.
    pub map: SpaceMap,
}

/// Checks metadata of a clone; `None` if the device is not formatted.
pub fn clone(image: &[u8]) -> Option<Clone<'_>> {
    if image.get(..BLOCK)?.iter().all(|&byte| byte == 0) {
        return None;
    }
    let mut checker = Checker::new(image);
    let superblock = checker.superblock(257_649_492);
    if (number::<8>(superblock, 32), number::<4>(superblock, 40)) != (0x8af2_7f64, 1) {
        checker.error("magic or version".to_owned());
    }
    let map = checker.metadata_space_map(&superblock[44..76]);
    let (region_size, target_size) = (number::<8>(superblock, 172), number::<8>(superblock, 180));
    let regions = target_size.div_ceil(region_size.max(1));
    let bits = checker.bitset(number::<8>(superblock, 188), regions);
    checker.verify_counts(&map);
    Some(Clone {
        checker,
        region_size,
        target_size,
        bits,
        map,
    })
}

/// Metadata of a thin pool.
pub struct Thin<'i> {
    /// What was walked, with the errors.
    pub checker: Checker<'i>,
    /// The devices.
    pub devices: BTreeMap<u64, ThinDevice>,
    /// The space map of the metadata.
    pub map: SpaceMap,
    /// The space map of the data.
    pub data: SpaceMap,
}

/// One device of a thin pool.
#[derive(Default)]
pub struct ThinDevice {
    /// The root of its mappings.
    pub root: u64,
    /// The shape of the tree of mappings, if it was not shared with an earlier device.
    pub shape: Vec<(usize, usize)>,
    /// Mappings that were not shared with an earlier device: block to data block and time.
    pub mappings: BTreeMap<u64, (u64, u64)>,
}

/// Checks metadata of a thin pool.
pub fn thin(image: &[u8]) -> Thin<'_> {
    let mut checker = Checker::new(image);
    let superblock = checker.superblock(160_774);
    if (number::<8>(superblock, 32), number::<4>(superblock, 40)) != (27_022_010, 2) {
        checker.error("magic or version".to_owned());
    }
    let data = checker.disk_space_map(&superblock[64..96]);
    let map = checker.metadata_space_map(&superblock[192..224]);
    let mut roots = Vec::new();
    checker.tree(number::<8>(superblock, 320), 8, &mut |_, device, value| {
        roots.push((device, number::<8>(value, 0)));
    });
    let mut devices = BTreeMap::new();
    let mut data_counts = BTreeMap::<u64, u32>::new();
    for (id, root) in roots {
        let mut device = ThinDevice {
            root,
            ..ThinDevice::default()
        };
        checker.tree(root, 8, &mut |_, key, value| {
            let value = number::<8>(value, 0);
            *data_counts.entry(value >> 24).or_default() += 1;
            device
                .mappings
                .insert(key, (value >> 24, value & 0xff_ffff));
        });
        device.shape = checker.shape.clone();
        devices.insert(id, device);
    }
    checker.tree(number::<8>(superblock, 328), 24, &mut |_, _, _| {});
    checker.verify_counts(&map);
    for block in 0..data.nr_blocks {
        if data.counts.get(block) != data_counts.get(&block).copied().unwrap_or(0) {
            checker.error(format!("data block {block}: count"));
        }
    }
    Thin {
        checker,
        devices,
        map,
        data,
    }
}

/// Metadata of a cache.
pub struct Cache<'i> {
    /// What was walked, with the errors.
    pub checker: Checker<'i>,
    /// The mapping array.
    pub mappings: Vec<u64>,
    /// The hint array.
    pub hints: Vec<u32>,
    /// The dirty bits.
    pub dirty: Vec<bool>,
    /// The space map.
    pub map: SpaceMap,
}

/// Checks metadata of a cache.
pub fn cache(image: &[u8]) -> Cache<'_> {
    let mut checker = Checker::new(image);
    let superblock = checker.superblock(9_031_977);
    if (number::<8>(superblock, 32), number::<4>(superblock, 40)) != (1_623_043, 2) {
        checker.error("magic or version".to_owned());
    }
    let map = checker.metadata_space_map(&superblock[64..96]);
    let blocks = number::<4>(superblock, 240);
    let mappings = checker.array(number::<8>(superblock, 192), 8);
    let hints = checker.array(number::<8>(superblock, 200), 4);
    checker.bitset(number::<8>(superblock, 208), number::<8>(superblock, 224));
    let dirty = checker.bitset(number::<8>(superblock, 284), blocks);
    checker.verify_counts(&map);
    let mappings = mappings
        .values()
        .map(|value| number::<8>(value, 0))
        .collect();
    let hints = hints
        .values()
        .map(|value| number::<4>(value, 0) as u32)
        .collect();
    Cache {
        checker,
        mappings,
        hints,
        dirty,
        map,
    }
}
