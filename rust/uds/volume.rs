// SPDX-License-Identifier: GPL-2.0

//! Chapters on disk: looking for names in them.
//!
//! To find a name takes a page of the chapter's index, which says the page of records, and that page.
//! Blocks of both are in a cache that all tasks share: each is read once, however many wait for it.
//! They are known by chapter, not by place, so that a chapter that takes the place of an older one
//! has nothing to do with what is in memory of that.
//!
//! Nothing here fails. A page that cannot be read, or is not what it should be, is one on which
//! nothing is found; its chapter is not looked into any more.

mod search;
mod slots;

use crate::error::Error;
use crate::error::Result;
use crate::format::page_map::PageMap;
use crate::format::Chapter;
use crate::format::Geometry;
use crate::format::Metadata;
use crate::format::Name;
use crate::format::NO_CHAPTER;
use kernel::prelude::*;
use persistent_data::shared_cache::Prefetch;
use persistent_data::shared_cache::Residence;
use persistent_data::shared_cache::SharedCache;
use persistent_data::shared_cache::Size;
use runtime::disk::Disk;
use runtime::pool::Pool;
use runtime::sync::Arc;
use runtime::sync::Lock;
use search::Gap;
use slots::Slots;

pub use search::ListMemory;

/// Blocks that one task reads ahead at once.
const AHEAD: usize = 64;

/// Tasks that look for names at once; others wait.
const READERS: usize = 4;

/// So often a search begins anew because a block of its pages is not in memory: they have no more.
const TRIES: usize = 64;

/// How many bad chapters are remembered.
const BAD: usize = 16;

/// A name that is looked for in a chapter.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The name.
    pub name: Name,
    /// The chapter.
    pub chapter: Chapter,
    /// What the caller knows it by.
    pub tag: u32,
    /// What is known of the name; `None` also if that cannot be found out.
    pub found: Option<Metadata>,
    /// The page of records that it may be on.
    page: Option<u32>,
}

impl Wanted {
    /// Looks for a name in a chapter.
    pub fn new(name: Name, chapter: Chapter, tag: u32) -> Self {
        Self {
            name,
            chapter,
            tag,
            found: None,
            page: None,
        }
    }
}

/// A chapter of which something is bad, and what.
pub type Trouble = (Chapter, Error);

/// What a task needs to look for names.
struct Reader<D: Disk> {
    buffer: D::Buffer,
    prefetch: Prefetch,
    list: ListMemory,
}

impl<D: Disk> Reader<D> {
    fn new(disk: &D) -> Result<Self> {
        Ok(Self {
            buffer: disk.buffer_of_parts(AHEAD, AHEAD)?,
            prefetch: Prefetch::new(AHEAD)?,
            list: ListMemory::new()?,
        })
    }
}

/// Chapters that are not looked into any more.
struct Bad {
    chapters: [Chapter; BAD],
    next: usize,
}

/// Makes a cache in a stack frame of its own, and puts it on the heap.
#[inline(never)]
fn cache<D: Disk>(
    slots: impl FnOnce() -> Slots<D>,
    size: Size,
) -> Result<KBox<SharedCache<Slots<D>>>> {
    Ok(KBox::new(SharedCache::new(slots(), size)?, GFP_KERNEL)?)
}

/// The chapters on disk.
pub struct Volume<D: Disk> {
    geometry: Geometry,
    cache: KBox<SharedCache<Slots<D>>>,
    readers: Pool<Reader<D>>,
    page_map: Lock<PageMap>,
    bad: Lock<Bad>,
}

impl<D: Disk> Volume<D> {
    /// The chapters of an index whose volume begins at block `first` of the device.
    pub fn new(disk: Arc<D>, geometry: &Geometry, first: u64, nonce: u64) -> Result<Self> {
        let mut readers = KVec::with_capacity(READERS, GFP_KERNEL)?;
        for _ in 0..READERS {
            readers.push(Reader::new(&*disk)?, GFP_KERNEL)?;
        }
        // As many as mainline has; their memory is taken when they are needed.
        let chapter = u64::from(geometry.shape.record_pages) * geometry.page_blocks();
        let size = Size {
            pages: (7 * chapter) as usize,
            parts: 16,
            loaders: READERS,
            holders: READERS,
        };
        Ok(Self {
            geometry: *geometry,
            cache: cache(|| Slots::new(disk, geometry, first, nonce), size)?,
            readers: Pool::new(readers),
            page_map: Lock::new(PageMap::new(geometry)?),
            bad: Lock::new(Bad {
                chapters: [NO_CHAPTER; BAD],
                next: 0,
            }),
        })
    }

    /// Does something with the page map.
    pub fn with_page_map<R>(&self, f: impl FnOnce(&mut PageMap) -> R) -> R {
        self.page_map.with(f)
    }

    /// Returns the block of the device at which a chapter begins.
    pub fn block_of(&self, chapter: Chapter) -> u64 {
        self.cache.store().block_of(chapter)
    }

    /// Returns the nonce of its pages.
    pub fn nonce(&self) -> u64 {
        self.cache.store().nonce()
    }

    /// Returns whether a chapter is not looked into any more.
    pub fn is_bad(&self, chapter: Chapter) -> bool {
        self.bad.with(|bad| bad.chapters.contains(&chapter))
    }

    /// From now on a chapter is not looked into any more. Returns false if that was so before.
    pub fn set_bad(&self, chapter: Chapter) -> bool {
        self.bad.with(|bad| {
            if bad.chapters.contains(&chapter) {
                return false;
            }
            let next = bad.next % BAD;
            if let Some(place) = bad.chapters.get_mut(next) {
                *place = chapter;
            }
            bad.next = next + 1;
            true
        })
    }

    /// Looks for a name if all that takes is in memory; returns false if it is not. `trouble` gets a chapter
    /// that has turned out to be bad.
    pub fn find_in_memory(
        &self,
        wanted: &mut Wanted,
        list: &mut ListMemory,
        trouble: &mut Option<Trouble>,
    ) -> bool {
        let found = self.search_index(wanted, list).and_then(|page| {
            wanted.page = page;
            self.search_records(wanted)
        });
        match found {
            Err(Gap::Block(_)) => return false,
            Err(Gap::Bad(error)) => {
                self.note::<()>(wanted.chapter, Err(error), trouble);
            }
            Ok(found) => wanted.found = found,
        }
        true
    }

    /// Looks for names in their chapters. Returns a chapter that has turned out to be bad, if any has.
    pub async fn find(&self, wanted: &mut [Wanted]) -> Option<Trouble> {
        if wanted.is_empty() {
            return None;
        }
        let mut reader = self.readers.take().await;
        let mut trouble = None;
        let mut rest = &mut *wanted;
        while !rest.is_empty() {
            let count = self.missing_within(rest, |w| Some(self.index_key(w)));
            let (group, later) = rest.split_at_mut(count);
            reader = self
                .read_ahead(reader, group, |w| Some(self.index_key(w)))
                .await;
            for wanted in group.iter_mut() {
                let page = self.wait_for(|| self.search_index(wanted, &mut reader.list));
                wanted.page = self.note(wanted.chapter, page.await, &mut trouble);
            }
            rest = later;
        }
        let mut rest = &mut *wanted;
        while !rest.is_empty() {
            let count = self.missing_within(rest, |w| self.record_key(w));
            let (group, later) = rest.split_at_mut(count);
            reader = self.read_ahead(reader, group, |w| self.record_key(w)).await;
            for wanted in group.iter_mut() {
                let found = self.wait_for(|| self.search_records(wanted));
                wanted.found = self.note(wanted.chapter, found.await, &mut trouble);
            }
            rest = later;
        }
        self.readers.give(reader);
        trouble
    }

    /// Makes nothing found of a failure. What is bad, and not only out of reach now, is remembered.
    fn note<T>(
        &self,
        chapter: Chapter,
        result: Result<Option<T>>,
        trouble: &mut Option<Trouble>,
    ) -> Option<T> {
        match result {
            Ok(found) => found,
            Err(Error::Errno(error)) if error == ENOMEM => None,
            Err(error) => {
                if self.set_bad(chapter) {
                    trouble.get_or_insert((chapter, error));
                }
                None
            }
        }
    }

    /// Returns the first block of the index page that has a name's list.
    fn index_key(&self, wanted: &Wanted) -> u64 {
        let slot = self.geometry.slot_of(wanted.chapter);
        let (_, list) = self.geometry.chapter_place(wanted.name.chapter_key());
        let page = self.page_map.with(|map| map.page_of(slot, list));
        self.page_key(wanted.chapter, page.into())
    }

    /// Returns the first block of the page of records that a name may be on.
    fn record_key(&self, wanted: &Wanted) -> Option<u64> {
        let page = u64::from(wanted.page?) + u64::from(self.geometry.index_pages);
        Some(self.page_key(wanted.chapter, page))
    }

    fn page_key(&self, chapter: Chapter, page: u64) -> u64 {
        self.cache
            .store()
            .key(chapter, page * self.geometry.page_blocks())
    }

    /// Returns how many of these, at least one, can have their pages read ahead at once.
    fn missing_within(&self, wanted: &[Wanted], key: impl Fn(&Wanted) -> Option<u64>) -> usize {
        let mut room = AHEAD as u64 / self.geometry.page_blocks();
        let fits = wanted.iter().take_while(|wanted| {
            if key(wanted).is_some_and(|key| !self.cache.has(key)) {
                room = room.saturating_sub(1);
            }
            room > 0
        });
        fits.count().max(1)
    }

    /// Reads the pages that these need, and that are not in memory.
    async fn read_ahead(
        &self,
        mut reader: Reader<D>,
        wanted: &[Wanted],
        key: impl Fn(&Wanted) -> Option<u64>,
    ) -> Reader<D> {
        let blocks = self.geometry.page_blocks();
        let keys = wanted.iter().filter(|w| !self.is_bad(w.chapter));
        let missing = keys
            .filter_map(key)
            .flat_map(|key| key..key + blocks)
            .filter(|key| !self.cache.has(*key));
        let prefetch = self
            .cache
            .prefetch(missing, &mut reader.prefetch, reader.buffer);
        reader.buffer = prefetch.await;
        reader
    }

    /// Looks at pages, and has what is not in memory read.
    async fn wait_for<T>(
        &self,
        mut look: impl FnMut() -> core::result::Result<T, Gap>,
    ) -> Result<T> {
        let mut _last = None;
        // A block may be gone before the next one comes, but not over and over.
        for _ in 0..TRIES {
            match look() {
                Ok(found) => return Ok(found),
                Err(Gap::Block(key)) => {
                    _last = Some(self.cache.pin(key, Residence::Evictable).await?);
                }
                Err(Gap::Bad(error)) => return Err(error),
            }
        }
        Err(ENOMEM.into())
    }

    /// Returns whether nobody looks for anything.
    pub fn is_idle(&self) -> bool {
        self.readers.is_full() && self.cache.is_idle()
    }
}

#[cfg(test)]
mod tests;
