// SPDX-License-Identifier: GPL-2.0

//! Changes fields of a volume, under right checksums.

use crate::toy;
use crate::toy::Toy;
use sim::choices::Choices;
use vdo::format::block_map;
use vdo::format::block_map::Validity;
use vdo::format::geometry::Geometry;
use vdo::format::recovery_journal;
use vdo::format::slab_journal;
use vdo::format::summary;
use vdo::format::summary::SummaryEntry;
use vdo::format::super_block::State;
use vdo::format::super_block::SuperBlock;
use vdo::format::JournalPoint;
use vdo::format::Mapping;
use vdo::format::MappingState;
use vdo::format::Operation;
use vdo::format::Pbn;
use vdo::format::RecoveryEntry;
use vdo::format::MAX_SEQUENCE;

/// A volume that is being changed.
struct Victim<'a> {
    image: &'a mut [u8],
    toy: &'a Toy,
    choices: &'a mut Choices,
}

/// Changes something; returns what.
pub(super) fn make(image: &mut [u8], toy: &Toy, choices: &mut Choices) -> String {
    let mut victim = Victim {
        image,
        toy,
        choices,
    };
    match victim.choices.below(16) {
        0 => victim.geometry(),
        1..=4 => victim.super_block(),
        5..=7 => victim.recovery_journal(),
        8..=9 => victim.summary(),
        10..=11 => victim.slab_journal(),
        12 => victim.references(),
        13..=14 => victim.page(),
        _ => victim.any_byte(),
    }
}

impl Victim<'_> {
    /// Returns a number that may be worth trying where `old` is.
    fn number(&mut self, old: u64) -> u64 {
        let choices = &mut *self.choices;
        match choices.below(12) {
            0..=1 => old.wrapping_add(1 + choices.below(3)),
            2..=3 => old.wrapping_sub(1 + choices.below(3)),
            4 => choices.below(16),
            5 => 1 << choices.below(64),
            6 => (1 << choices.below(64)) - 1,
            7 => u64::MAX - choices.below(8),
            8 => MAX_SEQUENCE.wrapping_add(choices.below(8)).wrapping_sub(4),
            9 => self.pbn(),
            10 => old ^ (1 << choices.below(64)),
            _ => choices.number(),
        }
    }

    /// Returns a block of the volume, or one behind its end.
    fn pbn(&mut self) -> Pbn {
        let blocks = self.toy.layout.physical_blocks();
        self.choices.below(blocks + 4)
    }

    fn change(&mut self, field: &mut u64) {
        *field = self.number(*field);
    }

    fn change_narrow(&mut self, field: &mut u32) {
        *field = self.number((*field).into()) as u32;
    }

    fn geometry(&mut self) -> String {
        let page = toy::block_mut(self.image, 0);
        let Ok(mut found) = Geometry::decode(page) else {
            return "no geometry".to_owned();
        };
        match self.choices.below(5) {
            0 => self.change(&mut found.nonce),
            1 => self.change(&mut found.bio_offset),
            2 => self.change(&mut found.index_start),
            3 => self.change(&mut found.data_start),
            _ => self.change_narrow(&mut found.index_memory.0),
        }
        found.encode(toy::block_mut(self.image, 0));
        format!("{found:?}")
    }

    fn super_block(&mut self) -> String {
        let at = self.toy.layout.data_start;
        let Ok(mut found) = SuperBlock::decode(toy::block(self.image, at)) else {
            return "no super block".to_owned();
        };
        let all = &mut found;
        match self.choices.below(30) {
            0..=3 => {
                let number = self.choices.below(8) as u32;
                all.state = State::from_number(number).unwrap_or(State::Dirty);
            }
            4 => self.change(&mut all.complete_recoveries),
            5 => self.change(&mut all.read_only_recoveries),
            6..=7 => self.change(&mut all.logical_blocks),
            8 => self.change(&mut all.physical_blocks),
            9 => self.change(&mut all.slab_size),
            10 => self.change(&mut all.recovery_journal_size),
            11 => self.change(&mut all.slab_journal_blocks),
            12 => self.change(&mut all.journal_start),
            13 => self.change(&mut all.logical_blocks_used),
            14 => self.change(&mut all.block_map_data_blocks),
            15 => self.change_narrow(&mut all.depot.slab.blocks),
            16 => self.change_narrow(&mut all.depot.slab.data_blocks),
            17 => self.change_narrow(&mut all.depot.slab.reference_blocks),
            18 => self.change_narrow(&mut all.depot.slab.journal_blocks),
            19 => self.change_narrow(&mut all.depot.slab.flushing),
            20 => self.change_narrow(&mut all.depot.slab.blocking),
            21 => self.change_narrow(&mut all.depot.slab.scrubbing),
            22 => self.change(&mut all.depot.first_block),
            23 => self.change(&mut all.last_block),
            24 => all.zone_count = self.number(1) as u8,
            25 => self.change(&mut all.root_origin),
            26 => self.change_narrow(&mut all.root_count),
            27 => self.change(&mut all.nonce),
            _ => self.partition(all),
        }
        if found.depot.slab.blocks.is_power_of_two() {
            found.encode(toy::block_mut(self.image, at));
        }
        format!("{found:?}")
    }

    /// Moves the border between two partitions, or any of their numbers.
    fn partition(&mut self, all: &mut SuperBlock) {
        let parts = &mut all.partitions;
        let parts = [
            &mut parts.block_map,
            &mut parts.depot,
            &mut parts.journal,
            &mut parts.summary,
        ];
        let at = self.choices.below(4) as usize;
        if at < 3 && self.choices.chance(1, 2) {
            let by = self.choices.below(9).wrapping_sub(4);
            parts[at].blocks = parts[at].blocks.wrapping_add(by);
            parts[at + 1].start = parts[at + 1].start.wrapping_add(by);
            parts[at + 1].blocks = parts[at + 1].blocks.wrapping_sub(by);
        } else if self.choices.chance(1, 2) {
            self.change(&mut parts[at].start);
        } else {
            self.change(&mut parts[at].blocks);
        }
    }

    fn recovery_journal(&mut self) -> String {
        let layout = self.toy.layout;
        let shape = self.toy.journal_shape;
        let pbn = layout.journal() + self.choices.below(layout.journal_blocks);
        let mut page = *toy::block(self.image, pbn);
        let mut header = recovery_journal::Header::decode(&page);
        let what;
        match self.choices.below(12) {
            0..=4 => {
                match self.choices.below(9) {
                    0 => self.change(&mut header.block_map_head),
                    1 => self.change(&mut header.slab_journal_head),
                    2..=3 => self.change(&mut header.sequence),
                    4 => self.change(&mut header.logical_blocks_used),
                    5 => self.change(&mut header.block_map_data_blocks),
                    6 => header.entry_count = self.number(header.entry_count.into()) as u16,
                    7 => header.metadata_type = 1 + self.choices.below(5) as u8,
                    _ => header.recovery_count = self.number(0) as u8,
                }
                header.encode(&mut page);
                what = format!("{header:?}");
            }
            5 => {
                let sector = 1 + self.choices.below(7) as usize;
                let mut head = recovery_journal::SectorHeader::decode(&page, sector);
                match self.choices.below(3) {
                    0 => head.check_byte = self.number(0) as u8,
                    1 => head.recovery_count = self.number(0) as u8,
                    _ => head.entry_count = self.number(head.entry_count.into()) as u8,
                }
                head.encode(&mut page, sector);
                what = format!("sector {sector}: {head:?}");
            }
            6 => {
                // A block at its place, of any sequence, that is all there.
                let count = self.choices.below(u64::from(shape.entries_per_block()) + 1) as u16;
                let by = self.choices.below(3 * layout.journal_blocks);
                header.sequence = header.sequence.wrapping_add(by);
                header.entry_count = count;
                let size = layout.journal_blocks;
                header.check_byte = recovery_journal::check_byte(header.sequence, size);
                let pbn = layout.journal() + recovery_journal::position(header.sequence, size);
                for index in 0..count {
                    let entry = self.entry(&page, index);
                    recovery_journal::put_entry(&mut page, shape, index, &entry);
                }
                recovery_journal::seal(&mut page, shape, &header);
                *toy::block_mut(self.image, pbn) = page;
                return format!("a new {header:?}");
            }
            _ => {
                let all = u64::from(header.entry_count.clamp(1, shape.entries_per_block()));
                let index = self.choices.below(all) as u16;
                let entry = self.entry(&page, index);
                recovery_journal::put_entry(&mut page, shape, index, &entry);
                what = format!("entry {index} of {}: {entry:?}", header.sequence);
            }
        }
        *toy::block_mut(self.image, pbn) = page;
        what
    }

    /// Returns the entry that is there, with something changed.
    fn entry(&mut self, page: &vdo::format::Page, index: u16) -> RecoveryEntry {
        let found = recovery_journal::entry(page, self.toy.journal_shape, index);
        let mut entry = found.unwrap_or(RecoveryEntry {
            operation: Operation::Data,
            page: self.pbn(),
            slot: 0,
            new: Mapping::UNMAPPED,
            old: Mapping::UNMAPPED,
        });
        match self.choices.below(6) {
            0 => entry.page = self.pbn(),
            1 => entry.slot = self.choices.below(1024) as u16,
            2 => entry.new = self.mapping(),
            3 => entry.old = self.mapping(),
            4 => entry.operation = Operation::BlockMap,
            _ => entry.operation = Operation::Data,
        }
        entry
    }

    fn mapping(&mut self) -> Mapping {
        let pbn = match self.choices.below(4) {
            0 => self.choices.below(1 << 36),
            1 => 0,
            _ => self.pbn(),
        };
        let bits = match self.choices.below(3) {
            0 => 1,
            _ => self.choices.below(16) as u8,
        };
        Mapping {
            pbn,
            state: MappingState::from_bits(bits).unwrap_or(MappingState::UNMAPPED),
        }
    }

    fn slab(&mut self) -> u32 {
        self.choices.below(self.toy.layout.slabs.into()) as u32
    }

    fn summary(&mut self) -> String {
        let slab = self.slab();
        let (block, index) = summary::place(slab);
        let pbn = self.toy.layout.summary() + u64::from(block);
        let page = toy::block_mut(self.image, pbn);
        let mut entry = summary::entry(page, index);
        match self.choices.below(5) {
            0 => entry.is_dirty = !entry.is_dirty,
            1 => entry.load_ref_counts = !entry.load_ref_counts,
            2 => entry.fullness_hint = self.choices.below(64) as u8,
            3 => entry.tail_block_offset = self.choices.below(16) as u8,
            _ => {
                let bits = self.choices.below(1 << 16) as u16;
                entry = SummaryEntry::decode(bits.to_le_bytes());
            }
        }
        summary::set_entry(toy::block_mut(self.image, pbn), index, entry);
        format!("slab {slab}: {entry:?}")
    }

    fn slab_journal(&mut self) -> String {
        let depot = self.toy.layout.depot();
        let slab = self.slab();
        let index = self.choices.below(depot.slab.journal_blocks.into()) as u32;
        let pbn = depot.journal_block(slab, index);
        let mut page = *toy::block(self.image, pbn);
        let mut header = slab_journal::Header::decode(&page);
        if self.choices.chance(1, 4) {
            // As if it had been written long after, or long before.
            let turns = self
                .number(0)
                .wrapping_mul(depot.slab.journal_blocks.into());
            header.head = header.head.wrapping_add(turns);
            header.sequence = header.sequence.wrapping_add(turns);
        } else {
            match self.choices.below(8) {
                0..=1 => self.change(&mut header.head),
                2 => self.change(&mut header.sequence),
                3 => self.change(&mut header.recovery_point.sequence),
                4 => header.recovery_point.entry = self.number(0) as u16,
                5 => header.entry_count = self.number(header.entry_count.into()) as u16,
                6 => header.has_block_map_increments = !header.has_block_map_increments,
                _ => {
                    let at = 36 + self.choices.below(3 * 16) as usize;
                    page[at] = self.choices.below(256) as u8;
                }
            }
        }
        header.encode(&mut page);
        *toy::block_mut(self.image, pbn) = page;
        format!("slab {slab}, block {index} of its journal: {header:?}")
    }

    fn references(&mut self) -> String {
        let depot = self.toy.layout.depot();
        let slab = self.slab();
        let pbn = depot.reference_block(slab, 0);
        let sector = self.choices.below(8) as usize * 512;
        if self.choices.chance(1, 2) {
            let page = toy::block(self.image, pbn);
            let old = u64::from_le_bytes(*page[sector..].first_chunk().expect("a sector"));
            let new = match self.choices.chance(1, 2) {
                true => self.number(old),
                false => {
                    let sequence = self.number(1) % MAX_SEQUENCE;
                    JournalPoint::new(sequence, self.choices.below(1 << 16) as u16).pack()
                }
            };
            let page = toy::block_mut(self.image, pbn);
            page[sector..sector + 8].copy_from_slice(&new.to_le_bytes());
            return format!("slab {slab}: the point of byte {sector} is {new:#x}");
        }
        let sbn = self.choices.below(depot.slab.data_blocks.into()) as usize;
        let count = *self.choices.pick(&[0, 1, 2, 253, 254, 255]);
        toy::block_mut(self.image, pbn)[8 + sbn.min(503)] = count;
        format!("slab {slab}: the count of {sbn} is {count}")
    }

    fn page(&mut self) -> String {
        let layout = self.toy.layout;
        let blocks = layout.data_start + 1..layout.depot().last_block();
        let is_page = |pbn: &Pbn| {
            let page = toy::block(self.image, *pbn);
            block_map::validate(page, layout.nonce, *pbn) == Validity::Valid
        };
        let pages: Vec<Pbn> = blocks.filter(is_page).collect();
        if pages.is_empty() {
            return "no page".to_owned();
        }
        let pbn = *self.choices.pick(&pages);
        if self.choices.chance(1, 6) {
            let at = self.choices.below(36) as usize;
            let byte = self.choices.below(256) as u8;
            toy::block_mut(self.image, pbn)[at] = byte;
            return format!("page {pbn}: byte {at} is {byte}");
        }
        let page = toy::block(self.image, pbn);
        let mapped: Vec<u16> = (0..block_map::ENTRIES)
            .filter(|slot| block_map::entry(page, *slot) != Mapping::UNMAPPED)
            .collect();
        let slot = match mapped.is_empty() || self.choices.chance(1, 3) {
            true => self.choices.below(block_map::ENTRIES.into()) as u16,
            false => *self.choices.pick(&mapped),
        };
        // Often another page, or itself.
        let mapping = match self.choices.chance(1, 2) {
            true => Mapping::plain(*self.choices.pick(&pages)),
            false => self.mapping(),
        };
        block_map::set_entry(toy::block_mut(self.image, pbn), slot, mapping);
        format!("page {pbn}: slot {slot} is {mapping:?}")
    }

    fn any_byte(&mut self) -> String {
        let pbn = self.pbn() % (self.image.len() / 4096) as u64;
        let at = self.choices.below(4096) as usize;
        let byte = self.choices.below(256) as u8;
        toy::block_mut(self.image, pbn)[at] = byte;
        format!("block {pbn}: byte {at} is {byte}")
    }
}
