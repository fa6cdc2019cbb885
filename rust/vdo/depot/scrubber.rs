// SPDX-License-Identifier: GPL-2.0

//! The scrubber: gets the counts of slabs into memory.
//!
//! A slab that was never used needs memory only. For one that was, the reference blocks are read,
//! and then the slab journal, for what they lack; what that changes is written. Each sector of a
//! reference block says which entries it has. Nobody waits for the scrubber but who needs that
//! very slab.

use super::counts::Counts;
use super::desk::Job;
use super::desk::Seat;
use super::slab::State;
use super::slab_journal::SlabJournal;
use super::BufferOf;
use super::Depot;
use super::IMPOSSIBLE;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::reference;
use crate::format::reference::COUNTS_PER_BLOCK;
use crate::format::slab_journal::Header;
use crate::format::JournalPoint;
use crate::format::Page;
use crate::format::Sequence;
use crate::format::SlabNumber;
use crate::format::BLOCK_SECTORS;
use crate::format::BLOCK_SIZE;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::world::World;
use core::ops::Range;
use core::pin::pin;
use kernel::alloc::flags::GFP_NOWAIT;
use kernel::prelude::KVVec;
use kernel::prelude::KVec;
use kernel::prelude::ENOMEM;
use kernel::prelude::GFP_KERNEL;
use runtime::clock::Timer;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Part;
use runtime::stack::apart;
use runtime::sync::Arc;

/// How long the scrubber waits for memory before it tries again.
const MEMORY_DELAY_MS: u64 = 100;

/// What the scrubber needs. Also starts and recoveries use it, which come before it has work.
pub(super) struct Tools<B> {
    pub(super) buffer: Option<B>,
    pub(super) pages: u32,
    /// Scratch: what is read at once.
    pub(super) parts: KVec<Part>,
    /// The counts of one block.
    counts: KVVec<u8>,
    /// A copy of the block of a slab journal under construction.
    page: KVVec<u8>,
}

/// A slab that is being read.
struct Slab {
    number: SlabNumber,
    counts: Counts,
    /// The points of all sectors of reference blocks.
    points: KVVec<JournalPoint>,
    /// The last point that was found.
    last: JournalPoint,
    /// The first block of the slab journal to apply, the one behind the last on disk, and the
    /// header of that.
    head: Sequence,
    tail: Sequence,
    header: Header,
    /// The reference blocks on disk mean something.
    is_loaded: bool,
}

impl<B: Buffer> Tools<B> {
    pub(super) fn new<D: Disk<Buffer = B>>(storage: &Storage<D>, pages: usize) -> Result<Self> {
        Ok(Self {
            buffer: Some(storage.buffer_of_parts(pages, pages)?),
            pages: pages as u32,
            parts: KVec::with_capacity(pages, GFP_KERNEL)?,
            counts: KVVec::from_elem(0, COUNTS_PER_BLOCK as usize, GFP_KERNEL)?,
            page: KVVec::from_elem(0, BLOCK_SIZE, GFP_KERNEL)?,
        })
    }

    /// Takes as many slabs off `slabs` as there are pages; `None` if there are none.
    pub(super) fn next_slabs(&self, slabs: &mut Range<SlabNumber>) -> Option<Range<SlabNumber>> {
        let start = slabs.start;
        slabs.start = start.saturating_add(self.pages.max(1)).min(slabs.end);
        (start < slabs.end).then_some(start..slabs.start)
    }
}

impl<W: World> Depot<W> {
    /// The scrubber: works until [`stop`](Self::stop), or until the volume is read-only.
    pub async fn run_scrubber(depot: Arc<Self>) {
        let Some(mut timer) = depot.timer.with(Option::take) else {
            return;
        };
        while let Some(job) = depot
            .desk
            .wait(Seat::Scrubber, |work| work.scrubbing.next_job())
            .await
        {
            let mut tools = depot.scrubber.take().await;
            let result = match job {
                Job::Prepare(slab) => depot.prepare(slab, false),
                Job::Scrub(slab) => {
                    let scrub = pin!(depot.scrub(slab, &mut tools));
                    apart(scrub).await
                }
            };
            depot.scrubber.give(tools);
            let is_out_of_memory = result == Err(Error::Errno(ENOMEM));
            depot.job_done(job, is_out_of_memory);
            if let Some(error) = result.err().filter(|error| error.is_passing()) {
                if !is_out_of_memory {
                    // What could not be read may be read when the volume is started again.
                    depot.health.stop_writing(error);
                    break;
                }
            }
            if is_out_of_memory {
                // Nobody says when there is some again; and all others may wait for this slab.
                timer.sleep(MEMORY_DELAY_MS).await;
            } else if depot.health.watch(result).is_err() {
                break;
            }
        }
        depot.timer.with(|own| *own = Some(timer));
        depot.wake_all();
    }

    fn job_done(&self, job: Job, is_out_of_memory: bool) {
        self.desk.tell(|work| {
            let scrubbing = &mut work.scrubbing;
            scrubbing.current = None;
            let slab = match job {
                Job::Scrub(slab) => slab,
                Job::Prepare(slab) => {
                    scrubbing.prepared += 1;
                    if is_out_of_memory {
                        scrubbing.unused.insert(slab);
                    }
                    return;
                }
            };
            let is_next = scrubbing.queue.get(scrubbing.next) == Some(&slab);
            match (is_out_of_memory, is_next) {
                (false, true) => scrubbing.next += 1,
                (true, false) => scrubbing.urgent = Some(slab),
                _ => {}
            }
        });
    }

    /// Gives memory to a slab that was never used. Waits for it only if it `may_wait`: nobody may on
    /// whom the volume depends, which may be where what fills the memory is to be written.
    #[inline(never)]
    pub(super) fn prepare(&self, number: SlabNumber, may_wait: bool) -> Result {
        self.health.check()?;
        if !self.slab(number, |slab| matches!(slab.state, State::Unused))? {
            return Ok(());
        }
        let (counts, page) = if may_wait {
            let counts = Counts::new(&self.slab_config, GFP_KERNEL)?;
            (counts, self.storage.buffer(1)?)
        } else {
            let counts = Counts::new(&self.slab_config, GFP_NOWAIT)?;
            (counts, self.storage.buffer_now(1, 1)?)
        };
        let rest = self.slab(number, |slab| {
            if matches!(slab.state, State::Unused) {
                slab.state = State::Ready(counts);
                (None, slab.journal.set_page(page))
            } else {
                (Some(counts), Some(page))
            }
        })?;
        drop(rest);
        Ok(())
    }

    /// Reads the counts of a slab, if they are not in memory.
    async fn scrub(&self, number: SlabNumber, tools: &mut Tools<BufferOf<W>>) -> Result {
        self.health.check()?;
        // As in `prepare`.
        let counts = Counts::new(&self.slab_config, GFP_NOWAIT)?;
        let sectors = self.slab_config.used_reference_blocks() as usize * BLOCK_SECTORS;
        let points = KVVec::from_elem(JournalPoint::NONE, sectors, GFP_NOWAIT)?;
        let Some((head, header, is_loaded)) = self.freeze(number, tools).await? else {
            return Ok(());
        };
        let slab = Slab {
            number,
            counts,
            points,
            last: JournalPoint::NONE,
            head,
            tail: header.sequence,
            header,
            is_loaded,
        };
        self.read_slab(slab, tools).await
    }

    /// Stops changes of a slab. Returns the head of its journal, the header of the block under
    /// construction, which is copied, and whether there are reference blocks to read; `None` if
    /// there is nothing to do.
    async fn freeze(
        &self,
        number: SlabNumber,
        tools: &mut Tools<BufferOf<W>>,
    ) -> Result<Option<(Sequence, Header, bool)>> {
        let is_mine = self.slab(number, |slab| {
            let is_mine = matches!(slab.state, State::Unscrubbed);
            if is_mine {
                slab.state = State::Scrubbing;
            }
            is_mine
        })?;
        if !is_mine {
            return Ok(None);
        }
        loop {
            let seen = self.desk.progress();
            let frozen = self.slab(number, |slab| {
                let journal = &slab.journal;
                if !journal.is_settled() {
                    return None;
                }
                copy_tail(journal, &mut tools.page);
                Some((journal.head, *journal.header(), slab.entry.load_ref_counts))
            })?;
            if frozen.is_some() {
                return Ok(frozen);
            }
            self.desk.progress_since(seen, &self.health).await?;
        }
    }

    async fn read_slab(&self, mut slab: Slab, tools: &mut Tools<BufferOf<W>>) -> Result {
        let mut first = Some(slab.head);
        if slab.is_loaded {
            first = Some(0);
            self.read_references(&mut slab, tools).await?;
        } else {
            slab.counts.touch_all(slab.head)?;
        }
        let newest = slab.last;
        self.read_journal(&mut slab, tools).await?;
        if slab.header.entry_count > 0 {
            let page: Option<&Page> = tools.page.first_chunk();
            let header = slab.header;
            self.apply_block(&mut slab, &header, page.ok_or(IMPOSSIBLE)?)?;
        }
        if slab.last < newest {
            return Err(Error::Status(Status::CorruptJournal));
        }
        let Slab {
            number,
            mut counts,
            last,
            ..
        } = slab;
        counts.applied = last;
        let (is_dirty, can_be_clean) = self.publish(number, counts, first, || ())?;
        self.desk.tell(|work| {
            if is_dirty {
                work.write.insert(number);
            }
            if can_be_clean {
                work.clean.insert(number);
            }
            work.scrubbing.left = work.scrubbing.left.saturating_sub(1);
        });
        Ok(())
    }

    /// Lets everybody use the counts of a slab. Returns whether any of them are to be written, and
    /// whether the slab can be clean. `meanwhile` is what others do as soon as they can.
    pub(super) fn publish(
        &self,
        number: SlabNumber,
        counts: Counts,
        first: Option<Sequence>,
        meanwhile: impl FnOnce(),
    ) -> Result<(bool, bool)> {
        // Before, nobody changes the counts; from then on, each change is told to the allocator.
        let free = counts.free();
        self.allocator
            .with(|allocator| allocator.set_free(number, free));
        let told = self.slab(number, |slab| {
            slab.set_ready(counts, first);
            (slab.write_all(), slab.can_be_clean())
        })?;
        meanwhile();
        self.allocator
            .with(|allocator| allocator.add(number, false));
        Ok(told)
    }

    async fn read_references(&self, slab: &mut Slab, tools: &mut Tools<BufferOf<W>>) -> Result {
        let layout = self.layout();
        let used = layout.slab.used_reference_blocks();
        let mut start = 0;
        while start < used {
            let count = tools.pages.min(used - start);
            let pbn = layout.reference_block(slab.number, start);
            self.read(tools, pbn, count).await?;
            let Some(counts) = tools.counts.first_chunk_mut() else {
                return Err(IMPOSSIBLE);
            };
            for index in 0..count {
                let page = tools
                    .buffer
                    .as_ref()
                    .and_then(|own| own.page(index as usize));
                let page = page.ok_or(IMPOSSIBLE)?;
                let points = reference::decode(page, counts);
                slab.counts.load(start + index, counts);
                let at = (start + index) as usize * BLOCK_SECTORS;
                for (own, point) in slab.points.iter_mut().skip(at).zip(points) {
                    *own = point;
                    slab.last = slab.last.max(point);
                }
            }
            start += count;
        }
        Ok(())
    }

    /// Applies the blocks of the slab journal on disk.
    async fn read_journal(&self, slab: &mut Slab, tools: &mut Tools<BufferOf<W>>) -> Result {
        let layout = self.layout();
        let size = u64::from(layout.slab.journal_blocks);
        let mut sequence = slab.head;
        // Without an entry, the counts are as of the last point in them.
        if slab.head < slab.tail || slab.header.entry_count > 0 {
            slab.last = JournalPoint::NONE;
        }
        while sequence < slab.tail {
            let offset = sequence.checked_rem(size).unwrap_or(0);
            let count = (slab.tail - sequence)
                .min(size - offset)
                .min(tools.pages.into()) as u32;
            let pbn = layout.journal_block(slab.number, offset as u32);
            self.read(tools, pbn, count).await?;
            for index in 0..count {
                let page = tools
                    .buffer
                    .as_ref()
                    .and_then(|own| own.page(index as usize));
                let page = page.ok_or(IMPOSSIBLE)?;
                let header = Header::decode(page);
                let is_sound = header.is_valid(self.nonce)
                    && header.is_count_valid(self.shape)
                    && header.sequence == sequence + u64::from(index);
                if !is_sound {
                    return Err(Error::Status(Status::CorruptJournal));
                }
                self.apply_block(slab, &header, page)?;
            }
            sequence += u64::from(count);
        }
        Ok(())
    }

    /// Applies what the counts lack of a block of the slab journal.
    fn apply_block(&self, slab: &mut Slab, header: &Header, page: &Page) -> Result {
        for (index, entry) in (0..).zip(header.entries(page, self.shape)) {
            let point = JournalPoint::new(header.sequence, index);
            let (block, sector, _) = reference::place(entry.sbn);
            let at = block as usize * BLOCK_SECTORS + sector;
            let known = slab
                .points
                .get(at)
                .ok_or(Error::Status(Status::CorruptJournal))?;
            if point > *known {
                slab.counts.change(entry.sbn, entry.change, point)?;
            }
            slab.last = slab.last.max(point);
        }
        Ok(())
    }

    /// Reads blocks into the buffer.
    pub(super) async fn read(
        &self,
        tools: &mut Tools<BufferOf<W>>,
        pbn: u64,
        blocks: u32,
    ) -> Result {
        let buffer = tools.buffer.take().ok_or(IMPOSSIBLE)?;
        let (buffer, result) = self
            .storage
            .read(Purpose::Metadata, pbn, blocks, buffer, 0)
            .await;
        tools.buffer = Some(buffer);
        result
    }

    /// Lets the scrubber end what it is at, and then do only what somebody waits for.
    pub async fn stop_scrubbing(&self) -> Result {
        self.desk.with(|work| work.scrubbing.is_paused = true);
        loop {
            let (seen, is_busy) = self
                .desk
                .with(|work| (work.progress, work.scrubbing.current.is_some()));
            if !is_busy {
                return Ok(());
            }
            self.desk.progress_since(seen, &self.health).await?;
        }
    }

    /// Lets the scrubber go on.
    pub fn resume_scrubbing(&self) {
        self.desk.tell(|work| work.scrubbing.is_paused = false);
    }
}

/// Copies the block under construction, if it has entries.
fn copy_tail<B: Buffer>(journal: &SlabJournal<B>, to: &mut KVVec<u8>) {
    let from = journal.page().and_then(|page| page.page(0));
    let to: Option<&mut Page> = to.first_chunk_mut();
    if let (Some(from), Some(to), true) = (from, to, journal.entries() > 0) {
        *to = *from;
    }
}
