// SPDX-License-Identifier: GPL-2.0

//! Making a new index.

use super::Config;
use super::Index;
use crate::bench::Bench;
use crate::error::Result;
use crate::format::config;
use crate::format::field::put;
use crate::format::save;
use crate::format::super_block::SuperBlock;
use crate::format::super_block::IDENTITY_SIZE;
use crate::format::super_block::SAVES;
use crate::world::World;
use kernel::prelude::*;
use runtime::sync::Arc;

/// Makes a new index. What was there is void, as no nonce of it is right any more. The super block comes
/// last: without it there is none.
pub(super) async fn create<W: World>(
    world: &Arc<W>,
    disk: &Arc<W::Disk>,
    wanted: &Config,
) -> Result<Arc<Index<W>>> {
    let geometry = &wanted.geometry;
    if geometry.is_reduced() || geometry.total_blocks() > wanted.blocks {
        return Err(ENOSPC.into());
    }
    let mut identity = [0; IDENTITY_SIZE];
    put(&mut identity, 0, world.time_of_day_ms().to_le_bytes());
    put(&mut identity, 8, (world.random() as u32).to_le_bytes());
    let super_block = SuperBlock::new(geometry, wanted.start, identity);
    let index = Index::empty(world.clone(), disk.clone(), geometry, &super_block)?;
    let mut bench = index.bench.take().await;
    let result = write(&mut bench, disk, wanted, &super_block).await;
    index.bench.give(bench);
    result?;
    index.chapters.begin(0);
    index.volume_index.open_chapter(0);
    index.dirty.store_relaxed(1);
    Ok(index)
}

async fn write<D: runtime::disk::Disk>(
    bench: &mut Bench<D>,
    disk: &D,
    wanted: &Config,
    super_block: &SuperBlock,
) -> Result {
    for slot in 0..SAVES as u16 {
        let block = super_block.save_block(slot);
        let encode = |page: &mut _| save::encode_unsaved(page, super_block, slot);
        bench.write_block(disk, block, encode).await?;
    }
    let encode = |page: &mut _| config::encode(page, &wanted.geometry, wanted.owner, false);
    bench.write_block(disk, wanted.start + 1, encode).await?;
    let encode = |page: &mut _| super_block.encode(page);
    bench.write_block(disk, wanted.start, encode).await
}
