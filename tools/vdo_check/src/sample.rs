// SPDX-License-Identifier: GPL-2.0

//! Makes small volumes for tests, stopped or crashed, by the book.
//!
//! A maker takes changes of mappings, journals them, and in the end puts everything on disk as a
//! stop or a crash would leave it. It allocates blocks one after the other and never frees one.

use crate::MemoryImage;
use crate::Shape;
use std::collections::BTreeMap;
use vdo::format::block_map;
use vdo::format::compressed;
use vdo::format::layout::Parameters;
use vdo::format::recovery_journal;
use vdo::format::recovery_journal::check_byte;
use vdo::format::reference;
use vdo::format::slab_journal;
use vdo::format::slab_journal::recovery_point;
use vdo::format::slab_journal::Change;
use vdo::format::slab_journal::SlabEntry;
use vdo::format::summary;
use vdo::format::tree;
use vdo::format::tree::Forest;
use vdo::format::tree::ROOT_HEIGHT;
use vdo::format::Geometry;
use vdo::format::IndexMemory;
use vdo::format::JournalPoint;
use vdo::format::Lbn;
use vdo::format::Mapping;
use vdo::format::Operation;
use vdo::format::Page;
use vdo::format::Pbn;
use vdo::format::RecoveryEntry;
use vdo::format::Sequence;
use vdo::format::State;
use vdo::format::SummaryEntry;
use vdo::format::SuperBlock;
use vdo::format::BLOCK_SIZE;

/// The smallest sensible sizes: slabs of 32 blocks, a recovery journal of 8.
pub const TOY: Parameters = Parameters {
    nonce: 0x1122_3344_5566,
    uuid: *b"a toy of a test.",
    physical_blocks: 600,
    logical_blocks: Some(100_000),
    slab_blocks: 32,
    slab_journal_blocks: 8,
    recovery_journal_blocks: 8,
    roots: 2,
    index_memory: IndexMemory::QUARTER,
    sparse: false,
    index_blocks: Some(1),
};

/// Journal blocks of few entries.
pub const TOY_SHAPE: Shape = Shape {
    journal: recovery_journal::Shape {
        entries_per_sector: 3,
    },
    slab_journal: slab_journal::Shape { full: 12, data: 13 },
};

/// A volume.
pub struct Sample {
    /// Its blocks.
    pub image: MemoryImage,
    /// Its geometry block.
    pub geometry: Geometry,
    /// Its super block, as it is on disk.
    pub super_block: SuperBlock,
    /// How many entries journal blocks have.
    pub shape: Shape,
}

impl Sample {
    /// Formats a volume.
    pub fn format(parameters: &Parameters, shape: Shape) -> Self {
        let (geometry, super_block) = parameters.plan().expect("sizes that fit");
        Self::of(geometry, super_block, shape)
    }

    /// Formats a volume with these blocks.
    pub fn of(geometry: Geometry, super_block: SuperBlock, shape: Shape) -> Self {
        let mut sample = Self {
            image: MemoryImage::new(super_block.physical_blocks),
            geometry,
            super_block,
            shape,
        };
        geometry.encode(sample.image.page_mut(0));
        sample.write_super_block();
        sample
    }

    /// Puts the super block on disk.
    pub fn write_super_block(&mut self) {
        let page = self.image.page_mut(self.geometry.data_start);
        self.super_block.encode(page);
    }

    /// Returns the block of the recovery journal with this sequence.
    pub fn journal_block(&mut self, sequence: Sequence) -> &mut Page {
        let size = self.super_block.recovery_journal_size;
        let position = recovery_journal::position(sequence, size);
        let start = self.super_block.partitions.journal.start;
        self.image.page_mut(start + position)
    }

    /// Changes the summary entry of a slab, in copy 0.
    pub fn change_summary(&mut self, slab: u32, change: impl FnOnce(&mut SummaryEntry)) {
        let (block, index) = summary::place(slab);
        let start = self.super_block.partitions.summary.start;
        let page = self.image.page_mut(start + u64::from(block));
        let mut entry = summary::entry(page, index);
        change(&mut entry);
        summary::set_entry(page, index, entry);
    }
}

/// A slab, while it is used.
#[derive(Clone)]
struct Slab {
    counts: Vec<u8>,
    header: slab_journal::Header,
    page: Box<Page>,
    last: JournalPoint,
}

/// Makes a volume.
pub struct Maker {
    sample: Sample,
    forest: Forest,
    entries: Vec<RecoveryEntry>,
    slabs: Vec<Slab>,
    pages: BTreeMap<Pbn, Box<Page>>,
    next: (u32, u32),
}

impl Maker {
    /// Formats a volume and begins to use it.
    pub fn new(parameters: &Parameters, shape: Shape) -> Self {
        Self::with(Sample::format(parameters, shape))
    }

    /// Begins to use a volume that was just formatted.
    pub fn with(sample: Sample) -> Self {
        let super_block = &sample.super_block;
        let slab = Slab {
            counts: vec![0; super_block.depot.slab.data_blocks as usize],
            header: slab_journal::Header::new(1, 1, super_block.nonce),
            page: Box::new([0; BLOCK_SIZE]),
            last: JournalPoint::NONE,
        };
        Self {
            forest: Forest::new(super_block.root_count, super_block.logical_blocks)
                .expect("at least one root"),
            entries: Vec::new(),
            slabs: vec![slab; super_block.depot.slab_count as usize],
            pages: BTreeMap::new(),
            next: (0, 0),
            sample,
        }
    }

    /// Returns how many blocks are free.
    pub fn free(&self) -> u64 {
        let depot = &self.sample.super_block.depot;
        let (slab, sbn) = self.next;
        depot.data_blocks() - u64::from(slab) * u64::from(depot.slab.data_blocks) - u64::from(sbn)
    }

    /// Returns how many entries the recovery journal has room for.
    pub fn room(&self) -> u64 {
        let blocks = self.sample.super_block.recovery_journal_size;
        let all = blocks * u64::from(self.sample.shape.journal.entries_per_block());
        all - self.entries.len() as u64
    }

    /// Returns the next free block.
    pub fn allocate(&mut self) -> Pbn {
        let depot = &self.sample.super_block.depot;
        let (slab, sbn) = self.next;
        self.next = if sbn + 1 < depot.slab.data_blocks {
            (slab, sbn + 1)
        } else {
            (slab + 1, 0)
        };
        assert!(slab < depot.slab_count, "a volume that is large enough");
        depot.pbn(slab, sbn)
    }

    /// Stores data in a new block, and returns the block.
    pub fn store(&mut self, data: &Page) -> Pbn {
        let pbn = self.allocate();
        self.sample.image.write(pbn, data);
        pbn
    }

    /// Stores compressed blocks in a new block, and returns the block.
    pub fn compress(&mut self, blocks: &[Page]) -> Pbn {
        let fragments: Vec<_> = blocks
            .iter()
            .map(|block| lz4_flex::block::compress(block))
            .collect();
        let fragments: Vec<_> = fragments.iter().map(Vec::as_slice).collect();
        let mut page = [0; BLOCK_SIZE];
        assert!(
            compressed::pack(&mut page, &fragments),
            "blocks that compress"
        );
        self.store(&page)
    }

    /// Maps a logical block.
    pub fn map(&mut self, lbn: Lbn, new: Mapping) {
        let (number, slot) = tree::leaf(lbn);
        let path = self.forest.path(number);
        let mut page = self.sample.super_block.root_origin + u64::from(path.tree);
        for height in (1..=ROOT_HEIGHT).rev() {
            let slot = path.slot(height);
            let child = block_map::entry(self.page(page), slot);
            page = if child.is_mapped() {
                child.pbn
            } else {
                let pbn = self.allocate();
                self.change(Operation::BlockMap, page, slot, Mapping::plain(pbn));
                pbn
            };
        }
        self.change(Operation::Data, page, slot, new);
    }

    fn page(&mut self, pbn: Pbn) -> &mut Page {
        let nonce = self.sample.super_block.nonce;
        self.pages.entry(pbn).or_insert_with(|| {
            let mut page = Box::new([0; BLOCK_SIZE]);
            block_map::format_page(&mut page, nonce, pbn);
            block_map::set_initialized(&mut page, true);
            page
        })
    }

    fn change(&mut self, operation: Operation, page: Pbn, slot: u16, new: Mapping) {
        let old = block_map::entry(self.page(page), slot);
        block_map::set_entry(self.page(page), slot, new);
        self.entries.push(RecoveryEntry {
            operation,
            page,
            slot,
            new,
            old,
        });
    }

    /// Crashes: of all changes, only the recovery journal is on disk.
    pub fn crash(mut self) -> Sample {
        self.write_journal();
        self.sample.super_block.state = State::Dirty;
        self.sample.super_block.zone_count = 1;
        self.write_summary();
        self.sample.write_super_block();
        self.sample
    }

    /// Stops in order.
    pub fn stop(mut self) -> Sample {
        let tail = self.write_journal();
        self.apply();
        for slab in 0..self.slabs.len() {
            self.commit(slab);
        }
        self.write_counts();
        self.write_summary();
        for (&pbn, page) in &self.pages {
            self.sample.image.write(pbn, page);
        }
        let super_block = &mut self.sample.super_block;
        super_block.state = State::Clean;
        super_block.zone_count = 1;
        super_block.journal_start = tail + 1;
        let (used, pages) = counters(&self.entries);
        super_block.logical_blocks_used = used;
        super_block.block_map_data_blocks = pages;
        self.sample.write_super_block();
        self.sample
    }

    /// Writes the recovery journal and returns the last sequence.
    fn write_journal(&mut self) -> Sequence {
        let shape = self.sample.shape.journal;
        let super_block = self.sample.super_block;
        let size = super_block.recovery_journal_size;
        let per_block = usize::from(shape.entries_per_block());
        let blocks = self.entries.chunks(per_block);
        assert!(blocks.len() as u64 <= size, "a journal that does not wrap");
        let mut last = 0;
        for (sequence, entries) in (1..).zip(blocks) {
            let before = &self.entries[..(sequence as usize - 1) * per_block];
            let (logical_blocks_used, block_map_data_blocks) = counters(before);
            let header = recovery_journal::Header {
                block_map_head: 1,
                slab_journal_head: 1,
                sequence,
                nonce: super_block.nonce,
                metadata_type: vdo::format::metadata_type::RECOVERY_JOURNAL,
                entry_count: entries.len() as u16,
                logical_blocks_used,
                block_map_data_blocks,
                check_byte: check_byte(sequence, size),
                recovery_count: super_block.recovery_count(),
            };
            let page = self.sample.journal_block(sequence);
            for (index, entry) in (0..).zip(entries) {
                recovery_journal::put_entry(page, shape, index, entry);
            }
            recovery_journal::seal(page, shape, &header);
            last = sequence;
        }
        last
    }

    /// Applies all entries to the slabs.
    fn apply(&mut self) {
        let per_block = usize::from(self.sample.shape.journal.entries_per_block());
        for (at, entry) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            let sequence = 1 + (at / per_block) as u64;
            let index = (at % per_block) as u16;
            let increment = match entry.operation {
                Operation::Data => Change::Increment,
                Operation::BlockMap => Change::BlockMapIncrement,
            };
            for (pbn, change) in [
                (entry.new.pbn, increment),
                (entry.old.pbn, Change::Decrement),
            ] {
                if pbn != 0 {
                    let point = recovery_point(sequence, index, change != Change::Decrement);
                    self.count(pbn, change, point);
                }
            }
            self.entries.push(entry);
        }
    }

    fn count(&mut self, pbn: Pbn, change: Change, point: JournalPoint) {
        let (slab, sbn) = self
            .sample
            .super_block
            .depot
            .slab_of(pbn)
            .expect("a data block");
        let shape = self.sample.shape.slab_journal;
        if !self.slabs[slab as usize].header.has_room_for(shape, change) {
            self.commit(slab as usize);
        }
        let slab = &mut self.slabs[slab as usize];
        let entry = SlabEntry { sbn, change };
        let index = slab.header.push(&mut slab.page, shape, entry, point);
        slab.last = JournalPoint::new(slab.header.sequence, index.expect("room"));
        let count = &mut slab.counts[sbn as usize];
        match change {
            Change::Increment => *count += 1,
            Change::Decrement => *count -= 1,
            Change::BlockMapIncrement => *count = reference::MAX_COUNT,
        }
        if slab.header.is_full(shape) {
            let number = self
                .sample
                .super_block
                .depot
                .slab_of(pbn)
                .map(|(slab, _)| slab);
            self.commit(number.expect("a data block") as usize);
        }
    }

    /// Writes the block of a slab's journal that is being filled.
    fn commit(&mut self, number: usize) {
        let depot = self.sample.super_block.depot;
        let size = u64::from(depot.slab.journal_blocks);
        let slab = &mut self.slabs[number];
        if slab.header.entry_count == 0 {
            return;
        }
        let sequence = slab.header.sequence;
        assert!(sequence < size, "a slab journal that does not wrap");
        slab.header.encode(&mut slab.page);
        let pbn = depot.journal_block(number as u32, (sequence % size) as u32);
        self.sample.image.write(pbn, &slab.page);
        slab.header = slab_journal::Header::new(1, sequence + 1, slab.header.nonce);
    }

    fn write_counts(&mut self) {
        let depot = self.sample.super_block.depot;
        let per_block = reference::COUNTS_PER_BLOCK as usize;
        for (number, slab) in (0..).zip(&self.slabs) {
            if slab.last == JournalPoint::NONE {
                continue;
            }
            for (index, counts) in (0..).zip(slab.counts.chunks(per_block)) {
                let page = self
                    .sample
                    .image
                    .page_mut(depot.reference_block(number, index));
                reference::encode(page, counts, slab.last);
            }
        }
    }

    fn write_summary(&mut self) {
        let depot = self.sample.super_block.depot;
        let slabs = summary::BLOCKS_PER_COPY * summary::ENTRIES_PER_BLOCK;
        let unused = SummaryEntry::unused(&depot.slab);
        for number in 0..slabs {
            self.sample.change_summary(number, |entry| *entry = unused);
        }
        for (number, slab) in (0..).zip(&self.slabs) {
            if slab.last == JournalPoint::NONE {
                continue;
            }
            let free = slab.counts.iter().filter(|&&count| count == 0).count();
            self.sample.change_summary(number, |entry| {
                *entry = SummaryEntry {
                    tail_block_offset: (slab.header.sequence % u64::from(depot.slab.journal_blocks))
                        as u8,
                    fullness_hint: summary::hint(free as u32, &depot.slab),
                    load_ref_counts: true,
                    is_dirty: false,
                }
            });
        }
    }
}

/// Returns logical blocks and block map pages in use behind these entries.
fn counters(entries: &[RecoveryEntry]) -> (u64, u64) {
    let mut used = 0;
    let mut pages = 0;
    for entry in entries {
        match entry.operation {
            Operation::BlockMap => pages += 1,
            Operation::Data => {
                used += u64::from(entry.new.is_mapped());
                used -= u64::from(entry.old.is_mapped());
            }
        }
    }
    (used, pages)
}

/// Returns some data.
pub fn data(seed: u8) -> Page {
    std::array::from_fn(|at| seed ^ (at / 16) as u8)
}

/// Begins a volume with some of everything: plain, shared and compressed data, zeroes, overwrites,
/// discards, distant blocks.
pub fn varied(parameters: &Parameters, shape: Shape) -> Maker {
    let mut maker = Maker::new(parameters, shape);
    for lbn in 0..12 {
        let pbn = maker.store(&data(lbn as u8));
        maker.map(lbn, Mapping::plain(pbn));
    }
    let shared = maker.store(&data(77));
    for lbn in 10..15 {
        maker.map(lbn, Mapping::plain(shared));
    }
    let packed = maker.compress(&[data(100), data(101), data(102)]);
    for (lbn, slot) in (812..).zip([0, 1, 2, 1]) {
        let mapping = Mapping::fragment(packed, slot).expect("a slot");
        maker.map(lbn, mapping);
    }
    maker.map(20, Mapping::ZERO);
    maker.map(21, Mapping::ZERO);
    maker.map(3, Mapping::UNMAPPED);
    maker.map(4, Mapping::ZERO);
    let pbn = maker.store(&data(9));
    maker.map(99_999, Mapping::plain(pbn));
    maker
}
