// SPDX-License-Identifier: GPL-2.0

//! Brings the changes that the journal has into the block map, and into the slab journals.

pub(super) mod window;

use super::reader::Reader;
use super::Survey;
use super::Volume;
use crate::block_map::Kind;
use crate::depot::Depot;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::recovery_journal;
use crate::format::JournalPoint;
use crate::format::Page;
use crate::format::Pbn;
use crate::format::RecoveryEntry;
use crate::format::Sequence;
use crate::storage::Storage;
use crate::world::Level;
use crate::world::World;
use core::future::Future;
use core::pin::pin;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::stack::apart;
use window::Window;

/// Entries that the depot gets at once.
const SLAB_BATCH: usize = 128;

/// The pages of the block map, of all heights.
pub trait Pages: Send + Sync {
    /// Makes `pbn` an empty page, whatever is there.
    fn create(&self, pbn: Pbn) -> impl Future<Output = Result> + Send;

    /// Changes a page; one that was never written is empty.
    fn update(
        &self,
        pbn: Pbn,
        kind: Kind,
        change: impl FnMut(&mut Page) + Send,
    ) -> impl Future<Output = Result> + Send;

    /// Writes all pages that were changed, and has them on stable storage.
    fn write_all(&self) -> impl Future<Output = Result> + Send;
}

/// The slab journals.
pub trait SlabJournals: Send + Sync {
    /// Returns the latest recovery point that any of them has on the storage.
    fn latest_recovery_point(&self) -> JournalPoint;

    /// Appends what `entries` change, where it is newer than what a slab journal has, and returns
    /// how many entries of slab journals that gave. The `entry` of a point is the index in its
    /// block.
    fn replay(
        &self,
        entries: &[(JournalPoint, RecoveryEntry)],
    ) -> impl Future<Output = Result<u64>> + Send;

    /// Writes all slab journals, then what the summary says of them.
    fn finish_replay(&self) -> impl Future<Output = Result> + Send;
}

impl<W: World> SlabJournals for Depot<W> {
    fn latest_recovery_point(&self) -> JournalPoint {
        self.latest_recovery_point()
    }

    async fn replay(&self, entries: &[(JournalPoint, RecoveryEntry)]) -> Result<u64> {
        self.replay(entries).await
    }

    async fn finish_replay(&self) -> Result {
        self.commit_all().await
    }
}

/// Recovers a volume: block map, then slab journals. The slab journals have been loaded.
///
/// What is left to do is the super block, which goes on with `survey.next` and `survey.counters`,
/// and one more recovery.
///
/// # Errors
///
/// Those of I/O; or the journal is damaged, which is found out before anything is written.
pub async fn recover<W: World>(
    world: &W,
    storage: &Storage<W::Disk>,
    volume: &Volume,
    survey: &Survey,
    pages: &impl Pages,
    slabs: &impl SlabJournals,
) -> Result {
    survey.check_slab_point(world, slabs.latest_recovery_point())?;
    replay_block_map(world, storage, volume, survey, pages).await?;
    world.log(Level::Info, format_args!("Flushing block map changes"));
    pages.write_all().await?;
    world.log(
        Level::Info,
        format_args!("Replaying entries into slab journals for zone 0"),
    );
    let appended = replay_slab_journals(storage, volume, survey, slabs);
    let appended = apart(pin!(appended)).await?;
    world.log(
        Level::Info,
        format_args!("Replayed {appended} journal entries into slab journals"),
    );
    Ok(())
}

/// Brings the changes into the pages, without writing them.
///
/// # Errors
///
/// Those of the pages and of reading the journal.
async fn replay_block_map<W: World>(
    world: &W,
    storage: &Storage<W::Disk>,
    volume: &Volume,
    survey: &Survey,
    pages: &impl Pages,
) -> Result {
    world.log(
        Level::Info,
        format_args!(
            "Replaying {} recovery entries into block map",
            survey.entries
        ),
    );
    replay_in_windows(storage, volume, survey, pages, survey.entries).await
}

/// Brings the changes into the pages, so many at once, or somewhat fewer.
async fn replay_in_windows<D: Disk>(
    storage: &Storage<D>,
    volume: &Volume,
    survey: &Survey,
    pages: &impl Pages,
    window_entries: u64,
) -> Result {
    let Some(extent) = survey.extent else {
        return Ok(());
    };
    let mut window = Window::new(window_entries, volume.shape)?;
    let mut reader = Reader::new(storage, volume)?;
    let mut next = extent.block_map_head;
    while survey.has(next) {
        let (page, count) = block(&mut reader, survey, volume, next).await?;
        if window.room() < usize::from(count) {
            window.create(pages).await?;
            window.apply(pages).await?;
            continue;
        }
        for index in 0..count {
            let entry = recovery_journal::entry(page, volume.shape, index);
            window.push(&entry.ok_or(Status::CorruptJournal)?);
        }
        next += 1;
    }
    window.create(pages).await?;
    window.apply(pages).await
}

/// Brings the changes into the slab journals, and returns how many entries they got.
async fn replay_slab_journals<D: Disk>(
    storage: &Storage<D>,
    volume: &Volume,
    survey: &Survey,
    slabs: &impl SlabJournals,
) -> Result<u64> {
    let mut appended = 0;
    if let Some(extent) = survey.extent {
        let mut reader = Reader::new(storage, volume)?;
        let mut batch = KVec::with_capacity(SLAB_BATCH, GFP_KERNEL)?;
        let mut next = extent.slab_journal_head;
        while survey.has(next) {
            let (page, count) = block(&mut reader, survey, volume, next).await?;
            let mut index = 0;
            while index < count {
                batch.clear();
                while index < count && batch.len() < SLAB_BATCH {
                    let entry = recovery_journal::entry(page, volume.shape, index);
                    let entry = entry.ok_or(Status::CorruptJournal)?;
                    let pushed =
                        batch.push_within_capacity((JournalPoint::new(next, index), entry));
                    pushed.map_err(|_| Error::Errno(ENOMEM))?;
                    index += 1;
                }
                appended += slabs.replay(&batch).await?;
            }
            next += 1;
        }
    }
    slabs.finish_replay().await?;
    Ok(appended)
}

impl Survey {
    /// Returns whether the block with this sequence has entries that count.
    pub(super) fn has(&self, sequence: Sequence) -> bool {
        JournalPoint::new(sequence, 0) < self.end
    }

    /// Returns how many entries of the block with this sequence count.
    fn count(&self, sequence: Sequence, volume: &Volume) -> u16 {
        if sequence == self.end.sequence {
            self.end.entry
        } else {
            volume.shape.entries_per_block()
        }
    }
}

/// Reads a block of the part of the journal that counts.
pub(super) async fn block<'r, D: Disk>(
    reader: &'r mut Reader<'_, D>,
    survey: &Survey,
    volume: &Volume,
    sequence: Sequence,
) -> Result<(&'r Page, u16)> {
    let (page, header) = reader.block(sequence).await?;
    // It was there when the journal was surveyed.
    header.ok_or(Status::CorruptJournal)?;
    Ok((page, survey.count(sequence, volume)))
}

#[cfg(test)]
mod tests;
