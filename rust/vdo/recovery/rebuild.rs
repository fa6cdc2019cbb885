// SPDX-License-Identifier: GPL-2.0

//! The rebuild that an administrator can force on a volume that became read-only.
//!
//! What is in the journal goes into the block map as far as it makes sense, gaps or not. Then the
//! trees are walked: first the pages that name pages, then those that name data, as a page that is
//! lost loses more than a block that is. What makes no sense is cleared; all else is counted.
//!
//! Pages are read and written directly: nothing else knows of the volume yet.
//!
//! What is damaged is lost, but what only cannot be read need not be: the rebuild is given up, and
//! can be tried again. (Mainline takes such a page for an empty one.)

mod pages;
mod walk;

use super::lanes;
use super::lanes::LANES;
use super::reader::Reader;
use super::replay::window::Window;
use super::survey::find_extent;
use super::survey::following;
use super::survey::Extent;
use super::Volume;
use crate::depot::Depot;
use crate::error::Result;
use crate::error::Status;
use crate::format::recovery_journal;
use crate::format::recovery_journal::Format;
use crate::format::recovery_journal::Header;
use crate::format::recovery_journal::SectorHeader;
use crate::format::recovery_journal::ENTRY_SECTORS;
use crate::format::tree::Forest;
use crate::format::Page;
use crate::format::Pbn;
use crate::format::RecoveryEntry;
use crate::format::Sequence;
use crate::format::SuperBlock;
use crate::journal::Counters;
use crate::storage::Purpose;
use crate::storage::Storage;
use crate::world::Level;
use crate::world::World;
use core::future::Future;
use pages::PlainPages;
use runtime::disk::Disk;
use runtime::sync::AtomicU64;
use runtime::sync::Lock;
use walk::Walk;

/// The counts of references, all 0 at first.
pub trait Counts: Send + Sync {
    /// Counts a page of the block map. Returns false if it cannot be one: it is no data block, or
    /// is referred to already.
    ///
    /// # Errors
    ///
    /// No memory.
    fn refer_to_page(&self, pbn: Pbn) -> Result<bool>;

    /// Counts a reference to data. Returns false if there cannot be one more, or it is no data
    /// block.
    ///
    /// # Errors
    ///
    /// No memory.
    fn refer_to_data(&self, pbn: Pbn) -> Result<bool>;

    /// Writes all counts.
    fn finish_rebuild(&self) -> impl Future<Output = Result> + Send;
}

impl<W: World> Counts for Depot<W> {
    fn refer_to_page(&self, pbn: Pbn) -> Result<bool> {
        Self::refer_to_page(self, pbn)
    }

    fn refer_to_data(&self, pbn: Pbn) -> Result<bool> {
        Self::refer_to_data(self, pbn)
    }

    async fn finish_rebuild(&self) -> Result {
        Self::finish_rebuild(self).await
    }
}

/// What pages are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Pages that name pages.
    Interior,
    /// Pages that name data.
    Leaves,
}

/// Rebuilds a volume, whose counts are all 0 and whose slab journals are erased. Returns the
/// sequence with which the journal goes on, and what its entries add up to.
///
/// # Errors
///
/// Those of I/O, and of memory; the journal cannot go on. The super block and the journal are as they were, so it can be
/// tried again.
pub async fn rebuild<W: World>(
    world: &W,
    storage: &Storage<W::Disk>,
    volume: &Volume,
    found: &SuperBlock,
    counts: &impl Counts,
) -> Result<(Sequence, Counters)> {
    let pages = PlainPages::new(world, storage, volume.nonce)?;
    let highest = replay_leniently(world, storage, volume, &pages).await?;
    let next = following(highest)?;
    pages.flush().await?;

    let forest = Forest::new(found.root_count, found.logical_blocks);
    let forest = forest.ok_or(Status::BadConfiguration)?;
    let counters = Lock::new(Counters::default());
    for pass in [Pass::Interior, Pass::Leaves] {
        let next = AtomicU64::new(0);
        lanes::run(LANES, || async {
            let mut walk = Walk::new(world, storage, volume, found.root_origin, forest, counts)?;
            loop {
                let tree = next.fetch_add(1);
                if tree >= forest.roots().into() {
                    break;
                }
                walk.tree(tree as u32, pass).await?;
            }
            counters.with(|all| all.merge(walk.counters()));
            Ok(())
        })
        .await?;
    }
    pages.flush().await?;
    world.log(Level::Info, format_args!("Saving rebuilt state"));
    counts.finish_rebuild().await?;
    let counters = counters.with(|counters| *counters);
    Ok((next, counters))
}

impl Counters {
    fn merge(&mut self, other: Self) {
        self.logical_blocks_used += other.logical_blocks_used;
        self.block_map_data_blocks += other.block_map_data_blocks;
    }
}

/// Brings whatever the journal has that makes sense into the block map. Returns the highest
/// sequence of the journal.
async fn replay_leniently<W: World>(
    world: &W,
    storage: &Storage<W::Disk>,
    volume: &Volume,
    pages: &PlainPages<'_, W>,
) -> Result<Sequence> {
    let mut reader = Reader::new(storage, volume)?;
    let extent = find_extent(&mut reader, volume).await?;
    world.log(
        Level::Info,
        format_args!("Finished reading recovery journal"),
    );
    let Some(extent) = extent else {
        return Ok(volume.journal_start);
    };
    let (_, header) = reader.block(extent.highest).await?;
    let format = header.and_then(|header| header.format());
    // Older blocks than the ring holds have been overwritten.
    let oldest = extent.highest.saturating_sub(volume.size - 1);
    let head = extent.block_map_head.max(oldest);

    let mut count = 0_u64;
    each_block(&mut reader, volume, head, extent, format, |_| count += 1).await?;
    world.log(
        Level::Info,
        format_args!("Replaying {count} recovery entries into block map"),
    );
    let mut window = Window::new(count, volume.shape)?;
    for sequence in head..=extent.highest {
        let (page, header) = reader.block(sequence).await?;
        let Some(header) = header.filter(|header| header.format() == format) else {
            continue;
        };
        if window.room() < usize::from(header.entry_count) {
            window.apply(pages).await?;
        }
        each_entry(page, &header, volume, |entry| window.push(&entry));
    }
    window.apply(pages).await?;
    world.log(Level::Info, format_args!("Flushing block map changes"));
    Ok(extent.highest)
}

/// Runs `f` with all entries that make sense, from block `head` on.
async fn each_block<D: Disk>(
    reader: &mut Reader<'_, D>,
    volume: &Volume,
    head: Sequence,
    extent: Extent,
    format: Option<Format>,
    mut f: impl FnMut(RecoveryEntry),
) -> Result {
    for sequence in head..=extent.highest {
        let (page, header) = reader.block(sequence).await?;
        if let Some(header) = header.filter(|header| header.format() == format) {
            each_entry(page, &header, volume, &mut f);
        }
    }
    Ok(())
}

/// Runs `f` with all entries of a block that make sense.
fn each_entry(page: &Page, header: &Header, volume: &Volume, mut f: impl FnMut(RecoveryEntry)) {
    let Some(format) = header.format() else {
        return;
    };
    let mut left = header.entry_count;
    let mut first = 0;
    for sector in 1..=ENTRY_SECTORS {
        let capacity = u16::from(format.entries_in_sector(volume.shape, sector));
        let here = left.min(capacity);
        let found = SectorHeader::decode(page, sector);
        if found.belongs_to(header, volume.shape, sector) {
            for index in 0..here.min(found.entry_count.into()) {
                let entry = match format {
                    Format::Current => recovery_journal::entry(page, volume.shape, first + index),
                    Format::Old => {
                        recovery_journal::old_entry(page, sector, index as u8).increment()
                    }
                };
                if let Some(entry) = entry.filter(|entry| volume.is_sound(entry)) {
                    f(entry);
                }
            }
        }
        first += capacity;
        left -= here;
    }
}

/// Says which page of the block map cannot be read, as mainline does.
fn log_unreadable<W: World>(world: &W, pbn: Pbn, result: Result) -> Result {
    if let Err(error) = result {
        world.log(
            Level::Error,
            format_args!(
                "Completing read vio of type 3 for physical block {pbn} with error: {error}"
            ),
        );
    }
    result
}

impl<W: World> PlainPages<'_, W> {
    /// Puts everything that was written on stable storage.
    async fn flush(&self) -> Result {
        let buffer = self.buffers.take().await;
        let (buffer, result) = self.storage.flush(Purpose::Metadata, buffer).await;
        self.buffers.give(buffer);
        result
    }
}

#[cfg(test)]
mod tests;
