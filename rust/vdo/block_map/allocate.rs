// SPDX-License-Identifier: GPL-2.0

//! New pages.
//!
//! Missing pages are allocated from the root down. Of all tasks that miss a page one allocates it,
//! and the others wait for that. Whatever fails, fails before the journal knows of the page.

use super::BlockMap;
use super::Change;
use super::Kind;
use super::Place;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::block_map;
use crate::format::Mapping;
use crate::format::Operation;
use crate::format::Pbn;
use crate::format::RecoveryEntry;
use crate::journal::Journal;
use crate::journal::Position;
use crate::journal::Reservation;
use crate::world::World;
use core::future::Future;
use core::pin::pin;
use persistent_data::shared_cache::Gate;
use runtime::range_lock;

/// The journal, as far as new pages need it.
///
/// [`Gate::pass`] waits until the journal has committed that many entries.
pub trait Log: Gate<Error> {
    /// A place for an entry; it must be filled without waiting for anything in between.
    type Place: Send;

    /// Waits for a place.
    fn reserve_one(&self) -> impl Future<Output = Result<Self::Place>> + Send;

    /// Returns what an entry in this place means for the page that it changes.
    fn change(&self, place: &Self::Place) -> Change;

    /// Fills the place.
    fn fill_one(&self, place: Self::Place, entry: RecoveryEntry);
}

/// The depot, as far as new pages need it.
pub trait Allocator: Send + Sync {
    /// Takes a block. Nobody refers to it yet.
    ///
    /// # Errors
    ///
    /// There is none, or the volume is read-only.
    fn allocate_one(&self) -> impl Future<Output = Result<Pbn>> + Send;

    /// Gives back a block that nobody refers to.
    fn release_one(&self, pbn: Pbn);
}

/// More than there are slots in a page.
const SLOT_BITS: u32 = 10;

impl<W: World> BlockMap<W> {
    /// Returns the leaf page with this number; it is allocated if it does not exist, with all
    /// pages that lead to it.
    ///
    /// The caller has no page pinned.
    ///
    /// # Errors
    ///
    /// As [`leaf`](Self::leaf), and those of the allocation: no space, a read-only volume.
    pub async fn leaf_or_allocate(
        &self,
        page_number: u64,
        log: &impl Log,
        allocator: &impl Allocator,
    ) -> Result<Pbn> {
        if let Some(pbn) = self.directory.get(page_number) {
            return Ok(pbn);
        }
        let (path, mut place) = self.path(page_number)?;
        loop {
            let child = match self.child_at(place).await? {
                Some(child) => child,
                None => self.allocate_child(place, log, allocator).await?,
            };
            match place.down(&path, child) {
                Some(next) => place = next,
                None => return Ok(self.found(page_number, child)),
            }
        }
    }

    async fn child_at(&self, place: Place) -> Result<Option<Pbn>> {
        let page = self.pin(place.page, Kind::Interior).await?;
        let entry = page.read(|page| place.entry(page));
        self.cache.store().child(place, entry)
    }

    /// Allocates the page of an entry, or waits for somebody who does.
    async fn allocate_child(
        &self,
        place: Place,
        log: &impl Log,
        allocator: &impl Allocator,
    ) -> Result<Pbn> {
        // Before anything else that others may wait for.
        let permit = self.permits.take().await;
        let child = self.allocate_permitted(place, log, allocator).await;
        self.permits.give(permit);
        child
    }

    async fn allocate_permitted(
        &self,
        place: Place,
        log: &impl Log,
        allocator: &impl Allocator,
    ) -> Result<Pbn> {
        let key = (place.page << SLOT_BITS) | u64::from(place.slot);
        let claim = pin!(self.allocating.claim(key..key.saturating_add(1)));
        range_lock::acquire(claim.as_ref()).await;
        if let Some(child) = self.child_at(place).await? {
            return Ok(child);
        }
        self.cache.store().health().check()?;
        let child = allocator.allocate_one().await?;
        let result = self.add_child(place, child, log).await;
        if let Err(error) = result {
            // A block that is in use already was never ours to give back.
            if error != Error::from(Status::BadMapping) {
                allocator.release_one(child);
            }
        }
        result.map(|()| child)
    }

    /// Makes block `child` the page of an entry.
    async fn add_child(&self, place: Place, child: Pbn, log: &impl Log) -> Result {
        let kind = Kind::of_height(place.height.saturating_sub(1));
        let vacancy = self.cache.create(child, kind.residence()).await?;
        // A free block that is a page: the reference counts are wrong.
        let vacancy = vacancy.ok_or(Status::BadMapping)?;
        let parent = self.pin(place.page, Kind::Interior).await?;
        let reserved = log.reserve_one().await?;
        // Nothing waits or fails from here on.
        let change = log.change(&reserved);
        let mapping = Mapping::plain(child);
        parent.update(change, |page| {
            block_map::set_entry(page, place.slot, mapping);
        });
        // Empty, but to be written all the same: what the block held before must not be taken for
        // the page.
        drop(vacancy.fill(change, |page| self.cache.store().format(child, page)));
        log.fill_one(
            reserved,
            RecoveryEntry {
                operation: Operation::BlockMap,
                page: place.page,
                slot: place.slot,
                new: mapping,
                old: Mapping::UNMAPPED,
            },
        );
        Ok(())
    }
}

impl<W: World> Gate<Error> for Journal<W> {
    async fn pass(&self, newest: u64) -> Result {
        self.commit(Position::new(newest)).await
    }
}

impl<W: World> Log for Journal<W> {
    type Place = Reservation;

    async fn reserve_one(&self) -> Result<Reservation> {
        self.reserve(1).await
    }

    fn change(&self, place: &Reservation) -> Change {
        Change {
            oldest: place.first(),
            newest: place.end().get(),
        }
    }

    fn fill_one(&self, place: Reservation, entry: RecoveryEntry) {
        self.fill(place, &[entry]);
    }
}
