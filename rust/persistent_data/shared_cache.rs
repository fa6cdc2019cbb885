// SPDX-License-Identifier: GPL-2.0

//! Blocks in memory that many tasks read and change at once.
//!
//! A block that is not in memory is read once, however many want it. Who has [pinned](Pinned) a
//! block reads and changes it by short closures. Changes stay in memory for as long as its user
//! likes; the cache writes them back when it is told to, or when it needs the frame.
//!
//! # Two kinds of residents
//!
//! Evictable blocks share a limited number of frames; a clock chooses which clean one has to go.
//! Kept blocks are never evicted and not limited, for small structures above large ones. Frames
//! are allocated when they are first needed, without waiting: memory may come only from writing to
//! the device that the cache serves. When there is none, a frame that is in use is evicted instead
//! (for a kept block, too, which then is an evictable one); each part has some from the start, so
//! there is always progress.
//!
//! # Ordered write-back
//!
//! A change carries two numbers that mean something to the user: one that says how old it is, and
//! one that grows with every change. The cache tells the age of the oldest change that is not
//! written yet, and writes the oldest first. What it writes is a copy, made under the lock; before
//! it writes, it has the user's [`Gate`] wait until the newest change in the copy may be written
//! (because a journal has it). A block that is changed meanwhile is dirty again, with the age of
//! that change. A write never blocks a reader or a writer of the block.
//!
//! A block that was never written whole before is written twice, with a flush in between; the
//! first version says that it is not valid. So a torn first write is told from a valid block.
//!
//! # Locks and waiting
//!
//! The cache is cut into parts by a hash of the block's number. A part has one lock, held only for
//! a closure; no two are held at once. A task waits for a part only when it has to: for the read
//! of a block, or for a frame. Frames are handed out in order of arrival. Who holds a pin may wait
//! for one more frame only if there are more frames in each part than tasks that do: see
//! [`Size::holders`].

mod dirty;
mod prefetch;
mod shard;
mod write_back;

use core::future::Future;
use core::pin::pin;
use kernel::alloc::AllocError;
use kernel::alloc::Flags;
use kernel::prelude::KBox;
use kernel::prelude::KVVec;
use kernel::prelude::KVec;
use kernel::prelude::GFP_KERNEL;
use kernel::prelude::GFP_NOWAIT;
use runtime::disk;
use runtime::disk::Buffer;
use runtime::disk::Page;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::pool::Pool;
use runtime::sync::AtomicU64;

use crate::table::mix;
use crate::table::Chunk;
use shard::Admission;
use shard::Needs;
use shard::Shard;
use shard::Supplies;
use shard::Wish;
use shard::LOADS;
use write_back::Desk;

pub use dirty::Change;
pub use prefetch::Prefetch;
pub use shard::Counters;
pub use write_back::Gate;
pub use write_back::Writer;

/// Which frames a block may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residence {
    /// One of the limited number.
    Evictable,
    /// One of its own, for good.
    Kept,
}

/// What was read from a device is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A block that was written whole before.
    Written,
    /// Nothing; the user made an empty block of it.
    Fresh,
}

/// Where the blocks of a cache come from, and what they are.
pub trait Store: Send + Sync + 'static {
    /// Memory for I/O.
    type Buffer: Buffer;
    /// What can go wrong.
    type Error: Copy + Send + From<AllocError> + From<kernel::error::Error>;

    /// Allocates a buffer of `pages` pages, each of which can be on its way by itself.
    fn buffer(&self, pages: usize) -> Result<Self::Buffer, Self::Error>;

    /// Reads a block into the first page of `buffer`.
    fn read(
        &self,
        block: u64,
        residence: Residence,
        buffer: Self::Buffer,
    ) -> impl Future<Output = (Self::Buffer, Result<(), Self::Error>)> + Send;

    /// As [`buffer`](Self::buffer), at any time: fails rather than wait for memory.
    fn buffer_now(&self, pages: usize) -> Result<Self::Buffer, Self::Error>;

    /// Returns the part of a buffer from page `page` on that `blocks` blocks from `block` on belong
    /// to.
    fn part(&self, block: u64, blocks: u32, page: usize) -> disk::Part;

    /// Reads blocks into parts of a buffer, all at once. Leaves with each part what became of it.
    fn read_parts(
        &self,
        residence: Residence,
        buffer: Self::Buffer,
        parts: &mut [disk::Part],
    ) -> impl Future<Output = Self::Buffer> + Send;

    /// Writes blocks from parts of a buffer, all at once. Leaves with each part what became of it.
    fn write_parts(
        &self,
        residence: Residence,
        buffer: Self::Buffer,
        parts: &mut [disk::Part],
    ) -> impl Future<Output = Self::Buffer> + Send;

    /// Puts every write that completed before this call on stable storage.
    fn flush(
        &self,
        buffer: Self::Buffer,
    ) -> impl Future<Output = (Self::Buffer, Result<(), Self::Error>)> + Send;

    /// Looks at a block that was read, and makes an empty one of what was never written.
    fn loaded(
        &self,
        block: u64,
        residence: Residence,
        page: &mut Page,
    ) -> Result<Origin, Self::Error>;

    /// Says whether the block is valid, in a copy that is about to be written for the first time.
    fn set_valid(&self, page: &mut Page, valid: bool);

    /// Fails if nothing may be written any more. Takes no lock.
    fn check(&self) -> Result<(), Self::Error>;

    /// Blocks could not be written; they stay dirty. Nothing may be written from now on.
    fn failed(&self, error: Self::Error);
}

/// How much memory a cache takes.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The number of frames for evictable blocks; at least 1.
    pub pages: usize,
    /// The largest number of parts.
    pub parts: usize,
    /// How many blocks can be read at once without more memory; at least 1.
    pub loaders: usize,
    /// Tasks that may wait for a block while they have another one, or a vacancy. So many frames
    /// and one more have their memory from the start.
    pub holders: usize,
}

/// A part has at least so many frames, unless it is the only one.
const FRAMES_OF_PART: usize = 64;

/// The binary logarithm of how many neighbours are in the same part.
const NEIGHBOURS_SHIFT: u32 = 4;

/// Blocks in memory that many tasks read and change at once.
pub struct SharedCache<S: Store> {
    store: S,
    parts: KVec<Part>,
    /// The upper bits of a hash, shifted by so many, are the number of a part.
    shift: u32,
    desk: Monitor<Desk>,
    loaders: Pool<S::Buffer>,
}

struct Part {
    shard: Monitor<Shard>,
    /// The age of the oldest change that is not written, for those who want it without the lock.
    oldest: AtomicU64,
}

/// A block that stays in memory until this is dropped.
pub struct Pinned<'c, S: Store> {
    cache: &'c SharedCache<S>,
    part: &'c Part,
    frame: u32,
    block: u64,
}

/// A frame for a block that is not on disk yet; dropped, it is given back.
pub struct Vacancy<'c, S: Store> {
    cache: &'c SharedCache<S>,
    part: &'c Part,
    frame: u32,
    block: u64,
    page: Option<KBox<Page>>,
}

impl<S: Store> SharedCache<S> {
    /// Creates an empty cache.
    pub fn new(store: S, size: Size) -> Result<Self, S::Error> {
        let (parts, bits) = make_parts(size)?;
        let mut loaders = KVec::with_capacity(size.loaders.max(1), GFP_KERNEL)?;
        for _ in 0..size.loaders.max(1) {
            loaders.push(store.buffer(1)?, GFP_KERNEL)?;
        }
        Ok(Self {
            store,
            parts,
            shift: 32 - bits,
            desk: Monitor::new(Desk::default()),
            loaders: Pool::new(loaders),
        })
    }

    /// Returns what the cache was made for.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Runs `read` with a block, if it is in memory. Waits for nothing.
    #[inline]
    pub fn try_read<R>(&self, block: u64, read: impl FnOnce(&Page) -> R) -> Option<R> {
        let part = self.part(block)?;
        part.shard.with(|shard, _| shard.find(block).map(read))
    }

    /// Pins a block, if it is in memory. Waits for nothing.
    pub fn try_pin(&self, block: u64) -> Option<Pinned<'_, S>> {
        let part = self.part(block)?;
        let frame = part.shard.with(|shard, _| shard.pin(block))?;
        Some(self.pinned(part, frame, block))
    }

    /// Pins a block, and reads it first if it is not in memory.
    ///
    /// # Errors
    ///
    /// Those of the read, and of what the store thinks of what was read.
    pub async fn pin(&self, block: u64, residence: Residence) -> Result<Pinned<'_, S>, S::Error> {
        if let Some(pinned) = self.try_pin(block) {
            return Ok(pinned);
        }
        let part = self.part(block).ok_or(AllocError)?;
        let (frame, page) = match self.admit(part, block, residence).await? {
            Place::Pinned(frame) => return Ok(self.pinned(part, frame, block)),
            Place::Empty(frame, page) => (frame, page),
        };
        self.load(part, frame, block, residence, page).await?;
        Ok(self.pinned(part, frame, block))
    }

    /// Takes a frame for a block that is to be new. Returns `None` if it is in memory, which means
    /// that it is not new.
    pub async fn create(
        &self,
        block: u64,
        residence: Residence,
    ) -> Result<Option<Vacancy<'_, S>>, S::Error> {
        let part = self.part(block).ok_or(AllocError)?;
        match self.admit(part, block, residence).await? {
            Place::Pinned(frame) => {
                drop(self.pinned(part, frame, block));
                Ok(None)
            }
            Place::Empty(frame, page) => Ok(Some(Vacancy {
                cache: self,
                part,
                frame,
                block,
                page: Some(page),
            })),
        }
    }

    /// Returns the age of the oldest change that is not written.
    pub fn oldest_change(&self) -> Option<u64> {
        let ages = self.parts.iter().map(|part| part.oldest.load_acquire());
        ages.min().filter(|&age| age != u64::MAX)
    }

    /// Has all who wait look again. To be called when nothing may be written any more.
    pub fn wake_all(&self) {
        for part in &self.parts {
            part.shard.with(|_, waiting| waiting.wake_all());
        }
        self.kick();
    }

    /// Returns what happened so far, and how the frames are used, for blocks of a kind.
    pub fn counters(&self, residence: Residence) -> Counters {
        let mut sum = Counters::default();
        for part in &self.parts {
            part.shard
                .with(|shard, _| shard.count_into(residence, &mut sum));
        }
        sum
    }

    /// Returns true if no block is pinned, read or written.
    pub fn is_idle(&self) -> bool {
        let idle = |part: &Part| part.shard.with(|shard, _| shard.is_idle());
        self.loaders.is_full() && self.parts.iter().all(idle)
    }

    /// Returns the part of a block. Neighbours share one, so that they are written together.
    #[inline]
    fn part(&self, block: u64) -> Option<&Part> {
        self.parts.get(self.part_number(block))
    }

    #[inline]
    fn part_number(&self, block: u64) -> usize {
        let hash = mix(block >> NEIGHBOURS_SHIFT) >> 32;
        (hash >> self.shift) as usize
    }

    fn pinned<'c>(&'c self, part: &'c Part, frame: u32, block: u64) -> Pinned<'c, S> {
        Pinned {
            cache: self,
            part,
            frame,
            block,
        }
    }

    /// Waits until the block is in memory or has a frame of its own.
    async fn admit(
        &self,
        part: &Part,
        block: u64,
        residence: Residence,
    ) -> Result<Place, S::Error> {
        let entry = pin!(part.shard.entry(Wish::new(block, residence)));
        let mut supplies = Supplies::default();
        let mut patient = false;
        loop {
            let admission = entry
                .as_ref()
                .wait(|turn| shard::admit(turn, &mut supplies, self.store.check().is_ok()))
                .await;
            match admission {
                Admission::Pinned(frame) => return Ok(Place::Pinned(frame)),
                Admission::Empty(frame, page) => return Ok(Place::Empty(frame, page)),
                Admission::Needs(needs) => {
                    let flags = if patient { GFP_KERNEL } else { GFP_NOWAIT };
                    supplies.exhausted = allocate(&needs, &mut supplies, flags).is_err();
                }
                Admission::Pressed => self.kick(),
                Admission::NoMemory if patient => return Err(AllocError.into()),
                // What cannot be written any more keeps the frames. Then no memory comes of writing
                // to this device either, and one may wait for some.
                Admission::NoMemory => patient = true,
            }
        }
    }

    /// Reads a block into its frame, and pins it.
    async fn load(
        &self,
        part: &Part,
        frame: u32,
        block: u64,
        residence: Residence,
        mut page: KBox<Page>,
    ) -> Result<(), S::Error> {
        let buffer = match self.loaders.try_take() {
            Some(buffer) => buffer,
            None => match self.store.buffer_now(1) {
                Ok(buffer) => buffer,
                Err(_) => self.loaders.take().await,
            },
        };
        let (mut buffer, result) = self.store.read(block, residence, buffer).await;
        let content = buffer.page_mut(0);
        let origin = match (result, content) {
            (Ok(()), Some(content)) => {
                let origin = self.store.loaded(block, residence, content);
                page.copy_from_slice(content);
                origin
            }
            (Ok(()), None) => Err(AllocError.into()),
            (Err(error), _) => Err(error),
        };
        // One that was allocated is dropped, or the next that comes back is.
        self.loaders.give(buffer);
        let unused = part
            .shard
            .with(|shard, waiting| shard.loaded(frame, page, origin.ok(), true, waiting));
        drop(unused);
        origin.map(|_| ())
    }
}

/// Makes the parts; there are two to the power of the second number.
#[inline(never)]
fn make_parts(size: Size) -> Result<(KVec<Part>, u32), AllocError> {
    let pages = size.pages.clamp(1, u32::MAX as usize / 2);
    let wanted = size.parts.min(pages / FRAMES_OF_PART).max(1);
    let bits = wanted.ilog2();
    let mut parts = KVec::with_capacity(1 << bits, GFP_KERNEL)?;
    for number in 0..1_usize << bits {
        // The first parts get what is left over.
        let limit = (pages >> bits) + usize::from(number < pages & ((1 << bits) - 1));
        let part = Part {
            shard: make_shard(limit, size.holders + 1)?,
            oldest: AtomicU64::new(u64::MAX),
        };
        parts.push(part, GFP_KERNEL)?;
    }
    Ok((parts, bits))
}

fn make_shard(limit: usize, reserve: usize) -> Result<Monitor<Shard>, AllocError> {
    // Beside the list of those who wait for frames.
    let lists = LOADS + 1;
    Monitor::with_lists(Shard::new(limit, reserve)?, lists).map_err(|_| AllocError)
}

/// What a task gets that asked for a block.
enum Place {
    Pinned(u32),
    Empty(u32, KBox<Page>),
}

/// Allocates what a part needs for one more frame.
fn allocate(needs: &Needs, supplies: &mut Supplies, flags: Flags) -> Result<(), AllocError> {
    if supplies.page.is_none() {
        supplies.page = Some(empty_page(flags)?);
    }
    if needs.slots && supplies.chunk.is_none() {
        supplies.chunk = Some(Chunk::new(crate::table::CHUNK, flags)?);
    }
    if let Some(room) = needs.list {
        // One that somebody else's has made too small goes here, where it may be freed.
        supplies.list = Some(KVVec::with_capacity(room, flags)?);
    }
    Ok(())
}

/// Allocates a page in a stack frame of its own.
#[inline(never)]
fn empty_page(flags: Flags) -> Result<KBox<Page>, AllocError> {
    KBox::new([0; runtime::disk::PAGE_SIZE], flags)
}

impl<S: Store> Pinned<'_, S> {
    /// Returns the block's number.
    pub fn block(&self) -> u64 {
        self.block
    }

    /// Runs `read` with the block, under the lock.
    pub fn read<R>(&self, read: impl FnOnce(&Page) -> R) -> R {
        self.part
            .shard
            .with(|shard, _| read(shard.content(self.frame)))
    }

    /// Changes the block, under the lock, by what `change` tells of.
    pub fn update<R>(&self, change: Change, update: impl FnOnce(&mut Page) -> R) -> R {
        self.update_then(change, update, |_, _| ())
    }

    /// As [`update`](Self::update), and drops the pin under the same lock.
    pub fn update_last<R>(self, change: Change, update: impl FnOnce(&mut Page) -> R) -> R {
        let frame = self.frame;
        let result = self.update_then(change, update, |shard, waiting| {
            shard.unpin(frame, waiting);
        });
        core::mem::forget(self);
        result
    }

    fn update_then<R>(
        &self,
        change: Change,
        update: impl FnOnce(&mut Page) -> R,
        then: impl FnOnce(&mut Shard, &mut Entries<'_, Wish>),
    ) -> R {
        let (result, pressed) = self.part.shard.with(|shard, waiting| {
            let result = update(shard.content_mut(self.frame));
            let pressed = shard.note_change(self.frame, change);
            self.part.oldest.store_release(shard.oldest());
            then(shard, waiting);
            (result, pressed)
        });
        if pressed {
            self.cache.kick();
        }
        result
    }
}

impl<S: Store> Drop for Pinned<'_, S> {
    fn drop(&mut self) {
        self.part
            .shard
            .with(|shard, waiting| shard.unpin(self.frame, waiting));
    }
}

impl<'c, S: Store> Vacancy<'c, S> {
    /// Puts the new block into memory, to be written as it is after `make`.
    pub fn fill(mut self, change: Change, make: impl FnOnce(&mut Page)) -> Option<Pinned<'c, S>> {
        // It is there until now.
        let mut page = self.page.take()?;
        make(&mut page);
        let (part, frame) = (self.part, self.frame);
        let (unused, pressed) = part.shard.with(|shard, waiting| {
            let unused = shard.loaded(frame, page, Some(Origin::Fresh), false, waiting);
            let pressed = shard.note_change(frame, change);
            part.oldest.store_release(shard.oldest());
            (unused, pressed)
        });
        drop(unused);
        if pressed {
            self.cache.kick();
        }
        Some(self.cache.pinned(part, frame, self.block))
    }
}

impl<S: Store> Drop for Vacancy<'_, S> {
    fn drop(&mut self) {
        if let Some(page) = self.page.take() {
            let unused = self
                .part
                .shard
                .with(|shard, waiting| shard.loaded(self.frame, page, None, false, waiting));
            drop(unused);
        }
    }
}

#[cfg(test)]
mod tests;
