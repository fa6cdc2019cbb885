// SPDX-License-Identifier: GPL-2.0

//! Writes: from the bios of a batch to the journal.
//!
//! | Step | What it takes for granted |
//! |---|---|
//! | claim the blocks | as bios are taken; what somebody else has is [held up](crate::data_path::inbox::held_up) beside |
//! | find the leaf pages | tree pages are allocated here, so that a block can be mapped later |
//! | read the leaf pages | those that are not in memory, all at once, through our buffer |
//! | fill our buffer | the data is ours from here on: the caller may change its own |
//! | allocate | a block of zeroes needs none |
//! | acknowledge | from here on a failure can only make the volume read-only |
//! | [share](crate::data_path::share) | what is a duplicate is not stored; without an index this does not happen |
//! | [pack](crate::data_path::pack) | what compresses shares blocks; if that is not wanted this does not happen |
//! | [settle](crate::data_path::settle) | what is left is stored without holes; places that are not needed go back |
//! | store | one I/O for each run of blocks, all at once |
//! | [join](crate::data_path::join) | what was stored is told to the index, and to who has the same data; what others store is waited for |
//! | record | the journal has an entry only for data that the storage has taken |
//! | finish | who wants stable storage waits for the commit |

use crate::block_map::BlockMap;
use crate::block_map::Pinned;
use crate::compress::encoder::Encoder;
use crate::compress::switch::Switch;
use crate::data_path::batch::Batch;
use crate::data_path::batch::Leaf;
use crate::data_path::batch::Stored;
use crate::data_path::batch::TRIES;
use crate::data_path::counters::Counters;
use crate::data_path::inbox::held_up::HeldUp;
use crate::data_path::inbox::Inbox;
use crate::data_path::inbox::Write;
use crate::data_path::locks::LbnLocks;
use crate::data_path::lost::Lost;
use crate::data_path::packer::Packer;
use crate::data_path::set_aside::SetAside;
use crate::data_path::shown::Shown;
use crate::data_path::shown::ViewOf;
use crate::data_path::unsettled;
use crate::data_path::unsettled::Unsettled;
use crate::dedupe::askers::Askers;
use crate::dedupe::flight::Flights;
use crate::dedupe::index::Session;
use crate::depot::Depot;
use crate::depot::Run;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::Lbn;
use crate::format::Page;
use crate::health::Health;
use crate::journal::Journal;
use crate::journal::Position;
use crate::journal::Reservation;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::world::BioList;
use crate::world::Data;
use crate::world::Level;
use crate::world::Repeated;
use crate::world::World;
use core::ops::Range;
use core::pin::pin;
use kernel::prelude::*;
use persistent_data::shared_cache::Change;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::join::join;
use runtime::pool::Pool;
use runtime::stack::apart;
use runtime::sync::Arc;

/// The bios of a world.
pub(crate) type BioOf<W> = <<W as World>::Bios as BioList>::Bio;

/// Serves writes.
pub(crate) struct Writer<W: World> {
    pub(crate) world: Arc<W>,
    pub(crate) health: Arc<Health>,
    pub(crate) storage: Arc<Storage<W::Disk>>,
    pub(crate) journal: Arc<Journal<W>>,
    pub(crate) depot: Arc<Depot<W>>,
    pub(crate) map: Arc<BlockMap<W>>,
    pub(crate) inbox: Arc<Inbox<W::Bios>>,
    pub(crate) held_up: HeldUp<W::Bios>,
    pub(crate) locks: Arc<LbnLocks>,
    pub(crate) shown: Arc<Shown<ViewOf<W>>>,
    pub(crate) unsettled: Arc<Unsettled>,
    pub(crate) set_aside: SetAside,
    pub(crate) session: Arc<Session<W>>,
    pub(crate) askers: Askers<W>,
    pub(crate) flights: Flights<ViewOf<W>>,
    pub(crate) compression: Arc<Switch>,
    pub(crate) packer: Arc<Packer>,
    pub(crate) encoders: Pool<Encoder<W::Compressor>>,
    /// What is compared with what is to be stored is read into these.
    pub(crate) verifiers: Pool<<W::Disk as Disk>::Buffer>,
    pub(crate) lost: Arc<Lost>,
    pub(crate) counters: Arc<Counters>,
}

impl<W: World> Writer<W> {
    /// Serves a bio that writes, and those that wait behind it.
    pub(crate) async fn serve_writes(&self, first: Write<BioOf<W>>, batch: &mut Batch<W>) {
        batch.collect(first, self);
        if let Err(error) = self.health.check() {
            let _ = batch.fail_all(error);
            batch.release_claims(self);
        } else if !batch.requests.is_empty() {
            self.write(batch).await;
        }
        batch.finish(self);
    }

    /// Writes what the batch has collected and claimed.
    pub(crate) async fn write(&self, batch: &mut Batch<W>) {
        let unsettled = apart(pin!(self.make_ready(batch))).await;
        batch.acknowledge(self);
        let recorded = apart(pin!(self.store_and_record(batch))).await;
        if let Err(error) = recorded {
            if let Some(lbn) = batch.fail_all(error) {
                self.lose(lbn, error);
            }
        }
        batch.release_claims(self);
        // A flush that waited for this must see whether something was lost.
        drop(unsettled);
        if let Ok(end) = recorded {
            self.commit_for(batch, end).await;
        }
    }

    /// All that comes before the acknowledgement.
    async fn make_ready(&self, batch: &mut Batch<W>) -> unsettled::Batch<'_> {
        let unsettled = self.unsettled.begin(batch.worker);
        apart(pin!(self.find_leaves(batch))).await;
        apart(pin!(self.fill(batch))).await;
        self.allocate(batch).await;
        unsettled
    }

    async fn store_and_record(&self, batch: &mut Batch<W>) -> Result<Position> {
        let listener = apart(pin!(self.share(batch))).await;
        let is_packed = apart(pin!(self.pack(batch))).await;
        if listener.is_some() || is_packed {
            self.settle(batch);
        }
        self.store(batch).await;
        if let Some(listener) = listener {
            apart(pin!(self.join(&listener, batch))).await;
        }
        batch.fail_without_place();
        apart(pin!(self.record(batch))).await
    }

    /// Finds, or allocates, the leaf page of every block.
    async fn find_leaves(&self, batch: &mut Batch<W>) {
        batch.collect_leaves();
        for at in 0..batch.leaves.len() {
            let Some(leaf) = batch.leaves.get(at) else {
                break;
            };
            match self.leaf_page(leaf.page_number, batch.worker).await {
                Ok(pbn) => batch.set_leaf(at, pbn),
                Err(error) => batch.fail_leaf(at, error),
            }
        }
    }

    /// Returns the leaf page `page_number`, allocated if need be and possible.
    async fn leaf_page(&self, page_number: u64, worker: usize) -> Result<u64> {
        let mut room = self.room(worker);
        loop {
            let (log, depot) = (&*self.journal, &*self.depot);
            match self.map.leaf_or_allocate(page_number, log, depot).await {
                Err(Error::Status(Status::NoSpace)) if room.make().await => {}
                other => return self.health.watch_look_up(other),
            }
        }
    }

    /// Finds a place for every page of the buffer that is in use.
    async fn allocate(&self, batch: &mut Batch<W>) {
        let mut room = self.room(batch.worker);
        let mut page = 0;
        let mut error = Status::NoSpace.into();
        while page < batch.pages {
            match self.depot.allocate_runs((batch.pages - page) as u32).await {
                Ok(Some(runs)) => {
                    for run in runs.as_slice() {
                        // There is room for a run for each page.
                        let _ = batch.runs.push_within_capacity(Stored {
                            start: run.start,
                            blocks: run.blocks,
                            page,
                            tries: 0,
                        });
                        page += run.blocks as usize;
                    }
                }
                Ok(None) if room.make().await => {}
                Ok(None) => break,
                Err(failed) => {
                    error = failed;
                    break;
                }
            }
        }
        batch.place(error);
    }

    /// Writes the runs, all at once; what the storage refuses is tried elsewhere.
    pub(crate) async fn store(&self, batch: &mut Batch<W>) {
        while !batch.runs.is_empty() {
            self.store_runs(batch).await;
            for at in 0..batch.runs.len() {
                if let Some((run, error)) = batch.failed_run(at) {
                    let (failed, error) = self.narrow_down(batch, run, error).await;
                    if let Some(failed) = failed {
                        self.store_elsewhere(batch, &failed, error).await;
                    }
                }
            }
            batch.runs.clear();
            let Batch { runs, moved, .. } = batch;
            core::mem::swap(runs, moved);
        }
    }

    /// Writes the runs, those of compressed blocks first, and leaves with the parts what became of each.
    async fn store_runs(&self, batch: &mut Batch<W>) {
        batch.parts.clear();
        let mut packed = 0;
        for run in &batch.runs {
            let bin = batch.bin_of_page(run.page);
            packed += usize::from(bin.is_some());
            // There is room for all of them.
            let page = bin.unwrap_or(run.page);
            let part = self.storage.part(run.start, run.blocks, page);
            let _ = batch.parts.push_within_capacity(part);
        }
        if packed > 0 {
            return apart(pin!(self.store_with_packed(batch, packed))).await;
        }
        if let Some(buffer) = batch.buffer.take() {
            let parts = &mut batch.parts;
            let written = self.storage.write_parts(Purpose::Data, buffer, parts);
            batch.buffer = Some(written.await);
        }
    }

    /// Writes `packed` runs of compressed blocks, and those behind them, all at once.
    async fn store_with_packed(&self, batch: &mut Batch<W>, packed: usize) {
        let Batch {
            buffer: data,
            packed: bins,
            parts,
            ..
        } = batch;
        let Some((first, rest)) = parts.split_at_mut_checked(packed) else {
            return;
        };
        if let (Some(own), Some(other)) = (bins.take(), data.take()) {
            let first = pin!(self.storage.write_parts(Purpose::Data, own, first));
            if rest.is_empty() {
                (*bins, *data) = (Some(first.await), Some(other));
                return;
            }
            let rest = pin!(self.storage.write_parts(Purpose::Data, other, rest));
            let (own, other) = join(first, rest).await;
            (*bins, *data) = (Some(own), Some(other));
        }
    }

    async fn store_run(&self, batch: &mut Batch<W>, run: &Stored) -> Result {
        let bin = batch.bin_of_page(run.page);
        let page = bin.unwrap_or(run.page);
        let place = match bin {
            Some(_) => &mut batch.packed,
            None => &mut batch.buffer,
        };
        let buffer = place.take().ok_or(Error::Errno(EIO))?;
        let (purpose, durability) = (Purpose::Data, Durability::Volatile);
        let written = self
            .storage
            .write(purpose, run.start, run.blocks, buffer, page, durability);
        let (buffer, result) = written.await;
        *place = Some(buffer);
        result
    }

    /// Finds what of a run it is that the storage does not take, by halves: as long as it takes the
    /// other half. Returns what is left, and the last error.
    async fn narrow_down(
        &self,
        batch: &mut Batch<W>,
        mut run: Stored,
        mut error: Error,
    ) -> (Option<Stored>, Error) {
        while run.blocks > 1 && run.tries == 0 {
            let (first, second) = run.halves();
            let results = (
                self.store_run(batch, &first).await,
                self.store_run(batch, &second).await,
            );
            (run, error) = match results {
                (Ok(()), Ok(())) => return (None, error),
                (Err(error), Ok(())) => (first, error),
                (Ok(()), Err(error)) => (second, error),
                (Err(_), Err(error)) => return (Some(run), error),
            };
        }
        (Some(run), error)
    }

    /// Looks for another place for a run that could not be written, and sets it aside.
    async fn store_elsewhere(&self, batch: &mut Batch<W>, failed: &Stored, error: Error) {
        self.part_from(batch, failed).await;
        let run = Run {
            start: failed.start,
            blocks: failed.blocks,
        };
        self.set_aside.set_aside(run, &self.depot);
        // What was in compressed blocks has places of its own now.
        let is_packed = batch.bin_of_page(failed.page).is_some();
        let mut done = if is_packed { failed.blocks } else { 0 };
        while done < failed.blocks && failed.tries < TRIES {
            let wanted = failed.blocks - done;
            let Ok(Some(run)) = self.depot.allocate_away(wanted, failed.start).await else {
                break;
            };
            let stored = Stored {
                start: run.start,
                blocks: run.blocks,
                page: failed.page + done as usize,
                tries: failed.tries + 1,
            };
            batch.move_to(&stored);
            // There is room for a run for each page.
            let _ = batch.moved.push_within_capacity(stored);
            done += run.blocks;
        }
        if done < failed.blocks {
            // The storage takes it nowhere: no block is worse than others.
            self.set_aside.give_back(&self.depot);
        }
        let left = failed.page + done as usize..failed.page + failed.blocks as usize;
        match batch.fail_pages(left, error) {
            Some((lbn, true)) => self.lose(lbn, error),
            Some((lbn, false)) => self.world.log_repeated(
                Repeated::Write,
                fmt!("Completing write+fua vio for LBN {lbn} with error after write_data_vio"),
            ),
            None => {}
        }
    }

    /// Gives every block its new mapping: in the page, and in the journal. Returns what a commit
    /// has to cover.
    pub(super) async fn record(&self, batch: &mut Batch<W>) -> Result<Position> {
        let mut end = Position::default();
        let mut next = 0;
        while next < batch.leaves.len() {
            let group = match self.pin_group(&batch.leaves, next).await {
                Ok(group) => group,
                Err(error) => {
                    self.release_places(batch, next);
                    return Err(error);
                }
            };
            next = group.leaves.end;
            end = end.max(self.record_group(batch, group).await?);
        }
        Ok(end)
    }

    /// Gives back the places of blocks that nothing will refer to: those from leaf page `first` on.
    fn release_places(&self, batch: &Batch<W>, first: usize) {
        let blocks = batch.blocks_of(first..batch.leaves.len());
        let blocks = batch.blocks.get(blocks).unwrap_or_default();
        for block in blocks {
            if let (Some(_), Some(mapping)) = (block.page(), block.mapping()) {
                self.depot.release(Run {
                    start: mapping.pbn,
                    blocks: 1,
                });
            }
        }
    }

    /// Pins the leaf page `first` of a batch, and those behind it that are in memory: nobody who
    /// has a page pinned waits for another.
    async fn pin_group(&self, leaves: &[Leaf], first: usize) -> Result<Group<'_, W>> {
        let mut group = Group {
            leaves: first..first,
            pages: [const { None }; TOGETHER],
        };
        for place in 0..TOGETHER {
            let Some(leaf) = leaves.get(first + place) else {
                break;
            };
            let page = match leaf.pbn {
                None => None,
                Some(pbn) if place == 0 => Some(self.map.pin_leaf(pbn).await?),
                Some(pbn) => match self.map.try_pin(pbn) {
                    None => break,
                    page => page,
                },
            };
            if let Some(own) = group.pages.get_mut(place) {
                *own = page;
            }
            group.leaves.end += 1;
        }
        Ok(group)
    }

    /// Records the blocks of some leaf pages. Each page is let go of with its last change.
    async fn record_group(
        &self,
        batch: &mut Batch<W>,
        mut group: Group<'_, W>,
    ) -> Result<Position> {
        let mut end = Position::default();
        let mut blocks = batch.blocks_of(group.leaves.clone());
        let (reads, writes) = batch.lookups(blocks.clone());
        self.map.count_requests(reads, writes);
        let depot = self.depot.layout();
        loop {
            let wanted = batch.recordable(blocks.clone());
            if wanted == 0 {
                return Ok(end);
            }
            let places = match self.journal.try_reserve(wanted)? {
                Some(places) => places,
                None => {
                    let room = self.journal.reserve(wanted);
                    self.inbox.throttled(room).await?
                }
            };
            let change = change_of(&places);
            batch.entries.clear();
            for (at, own) in group.leaves.clone().zip(&mut group.pages) {
                let left = batch.blocks_of(at..at + 1);
                let left = left.start.max(blocks.start)..left.end;
                let (wanted, room) = (
                    batch.recordable(left.clone()),
                    places.len() - batch.entries.len(),
                );
                let Some(page) = own.take_if(|_| wanted.min(room) > 0) else {
                    continue;
                };
                let map = |content: &mut Page| batch.map_blocks(left, room, content, &depot);
                if wanted <= room {
                    blocks.start = page.update_last(change, map);
                } else {
                    blocks.start = page.update(change, map);
                    *own = Some(page);
                }
            }
            end = end.max(self.journal.fill(places, &batch.entries));
        }
    }

    /// Waits for the commit, if somebody in the batch wants it.
    async fn commit_for(&self, batch: &mut Batch<W>, end: Position) {
        if !batch.wants_commit() {
            return;
        }
        if let Err(error) = self.journal.commit(end).await {
            let _ = batch.fail_all(error);
        }
    }

    /// An acknowledged write is lost. From here on a flush fails.
    pub(super) fn lose(&self, lbn: Lbn, error: Error) {
        self.lost.set();
        if !self.health.is_read_only() {
            self.world.log(
                Level::Error,
                fmt!("Preparing to enter read-only mode: data_vio for LBN {lbn}"),
            );
        }
        self.health.enter_read_only(error);
    }
}

/// How many leaf pages share a reservation of places in the journal.
const TOGETHER: usize = 8;

/// Leaf pages of a batch that are changed together.
struct Group<'e, W: World> {
    /// Which of the batch's leaf pages these are.
    leaves: Range<usize>,
    /// Each of them, unless it has no block that could be recorded.
    pages: [Option<Pinned<'e, W>>; TOGETHER],
}

/// Returns what entries in these places mean for the page that they change.
pub(crate) fn change_of(places: &Reservation) -> Change {
    Change {
        oldest: places.first(),
        newest: places.end().get(),
    }
}

/// Zeroes for requests that bring no data.
pub(crate) struct Zeroes;

impl Data for Zeroes {
    fn is_zero(&self, _: usize) -> bool {
        true
    }

    fn copy(&mut self, to: &mut [u8]) {
        to.fill(0);
    }

    fn skip(&mut self, _: usize) {}
}
