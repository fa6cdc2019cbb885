// SPDX-License-Identifier: GPL-2.0

//! Opening an index: a save is loaded; without a good one it is rebuilt from its chapters; where there
//! is none, a new one is made.

use super::create::create;
use super::rebuild::rebuild;
use super::Config;
use super::Index;
use crate::bench::Bench;
use crate::control::Control;
use crate::error::Error;
use crate::error::Result;
use crate::format::config;
use crate::format::geometry::Geometry;
use crate::format::open_chapter;
use crate::format::open_chapter::HEADER_SIZE;
use crate::format::page_map;
use crate::format::save;
use crate::format::save::Places;
use crate::format::save::Save;
use crate::format::super_block::SuperBlock;
use crate::format::super_block::SAVES;
use crate::format::Block;
use crate::format::Fault;
use crate::format::Record;
use crate::format::RECORD_SIZE;
use crate::stream::Source;
use crate::volume_index::LoadError;
use crate::volume_index::Loader;
use crate::world::Level;
use crate::world::World;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::stack::boxed;
use runtime::sync::Arc;

/// Opens the index that is there, or makes a new one if there is none, or if `anew`.
///
/// # Errors
///
/// Those of the device; `ENOMEM`; that of an index whose version nobody here knows, which is left as
/// it is.
pub async fn open<W: World>(
    world: &Arc<W>,
    disk: &Arc<W::Disk>,
    wanted: &Config,
    anew: bool,
    control: &Control,
) -> Result<Arc<Index<W>>> {
    if anew {
        return boxed(|| create(world, disk, wanted)).await?;
    }
    let (geometry, super_block) = match boxed(|| read_heads::<W>(disk, wanted)).await? {
        Ok(heads) => heads,
        Err(Error::Fault(fault)) if !matches!(fault, Fault::Version { .. }) => {
            world.log(
                Level::Warning,
                format_args!("no index is there ({fault}): creating one"),
            );
            return boxed(|| create(world, disk, wanted)).await?;
        }
        Err(error) => return Err(error),
    };
    let empty = || Index::empty(world.clone(), disk.clone(), &geometry, &super_block);
    let index = empty()?;
    let error = match boxed(|| load(&index)).await? {
        Ok(()) => {
            world.log(
                Level::Info,
                format_args!(
                    "loaded index from chapter {} through chapter {}",
                    index.oldest(),
                    index.newest().saturating_sub(1)
                ),
            );
            return Ok(index);
        }
        Err(error) => error,
    };
    world.log(
        Level::Info,
        format_args!("index could not be loaded: {error}"),
    );
    // What was loaded in part is of no use.
    drop(index);
    let index = empty()?;
    boxed(|| rebuild(&index, control)).await??;
    Ok(index)
}

/// Reads super block and configuration.
async fn read_heads<W: World>(disk: &W::Disk, wanted: &Config) -> Result<(Geometry, SuperBlock)> {
    let mut bench = Heads::new(disk)?;
    let start = wanted.start;
    let decode = |block: &Block| SuperBlock::decode(block, start);
    let super_block = bench.read(disk, start, decode).await??;
    let converted = super_block.conversion.is_some();
    let mut geometry = wanted.geometry;
    let decode = |block: &Block| config::decode(block, &geometry, wanted.owner, converted);
    geometry.moved = bench.read(disk, start + 1, decode).await??;
    let end = super_block
        .save_block(SAVES as u16 - 1)
        .saturating_add(super_block.save_blocks);
    if !super_block.fits(&geometry) || end > start.saturating_add(wanted.blocks) {
        return Err(Fault::Field {
            name: "size of an index",
            found: super_block.volume_blocks,
        }
        .into());
    }
    Ok((geometry, super_block))
}

/// Reads single blocks.
struct Heads<D: Disk>(Option<D::Buffer>);

impl<D: Disk> Heads<D> {
    fn new(disk: &D) -> Result<Self> {
        Ok(Self(Some(disk.buffer(1)?)))
    }

    async fn read<T>(
        &mut self,
        disk: &D,
        block: u64,
        decode: impl FnOnce(&Block) -> T,
    ) -> Result<T> {
        use runtime::disk::Buffer;
        use runtime::disk::PAGE_SECTORS;
        let buffer = self.0.take().ok_or(EIO)?;
        let sector = block.saturating_mul(PAGE_SECTORS);
        let (buffer, result) = disk.read(sector, PAGE_SECTORS as u32, buffer).await;
        let decoded = result.and_then(|()| buffer.page(0).map(decode).ok_or(EIO));
        self.0 = Some(buffer);
        Ok(decoded?)
    }
}

/// Loads the latest save into an empty index.
async fn load<W: World>(index: &Index<W>) -> Result {
    let mut bench = index.bench.take().await;
    let result = load_with(index, &mut bench).await;
    index.bench.give(bench);
    result
}

async fn load_with<W: World>(index: &Index<W>, bench: &mut Bench<W::Disk>) -> Result {
    read_headers(index, bench).await?;
    let latest = index.saves.with(|saves| save::latest(&saves.headers));
    let (slot, save) = latest.ok_or(Fault::Magic { name: "index save" })?;
    let places = Places::new(&index.super_block, save.zones);
    let start = index.super_block.save_block(slot);
    if !index.chapters.begin(save.newest) {
        return Err(EBUSY.into());
    }
    load_open_chapter(index, bench, start + places.open_chapter, &save).await?;
    load_volume_index(
        index,
        bench,
        start + places.volume_index,
        places.zone_blocks,
        &save,
    )
    .await?;
    load_page_map(index, bench, start + places.page_map).await?;
    index.newest.store_release(save.newest);
    index.oldest.store_release(save.oldest);
    index.saves.with(|saves| saves.valid = Some(slot));
    Ok(())
}

/// Reads the headers of all saves. One that is bad is no save.
pub(super) async fn read_headers<W: World>(index: &Index<W>, bench: &mut Bench<W::Disk>) -> Result {
    for slot in 0..SAVES as u16 {
        let block = index.super_block.save_block(slot);
        let decode = |block: &Block| Save::decode(block, &index.super_block, slot);
        let header = bench.read_block(&index.disk, block, decode).await?;
        index.saves.with(|saves| {
            if let Some(place) = saves.headers.get_mut(usize::from(slot)) {
                *place = header.ok().flatten();
            }
        });
    }
    Ok(())
}

async fn load_open_chapter<W: World>(
    index: &Index<W>,
    bench: &mut Bench<W::Disk>,
    block: u64,
    save: &Save,
) -> Result {
    let blocks = index.super_block.open_chapter_blocks;
    let take = async |_: &mut Bench<W::Disk>, source: &mut Source<'_, W::Disk>| {
        let header = source.take_array::<HEADER_SIZE>().await?;
        let count = open_chapter::decode(&header, index.geometry.records)?;
        for _ in 0..count {
            let record = source.take_array::<RECORD_SIZE>().await?;
            // The last place is kept free, as something has to fill the chapter.
            if index.chapters.len(save.newest) + 1 < index.geometry.records as usize {
                index.chapters.add(save.newest, Record::decode(&record));
            }
        }
        Ok(())
    };
    bench.read(&index.disk, block, blocks, take).await
}

async fn load_volume_index<W: World>(
    index: &Index<W>,
    bench: &mut Bench<W::Disk>,
    block: u64,
    blocks: u64,
    save: &Save,
) -> Result {
    let nonce = index.volume.nonce();
    let zones = save.zones;
    let mut loader = Loader::new(&index.volume_index, nonce, zones.into());
    for zone in 0..zones {
        if zone > 0 {
            loader.next_zone()?;
        }
        let take = async |_: &mut Bench<W::Disk>, source: &mut Source<'_, W::Disk>| {
            while !loader.is_at_end() {
                loader.feed(source.take_some().await?)?;
            }
            Ok(())
        };
        let block = block + u64::from(zone) * blocks;
        bench.read(&index.disk, block, blocks, take).await?;
    }
    let newest = loader.finish()?;
    if newest != save.newest {
        return Err(Fault::Field {
            name: "newest chapter of a volume index",
            found: newest,
        }
        .into());
    }
    Ok(())
}

async fn load_page_map<W: World>(
    index: &Index<W>,
    bench: &mut Bench<W::Disk>,
    block: u64,
) -> Result {
    let blocks = index.super_block.page_map_blocks;
    let take = async |bench: &mut Bench<W::Disk>, source: &mut Source<'_, W::Disk>| {
        let header = source.take_array::<{ page_map::HEADER_SIZE }>().await?;
        let volume = &index.volume;
        volume.with_page_map(|map| map.decode_header(&header))?;
        let mut left = volume.with_page_map(|map| map.entry_bytes());
        let mut first = 0;
        while left > 0 {
            let page = bench.page_mut();
            let count = left.min(page.len());
            let bytes = page.get_mut(..count).unwrap_or_default();
            source.take(bytes).await?;
            volume.with_page_map(|map| map.decode(first, bytes));
            first += count / 2;
            left -= count;
        }
        Ok(())
    };
    bench.read(&index.disk, block, blocks, take).await
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Fault(fault) => fault.into(),
            LoadError::NoMemory => ENOMEM.into(),
        }
    }
}
