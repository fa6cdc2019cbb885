// SPDX-License-Identifier: GPL-2.0

//! A sound volume, one thing of it damaged: the checker names the invariant.

use vdo::format::block_map;
use vdo::format::recovery_journal;
use vdo::format::reference;
use vdo::format::slab_journal;
use vdo::format::Lbn;
use vdo::format::Mapping;
use vdo::format::Page;
use vdo::format::Pbn;
use vdo::format::State;
use vdo_check::sample::data;
use vdo_check::sample::varied;
use vdo_check::sample::Sample;
use vdo_check::sample::TOY;
use vdo_check::sample::TOY_SHAPE;
use vdo_check::Check;
use vdo_check::Image;
use vdo_check::Place;
use vdo_check::Report;

fn check(sample: &Sample) -> Report {
    Check::new(&sample.image)
        .toy(TOY_SHAPE)
        .deep()
        .keep_mappings()
        .run()
}

fn clean() -> Sample {
    varied(&TOY, TOY_SHAPE).stop()
}

fn crashed() -> Sample {
    varied(&TOY, TOY_SHAPE).crash()
}

/// What [`varied`] maps.
fn expected() -> Vec<(Lbn, Page)> {
    let mut blocks: Vec<_> = (0..10).map(|lbn| (lbn, data(lbn as u8))).collect();
    blocks.retain(|(lbn, _)| *lbn != 3);
    blocks[3].1 = [0; 4096];
    blocks.extend((10..15).map(|lbn| (lbn, data(77))));
    blocks.extend([(20, [0; 4096]), (21, [0; 4096])]);
    blocks.extend(
        [100, 101, 102, 101]
            .map(data)
            .into_iter()
            .zip(812..)
            .map(|(a, b)| (b, a)),
    );
    blocks.push((99_999, data(9)));
    blocks
}

/// Compares all mappings and data with what was written.
fn assert_content(sample: &Sample, report: &Report) {
    let expected = expected();
    assert_eq!(report.mappings.len(), expected.len());
    for (lbn, data) in expected {
        let mapping = report.mappings[&lbn];
        let found = vdo_check::read_data(&sample.image, mapping).unwrap();
        assert!(*found == data, "data of {lbn}");
    }
}

#[test]
fn a_sound_volume() {
    let sample = clean();
    let report = check(&sample);
    assert_eq!(report.findings, []);
    assert_content(&sample, &report);
    assert_eq!(report.usage.logical_blocks, 21);
    assert_eq!(report.usage.zero_blocks, 3);
    assert_eq!(report.usage.compressed_fragments, 4);
    assert_eq!(report.recovery, None);
}

#[test]
fn a_crashed_volume_is_recovered_in_memory() {
    let sample = crashed();
    let report = check(&sample);
    assert_eq!(report.findings, []);
    assert_content(&sample, &report);
    let recovery = report.recovery.unwrap();
    assert_eq!(recovery.block_map_head, 1);
    assert_eq!(recovery.highest, recovery.tail);
    let stopped = clean().super_block;
    let recovered = recovery.super_block;
    assert_eq!(recovered.logical_blocks_used, stopped.logical_blocks_used);
    assert_eq!(
        recovered.block_map_data_blocks,
        stopped.block_map_data_blocks
    );
    assert_eq!(recovered.journal_start, stopped.journal_start);
    assert_eq!(recovered.complete_recoveries, 1);
}

#[test]
fn a_volume_that_was_never_used() {
    let sample = Sample::format(&TOY, TOY_SHAPE);
    assert_eq!(check(&sample).findings, []);
}

/// A formatted volume of ordinary size passes without being called a toy.
#[test]
fn ordinary_sizes() {
    let parameters = vdo::format::layout::Parameters {
        physical_blocks: 100_000,
        slab_blocks: 8192,
        slab_journal_blocks: 224,
        recovery_journal_blocks: 32_768,
        roots: 60,
        ..TOY
    };
    let sample = varied(&parameters, vdo_check::Shape::STANDARD).stop();
    let report = Check::new(&sample.image).deep().run();
    assert_eq!(report.findings, []);
    let sample = varied(&parameters, vdo_check::Shape::STANDARD).crash();
    let report = Check::new(&sample.image).deep().run();
    assert_eq!(report.findings, []);
}

/// Returns the findings as people see them.
fn list(report: &Report) -> String {
    let lines = report.findings.iter().map(ToString::to_string);
    lines.collect::<Vec<_>>().join("\n")
}

/// Damages a clean volume and returns what is found.
fn damaged(damage: impl FnOnce(&mut Sample)) -> Report {
    let mut sample = clean();
    damage(&mut sample);
    check(&sample)
}

/// Asserts that the damage breaks this invariant, and only those others.
fn breaks(invariant: u8, others: &[u8], damage: impl FnOnce(&mut Sample)) {
    let report = damaged(damage);
    let broken = report.broken();
    assert!(broken.contains(&invariant), "{}", list(&report));
    for found in broken {
        let known = found == invariant || others.contains(&found);
        assert!(known, "also {found}: {}", list(&report));
    }
}

/// Changes the super block, and gives it a good checksum.
fn super_block(sample: &mut Sample, change: impl FnOnce(&mut vdo::format::SuperBlock)) {
    change(&mut sample.super_block);
    sample.write_super_block();
}

/// Returns where a logical block is stored.
fn stored(lbn: Lbn) -> Pbn {
    check(&clean()).mappings[&lbn].pbn
}

/// Returns the pages from the root to the leaf of a logical block.
fn pages(sample: &Sample, lbn: Lbn) -> Vec<(Pbn, u16)> {
    let super_block = &sample.super_block;
    let forest = vdo::format::tree::Forest::new(super_block.root_count, 1 << 30).unwrap();
    let (number, slot) = vdo::format::tree::leaf(lbn);
    let path = forest.path(number);
    let mut pbn = super_block.root_origin + u64::from(path.tree);
    let mut found = Vec::new();
    for height in (1..5).rev() {
        found.push((pbn, path.slot(height)));
        let mut page = [0; 4096];
        sample.image.read_block(pbn, &mut page).unwrap();
        pbn = block_map::entry(&page, path.slot(height)).pbn;
    }
    found.push((pbn, slot));
    found
}

fn leaf(sample: &mut Sample, lbn: Lbn) -> (&mut Page, u16) {
    let (pbn, slot) = *pages(sample, lbn).last().unwrap();
    (sample.image.page_mut(pbn), slot)
}

#[test]
fn geometry() {
    breaks(1, &[], |sample| sample.image.page_mut(0)[40] ^= 1);
    breaks(1, &[], |sample| *sample.image.page_mut(0) = [0; 4096]);
    breaks(1, &[], |sample| {
        sample.geometry.sparse = 2;
        sample.geometry.encode(sample.image.page_mut(0));
    });
}

#[test]
fn super_block_fields() {
    breaks(2, &[], |sample| {
        super_block(sample, |block| block.nonce += 1)
    });
    breaks(2, &[], |sample| {
        let at = sample.geometry.data_start;
        sample.image.page_mut(at)[434] ^= 1;
    });
    breaks(3, &[], |sample| {
        super_block(sample, |block| block.logical_blocks = 0);
    });
    breaks(3, &[4], |sample| {
        super_block(sample, |block| block.physical_blocks += 1);
    });
    breaks(4, &[], |sample| {
        super_block(sample, |block| block.partitions.summary.start -= 1);
    });
    breaks(5, &[], |sample| {
        super_block(sample, |block| block.last_block -= 32);
    });
    breaks(5, &[], |sample| {
        super_block(sample, |block| block.depot.slab.data_blocks -= 1);
    });
    breaks(6, &[], |sample| {
        super_block(sample, |block| block.root_origin += 1);
    });
    breaks(7, &[], |sample| {
        super_block(sample, |block| block.journal_start = 0);
    });
}

#[test]
fn pages_of_the_block_map() {
    breaks(8, &[15, 16, 17, 33, 35], |sample| {
        let root = sample.super_block.root_origin;
        sample.image.page_mut(root)[16] ^= 1;
    });
    breaks(10, &[15, 17, 33, 35], |sample| {
        let (pbn, _) = pages(sample, 5)[4];
        sample.image.page_mut(pbn)[16] ^= 1;
    });
    // Two slots name one page.
    breaks(9, &[], |sample| {
        let (pbn, slot) = pages(sample, 5)[3];
        let page = sample.image.page_mut(pbn);
        let child = block_map::entry(page, slot);
        block_map::set_entry(page, slot + 1, child);
    });
    // A child that a tree of this size cannot have.
    breaks(9, &[], |sample| {
        let (pbn, slot) = pages(sample, 5)[3];
        let page = sample.image.page_mut(pbn);
        block_map::set_entry(page, slot + 700, Mapping::plain(stored(5)));
    });
    breaks(9, &[], |sample| {
        let (pbn, slot) = pages(sample, 5)[3];
        let page = sample.image.page_mut(pbn);
        block_map::set_entry(page, slot + 1, Mapping::plain(4));
    });
}

#[test]
fn leaf_entries() {
    let change = |lbn: Lbn, mapping: Mapping| {
        move |sample: &mut Sample| {
            let (page, slot) = leaf(sample, lbn);
            block_map::set_entry(page, slot, mapping);
        }
    };
    let outside = Mapping::plain(4);
    breaks(11, &[17, 35], change(5, outside));
    let nowhere = Mapping::fragment(0, 3).unwrap();
    breaks(11, &[17, 35], change(5, nowhere));
    let unmapped = Mapping {
        pbn: stored(5),
        ..Mapping::UNMAPPED
    };
    breaks(12, &[15, 17, 35], change(5, unmapped));
    // A page of the block map is no place for data.
    let page = Mapping::plain(pages(&clean(), 5)[4].0);
    breaks(11, &[17, 35], change(5, page));
    // Behind the last logical block.
    breaks(11, &[], |sample| {
        let (page, slot) = leaf(sample, 99_999);
        block_map::set_entry(page, slot + 1, Mapping::ZERO);
    });
    breaks(15, &[17, 35], change(5, Mapping::UNMAPPED));
    breaks(15, &[], change(20, Mapping::UNMAPPED));
}

#[test]
fn compressed_blocks() {
    let packed = stored(812);
    breaks(13, &[17, 35], |sample| {
        let (page, slot) = leaf(sample, 5);
        block_map::set_entry(page, slot, Mapping::plain(packed));
    });
    breaks(14, &[], |sample| sample.image.page_mut(packed)[0] = 2);
    breaks(14, &[], |sample| sample.image.page_mut(packed)[9] = 0xff);
    breaks(14, &[17], |sample| {
        let (page, slot) = leaf(sample, 812);
        let missing = Mapping::fragment(packed, 9).unwrap();
        block_map::set_entry(page, slot, missing);
    });
    let report = damaged(|sample| sample.image.page_mut(packed)[0] = 2);
    assert_eq!(report.findings[0].place, Place::Block(packed));
    assert_eq!(report.findings[0].owners, [812, 813, 814, 815]);
}

#[test]
fn counters() {
    breaks(15, &[], |sample| {
        super_block(sample, |block| block.logical_blocks_used += 1);
    });
    breaks(16, &[], |sample| {
        super_block(sample, |block| block.block_map_data_blocks -= 1);
    });
}

/// Changes the count of a block by hand.
fn set_count(sample: &mut Sample, pbn: Pbn, count: u8) {
    let depot = sample.super_block.depot;
    let (slab, sbn) = depot.slab_of(pbn).unwrap();
    let (block, sector, index) = reference::place(sbn);
    let page = sample.image.page_mut(depot.reference_block(slab, block));
    page[sector * 512 + 8 + index] = count;
}

#[test]
fn counts() {
    let plain = stored(5);
    breaks(17, &[], |sample| set_count(sample, plain, 2));
    breaks(17, &[35], |sample| set_count(sample, plain, 0));
    let page = pages(&clean(), 5)[4].0;
    breaks(17, &[], |sample| set_count(sample, page, 1));
    breaks(20, &[], |sample| {
        let depot = sample.super_block.depot;
        sample.image.page_mut(depot.reference_block(0, 0))[8 + 23] = 1;
    });
    let report = damaged(|sample| set_count(sample, plain, 2));
    assert_eq!(report.findings[0].place, Place::Block(plain));
    assert_eq!(report.findings[0].owners, [5]);

    // Free blocks may be provisional where nothing was saved; on a clean volume it is odd.
    let free = clean().super_block.depot.pbn(1, 22);
    let report = damaged(|sample| set_count(sample, free, 255));
    assert!(report.is_sound());
    assert_eq!(report.findings[0].invariant, 18);
}

#[test]
fn a_slab_that_was_never_used() {
    breaks(19, &[27, 35], |sample| {
        sample.change_summary(0, |entry| {
            entry.load_ref_counts = false;
            entry.tail_block_offset = 0;
        });
    });
}

#[test]
fn commit_points() {
    breaks(21, &[], |sample| {
        let block = sample.super_block.depot.reference_block(0, 0);
        sample.image.page_mut(block)[512 * 3] ^= 1;
    });
    breaks(21, &[], |sample| {
        let block = sample.super_block.depot.reference_block(0, 0);
        for sector in 0..8 {
            sample.image.page_mut(block)[512 * sector + 2] = 77;
        }
    });
}

/// Changes a block of the journal of slab 0.
fn slab_journal_block(
    sample: &mut Sample,
    sequence: u64,
    change: impl FnOnce(&mut slab_journal::Header, &mut Page),
) {
    let pbn = sample.super_block.depot.journal_block(0, sequence as u32);
    let page = sample.image.page_mut(pbn);
    let mut header = slab_journal::Header::decode(page);
    change(&mut header, page);
    header.encode(page);
}

#[test]
fn slab_journals() {
    breaks(22, &[], |sample| {
        sample.change_summary(0, |entry| entry.tail_block_offset = 7);
    });
    breaks(22, &[], |sample| {
        let last = last_slab_block(sample);
        slab_journal_block(sample, last, |header, _| header.nonce += 1);
    });
    breaks(23, &[], |sample| {
        slab_journal_block(sample, 1, |header, _| header.sequence = 5);
    });
    breaks(23, &[], |sample| {
        let last = last_slab_block(sample);
        slab_journal_block(sample, last, |header, _| header.head = 9);
    });
    // Other changes than those that were journaled; the counts were written in time.
    breaks(36, &[], |sample| {
        slab_journal_block(sample, 1, |_, page| page[36 + 3 * 7] ^= 1);
    });
    breaks(36, &[], |sample| {
        slab_journal_block(sample, 2, |header, _| header.entry_count -= 1);
    });
    breaks(24, &[36], |sample| {
        slab_journal_block(sample, 1, |header, _| header.entry_count = 14);
    });
    breaks(24, &[36], |sample| {
        slab_journal_block(sample, 1, |_, page| page[36] = 31);
    });
    breaks(25, &[36], |sample| {
        slab_journal_block(sample, 1, |header, _| header.recovery_point.sequence = 99);
    });
    // The first entry allocates a page of the block map; a second one like it cannot.
    breaks(26, &[17, 35, 36], |sample| {
        let depot = sample.super_block.depot;
        sample.change_summary(0, |entry| entry.is_dirty = true);
        let page = sample.image.page_mut(depot.reference_block(0, 0));
        reference::encode(page, &[0; 23], Default::default());
        slab_journal_block(sample, 1, |_, page| page[39] = page[36]);
    });
}

fn last_slab_block(sample: &mut Sample) -> u64 {
    let mut offset = 0;
    sample.change_summary(0, |entry| offset = entry.tail_block_offset);
    u64::from(offset) - 1
}

/// A slab whose journal is ahead of its counts: all of it is applied.
#[test]
fn counts_from_the_journal() {
    let report = damaged(|sample| {
        let depot = sample.super_block.depot;
        for slab in 0..2 {
            sample.change_summary(slab, |entry| {
                entry.is_dirty = true;
                entry.load_ref_counts = slab == 0;
            });
        }
        let page = sample.image.page_mut(depot.reference_block(0, 0));
        reference::encode(page, &[0; 23], Default::default());
    });
    assert!(report.is_sound(), "{}", list(&report));
}

#[test]
fn hints() {
    breaks(27, &[], |sample| {
        sample.change_summary(0, |entry| entry.fullness_hint = 44);
    });
    let report = damaged(|sample| {
        sample.change_summary(1, |entry| entry.fullness_hint += 1);
    });
    assert!(report.is_sound());
    assert_eq!(report.findings[0].invariant, 27);
    // Blocks that could not be written stay provisional until the next start.
    let report = damaged(|sample| {
        for sbn in 18..23 {
            let pbn = sample.super_block.depot.pbn(1, sbn);
            set_count(sample, pbn, 255);
        }
        sample.change_summary(1, |entry| entry.fullness_hint -= 5);
    });
    assert!(report.is_sound(), "{}", list(&report));
    let report = damaged(|sample| {
        sample.change_summary(100, |entry| entry.is_dirty = true);
    });
    assert!(report.is_sound());
    assert_eq!(report.findings[0].invariant, 28);
}

/// Changes a block of the recovery journal.
fn journal_block(
    sample: &mut Sample,
    sequence: u64,
    change: impl FnOnce(&mut recovery_journal::Header, &mut Page),
) {
    let page = sample.journal_block(sequence);
    let mut header = recovery_journal::Header::decode(page);
    change(&mut header, page);
    header.encode(page);
}

#[test]
fn recovery_journal() {
    breaks(29, &[25, 32], |sample| {
        super_block(sample, |block| block.journal_start = 2);
    });
    breaks(30, &[], |sample| {
        journal_block(sample, 1, |header, _| header.sequence = 2);
    });
    breaks(30, &[], |sample| {
        journal_block(sample, 1, |_, page| page[512] ^= 1)
    });
    breaks(30, &[], |sample| {
        journal_block(sample, 1, |_, page| page[514] -= 1)
    });
    breaks(30, &[], |sample| {
        journal_block(sample, 1, |header, _| header.check_byte = 0x81);
    });
    breaks(31, &[], |sample| {
        journal_block(sample, 1, |header, _| header.block_map_head = 2);
    });
    breaks(32, &[], |sample| {
        journal_block(sample, 2, |header, _| header.logical_blocks_used += 1);
    });
    breaks(33, &[32], |sample| {
        journal_block(sample, 1, |_, page| page[512 + 3 + 6] = 0);
    });
    // An entry about another page, which is data.
    let data = stored(5);
    breaks(33, &[], |sample| {
        journal_block(sample, 1, |_, page| {
            page[512 * 2 + 3 + 2..][..4].copy_from_slice(&(data as u32).to_le_bytes());
        });
    });
}

#[test]
fn a_crashed_journal() {
    let crash = |damage: &dyn Fn(&mut Sample)| {
        let mut sample = crashed();
        damage(&mut sample);
        check(&sample)
    };
    // The heads are behind a hole.
    let report = crash(&|sample| {
        journal_block(sample, 2, |header, _| {
            header.block_map_head = 2;
            header.slab_journal_head = 2;
            header.nonce += 1;
        });
        let page = *sample.journal_block(2);
        let position = sample.super_block.partitions.journal.start + 3;
        sample.image.write(position, &page);
        journal_block(sample, 3, |header, _| {
            header.nonce -= 1;
            header.sequence = 3;
            header.block_map_head = 3;
            header.slab_journal_head = 2;
        });
    });
    assert_eq!(report.broken(), [34], "{}", list(&report));
    assert!(report.recovery.is_none());

    // A torn tail is what crashes leave.
    let report = crash(&|sample| {
        journal_block(sample, 2, |_, page| page[512 * 3..].fill(0));
    });
    assert!(report.is_sound(), "{}", list(&report));
    let recovery = report.recovery.unwrap();
    assert_eq!(recovery.tail, 2);
    assert_eq!(recovery.entries, 21 + 6);

    // A block that never came to the disk ends the journal, here before it begins. The next one
    // starts behind all that is there.
    let report = crash(&|sample| sample.journal_block(1).fill(0));
    assert!(report.is_sound(), "{}", list(&report));
    let recovery = report.recovery.unwrap();
    assert_eq!((recovery.tail, recovery.highest), (1, 2));
    assert_eq!(recovery.super_block.journal_start, 3);
    assert!(report.mappings.is_empty());
}

#[test]
fn other_states() {
    for state in [State::ReadOnly, State::ForceRebuild] {
        let report = damaged(|sample| {
            super_block(sample, |block| block.state = state);
            set_count(sample, 400, 7);
        });
        assert!(report.is_sound(), "{}", list(&report));
    }
    let report = damaged(|sample| super_block(sample, |block| block.state = State::Recovering));
    assert_eq!(report.findings, []);
}
