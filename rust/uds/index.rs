// SPDX-License-Identifier: GPL-2.0

//! An index that is open.
//!
//! Who has names to ask about does so in a [`Batch`]: first all are looked up, which may have to read
//! chapters ([`Index::look_up`]); later, when the user knows what is true, they are remembered
//! ([`Index::remember`]), which waits for nothing. A name that is remembered is in the open chapter from
//! then on, whatever chapter it was in: so what is asked for often is not forgotten.
//!
//! When the open chapter is full the next one takes its place, and a task of its own
//! ([`Index::write_chapters`]) writes it. Until that is done its names are found in memory. If the
//! next one is full by then too, names are not remembered.
//!
//! # Locks
//!
//! Everybody who uses lists or open chapter is counted, under the lock of `life`; a save waits until
//! nobody does, and keeps others out. No lock is held while another is taken.

mod batch;
mod create;
mod load;
mod look_up;
mod rebuild;
mod save;
mod sparse;

use crate::bench::Bench;
use crate::error::Error;
use crate::error::Result;
use crate::format::save::Save;
use crate::format::super_block::SuperBlock;
use crate::format::super_block::SAVES;
use crate::format::Chapter;
use crate::format::Geometry;
use crate::format::Metadata;
use crate::format::Name;
use crate::format::Record;
use crate::open_chapter::Added;
use crate::open_chapter::Chapters;
use crate::volume::Volume;
use crate::volume_index::Answer;
use crate::volume_index::Counts;
use crate::volume_index::Outcome;
use crate::volume_index::Request;
use crate::volume_index::Sweep;
use crate::volume_index::VolumeIndex;
use crate::world::Level;
use crate::world::World;
use core::pin::pin;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::pool::Pool;
use runtime::stack::apart;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;
use runtime::sync::AtomicU64;
use runtime::sync::Lock;
use runtime::task::yield_now;
use sparse::Sparse;

pub use batch::Batch;
pub use batch::Item;
pub use load::open;

/// Lists that are swept at once.
const SWEEP: u32 = 256;

/// Where an index is, and what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How large it is.
    pub geometry: Geometry,
    /// The first block of its region on the device.
    pub start: u64,
    /// Blocks of the region.
    pub blocks: u64,
    /// What tells its user from others.
    pub owner: u64,
}

/// Who uses the index, and what is to be done.
#[derive(Default)]
struct Life {
    users: u32,
    /// A save keeps others out.
    frozen: bool,
    /// A chapter that is to be written.
    full: Option<Chapter>,
    /// The next chapter is being opened.
    advancing: bool,
    /// Who opens it is to look again: what was in the way may have gone.
    again: bool,
    stopping: bool,
    failed: Option<Error>,
}

impl Rules for Life {
    type Key = ();

    fn left(&mut self, (): &(), _: &mut Entries<'_, ()>) {}
}

/// The saves on disk.
#[derive(Default)]
struct Saves {
    headers: [Option<Save>; SAVES],
    /// The save that would be loaded; `None` if its open chapter is void, so that none would be.
    valid: Option<u16>,
}

/// What has happened since the index was opened.
struct Counters {
    /// Names that were not remembered: there was no room, or others were kept out.
    dropped: AtomicU64,
    /// Chapters written.
    chapters: AtomicU64,
    /// Names that were looked up to be remembered, and found.
    found: AtomicU64,
    /// Names that were looked up to be remembered, and not found.
    not_found: AtomicU64,
    /// Names that were looked up only, and found.
    queried: AtomicU64,
    /// Names that were looked up only, and not found.
    not_queried: AtomicU64,
    /// Names that were found, and remembered with something else.
    updated: AtomicU64,
}

/// How often names were looked up and remembered since the index was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Names that were looked up to be remembered, and found.
    pub found: u64,
    /// Names that were looked up to be remembered, and not found.
    pub not_found: u64,
    /// Names that were looked up only, and found.
    pub queried: u64,
    /// Names that were looked up only, and not found.
    pub not_queried: u64,
    /// Names that were found, and remembered with something else.
    pub updated: u64,
}

/// An index that is open.
pub struct Index<W: World> {
    world: Arc<W>,
    disk: Arc<W::Disk>,
    geometry: Geometry,
    super_block: SuperBlock,
    volume: KBox<Volume<W::Disk>>,
    volume_index: VolumeIndex,
    chapters: KBox<Chapters>,
    sparse: Sparse,
    bench: Pool<Bench<W::Disk>>,
    life: Monitor<Life>,
    newest: AtomicU64,
    oldest: AtomicU64,
    saves: Lock<Saves>,
    /// Something has changed since the last save.
    dirty: AtomicU32,
    counters: Counters,
}

/// Makes a part of an index in a stack frame of its own, and puts it on the heap.
#[inline(never)]
fn place<T>(make: impl FnOnce() -> Result<T>) -> Result<KBox<T>> {
    Ok(KBox::new(make()?, GFP_KERNEL)?)
}

/// Makes a bench in a stack frame of its own.
#[inline(never)]
fn one_bench<D: Disk>(disk: &D, geometry: &Geometry) -> Result<Pool<Bench<D>>> {
    let mut benches = KVec::with_capacity(1, GFP_KERNEL)?;
    benches.push(Bench::new(disk, geometry)?, GFP_KERNEL)?;
    Ok(Pool::new(benches))
}

/// Somebody uses an index while this is there.
struct User<'i, W: World>(&'i Index<W>);

impl<W: World> Drop for User<'_, W> {
    fn drop(&mut self) {
        self.0.life.with(|life, waiting| {
            life.users -= 1;
            if life.users == 0 {
                waiting.wake_all();
            }
        });
    }
}

impl<W: World> Index<W> {
    /// Returns an empty index, of which nothing is read.
    #[inline(never)]
    fn empty(
        world: Arc<W>,
        disk: Arc<W::Disk>,
        geometry: &Geometry,
        super_block: &SuperBlock,
    ) -> Result<Arc<Self>> {
        let first = super_block.volume_block();
        let nonce = super_block.volume_nonce();
        let seed = world.random();
        let own = Self {
            world,
            geometry: *geometry,
            super_block: *super_block,
            volume: place(|| Volume::new(disk.clone(), geometry, first, nonce))?,
            volume_index: VolumeIndex::new(geometry)?,
            chapters: place(|| Ok(Chapters::new(geometry.records, seed)?))?,
            sparse: Sparse::new(),
            bench: one_bench(&*disk, geometry)?,
            life: Monitor::new(Life::default()),
            newest: AtomicU64::new(0),
            oldest: AtomicU64::new(0),
            saves: Lock::new(Saves::default()),
            dirty: AtomicU32::new(0),
            counters: Counters {
                dropped: AtomicU64::new(0),
                chapters: AtomicU64::new(0),
                found: AtomicU64::new(0),
                not_found: AtomicU64::new(0),
                queried: AtomicU64::new(0),
                not_queried: AtomicU64::new(0),
                updated: AtomicU64::new(0),
            },
            disk,
        };
        Ok(Arc::new(own, GFP_KERNEL)?)
    }

    /// Returns the open chapter.
    pub fn newest(&self) -> Chapter {
        self.newest.load_acquire()
    }

    /// Returns the oldest chapter that is not forgotten.
    pub fn oldest(&self) -> Chapter {
        self.oldest.load_acquire()
    }

    /// Returns what is in the volume index.
    pub fn counts(&self) -> Counts {
        self.volume_index.counts()
    }

    /// Returns how many names were not remembered: there was no room, or others were kept out.
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.load_relaxed()
    }

    /// Returns how many chapters were written.
    pub fn chapters_written(&self) -> u64 {
        self.counters.chapters.load_relaxed()
    }

    /// Returns whether something has changed since the last save.
    pub fn is_dirty(&self) -> bool {
        self.dirty.load_relaxed() > 0
    }

    /// Returns how often names were looked up and remembered.
    pub fn asked(&self) -> Asked {
        Asked {
            found: self.counters.found.load_relaxed(),
            not_found: self.counters.not_found.load_relaxed(),
            queried: self.counters.queried.load_relaxed(),
            not_queried: self.counters.not_queried.load_relaxed(),
            updated: self.counters.updated.load_relaxed(),
        }
    }

    /// Returns why the index is of no use any more, if it is not.
    pub fn failure(&self) -> Option<Error> {
        self.life.with(|life, _| life.failed)
    }

    /// Uses the index, if nobody keeps others out.
    fn enter(&self) -> Option<User<'_, W>> {
        let entered = self.life.with(|life, _| {
            let may = !life.frozen && life.failed.is_none();
            life.users += u32::from(may);
            may
        });
        entered.then(|| User(self))
    }

    /// Remembers names of a batch that was looked up: those for which `metadata` returns what is known
    /// of them now.
    pub fn remember(&self, batch: &mut Batch, metadata: impl Fn(&Item) -> Option<Metadata>) {
        let user = self.enter();
        let (mut dropped, mut updated) = (0, 0);
        for (request, item) in batch.requests.iter_mut().zip(batch.items.iter()) {
            let Some(metadata) = metadata(item) else {
                continue;
            };
            if user.is_some() && self.remember_one(request, item.is_own, metadata) {
                updated += u64::from(item.advice.is_some_and(|known| known != metadata));
            } else {
                dropped += 1;
            }
        }
        for (counter, count) in [
            (&self.counters.dropped, dropped),
            (&self.counters.updated, updated),
        ] {
            if count > 0 {
                counter.fetch_add(count);
            }
        }
    }

    /// Remembers a name without having looked it up: for what came before the index was open.
    pub fn remember_unasked(&self, name: Name, metadata: Metadata) {
        let _known = self.put(name, metadata);
    }

    /// As [`remember_unasked`](Self::remember_unasked), for a name of which the user knows that it is known
    /// with something else.
    pub fn update(&self, name: Name, metadata: Metadata) {
        if self.put(name, metadata) {
            self.counters.updated.fetch_add(1);
        }
    }

    /// Remembers a name, and returns whether it may have been known.
    fn put(&self, name: Name, metadata: Metadata) -> bool {
        let put = self.enter().map(|_user| {
            let mut request = self.volume_index.request(name);
            self.volume_index
                .look_up(core::slice::from_mut(&mut request));
            let is_known = request.answer != Answer::Absent;
            let remembered = self.remember_one(&mut request, false, metadata);
            (is_known, remembered)
        });
        let (is_known, remembered) = put.unwrap_or((false, false));
        if !remembered {
            self.counters.dropped.fetch_add(1);
        }
        is_known
    }

    /// Puts a name into the open chapter. `is_own`: a hint of the volume index was one of this name.
    fn remember_one(&self, request: &mut Request, is_own: bool, metadata: Metadata) -> bool {
        let record = Record {
            name: request.name,
            metadata,
        };
        // The open chapter may become another one, but not over and over.
        for _ in 0..3 {
            let chapter = self.newest();
            match self.chapters.add(chapter, record) {
                Added::New(was_last) => {
                    self.dirty.store_relaxed(1);
                    self.point_to(request, is_own, chapter);
                    if was_last {
                        self.advance();
                    }
                    return true;
                }
                // Who added it first sees to the rest.
                Added::Replaced => {
                    self.dirty.store_relaxed(1);
                    return true;
                }
                Added::Refused if self.newest() == chapter => return false,
                Added::Refused => {}
            }
        }
        false
    }

    /// Has the volume index say that a name, which is new in a chapter, is there.
    fn point_to(&self, request: &mut Request, mut is_own: bool, chapter: Chapter) {
        for _ in 0..3 {
            let outcome = match request.answer {
                Answer::Hint(_) if !is_own => self.volume_index.insert(request, chapter),
                Answer::Absent => self.volume_index.insert(request, chapter),
                Answer::Hint(_) | Answer::Exact(_) => self.volume_index.re_point(request, chapter),
            };
            if outcome != Outcome::Changed {
                return;
            }
            // A hint may be of this name now, but this was not looked for: two entries do no harm.
            is_own = false;
        }
    }

    /// Opens the next chapter, if this one is full, and the table of the next one is free.
    fn advance(&self) {
        let mut may = self.life.with(|life, _| {
            life.again |= life.advancing;
            let may = !life.advancing && life.failed.is_none();
            life.advancing |= may;
            may
        });
        while may {
            let full = self.open_next();
            may = self.life.with(|life, waiting| {
                if full.is_some() {
                    life.full = full;
                }
                life.advancing = core::mem::take(&mut life.again);
                waiting.wake_all();
                life.advancing
            });
        }
    }

    /// As [`advance`](Self::advance), alone. Returns the chapter that is to be written, if the next one
    /// is open now.
    fn open_next(&self) -> Option<Chapter> {
        let chapter = self.newest();
        let next = chapter + 1;
        if !self.chapters.is_full(chapter) || !self.chapters.begin(next) {
            return None;
        }
        let early = self.volume_index.open_chapter(next);
        if early > 0 {
            self.world.log(
                Level::Info,
                format_args!("the index forgets {early} chapters early: its lists are full"),
            );
        }
        let oldest = self.oldest() + self.geometry.expired_by(next);
        self.oldest.store_release(oldest);
        self.newest.store_release(next);
        Some(chapter)
    }

    /// Writes chapters that are full, until the index is stopped. One task does this.
    pub async fn write_chapters(&self) {
        loop {
            let Some(chapter) = self.next_full().await else {
                return;
            };
            let written = apart(pin!(self.write_chapter(chapter))).await;
            if written.is_ok() {
                self.chapters.end(chapter);
                self.counters.chapters.fetch_add(1);
                // The next one may be full. Nobody may find nothing to be written in between.
                self.advance();
            }
            self.life.with(|life, waiting| {
                if life.full == Some(chapter) {
                    life.full = None;
                }
                life.failed = written.err();
                waiting.wake_all();
            });
            if let Err(error) = written {
                self.world.log(
                    Level::Error,
                    format_args!("the index cannot write chapter {chapter}: {error}"),
                );
                return;
            }
            self.sweep().await;
        }
    }

    /// Waits for a chapter that is full; `None` if there will be none.
    async fn next_full(&self) -> Option<Chapter> {
        let entry = pin!(self.life.entry(()));
        let full = entry.as_ref().wait(|turn| {
            let life = &turn.state;
            match life.full {
                Some(chapter) if life.failed.is_none() => Some(Some(chapter)),
                _ if life.stopping || life.failed.is_some() => Some(None),
                _ => None,
            }
        });
        full.await
    }

    async fn write_chapter(&self, chapter: Chapter) -> Result {
        let mut bench = self.bench.take().await;
        let result = self.write_chapter_with(&mut bench, chapter).await;
        self.bench.give(bench);
        result
    }

    async fn write_chapter_with(&self, bench: &mut Bench<W::Disk>, chapter: Chapter) -> Result {
        apart(pin!(self.void_save(bench))).await?;
        let written = bench.write_chapter(
            &self.disk,
            &self.volume,
            &self.geometry,
            &self.chapters,
            chapter,
        );
        let dropped = apart(pin!(written)).await?;
        if dropped > 0 {
            self.world.log(
                Level::Warning,
                format_args!("chapter {chapter} of the index has no room for {dropped} names"),
            );
        }
        Ok(())
    }

    /// Removes entries of forgotten chapters, unless the next chapter is to be written first, and sees
    /// that those who must not wait find memory.
    async fn sweep(&self) {
        let mut sweep = Sweep::default();
        loop {
            let is_urgent = self
                .life
                .with(|life, _| life.full.is_some() || life.stopping);
            let Some(user) = self.enter().filter(|_| !is_urgent) else {
                return;
            };
            let is_done = self.volume_index.sweep(&mut sweep, SWEEP);
            drop(user);
            if is_done {
                break;
            }
            yield_now().await;
        }
        self.volume_index.top_up(GFP_NOWAIT);
    }

    /// Waits until no chapter is being written and nobody uses the index, and keeps others out.
    async fn freeze(&self) -> Result {
        let entry = pin!(self.life.entry(()));
        let frozen = entry.as_ref().wait(|turn| {
            let life = &mut *turn.state;
            if let Some(error) = life.failed {
                return Some(Err(error));
            }
            let is_idle = life.users == 0 && life.full.is_none() && !life.advancing;
            if life.frozen || !is_idle {
                return None;
            }
            life.frozen = true;
            Some(Ok(()))
        });
        frozen.await
    }

    /// Waits until no chapter is being written, and nobody uses the index.
    ///
    /// # Errors
    ///
    /// Why the index is of no use any more.
    pub async fn settle(&self) -> Result {
        self.freeze().await?;
        self.thaw();
        Ok(())
    }

    fn thaw(&self) {
        self.life.with(|life, waiting| {
            life.frozen = false;
            waiting.wake_all();
        });
    }

    /// Closes the index for good: from then on nobody uses it, whoever has it still, and nothing is
    /// written. With `save` it is saved before, if it has changed.
    ///
    /// # Errors
    ///
    /// As those of [`save`](Self::save).
    pub async fn close(&self, save: bool) -> Result {
        let mut result = self.freeze().await;
        if result.is_ok() && save {
            result = self.save_alone().await;
        }
        self.stop();
        result
    }

    /// Has the task that writes chapters end when there is none to write.
    pub fn stop(&self) {
        self.life.with(|life, waiting| {
            life.stopping = true;
            waiting.wake_all();
        });
    }
}

#[cfg(test)]
pub(crate) mod tests;
