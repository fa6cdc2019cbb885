// SPDX-License-Identifier: GPL-2.0

//! Suspend, and growth.

use super::desk::DeskRoom;
use super::slab::Slab;
use super::BufferOf;
use super::Depot;
use super::SlabRoom;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::Pbn;
use crate::format::SlabNumber;
use crate::world::World;

impl<W: World> Depot<W> {
    /// Writes all slab journals, all counts that are in memory, and the summary. Nothing is
    /// allocated or applied meanwhile; the scrubber may be at work. Ends a pause.
    pub async fn save(&self) -> Result {
        self.health.check()?;
        self.unpause();
        for number in 0..self.layout().slab_count {
            let (is_dirty, can_be_clean) =
                self.slab(number, |slab| (slab.write_all(), slab.can_be_clean()))?;
            self.desk.with(|work| {
                if is_dirty {
                    work.write.insert(number);
                }
                if can_be_clean {
                    work.clean.insert(number);
                }
            });
        }
        self.commit_all().await?;
        for number in 0..self.layout().slab_count {
            self.wait_for(number, |slab| {
                slab.counts().is_none_or(|counts| counts.is_clean()) && !slab.can_be_clean()
            })
            .await?;
        }
        Ok(())
    }

    /// Has nothing written any more, and waits until nothing is being written: for a suspend that
    /// saves nothing. Nothing is applied meanwhile, and no slab is read.
    pub async fn pause(&self) {
        self.desk.pause().await;
    }

    /// Goes on after a pause.
    pub fn unpause(&self) {
        self.desk.unpause();
    }

    /// Puts all entries of slab journals on stable storage.
    pub(crate) async fn commit_all(&self) -> Result {
        let slabs = self.layout().slab_count;
        for number in 0..slabs {
            if self.slab(number, |slab| slab.journal.entries() > 0)? {
                self.desk.with(|work| work.seal.insert(number));
            }
        }
        self.desk.tell(|_| ());
        for number in 0..slabs {
            self.wait_for(number, |slab| {
                slab.journal.entries() == 0 && slab.journal.is_settled()
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until a slab is as it should be.
    async fn wait_for(
        &self,
        number: SlabNumber,
        is_so: impl Fn(&mut Slab<BufferOf<W>>) -> bool,
    ) -> Result {
        loop {
            let seen = self.desk.progress();
            if self.slab(number, &is_so)? {
                return Ok(());
            }
            self.desk.progress_since(seen, &self.health).await?;
        }
    }

    /// Allocates what it takes to have so many slabs.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; or there are more slabs already.
    pub fn room_to_grow(&self, slabs: u32) -> Result<Room<BufferOf<W>>> {
        if slabs < self.layout().slab_count {
            return Err(Error::Status(Status::BadConfiguration));
        }
        Ok(Room {
            desk: self.desk.room_to_grow(slabs)?,
            slabs: SlabRoom::new(slabs)?,
        })
    }

    /// Adds slabs, as many as there is room for, while nothing is allocated or applied; the
    /// summary, in which they are already, has been moved to `summary_origin`.
    ///
    /// # Errors
    ///
    /// What cannot be.
    pub fn grow(&self, room: Room<BufferOf<W>>, summary_origin: Pbn) -> Result {
        let known = self.layout().slab_count;
        let slabs = room.slabs.slabs;
        self.summary.set_origin(summary_origin);
        self.desk.grow(room.desk);
        self.add_unused(room.slabs)?;
        for number in known..slabs {
            self.allocator.with(|allocator| allocator.add(number, true));
        }
        Ok(())
    }
}

/// What it takes to have more slabs.
pub struct Room<B> {
    desk: DeskRoom,
    slabs: SlabRoom<B>,
}
