// SPDX-License-Identifier: GPL-2.0

//! Metadata as mainline formats it, also on devices that the core would refuse: too small for all
//! that a commit may change beside what was there before, so that one takes several transactions.

use clone::geometry::Geometry;
use pd_testing::disk::MemDisk;
use pd_testing::now;
use persistent_data::bitset::Bitset;
use persistent_data::cache::BlockCache;
use persistent_data::cache::CacheSize;
use persistent_data::transaction::TransactionManager;
use persistent_data::BlockKind;
use persistent_data::Stamp;

static STAMP: Stamp = Stamp {
    salt: 257_649_492,
    number_at: 8,
};

static SUPERBLOCK: BlockKind = BlockKind {
    name: "superblock",
    verify: |_, _| Ok(()),
    seal: |block, number| STAMP.seal(block, number),
};

/// Returns a metadata device of `blocks` blocks for a clone of `geometry` without a hydrated
/// region.
pub fn format(geometry: &Geometry, blocks: u64) -> Vec<u8> {
    let disk = MemDisk::blank(blocks);
    let size = CacheSize {
        frames: 64,
        io_pages: 64,
    };
    let formatted = now(async {
        let mut manager = TransactionManager::format(BlockCache::new(disk.clone(), size)?).await?;
        let bitset = Bitset::create(&mut manager, geometry.regions()).await?;
        let fill = |block: &mut persistent_data::Block, root: &persistent_data::space_map::Root| {
            block[32..40].copy_from_slice(&2_331_148_132_u64.to_le_bytes());
            block[40..44].copy_from_slice(&1_u32.to_le_bytes());
            block[44..76].copy_from_slice(&root.encode()[..32]);
            let fields = [geometry.region_size(), geometry.length(), bitset.root()];
            for (at, field) in (172..).step_by(8).zip(fields) {
                block[at..at + 8].copy_from_slice(&field.to_le_bytes());
            }
        };
        manager.commit(&SUPERBLOCK, fill).await
    });
    formatted.expect("a device that can be formatted");
    disk.image()
}
