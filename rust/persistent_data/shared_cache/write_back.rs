// SPDX-License-Identifier: GPL-2.0

//! Writing changed blocks: who asks for it, and the tasks that do it.
//!
//! A writer chooses the oldest changes, in the order of their blocks, copies them into its buffer,
//! waits at the gate until the newest of them may be written, and writes neighbours with one I/O.
//! Several writers may run: a block is in the hands of one at a time.

use super::dirty::Chosen;
use super::Residence;
use super::SharedCache;
use super::Store;
use core::future::Future;
use core::pin::pin;
use kernel::alloc::AllocError;
use kernel::alloc::Flags;
use kernel::prelude::KVec;
use kernel::prelude::GFP_KERNEL;
use kernel::prelude::GFP_NOWAIT;
use runtime::disk::result_of;
use runtime::disk::Buffer;
use runtime::disk::Part;
use runtime::monitor::Entries;
use runtime::monitor::Rules;
use runtime::sort::sort_by_key;

/// What must happen before a change may be written.
pub trait Gate<E>: Send + Sync {
    /// Waits until all changes with numbers up to `newest` may be written.
    fn pass(&self, newest: u64) -> impl Future<Output = Result<(), E>> + Send;
}

/// What the writers are asked for.
#[derive(Default)]
pub(super) struct Desk {
    /// Counts the reasons to look for work.
    reasons: u64,
    /// Changes older than this are to be written.
    before: u64,
    /// How many tasks wait until all changes are written.
    all: u32,
    /// Flushes between the two versions of blocks that were new.
    flushes: u64,
    /// Batches that are being written.
    busy: u32,
    /// No batch begins.
    paused: bool,
    stopping: bool,
}

impl Rules for Desk {
    type Key = ();

    fn left(&mut self, (): &(), _: &mut Entries<'_, ()>) {}
}

impl Desk {
    fn look(&mut self, waiting: &mut Entries<'_, ()>) {
        self.reasons = self.reasons.wrapping_add(1);
        waiting.wake_all();
    }

    fn limit(&self) -> u64 {
        match self.all {
            0 => self.before,
            _ => u64::MAX,
        }
    }
}

/// What a writing task needs; allocated before.
pub struct Writer<S: Store> {
    buffer: Option<S::Buffer>,
    batch: KVec<Chosen>,
    /// Scratch: what is written at once.
    parts: KVec<Part>,
    /// How many blocks fit into the buffer.
    pages: usize,
    /// The part to look at first.
    part: usize,
    reasons: u64,
}

impl<S: Store> Writer<S> {
    fn new(buffer: S::Buffer, pages: usize, flags: Flags) -> Result<Self, AllocError> {
        Ok(Self {
            buffer: Some(buffer),
            batch: KVec::with_capacity(pages, flags)?,
            parts: KVec::with_capacity(pages, flags)?,
            pages,
            part: 0,
            reasons: 0,
        })
    }
}

impl<S: Store> SharedCache<S> {
    /// Allocates what a task needs that writes up to `pages` blocks at a time.
    pub fn writer(&self, pages: usize) -> Result<Writer<S>, S::Error> {
        let buffer = self.store.buffer(pages.max(1))?;
        Ok(Writer::new(buffer, pages.max(1), GFP_KERNEL)?)
    }

    /// As [`writer`](Self::writer), of as many blocks as have changed, but not more than `pages`; fails
    /// rather than wait for memory.
    pub fn writer_now(&self, pages: usize) -> Result<Writer<S>, S::Error> {
        let changed: u64 = [Residence::Evictable, Residence::Kept]
            .map(|residence| self.counters(residence).dirty_pages)
            .iter()
            .sum();
        let pages = pages.min(usize::try_from(changed).unwrap_or(pages)).max(1);
        let buffer = self.store.buffer_now(pages)?;
        Ok(Writer::new(buffer, pages, GFP_NOWAIT)?)
    }

    /// Asks for all changes older than `before` to be written. Waits for nothing.
    pub fn write_before(&self, before: u64) {
        if self.oldest_change().is_none_or(|oldest| oldest >= before) {
            return;
        }
        self.desk.with(|desk, waiting| {
            desk.before = desk.before.max(before);
            desk.look(waiting);
        });
    }

    /// Has nothing written any more, and waits until nothing is being written.
    pub async fn pause(&self) {
        let entry = pin!(self.desk.entry(()));
        entry
            .as_ref()
            .wait(|turn| {
                turn.state.paused = true;
                (turn.state.busy == 0).then_some(())
            })
            .await;
    }

    /// Goes on writing after a pause.
    pub fn unpause(&self) {
        self.desk.with(|desk, waiting| {
            desk.paused = false;
            desk.look(waiting);
        });
    }

    /// Writes all changes, together with the writers that run. They are not on stable storage then.
    /// Ends a pause.
    ///
    /// # Errors
    ///
    /// If changes are left that may not be written any more.
    pub async fn write_all(
        &self,
        writer: &mut Writer<S>,
        gate: &impl Gate<S::Error>,
    ) -> Result<(), S::Error> {
        let entry = pin!(self.desk.entry(()));
        entry.as_ref().with(|turn| {
            turn.state.all += 1;
            turn.state.paused = false;
            turn.state.look(&mut turn.others);
        });
        self.write_due(u64::MAX, writer, gate).await;
        // What is left is in the hands of other writers.
        let result = entry
            .as_ref()
            .wait(|_| match self.oldest_change() {
                None => Some(Ok(())),
                Some(_) => self.store.check().err().map(Err),
            })
            .await;
        entry.as_ref().with(|turn| turn.state.all -= 1);
        result
    }

    /// Makes the writers end when they have nothing to do.
    pub fn stop(&self) {
        self.desk.with(|desk, waiting| {
            desk.stopping = true;
            waiting.wake_all();
        });
    }

    /// Returns how often a flush was needed between the two versions of new blocks.
    pub fn flushes(&self) -> u64 {
        self.desk.with(|desk, _| desk.flushes)
    }

    /// A writer: writes what it is asked for until the cache stops.
    pub async fn run_writer(&self, mut writer: Writer<S>, gate: &impl Gate<S::Error>) {
        while let Some(before) = self.next_order(&mut writer.reasons).await {
            self.write_due(before, &mut writer, gate).await;
        }
    }

    /// Writes changes older than `before`, and whatever there is too much of.
    async fn write_due(&self, before: u64, writer: &mut Writer<S>, gate: &impl Gate<S::Error>) {
        while self.store.check().is_ok() && self.begin_batch() {
            self.choose(before, writer);
            let result = match writer.batch.is_empty() {
                true => None,
                false => Some(self.write_batch(writer, gate).await),
            };
            if let Some(result) = result {
                self.end_batch(writer, result.is_ok());
                if let Err(error) = result {
                    self.store.failed(error);
                }
            }
            self.desk.with(|desk, waiting| {
                desk.busy -= 1;
                if result.is_some() {
                    desk.look(waiting);
                } else if desk.paused {
                    waiting.wake_all();
                }
            });
            if result.is_none() {
                break;
            }
        }
    }

    fn begin_batch(&self) -> bool {
        self.desk.with(|desk, _| {
            desk.busy += u32::from(!desk.paused);
            !desk.paused
        })
    }

    /// Has the writers look for work, and others for what they wait for.
    pub(super) fn kick(&self) {
        self.desk.with(Desk::look);
    }

    async fn next_order(&self, seen: &mut u64) -> Option<u64> {
        let entry = pin!(self.desk.entry(()));
        entry
            .as_ref()
            .wait(|turn| {
                let desk = &mut *turn.state;
                if desk.reasons != *seen {
                    *seen = desk.reasons;
                    return Some(Some(desk.limit()));
                }
                desk.stopping.then_some(None)
            })
            .await
    }

    /// Fills the batch, in the order of the blocks.
    fn choose(&self, before: u64, writer: &mut Writer<S>) {
        writer.batch.clear();
        let count = self.parts.len();
        for number in (writer.part..count).chain(0..writer.part.min(count)) {
            let Some(part) = self.parts.get(number) else {
                break;
            };
            part.shard.with(|shard, _| {
                shard.choose(number as u32, before, &mut writer.batch, writer.pages)
            });
            if writer.batch.len() >= writer.pages {
                // The next batch goes on here, so that no part is forgotten.
                writer.part = number;
                break;
            }
        }
        sort_by_key(&mut writer.batch, |chosen| chosen.block);
    }

    async fn write_batch(
        &self,
        writer: &mut Writer<S>,
        gate: &impl Gate<S::Error>,
    ) -> Result<(), S::Error> {
        let newest = self.copy_batch(writer);
        gate.pass(newest).await?;
        if writer.batch.iter().any(|chosen| chosen.fresh) {
            self.set_valid(writer, false);
            self.write_runs(writer, true).await?;
            self.flush(writer).await?;
            self.set_valid(writer, true);
        }
        self.write_runs(writer, false).await
    }

    /// Copies the batch into the buffer, and returns the number of the newest change.
    fn copy_batch(&self, writer: &mut Writer<S>) -> u64 {
        let mut newest = 0;
        for (index, chosen) in writer.batch.iter().enumerate() {
            let part = self.parts.get(chosen.part as usize);
            let page = writer
                .buffer
                .as_mut()
                .and_then(|buffer| buffer.page_mut(index));
            if let (Some(part), Some(page)) = (part, page) {
                let last = part.shard.with(|shard, _| shard.copy(chosen.frame, page));
                newest = newest.max(last);
            }
        }
        newest
    }

    /// Says in all copies of new blocks whether they are valid.
    fn set_valid(&self, writer: &mut Writer<S>, valid: bool) {
        let Some(buffer) = &mut writer.buffer else {
            return;
        };
        for (index, chosen) in writer.batch.iter().enumerate() {
            if let (true, Some(page)) = (chosen.fresh, buffer.page_mut(index)) {
                self.store.set_valid(page, valid);
            }
        }
    }

    /// Writes the copies, neighbours together, and all at once; all, or only those of new blocks.
    async fn write_runs(&self, writer: &mut Writer<S>, fresh: bool) -> Result<(), S::Error> {
        for residence in [Residence::Evictable, Residence::Kept] {
            let Writer {
                buffer,
                batch,
                parts,
                ..
            } = writer;
            parts.clear();
            let mut at = 0;
            while let Some(run) = next_run(batch, &mut at, fresh) {
                if run.residence == residence {
                    let part = self.store.part(run.first, run.blocks, run.page);
                    // There is room for a run for each block.
                    let _ = parts.push_within_capacity(part);
                }
            }
            // It is there but after an I/O that was dropped, and those are never dropped.
            let own = match parts.is_empty() {
                true => None,
                false => buffer.take(),
            };
            if let Some(own) = own {
                *buffer = Some(self.store.write_parts(residence, own, parts).await);
                result_of(parts)?;
            }
        }
        Ok(())
    }

    async fn flush(&self, writer: &mut Writer<S>) -> Result<(), S::Error> {
        self.desk.with(|desk, _| desk.flushes += 1);
        let Some(buffer) = writer.buffer.take() else {
            return Ok(());
        };
        let (buffer, result) = self.store.flush(buffer).await;
        writer.buffer = Some(buffer);
        result
    }

    fn end_batch(&self, writer: &mut Writer<S>, done: bool) {
        for chosen in &writer.batch {
            if let Some(part) = self.parts.get(chosen.part as usize) {
                part.shard.with(|shard, waiting| {
                    shard.written(chosen.frame, done, waiting);
                    part.oldest.store_release(shard.oldest());
                });
            }
        }
        writer.batch.clear();
    }
}

/// Blocks that follow each other, for one write.
struct Run {
    /// The first block.
    first: u64,
    /// How many.
    blocks: u32,
    /// Where in the buffer they start.
    page: usize,
    /// What kind of residents they are.
    residence: Residence,
}

/// Returns the next run of neighbours from `at` on, and moves that behind it.
fn next_run(batch: &[Chosen], at: &mut usize, fresh: bool) -> Option<Run> {
    let wanted = |chosen: &&Chosen| chosen.fresh || !fresh;
    let skipped = batch.iter().skip(*at).take_while(|c| !wanted(c)).count();
    let page = at.saturating_add(skipped);
    let first = batch.get(page)?;
    let neighbours = batch
        .iter()
        .skip(page)
        .zip(first.block..)
        .take_while(|(chosen, block)| {
            chosen.block == *block && chosen.residence == first.residence && wanted(chosen)
        });
    let blocks = neighbours.count();
    *at = page + blocks;
    Some(Run {
        first: first.block,
        blocks: blocks as u32,
        page,
        residence: first.residence,
    })
}
