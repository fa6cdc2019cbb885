// SPDX-License-Identifier: GPL-2.0

//! Making volume index and page map anew, from the chapters on disk: after a crash.
//!
//! The last chapters that were written are still there, in a ring; the one that was being written may
//! be there in part. The first block of each says which it is. From the newest that is whole back, as many as
//! the ring holds count, oldest first. One that is damaged is skipped; what was in it is forgotten.
//!
//! What was in the open chapter is lost.

use super::load::read_headers;
use super::Index;
use crate::bench::Bench;
use crate::control::Control;
use crate::error::Error;
use crate::error::Result;
use crate::format::fault::check;
use crate::format::index_page::Header;
use crate::format::index_page::IndexPage;
use crate::format::Chapter;
use crate::format::Geometry;
use crate::format::Record;
use crate::format::NO_CHAPTER;
use crate::format::RECORD_SIZE;
use crate::stream::Source;
use crate::volume::Wanted;
use crate::volume_index::Known;
use crate::volume_index::Request;
use crate::world::Level;
use crate::world::World;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Part;
use runtime::disk::PAGE_SECTORS;
use runtime::task::yield_now;

/// Slots that are looked at, at once.
const PROBES: usize = 64;

/// Names that are added before others get a turn.
const TURN: usize = 1024;

/// Names of a chapter that may be known already, and are looked for.
const CONFLICTS: usize = 1 << 14;

/// Rebuilds an empty index.
pub(super) async fn rebuild<W: World>(index: &Index<W>, control: &Control) -> Result {
    let mut bench = index.bench.take().await;
    let result = rebuild_with(index, &mut bench, control).await;
    index.bench.give(bench);
    result
}

async fn rebuild_with<W: World>(
    index: &Index<W>,
    bench: &mut Bench<W::Disk>,
    control: &Control,
) -> Result {
    read_headers(index, bench).await?;
    // The latest save, if there is any, may become good again by nothing that is written here; but it
    // must not be loaded once a chapter is.
    let latest = index
        .saves
        .with(|saves| crate::format::save::latest(&saves.headers));
    index
        .saves
        .with(|saves| saves.valid = latest.map(|(slot, _)| slot));

    let geometry = &index.geometry;
    let mut slots = probe(index, control).await?;
    let newest = find_newest(index, bench, &mut slots).await?;
    let oldest = geometry.oldest_of(newest);
    index.newest.store_release(newest);
    index.oldest.store_release(oldest);
    let world = &index.world;
    world.log(
        Level::Info,
        format_args!(
            "Replaying volume from chapter {oldest} through chapter {}",
            newest.saturating_sub(1)
        ),
    );
    let mut replay = Replay::new(geometry)?;
    for chapter in oldest..newest {
        control.check().await?;
        index.volume_index.open_chapter(chapter);
        let slot = geometry.slot_of(chapter) as usize;
        let mut result = match slots.get(slot) {
            Some(found) if *found == chapter => replay.read(index, bench, chapter).await,
            _ => Err(Error::Errno(EIO)),
        };
        if result.is_ok() {
            result = replay.merge(index).await;
        }
        if let Err(error) = result {
            if error == Error::Errno(ENOMEM) {
                return Err(error);
            }
            index.volume.set_bad(chapter);
            world.log(
                Level::Warning,
                format_args!("chapter {chapter} of the index is damaged: {error}"),
            );
        }
        let done = chapter - oldest + 1;
        if done % (u64::from(geometry.shape.chapters) / 8).max(1) == 0 {
            let all = newest - oldest;
            world.log(
                Level::Info,
                format_args!("replayed {done} of {all} chapters"),
            );
        }
    }
    index.volume_index.open_chapter(newest);
    if !index.chapters.begin(newest) {
        return Err(EBUSY.into());
    }
    index.dirty.store_relaxed(1);
    Ok(())
}

/// Returns the chapter that the first block of each slot says is there.
async fn probe<W: World>(index: &Index<W>, control: &Control) -> Result<KVVec<Chapter>> {
    let geometry = &index.geometry;
    let slots = geometry.shape.chapters as usize;
    let mut found = KVVec::from_elem(NO_CHAPTER, slots, GFP_KERNEL)?;
    let mut parts = KVec::with_capacity(PROBES, GFP_KERNEL)?;
    let mut buffer = index.disk.buffer_of_parts(PROBES, PROBES)?;
    let first = index.super_block.volume_block();
    let mut slot = 0;
    while slot < slots {
        control.check().await?;
        parts.clear();
        let count = PROBES.min(slots - slot);
        for page in 0..count {
            let block = first.saturating_add(geometry.slot_block((slot + page) as u64));
            let sector = block.saturating_mul(PAGE_SECTORS);
            parts.push(Part::new(sector, PAGE_SECTORS as u32, page), GFP_KERNEL)?;
        }
        buffer = index.disk.read_parts(buffer, &mut parts).await;
        for (page, part) in parts.iter().enumerate() {
            let (Ok(()), Some(block)) = (part.result, buffer.page(page)) else {
                continue;
            };
            let header = Header::decode(block, geometry.shape.page_size, index.volume.nonce());
            let Ok(header) = header else { continue };
            let is_here = geometry.slot_of(header.chapter) == (slot + page) as u64;
            if let (true, Some(place)) = (is_here, found.get_mut(slot + page)) {
                *place = header.chapter;
            }
        }
        slot += count;
    }
    Ok(found)
}

/// Returns the chapter behind the newest that is whole, and forgets those that are not and say that
/// they are newer.
async fn find_newest<W: World>(
    index: &Index<W>,
    bench: &mut Bench<W::Disk>,
    slots: &mut [Chapter],
) -> Result<Chapter> {
    loop {
        let there = slots.iter().copied().filter(|found| *found != NO_CHAPTER);
        let Some(chapter) = there.max() else {
            return Ok(0);
        };
        match check_index(index, bench, chapter).await {
            Ok(()) => return Ok(chapter + 1),
            Err(Error::Errno(error)) if error == ENOMEM => return Err(error.into()),
            Err(_) => {
                let slot = index.geometry.slot_of(chapter) as usize;
                if let Some(found) = slots.get_mut(slot) {
                    *found = NO_CHAPTER;
                }
            }
        }
    }
}

/// Checks that all index pages of a chapter are there.
async fn check_index<W: World>(
    index: &Index<W>,
    bench: &mut Bench<W::Disk>,
    chapter: Chapter,
) -> Result {
    let geometry = &index.geometry;
    let blocks = u64::from(geometry.index_pages) * geometry.page_blocks();
    let block = index.volume.block_of(chapter);
    let take = async |bench: &mut Bench<W::Disk>, source: &mut Source<'_, W::Disk>| {
        read_index(index, bench, source, chapter, |_, _| ()).await
    };
    bench.read(&index.disk, block, blocks, take).await
}

/// Reads the index pages of a chapter; `each` gets number and last list of each.
async fn read_index<W: World>(
    index: &Index<W>,
    bench: &mut Bench<W::Disk>,
    source: &mut Source<'_, W::Disk>,
    chapter: Chapter,
    mut each: impl FnMut(u32, u16),
) -> Result {
    let geometry = &index.geometry;
    let mut next = 0;
    for number in 0..geometry.index_pages {
        source.take(bench.page_mut()).await?;
        let page = IndexPage::new(bench.page_mut(), index.volume.nonce())?;
        let Header {
            chapter: found,
            first_list,
            lists,
            ..
        } = page.header;
        check(found == chapter, "chapter of an index page", found)?;
        check(
            first_list == next,
            "first list of a page",
            first_list.into(),
        )?;
        page.check_lists(geometry)?;
        next += lists;
        each(number, next.saturating_sub(1) as u16);
    }
    let all = geometry.chapter_lists();
    check(next == all, "number of lists", next.into())?;
    Ok(())
}

/// What it takes to add the names of chapters.
struct Replay {
    names: KVVec<Known>,
    conflicts: KVVec<(Request, Chapter)>,
    wanted: KVVec<Wanted>,
}

impl Replay {
    fn new(geometry: &Geometry) -> Result<Self> {
        Ok(Self {
            names: KVVec::with_capacity(geometry.records as usize, GFP_KERNEL)?,
            conflicts: KVVec::with_capacity(CONFLICTS, GFP_KERNEL)?,
            wanted: KVVec::with_capacity(CONFLICTS, GFP_KERNEL)?,
        })
    }

    /// Reads a chapter: its part of the page map, and its names.
    async fn read<W: World>(
        &mut self,
        index: &Index<W>,
        bench: &mut Bench<W::Disk>,
        chapter: Chapter,
    ) -> Result {
        let geometry = &index.geometry;
        let names = &mut self.names;
        names.clear();
        let (oldest, newest) = (index.oldest(), index.newest());
        let samples_only = geometry.is_sparse(chapter, oldest, newest);
        let take = async |bench: &mut Bench<W::Disk>, source: &mut Source<'_, W::Disk>| {
            let slot = geometry.slot_of(chapter);
            let set = |number, list| {
                index
                    .volume
                    .with_page_map(|map| map.set(slot, number, list))
            };
            read_index(index, bench, source, chapter, set).await?;
            let bytes = geometry.shape.page_records as usize * RECORD_SIZE;
            for _ in 0..geometry.shape.record_pages {
                source.take(bench.page_mut()).await?;
                let page = bench.page_mut().get(..bytes).unwrap_or_default();
                for record in page.chunks_exact(RECORD_SIZE) {
                    let Some(record) = record.first_chunk() else {
                        continue;
                    };
                    let name = Record::decode(record).name;
                    if !samples_only || geometry.is_sample(name.sample_key()) {
                        // There is room for all of a chapter.
                        let known = index.volume_index.known(name, chapter);
                        let _ = names.push_within_capacity(known);
                    }
                }
            }
            Ok(())
        };
        let block = index.volume.block_of(chapter);
        let blocks = geometry.chapter_blocks();
        bench.read(&index.disk, block, blocks, take).await?;
        index.volume.with_page_map(|map| map.updated = chapter);
        Ok(())
    }

    /// Adds the names that were read.
    async fn merge<W: World>(&mut self, index: &Index<W>) -> Result {
        runtime::sort::sort_by_key(&mut self.names, Known::order);
        self.conflicts.clear();
        let conflicts = &mut self.conflicts;
        let mut start = 0;
        while start < self.names.len() {
            // What is of one list stays together.
            let rest = self.names.get(start..).unwrap_or_default();
            let mut count = TURN.min(rest.len());
            let same = |a: &Known, b: &Known| a.order().0 == b.order().0;
            while rest
                .get(count - 1)
                .zip(rest.get(count))
                .is_some_and(|(a, b)| same(a, b))
            {
                count += 1;
            }
            let names = rest.get(..count).unwrap_or_default();
            index.volume_index.merge(names, |request, chapter| {
                // If there are more, they are taken for what they may be.
                let _ = conflicts.push_within_capacity((request, chapter));
            });
            start += count;
            yield_now().await;
        }
        self.settle(index).await;
        Ok(())
    }

    /// Looks whether names that may be known are, where the volume index says.
    async fn settle<W: World>(&mut self, index: &Index<W>) {
        use crate::volume_index::Answer;
        self.wanted.clear();
        for (tag, (request, _)) in (0..).zip(self.conflicts.iter()) {
            if let Answer::Hint(chapter) | Answer::Exact(chapter) = request.answer {
                let wanted = Wanted::new(request.name, chapter, tag);
                // There is room for as many.
                let _ = self.wanted.push_within_capacity(wanted);
            }
        }
        index.find(&mut self.wanted).await;
        for wanted in &self.wanted {
            let Some((request, chapter)) = self.conflicts.get_mut(wanted.tag as usize) else {
                continue;
            };
            let one = core::slice::from_mut(request);
            index.volume_index.look_up(one);
            index.point_to(request, wanted.found.is_some(), *chapter);
        }
    }
}
