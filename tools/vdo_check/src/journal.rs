// SPDX-License-Identifier: GPL-2.0

//! Invariants 29 to 34: the recovery journal, and what of it a recovery can use.

use crate::finding::Findings;
use crate::finding::Place;
use crate::volume::Volume;
use crate::Progress;
use crate::Stage;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io;
use vdo::format::recovery_journal;
use vdo::format::recovery_journal::check_byte;
use vdo::format::recovery_journal::Format;
use vdo::format::recovery_journal::Header;
use vdo::format::recovery_journal::Operation;
use vdo::format::recovery_journal::RecoveryEntry;
use vdo::format::recovery_journal::SectorHeader;
use vdo::format::recovery_journal::ENTRY_SECTORS;
use vdo::format::Mapping;
use vdo::format::Page;
use vdo::format::Pbn;
use vdo::format::Sequence;
use vdo::format::State;

/// The blocks of the journal that the volume wrote since its last recovery.
pub(crate) struct Ring {
    headers: BTreeMap<Sequence, Header>,
    /// The highest sequence from the start of the journal on.
    pub(crate) highest: Sequence,
    /// Whether there is any block from the start of the journal on.
    pub(crate) found: bool,
    pub(crate) block_map_head: Sequence,
    pub(crate) slab_journal_head: Sequence,
}

/// The part of the journal that can be replayed.
pub(crate) struct Usable {
    /// The last block.
    pub(crate) tail: Sequence,
    /// Entries of that block; blocks before are full.
    pub(crate) entries: u16,
    /// Whether there is any entry.
    pub(crate) any: bool,
    pub(crate) format: Format,
}

impl Ring {
    /// Reads the headers of all blocks.
    fn read(
        volume: &Volume<'_>,
        findings: &mut Findings,
        progress: &mut Progress<'_>,
    ) -> io::Result<Self> {
        let super_block = &volume.super_block;
        let size = super_block.recovery_journal_size;
        let mut ring = Self {
            headers: BTreeMap::new(),
            highest: super_block.journal_start,
            found: false,
            block_map_head: 0,
            slab_journal_head: 0,
        };
        for position in 0..size {
            if position % 1024 == 0 {
                progress(Stage::Journal, position, size);
            }
            let page = volume.read(super_block.partitions.journal.start + position)?;
            let header = Header::decode(&page);
            let count = super_block.recovery_count();
            if !header.is_valid(super_block.nonce, count, volume.shape.journal) {
                continue;
            }
            if recovery_journal::position(header.sequence, size) != position {
                let text = format!("found at position {position}, where it does not belong");
                findings.error(30, Place::Journal(header.sequence), text);
                continue;
            }
            ring.add(header);
        }
        Ok(ring)
    }

    /// Adds blocks in the order of their positions: what the heads are depends on it.
    fn add(&mut self, header: Header) {
        if header.sequence >= self.highest {
            self.found = true;
            self.highest = header.sequence;
        }
        if self.found {
            self.block_map_head = self.block_map_head.max(header.block_map_head);
            self.slab_journal_head = self.slab_journal_head.max(header.slab_journal_head);
        }
        self.headers.insert(header.sequence, header);
    }

    /// Returns the sequences before `end`, in descending order.
    pub(crate) fn sequences_before(&self, end: Sequence) -> impl Iterator<Item = Sequence> + '_ {
        self.headers
            .range(..end)
            .rev()
            .map(|(sequence, _)| *sequence)
    }

    pub(crate) fn head(&self) -> Sequence {
        self.block_map_head.min(self.slab_journal_head)
    }

    /// Returns what can be replayed; `None` if the journal contradicts itself.
    pub(crate) fn usable(
        &self,
        volume: &Volume<'_>,
        findings: &mut Findings,
    ) -> io::Result<Option<Usable>> {
        let head = self.head();
        let full = volume.shape.journal.entries_per_block();
        let first = self.headers.get(&head).and_then(Header::format);
        let mut usable = Usable {
            tail: head,
            entries: 0,
            any: false,
            format: first.unwrap_or(Format::Current),
        };
        for sequence in head..=self.highest {
            usable.tail = sequence;
            usable.entries = 0;
            let Some(header) = self.headers.get(&sequence) else {
                break;
            };
            if header.format() != Some(usable.format) {
                let text = "of another format than the first one";
                findings.error(34, Place::Journal(sequence), text);
                return Ok(None);
            }
            let page = read_block(volume, sequence)?;
            usable.entries = usable_entries(volume, header, &page);
            usable.any |= usable.entries > 0;
            if header.entry_count != full || usable.entries != full {
                break;
            }
        }
        if usable.entries == 0 && usable.any {
            usable.tail -= 1;
            usable.entries = full;
        }
        if self.block_map_head > usable.tail || self.slab_journal_head > usable.tail {
            let text = format!(
                "the usable part ends at {}, before the heads {} and {}",
                usable.tail, self.block_map_head, self.slab_journal_head
            );
            findings.error(34, Place::Volume, text);
            return Ok(None);
        }
        Ok(Some(usable))
    }
}

/// Returns how many entries of a block are there without a gap.
fn usable_entries(volume: &Volume<'_>, header: &Header, page: &Page) -> u16 {
    let shape = volume.shape.journal;
    let mut left = header.entry_count;
    let mut found = 0;
    for sector in 1..=ENTRY_SECTORS {
        let first_bytes = SectorHeader::decode(page, sector);
        if left == 0 || !first_bytes.belongs_to(header, shape, sector) {
            break;
        }
        let here = left.min(first_bytes.entry_count.into());
        found += here;
        left -= here;
        if here < u16::from(shape.entries_per_sector) {
            break;
        }
    }
    found
}

/// Reads a block of the journal.
pub(crate) fn read_block(volume: &Volume<'_>, sequence: Sequence) -> io::Result<Box<Page>> {
    let super_block = &volume.super_block;
    let position = recovery_journal::position(sequence, super_block.recovery_journal_size);
    volume.read(super_block.partitions.journal.start + position)
}

/// What the journal says about pages of the block map, to be compared with the block map.
#[derive(Clone, Copy, Default)]
pub(crate) struct PageUse {
    /// A block with an entry about data in the page.
    data: Option<Sequence>,
    /// A block with an entry about a page below the page.
    block_map: Option<Sequence>,
}

/// What was learnt from the journal.
pub(crate) struct Journal {
    pub(crate) ring: Ring,
    pub(crate) usable: Option<Usable>,
    pub(crate) pages: BTreeMap<Pbn, PageUse>,
}

/// Checks all blocks of the journal; `None` if nothing can be replayed that must be.
pub(crate) fn check(
    volume: &Volume<'_>,
    findings: &mut Findings,
    progress: &mut Progress<'_>,
) -> Option<Journal> {
    match try_check(volume, findings, progress) {
        Ok(journal) => journal,
        Err(error) => {
            findings.unreadable(volume.super_block.partitions.journal.start, &error);
            None
        }
    }
}

fn try_check(
    volume: &Volume<'_>,
    findings: &mut Findings,
    progress: &mut Progress<'_>,
) -> io::Result<Option<Journal>> {
    let ring = Ring::read(volume, findings, progress)?;
    let is_clean = crate::is_clean(volume.super_block.state);
    let mut usable = None;
    if is_clean && ring.found {
        let text = "newer than where the super block says that the journal goes on";
        findings.error(29, Place::Journal(ring.highest), text);
    } else if volume.super_block.state.needs_recovery() && ring.found {
        usable = ring.usable(volume, findings)?;
        if usable.is_none() {
            return Ok(None);
        }
    }
    // Of a crashed journal, only what is replayed must be whole: blocks behind may not have come to
    // the disk, and those before may have been on the way to be overwritten.
    let whole = match &usable {
        Some(usable) => ring.head()..usable.tail,
        None if is_clean => 0..Sequence::MAX,
        None => 0..0,
    };
    let mut blocks = Blocks {
        volume,
        pages: BTreeMap::new(),
        before: None,
        slots: HashMap::new(),
    };
    for (_, header) in ring.headers.range(whole) {
        let page = read_block(volume, header.sequence)?;
        blocks.check(header, &page, findings);
    }
    let pages = blocks.pages;
    Ok(Some(Journal {
        ring,
        usable,
        pages,
    }))
}

/// The blocks of the journal, one after the other.
struct Blocks<'a, 'v> {
    volume: &'a Volume<'v>,
    pages: BTreeMap<Pbn, PageUse>,
    /// The block before if it is full: its sequence, and the counters behind its last entry.
    before: Option<(Sequence, Counters)>,
    /// What each slot was last changed to; kept for a deep check only.
    slots: HashMap<(Pbn, u16), Mapping>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) logical_blocks_used: u64,
    pub(crate) block_map_data_blocks: u64,
}

impl Counters {
    pub(crate) fn of(header: &Header) -> Self {
        Self {
            logical_blocks_used: header.logical_blocks_used,
            block_map_data_blocks: header.block_map_data_blocks,
        }
    }

    pub(crate) fn count(&mut self, entry: &RecoveryEntry) {
        match entry.operation {
            Operation::BlockMap => {
                self.block_map_data_blocks = self.block_map_data_blocks.wrapping_add(1);
            }
            Operation::Data => {
                let plus = u64::from(entry.new.is_mapped());
                let minus = u64::from(entry.old.is_mapped());
                let used = self.logical_blocks_used.wrapping_add(plus);
                self.logical_blocks_used = used.wrapping_sub(minus);
            }
        }
    }
}

impl Blocks<'_, '_> {
    fn check(&mut self, header: &Header, page: &Page, findings: &mut Findings) {
        let place = Place::Journal(header.sequence);
        let size = self.volume.super_block.recovery_journal_size;
        if header.check_byte != check_byte(header.sequence, size) {
            let text = format!("check byte {:#x}", header.check_byte);
            findings.error(30, place, text);
        }
        if header.block_map_head > header.sequence || header.slab_journal_head > header.sequence {
            let text = format!(
                "says that the journal starts at {} and {}",
                header.block_map_head, header.slab_journal_head
            );
            findings.error(31, place, text);
        }
        if header.format() == Some(Format::Old) {
            findings.note(30, place, "of the old format");
            self.before = None;
            return;
        }
        self.check_sectors(header, page, findings);
        self.check_entries(header, page, findings);
    }

    fn check_sectors(&self, header: &Header, page: &Page, findings: &mut Findings) {
        let shape = self.volume.shape.journal;
        let place = Place::Journal(header.sequence);
        let mut left = header.entry_count;
        for sector in 1..=ENTRY_SECTORS {
            if left == 0 {
                break;
            }
            let first_bytes = SectorHeader::decode(page, sector);
            if !first_bytes.belongs_to(header, shape, sector) {
                let text = format!("sector {sector} is not of this block: {first_bytes:?}");
                return findings.error(30, place, text);
            }
            let expected = left.min(shape.entries_per_sector.into());
            if u16::from(first_bytes.entry_count) != expected {
                let text = format!(
                    "sector {sector} has {} entries, not {expected}",
                    first_bytes.entry_count
                );
                return findings.error(30, place, text);
            }
            left -= expected;
        }
    }

    fn check_entries(&mut self, header: &Header, page: &Page, findings: &mut Findings) {
        let place = Place::Journal(header.sequence);
        let shape = self.volume.shape.journal;
        let super_block = &self.volume.super_block;
        let mut counters = Counters::of(header);
        if let Some((before, expected)) = self.before {
            if before.wrapping_add(1) == header.sequence && counters != expected {
                let text = format!(
                    "{} logical blocks and {} pages in use, but the block before ends with {} and {}",
                    counters.logical_blocks_used,
                    counters.block_map_data_blocks,
                    expected.logical_blocks_used,
                    expected.block_map_data_blocks
                );
                findings.error(32, place, text);
            }
        }
        for index in 0..header.entry_count {
            let Some(entry) = recovery_journal::entry(page, shape, index) else {
                findings.error(33, place, format!("entry {index} makes no sense"));
                continue;
            };
            if !entry.is_valid(&super_block.depot, super_block.roots()) {
                let text = format!("entry {index} makes no sense: {entry:?}");
                findings.error(33, place, text);
                continue;
            }
            counters.count(&entry);
            self.check_entry(header.sequence, index, &entry, findings);
        }
        let is_full = header.entry_count == shape.entries_per_block();
        self.before = is_full.then_some((header.sequence, counters));
    }

    fn check_entry(
        &mut self,
        sequence: Sequence,
        index: u16,
        entry: &RecoveryEntry,
        findings: &mut Findings,
    ) {
        let page = self.pages.entry(entry.page).or_default();
        let place = match entry.operation {
            Operation::Data => &mut page.data,
            Operation::BlockMap => &mut page.block_map,
        };
        place.get_or_insert(sequence);
        if !self.volume.deep || entry.operation == Operation::BlockMap {
            return;
        }
        let before = self.slots.insert((entry.page, entry.slot), entry.new);
        if before.is_some_and(|before| before != entry.old) {
            let text = format!("entry {index} takes {:?} for {before:?}", entry.old);
            findings.error(33, Place::Journal(sequence), text);
        }
    }
}

/// The rest of invariant 33: the pages that entries name are what the entries take them for.
pub(crate) fn check_pages(
    volume: &Volume<'_>,
    journal: &Journal,
    height: impl Fn(Pbn) -> Option<usize>,
    findings: &mut Findings,
) {
    let super_block = &volume.super_block;
    if super_block.state == State::ReadOnly {
        return;
    }
    let roots =
        super_block.root_origin..super_block.root_origin + u64::from(super_block.root_count);
    for (&pbn, page) in &journal.pages {
        let height = match height(pbn) {
            None if roots.contains(&pbn) => Some(vdo::format::tree::ROOT_HEIGHT),
            height => height,
        };
        let wrong = match height {
            Some(0) => page.block_map,
            Some(_) => page.data,
            None => page.data.or(page.block_map),
        };
        if let Some(sequence) = wrong {
            let text = format!("names page {pbn}, which is none of that kind: {height:?}");
            findings.error(33, Place::Journal(sequence), text);
        }
    }
}
