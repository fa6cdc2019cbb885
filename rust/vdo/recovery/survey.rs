// SPDX-License-Identifier: GPL-2.0

//! Which part of the journal counts after a crash.
//!
//! Blocks of the ring are written out of order where several are in flight, and torn. What counts
//! is what lies without a gap between the heads and the first block, or sector, that is not whole;
//! whoever was told that an entry is committed finds it there.
//!
//! A gap that no crash can make is damage: its block was committed, and what it said is lost. That
//! is not passed over, as all data that was flushed since would silently be gone.

use super::reader::Reader;
use super::Volume;
use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use crate::format::recovery_journal;
use crate::format::recovery_journal::Format;
use crate::format::recovery_journal::Header;
use crate::format::recovery_journal::SectorHeader;
use crate::format::recovery_journal::ENTRY_SECTORS;
use crate::format::JournalPoint;
use crate::format::Operation;
use crate::format::Page;
use crate::format::RecoveryEntry;
use crate::format::Sequence;
use crate::format::MAX_SEQUENCE;
use crate::journal::Counters;
use crate::journal::MAX_BLOCKS_IN_FLIGHT;
use crate::storage::Storage;
use crate::world::Level;
use crate::world::World;
use kernel::prelude::*;
use runtime::disk::Disk;

/// How far the journal reaches, going by the headers of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The highest sequence of a valid block.
    pub highest: Sequence,
    /// The oldest sequence that the block map needs.
    pub block_map_head: Sequence,
    /// The oldest sequence that slab journals need.
    pub slab_journal_head: Sequence,
}

/// Which part of the journal counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// How far the journal reaches; `None` if it has no valid block.
    pub extent: Option<Extent>,
    /// The last usable block.
    pub tail: Sequence,
    /// The point behind the last entry that counts: a block, and a number of its entries.
    pub end: JournalPoint,
    /// Entries that the block map needs.
    pub entries: u64,
    /// What all entries add up to.
    pub counters: Counters,
    /// The sequence with which the journal goes on.
    pub next: Sequence,
}

impl Survey {
    /// Surveys the journal of a volume. Writes nothing.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the journal has the old format: nothing must be changed then, as an older
    /// version may recover the volume. [`Status::CorruptJournal`] if the journal contradicts
    /// itself, or is damaged; [`Status::JournalOverflow`] if it cannot go on. Or that of a read.
    pub async fn new<W: World>(
        world: &W,
        storage: &Storage<W::Disk>,
        volume: &Volume,
    ) -> Result<Self> {
        let mut reader = Reader::new(storage, volume)?;
        let extent = find_extent(&mut reader, volume).await?;
        world.log(
            Level::Info,
            format_args!("Finished reading recovery journal"),
        );
        let Some(extent) = extent else {
            return Ok(Self {
                extent: None,
                tail: volume.journal_start,
                end: JournalPoint::new(volume.journal_start, 0),
                entries: 0,
                counters: volume.counters,
                next: following(volume.journal_start)?,
            });
        };
        let survey = find_tail(world, &mut reader, volume, extent).await?;
        world.log(
            Level::Info,
            format_args!(
                "Highest-numbered recovery journal block has sequence number {}, and the \
                 highest-numbered usable block is {}",
                extent.highest, survey.tail
            ),
        );
        Ok(survey)
    }

    /// Fails if a slab journal knows of an entry that the journal lacks: it was committed, or the
    /// slab journal would not know. `point` is the latest recovery point of all slab journals.
    ///
    /// # Errors
    ///
    /// [`Status::CorruptJournal`].
    pub fn check_slab_point<W: World>(&self, world: &W, point: JournalPoint) -> Result {
        // Recovery points count increments and decrements apart.
        let known = JournalPoint::new(point.sequence, point.entry / 2);
        if known < self.end {
            return Ok(());
        }
        if point == JournalPoint::NONE {
            return Ok(());
        }
        world.log(
            Level::Error,
            format_args!(
                "Recovery journal ends in block {}, but a slab journal has entries of block {}",
                self.end.sequence, known.sequence
            ),
        );
        Err(Status::CorruptJournal.into())
    }
}

/// Returns the sequence with which a journal goes on whose highest one is `sequence`.
///
/// # Errors
///
/// There is none.
pub(super) fn following(sequence: Sequence) -> Result<Sequence> {
    let next = sequence.checked_add(1).filter(|&next| next < MAX_SEQUENCE);
    next.ok_or(Status::JournalOverflow.into())
}

/// Finds out how far the journal reaches.
///
/// # Errors
///
/// A block cannot be read that may belong to what counts of the journal, or show that more of it
/// does.
pub(super) async fn find_extent<D: Disk>(
    reader: &mut Reader<'_, D>,
    volume: &Volume,
) -> Result<Option<Extent>> {
    let mut found = None;
    let mut highest = volume.journal_start;
    let mut unreadable = None;
    for position in 0..volume.size {
        let page = match reader.at(position).await {
            Ok(page) => page,
            Err(error) => {
                unreadable = Some(error);
                continue;
            }
        };
        let Some(header) = volume.header(page) else {
            continue;
        };
        if recovery_journal::position(header.sequence, volume.size) != position {
            continue;
        }
        if header.sequence >= highest {
            highest = header.sequence;
            found.get_or_insert(Extent {
                highest,
                block_map_head: 0,
                slab_journal_head: 0,
            });
        }
        if let Some(extent) = &mut found {
            extent.highest = highest;
            extent.block_map_head = extent.block_map_head.max(header.block_map_head);
            extent.slab_journal_head = extent.slab_journal_head.max(header.slab_journal_head);
        }
    }
    match (found, unreadable) {
        (Some(extent), Some(_)) => check_readable(reader, volume, extent).await?,
        (None, Some(error)) => return Err(error),
        _ => {}
    }
    Ok(found)
}

/// Fails if a block cannot be read from the heads on to where the last block that is in flight may
/// be. The others are done with, or empty still.
async fn check_readable<D: Disk>(
    reader: &mut Reader<'_, D>,
    volume: &Volume,
    extent: Extent,
) -> Result {
    let head = extent.block_map_head.min(extent.slab_journal_head);
    let blocks = extent
        .highest
        .saturating_add(MAX_BLOCKS_IN_FLIGHT + 1)
        .saturating_sub(head);
    for index in 0..blocks.min(volume.size) {
        let position = recovery_journal::position(head.saturating_add(index), volume.size);
        reader.at(position).await?;
    }
    Ok(())
}

/// Returns how many entries of a block of the current format are usable: all up to the first
/// sector that is not whole.
pub(super) fn usable_entries(page: &Page, header: &Header, volume: &Volume) -> u16 {
    let mut usable = 0;
    for sector in 1..=ENTRY_SECTORS {
        let left = header.entry_count - usable;
        let found = SectorHeader::decode(page, sector);
        if !found.belongs_to(header, volume.shape, sector) {
            break;
        }
        let count = u16::from(found.entry_count).min(left);
        usable += count;
        if count < volume.shape.entries_per_sector.into() || usable == header.entry_count {
            break;
        }
    }
    usable
}

async fn find_tail<W: World>(
    world: &W,
    reader: &mut Reader<'_, W::Disk>,
    volume: &Volume,
    extent: Extent,
) -> Result<Survey> {
    let head = extent.block_map_head.min(extent.slab_journal_head);
    let last_head = extent.block_map_head.max(extent.slab_journal_head);
    if last_head > extent.highest || extent.highest - head >= volume.size {
        return corrupt(world, "its heads do not fit its blocks");
    }
    let mut survey = Survey {
        extent: Some(extent),
        tail: head,
        end: JournalPoint::new(head, 0),
        entries: 0,
        counters: volume.counters,
        next: following(extent.highest)?,
    };
    let mut format = None;
    // The first block that is not whole.
    let mut broken = None;
    for sequence in head..=extent.highest {
        survey.tail = sequence;
        survey.end = JournalPoint::new(sequence, 0);
        let (page, header) = reader.block(sequence).await?;
        let Some(header) = header else {
            broken = Some(sequence);
            break;
        };
        if format.is_none() {
            format = header.format();
        }
        if header.format() != format {
            return corrupt(world, "its blocks are of two formats");
        }
        if format == Some(Format::Old) {
            if header.entry_count > 0 {
                return old_format(world);
            }
            broken = Some(sequence);
            break;
        }
        let usable = usable_entries(page, &header, volume);
        survey.end.entry = usable;
        survey.counters = counters(page, &header, volume, usable);
        if sequence >= extent.block_map_head {
            check_entries(world, page, volume, sequence, usable)?;
            survey.entries += u64::from(usable);
        }
        if usable < volume.shape.entries_per_block() {
            broken = Some(sequence);
            break;
        }
    }
    if survey.end.entry == 0 && survey.tail > head {
        survey.tail -= 1;
    }
    if last_head > survey.end.sequence {
        return corrupt(world, "a head lies behind its tail");
    }
    check_gap(world, broken, extent)?;
    if survey.end == JournalPoint::new(head, 0) {
        survey.counters = counters_before(reader, volume, head).await?;
    }
    Ok(survey)
}

/// Fails if a block is missing that must have been committed: a valid block lies farther ahead
/// than any that is written at the same time.
fn check_gap<W: World>(world: &W, broken: Option<Sequence>, extent: Extent) -> Result {
    match broken {
        Some(broken) if extent.highest.saturating_sub(broken) >= MAX_BLOCKS_IN_FLIGHT => {
            world.log(
                Level::Error,
                format_args!(
                    "Recovery journal block {broken} is damaged, although block {} was written",
                    extent.highest
                ),
            );
            Err(Status::CorruptJournal.into())
        }
        _ => Ok(()),
    }
}

fn check_entries<W: World>(
    world: &W,
    page: &Page,
    volume: &Volume,
    sequence: Sequence,
    usable: u16,
) -> Result {
    for index in 0..usable {
        let entry = recovery_journal::entry(page, volume.shape, index);
        if !entry.is_some_and(|entry| volume.is_sound(&entry)) {
            world.log(
                Level::Error,
                format_args!("Invalid entry {index} in recovery journal block {sequence}"),
            );
            return Err(Status::CorruptJournal.into());
        }
    }
    Ok(())
}

impl Volume {
    /// Returns whether an entry may be replayed.
    pub(super) fn is_sound(&self, entry: &RecoveryEntry) -> bool {
        entry.is_valid(&self.depot, self.roots)
    }
}

/// Returns what all entries add up to after the first `usable` ones of a block.
fn counters(page: &Page, header: &Header, volume: &Volume, usable: u16) -> Counters {
    let mut counters = Counters {
        logical_blocks_used: header.logical_blocks_used,
        block_map_data_blocks: header.block_map_data_blocks,
    };
    for index in 0..usable {
        if let Some(entry) = recovery_journal::entry(page, volume.shape, index) {
            counters.add(&entry);
        }
    }
    counters
}

/// Returns what all entries add up to before the block `sequence`, which has none: the last one of
/// which that is known without it may stand in the ring still.
async fn counters_before<D: Disk>(
    reader: &mut Reader<'_, D>,
    volume: &Volume,
    sequence: Sequence,
) -> Result<Counters> {
    let (page, header) = reader.block(sequence).await?;
    if let Some(header) = header {
        return Ok(counters(page, &header, volume, 0));
    }
    let (page, header) = reader.block(sequence.saturating_sub(1)).await?;
    Ok(match header {
        Some(header) if header.format() == Some(Format::Current) => {
            let usable = usable_entries(page, &header, volume);
            counters(page, &header, volume, usable)
        }
        _ => volume.counters,
    })
}

impl Counters {
    /// Adds the effect of an entry.
    pub fn add(&mut self, entry: &RecoveryEntry) {
        match entry.operation {
            Operation::Data => {
                let change = i64::from(entry.new.is_mapped()) - i64::from(entry.old.is_mapped());
                self.logical_blocks_used = self.logical_blocks_used.saturating_add_signed(change);
            }
            Operation::BlockMap => {
                self.block_map_data_blocks = self.block_map_data_blocks.saturating_add(1);
            }
        }
    }
}

fn corrupt<T, W: World>(world: &W, what: &str) -> Result<T> {
    world.log(
        Level::Error,
        format_args!("Recovery journal is corrupt: {what}"),
    );
    Err(Status::CorruptJournal.into())
}

fn old_format<T, W: World>(world: &W) -> Result<T> {
    world.log(
        Level::Error,
        format_args!(
            "Recovery journal is in the old format, which only an older version can recover"
        ),
    );
    Err(Error::Errno(EINVAL))
}

#[cfg(test)]
mod tests;
