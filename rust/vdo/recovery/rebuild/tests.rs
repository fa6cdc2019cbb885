// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::error::Error;
use crate::format::block_map;
use crate::format::metadata_type;
use crate::format::Mapping;
use crate::recovery::fixture::child;
use crate::recovery::fixture::data;
use crate::recovery::fixture::volume;
use crate::recovery::fixture::Image;
use crate::recovery::fixture::Rig;
use crate::recovery::fixture::FIRST_DATA;
use crate::recovery::fixture::FULL;
use crate::recovery::fixture::NONCE;
use crate::recovery::fixture::ORIGIN;
use kernel::prelude::EIO;
use sim::fault::Fault;
use sim::fault::Kind;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::vec::Vec;

const ROOT: Pbn = 3;
/// Pages of tree 0, by height 3 to 0; leaf page 0, then leaf page 2.
const H3: Pbn = FIRST_DATA;
const H2: Pbn = FIRST_DATA + 1;
const H1: Pbn = FIRST_DATA + 2;
const LEAF: Pbn = FIRST_DATA + 3;
const OTHER_LEAF: Pbn = FIRST_DATA + 4;
const DATA: Pbn = FIRST_DATA + 20;
/// Three leaf pages, of which the last one has 100 entries.
const LOGICAL_BLOCKS: u64 = 2 * 812 + 100;

/// Counts in memory; data blocks take two references.
#[derive(Default)]
struct Counted {
    counts: Mutex<BTreeMap<Pbn, u8>>,
    finished: Mutex<bool>,
}

impl Counts for Counted {
    fn refer_to_page(&self, pbn: Pbn) -> Result<bool> {
        let mut counts = self.counts.lock().unwrap();
        let is_new = !counts.contains_key(&pbn);
        counts.entry(pbn).or_insert(254);
        Ok(is_new)
    }

    fn refer_to_data(&self, pbn: Pbn) -> Result<bool> {
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(pbn).or_insert(0);
        let fits = *count < 2;
        *count += u8::from(fits);
        Ok(fits)
    }

    async fn finish_rebuild(&self) -> Result {
        *self.finished.lock().unwrap() = true;
        Ok(())
    }
}

fn put_page(image: &mut Image, pbn: Pbn, entries: &[(u16, Mapping)]) {
    let page = image.page(pbn);
    block_map::format_page(page, NONCE, pbn);
    block_map::set_initialized(page, true);
    for &(slot, mapping) in entries {
        block_map::set_entry(page, slot, mapping);
    }
}

/// A volume with two trees; tree 0 has leaf pages 0 and 2.
fn image() -> Image {
    let mut image = Image::new((1, 1));
    put_page(&mut image, ROOT, &[(0, Mapping::plain(H3))]);
    put_page(&mut image, H3, &[(0, Mapping::plain(H2))]);
    put_page(&mut image, H2, &[(0, Mapping::plain(H1))]);
    let leaves = [(0, Mapping::plain(LEAF)), (1, Mapping::plain(OTHER_LEAF))];
    put_page(&mut image, H1, &leaves);
    let mappings = [
        (0, Mapping::plain(DATA)),
        (1, Mapping::ZERO),
        (2, Mapping::plain(DATA)),
    ];
    put_page(&mut image, LEAF, &mappings);
    let mappings = [(99, Mapping::plain(DATA + 1))];
    put_page(&mut image, OTHER_LEAF, &mappings);
    image
}

struct Done {
    rig: Rig,
    next: Sequence,
    counters: Counters,
    counts: BTreeMap<Pbn, u8>,
}

impl Done {
    fn mapping(&self, pbn: Pbn, slot: u16) -> Mapping {
        block_map::entry(&self.rig.page(pbn), slot)
    }
}

fn found() -> SuperBlock {
    let block =
        include_bytes!("../../../../tools/testing/vectors/vdo/states/super-force-rebuild.bin");
    let mut found = SuperBlock::decode(block).unwrap();
    found.root_origin = ROOT;
    found.root_count = 2;
    found.logical_blocks = LOGICAL_BLOCKS;
    found
}

fn attempt(rig: &Rig, counts: &Counted) -> Result<(Sequence, Counters)> {
    let (volume, found) = (volume(), found());
    rig.run(rebuild(&*rig.log, &rig.storage, &volume, &found, counts))
}

fn rebuilt(image: &Image) -> Done {
    rebuilt_on(image.rig())
}

fn rebuilt_on(rig: Rig) -> Done {
    let counts = Counted::default();
    let (next, counters) = attempt(&rig, &counts).unwrap();
    assert!(*counts.finished.lock().unwrap());
    let counts = counts.counts.into_inner().unwrap();
    Done {
        rig,
        next,
        counters,
        counts,
    }
}

fn used(logical_blocks_used: u64, block_map_data_blocks: u64) -> Counters {
    Counters {
        logical_blocks_used,
        block_map_data_blocks,
    }
}

#[test]
fn a_sound_volume_is_counted_and_not_changed() {
    let image = image();
    let done = rebuilt(&image);
    assert_eq!(done.counters, used(4, 5));
    assert_eq!(done.next, 2);
    assert_eq!(done.rig.world.images()[0], image.bytes);
    let expected = [
        (H3, 254),
        (H2, 254),
        (H1, 254),
        (LEAF, 254),
        (OTHER_LEAF, 254),
        (DATA, 2),
        (DATA + 1, 1),
    ];
    assert_eq!(done.counts, expected.into());
    assert_eq!(
        done.rig.log.lines(),
        ["Finished reading recovery journal", "Saving rebuilt state"]
    );
}

#[test]
fn leaf_entries_that_make_no_sense_are_cleared() {
    let mut image = image();
    let bad = [
        // Too many references to one block.
        (3, Mapping::plain(DATA)),
        // A tree page, the journal, nowhere, a fragment of nothing.
        (4, Mapping::plain(H2)),
        (5, Mapping::plain(12)),
        (6, Mapping::plain(1 << 30)),
        (7, Mapping::fragment(0, 3).unwrap()),
    ];
    for (slot, mapping) in bad {
        block_map::set_entry(image.page(LEAF), slot, mapping);
    }
    // Behind the logical size.
    block_map::set_entry(image.page(OTHER_LEAF), 100, Mapping::ZERO);
    let done = rebuilt(&image);
    assert_eq!(done.counters, used(4, 5));
    for (slot, _) in bad {
        assert_eq!(done.mapping(LEAF, slot), Mapping::UNMAPPED);
    }
    assert_eq!(done.mapping(LEAF, 2), Mapping::plain(DATA));
    assert_eq!(done.mapping(OTHER_LEAF, 99), Mapping::plain(DATA + 1));
    assert_eq!(done.mapping(OTHER_LEAF, 100), Mapping::UNMAPPED);
}

#[test]
fn interior_entries_that_make_no_sense_are_cleared() {
    let mut image = image();
    let bad = [
        // In use already, behind the logical size, no data block, a fragment.
        (H3, 5, Mapping::plain(FIRST_DATA + 9)),
        (H1, 2, Mapping::plain(FIRST_DATA + 10)),
        (ROOT, 7, Mapping::plain(FIRST_DATA + 11)),
        (ROOT + 1, 0, Mapping::plain(12)),
        (ROOT + 1, 1, Mapping::fragment(FIRST_DATA + 12, 0).unwrap()),
    ];
    put_page(&mut image, ROOT + 1, &[]);
    for (page, slot, mapping) in bad {
        block_map::set_entry(image.page(page), slot, mapping);
    }
    // A page that two entries name stays with one of them.
    block_map::set_entry(image.page(ROOT + 1), 0, Mapping::plain(H3));
    let done = rebuilt(&image);
    for (page, slot, _) in &bad[..3] {
        assert_eq!(done.mapping(*page, *slot), Mapping::UNMAPPED);
    }
    assert_eq!(done.mapping(ROOT + 1, 1), Mapping::UNMAPPED);
    let owners = [done.mapping(ROOT, 0), done.mapping(ROOT + 1, 0)];
    assert!(owners.contains(&Mapping::plain(H3)) && owners.contains(&Mapping::UNMAPPED));
    // In tree 1, the second leaf page is behind the logical size.
    assert!([4, 5].contains(&done.counters.block_map_data_blocks));
}

#[test]
fn data_gives_way_to_pages() {
    let mut image = image();
    // Leaf page 0 names leaf page 2 as data, which is walked later.
    block_map::set_entry(image.page(LEAF), 10, Mapping::plain(OTHER_LEAF));
    let done = rebuilt(&image);
    assert_eq!(done.mapping(LEAF, 10), Mapping::UNMAPPED);
    assert_eq!(done.mapping(H1, 1), Mapping::plain(OTHER_LEAF));
    assert_eq!(done.counts[&OTHER_LEAF], 254);
}

#[test]
fn pages_of_other_places_become_empty() {
    let mut image = image();
    image.page(OTHER_LEAF)[16] ^= 1;
    let done = rebuilt(&image);
    assert_eq!(done.counters, used(3, 5));
    let page = done.rig.page(OTHER_LEAF);
    let validity = block_map::validate(&page, NONCE, OTHER_LEAF);
    assert_eq!(validity, block_map::Validity::Invalid);
    assert_eq!(done.mapping(H1, 1), Mapping::plain(OTHER_LEAF));
}

#[test]
fn the_journal_counts_gaps_or_not() {
    let mut image = image();
    let new = FIRST_DATA + 40;
    image.put(1, &[data(LEAF, 20, new); 7]);
    // Block 2 is missing; block 3 has a torn sector, and entries that make no sense.
    let mut third: Vec<_> = (0..7)
        .map(|n| data(LEAF, 30 + n, new + 10 + u64::from(n)))
        .collect();
    third[1] = data(LEAF, 900, new);
    third[2] = data(LEAF, 32, 12);
    image.put(3, &third);
    image.block(3)[4 * 512] ^= 1;
    // Block 4 has a page that was never written.
    image.put(
        4,
        &[child(H1, 1, OTHER_LEAF), data(OTHER_LEAF, 5, new + 30)],
    );
    image.page(OTHER_LEAF).fill(0x5A);
    let done = rebuilt(&image);
    assert_eq!(done.next, 5);
    assert_eq!(done.mapping(LEAF, 20), Mapping::plain(new));
    assert_eq!(done.mapping(LEAF, 30), Mapping::plain(new + 10));
    assert_eq!(done.mapping(LEAF, 32), Mapping::UNMAPPED);
    assert_eq!(done.mapping(LEAF, 33), Mapping::UNMAPPED);
    assert_eq!(done.mapping(LEAF, 34), Mapping::plain(new + 14));
    assert_eq!(done.mapping(OTHER_LEAF, 5), Mapping::plain(new + 30));
    assert_eq!(done.mapping(OTHER_LEAF, 99), Mapping::UNMAPPED);
    let page = done.rig.page(OTHER_LEAF);
    let validity = block_map::validate(&page, NONCE, OTHER_LEAF);
    assert_eq!(validity, block_map::Validity::Valid);
    // 4 less the one of the lost page, and 1 + 4 + 1 new ones.
    assert_eq!(done.counters, used(9, 5));
    assert_eq!(
        done.rig.log.lines()[1],
        "Replaying 13 recovery entries into block map"
    );
}

/// What cannot be read may be read the next time.
#[test]
fn a_page_that_cannot_be_read_ends_the_rebuild_and_is_not_lost() {
    let mut image = image();
    image.put(1, &[data(LEAF, 20, FIRST_DATA + 40)]);
    for page in [ROOT, H2, LEAF, OTHER_LEAF] {
        let rig = image.rig();
        rig.world.add_fault(unreadable(page));
        let counts = Counted::default();
        assert_eq!(attempt(&rig, &counts), Err(Error::Errno(EIO)));
        assert!(!*counts.finished.lock().unwrap());
        assert!(rig.log.lines().contains(&std::format!(
            "Completing read vio of type 3 for physical block {page} with error: Input/output \
             error (-5)"
        )));
        rig.world.clear_faults();
        let done = rebuilt_on(rig);
        assert_eq!(done.mapping(LEAF, 0), Mapping::plain(DATA));
        assert_eq!(done.mapping(LEAF, 20), Mapping::plain(FIRST_DATA + 40));
        assert_eq!(done.mapping(OTHER_LEAF, 99), Mapping::plain(DATA + 1));
        assert_eq!(done.counters, used(5, 5));
    }
}

/// After a rebuild its journal is void, so nothing of it may be missed.
#[test]
fn a_journal_that_cannot_be_read_ends_the_rebuild() {
    let mut image = image();
    image.put(1, &[data(LEAF, 20, FIRST_DATA + 40); 7]);
    image.put(2, &[data(LEAF, 21, FIRST_DATA + 41)]);
    for (sequence, needed) in [(1, true), (2, true), (3, true), (31, false)] {
        let rig = image.rig();
        rig.world.add_fault(unreadable(ORIGIN + sequence));
        if needed {
            let before = rig.world.changes();
            let result = attempt(&rig, &Counted::default());
            assert_eq!(result, Err(Error::Errno(EIO)), "block {sequence}");
            assert_eq!(rig.world.changes(), before);
        } else {
            let done = rebuilt_on(rig);
            assert_eq!(done.mapping(LEAF, 21), Mapping::plain(FIRST_DATA + 41));
        }
    }
}

fn unreadable(pbn: Pbn) -> Fault {
    Fault::new(0, &[Kind::Read]).sectors(pbn * 8..(pbn + 1) * 8)
}

#[test]
fn the_old_format_is_understood() {
    let mut image = image();
    // A block of the other format than the last one's does not count.
    image.fill(1, FULL);
    let mut header = image.header(2, 3);
    header.metadata_type = metadata_type::RECOVERY_JOURNAL_OLD;
    let new = FIRST_DATA + 40;
    let page = image.block(2);
    page.fill(0);
    header.encode(page);
    page[512..515].copy_from_slice(&[header.check_byte, header.recovery_count, 3]);
    for (index, (operation, entry)) in [
        (1, data(LEAF, 50, new)),
        (0, data(LEAF, 0, DATA)),
        (1, data(LEAF, 51, new + 1)),
    ]
    .iter()
    .enumerate()
    {
        let at = 515 + index * 11;
        let bytes = entry.encode();
        page[at..at + 11].copy_from_slice(&bytes[..11]);
        page[at] = (page[at] & !3) | operation;
    }
    let done = rebuilt(&image);
    assert_eq!(done.rig.page(20), [0; 4096]);
    assert_eq!(done.mapping(LEAF, 50), Mapping::plain(new));
    assert_eq!(done.mapping(LEAF, 51), Mapping::plain(new + 1));
    assert_eq!(done.mapping(LEAF, 0), Mapping::plain(DATA));
    assert_eq!(done.counters, used(6, 5));
}
