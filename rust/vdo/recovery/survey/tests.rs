// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::recovery::fixture::child;
use crate::recovery::fixture::data;
use crate::recovery::fixture::volume;
use crate::recovery::fixture::Image;
use crate::recovery::fixture::FIRST_DATA;
use crate::recovery::fixture::FULL;
use crate::recovery::fixture::ORIGIN;
use crate::recovery::fixture::SIZE;
use sim::fault::Fault;
use sim::fault::Kind;
use std::string::String;
use std::vec::Vec;

const CORRUPT: Error = Error::Status(Status::CorruptJournal);

fn survey_of(image: &Image) -> (Result<Survey>, Vec<String>) {
    let rig = image.rig();
    let volume = volume();
    let result = rig.run(Survey::new(&*rig.log, &rig.storage, &volume));
    assert_eq!(rig.world.changes(), 0, "a survey writes nothing");
    (result, rig.log.lines())
}

fn survey(image: &Image) -> Result<Survey> {
    survey_of(image).0
}

#[test]
fn an_empty_journal() {
    let (found, lines) = survey_of(&Image::new((1, 1)));
    let found = found.unwrap();
    assert_eq!(found.extent, None);
    assert_eq!((found.entries, found.next), (0, 2));
    assert_eq!(found.counters, volume().counters);
    assert_eq!(lines, ["Finished reading recovery journal"]);
}

#[test]
fn full_blocks_and_one_that_is_not() {
    let mut image = Image::new((3, 2));
    image.fill_all(1..=5).fill(6, 4);
    let (found, lines) = survey_of(&image);
    let found = found.unwrap();
    assert_eq!(
        found.extent,
        Some(Extent {
            highest: 6,
            block_map_head: 3,
            slab_journal_head: 2,
        })
    );
    assert_eq!(found.tail, 6);
    assert_eq!(found.end, JournalPoint::new(6, 4));
    assert_eq!(found.entries, 3 * 7 + 4);
    assert_eq!(found.next, 7);
    assert_eq!(found.counters.logical_blocks_used, 1004);
    assert_eq!(found.counters.block_map_data_blocks, 50);
    assert_eq!(
        lines[1],
        "Highest-numbered recovery journal block has sequence number 6, and the \
         highest-numbered usable block is 6"
    );
}

/// Sequences have 48 bits: what counts as a block of the ring is one that the ring can have.
#[test]
fn a_sequence_that_cannot_be_does_not_count() {
    for sequence in [MAX_SEQUENCE, MAX_SEQUENCE + 6, u64::MAX - 3, u64::MAX] {
        let mut image = Image::new((1, 1));
        image.fill_all(1..=5).fill(sequence, FULL);
        let found = survey(&image).unwrap();
        assert_eq!((found.tail, found.next), (5, 6), "{sequence}");
    }
    // The last one is as any other, but no journal goes on behind it.
    let overflow = Err(Error::Status(Status::JournalOverflow));
    let last = MAX_SEQUENCE - 1;
    let mut image = Image::new((last, last));
    image.fill(last, FULL);
    assert_eq!(survey(&image), overflow);
    let mut image = Image::new((last - 1, last - 1));
    image.fill(last - 1, FULL);
    assert_eq!(survey(&image).unwrap().next, last);
}

/// Entries have no checksum, and a page that is not there is made: it must not be made of a block
/// that belongs to somebody else.
#[test]
fn an_entry_whose_page_can_be_none_is_damage() {
    let depot = volume().depot;
    let roots = volume().roots;
    let child = |page| child(page, 1, FIRST_DATA + 9);
    let good = [
        data(FIRST_DATA, 1, FIRST_DATA + 9),
        child(FIRST_DATA),
        child(roots.start),
    ];
    for entry in good {
        assert!(
            survey(Image::new((1, 1)).put(1, &[entry])).is_ok(),
            "{entry:?}"
        );
    }
    let elsewhere = [
        0,
        2,
        roots.end(),
        ORIGIN,
        depot.reference_block(0, 0),
        depot.journal_block(0, 0),
        depot.last_block(),
        u64::from(u32::MAX),
    ];
    let of_data = elsewhere.map(|page| data(page, 1, FIRST_DATA + 9));
    for entry in elsewhere
        .map(child)
        .into_iter()
        .chain(of_data)
        .chain([data(roots.start, 1, 0)])
    {
        assert_eq!(
            survey(Image::new((1, 1)).put(1, &[entry])),
            Err(CORRUPT),
            "{entry:?}"
        );
    }
}

#[test]
fn what_lies_behind_a_gap_does_not_count() {
    let mut image = Image::new((1, 1));
    image.fill_all([1, 2, 3, 5, 6]);
    let found = survey(&image).unwrap();
    assert_eq!((found.tail, found.end), (3, JournalPoint::new(4, 0)));
    assert_eq!((found.entries, found.next), (21, 7));

    // Nor what lies behind a block that is not full.
    image.fill(4, 2);
    let found = survey(&image).unwrap();
    assert_eq!((found.tail, found.end), (4, JournalPoint::new(4, 2)));
}

#[test]
fn a_torn_block_counts_up_to_the_first_bad_sector() {
    let mut image = Image::new((1, 1));
    image.fill_all(1..=3);
    // The fourth sector is of the turn before.
    image.block(2)[4 * 512] ^= 1;
    let found = survey(&image).unwrap();
    assert_eq!((found.tail, found.end), (2, JournalPoint::new(2, 3)));
    assert_eq!(found.entries, 10);
    assert_eq!(found.next, 4);

    // The header is older than the sectors.
    image.fill(2, 7);
    let header = image.header(2, 5);
    header.encode(image.block(2));
    let found = survey(&image).unwrap();
    assert_eq!(found.end, JournalPoint::new(2, 5));

    // The header is newer than the sectors.
    image.fill(2, 5);
    let header = image.header(2, 7);
    header.encode(image.block(2));
    assert_eq!(survey(&image).unwrap().end, JournalPoint::new(2, 5));

    // No sector is there.
    for sector in 1..8 {
        image.block(2)[sector * 512..][..3].fill(0);
    }
    let found = survey(&image).unwrap();
    assert_eq!((found.tail, found.end), (1, JournalPoint::new(2, 0)));
    assert_eq!(found.counters.logical_blocks_used, 1000);
}

#[test]
fn blocks_of_other_lives_do_not_count() {
    let mut image = Image::new((1, 1));
    image.fill_all(1..=4);
    image.block(3)[52] += 1;
    assert_eq!(survey(&image).unwrap().tail, 2);
    image.fill(3, FULL).block(3)[24] += 1;
    assert_eq!(survey(&image).unwrap().tail, 2);
    // Nor do those before the stored start, where nothing newer is.
    let mut volume = volume();
    volume.journal_start = 5;
    let rig = image.rig();
    let found = rig.run(Survey::new(&*rig.log, &rig.storage, &volume));
    assert_eq!(found.unwrap().extent, None);
}

#[test]
fn what_cannot_be_read_matters_only_where_it_may_count() {
    let mut image = Image::new((3, 2));
    image.fill_all(1..=5).fill(6, 4);
    let expected = survey(&image).unwrap();
    for position in 0..SIZE {
        let rig = image.rig();
        let sector = (ORIGIN + position) * 8;
        rig.world
            .add_fault(Fault::new(0, &[Kind::Read]).sectors(sector..sector + 8));
        let volume = volume();
        let found = rig.run(Survey::new(&*rig.log, &rig.storage, &volume));
        // From the head on to what may be in flight.
        if (2..=6 + MAX_BLOCKS_IN_FLIGHT).contains(&position) {
            assert_eq!(found, Err(Error::Errno(EIO)), "block {position}");
        } else {
            assert_eq!(found, Ok(expected), "block {position}");
        }
    }
    // Where no block is valid, any that cannot be read may be one.
    let rig = Image::new((1, 1)).rig();
    let sector = (ORIGIN + 20) * 8;
    rig.world
        .add_fault(Fault::new(0, &[Kind::Read]).sectors(sector..sector + 8));
    let volume = volume();
    let found = rig.run(Survey::new(&*rig.log, &rig.storage, &volume));
    assert_eq!(found, Err(Error::Errno(EIO)));
}

#[test]
fn the_ring_wraps() {
    let mut image = Image::new((30, 31));
    image.fill_all(20..=40);
    let found = survey(&image).unwrap();
    assert_eq!((found.tail, found.entries), (40, 11 * 7));
}

#[test]
fn a_gap_that_no_crash_makes_is_damage() {
    let mut image = Image::new((1, 1));
    image.fill_all(1..=13);
    image.block(3).fill(0);
    // Block 13 can be in flight together with block 3.
    assert_eq!(survey(&image).unwrap().tail, 2);
    image.fill(14, 1);
    let (result, lines) = survey_of(&image);
    assert_eq!(result, Err(CORRUPT));
    assert_eq!(
        lines[1],
        "Recovery journal block 3 is damaged, although block 14 was written"
    );
    // The first one that is needed is damaged.
    let mut image = Image::new((4, 5));
    image.fill_all(1..=15);
    image.block(4).fill(0);
    assert_eq!(survey(&image), Err(CORRUPT));
}

#[test]
fn a_slab_journal_proves_damage() {
    let mut image = Image::new((1, 1));
    image.fill_all(1..=3).fill(4, 2);
    let rig = image.rig();
    let volume = volume();
    let found = rig
        .run(Survey::new(&*rig.log, &rig.storage, &volume))
        .unwrap();
    let check =
        |sequence, entry| found.check_slab_point(&*rig.log, JournalPoint::new(sequence, entry));
    assert_eq!(check(0, 0), Ok(()));
    assert_eq!(check(4, 3), Ok(()));
    assert_eq!(check(4, 4), Err(CORRUPT));
    assert_eq!(check(5, 0), Err(CORRUPT));

    let rig = Image::new((1, 1)).rig();
    let found = rig
        .run(Survey::new(&*rig.log, &rig.storage, &volume))
        .unwrap();
    assert_eq!(
        found.check_slab_point(&*rig.log, JournalPoint::NONE),
        Ok(())
    );
    let point = JournalPoint::new(1, 0);
    assert_eq!(found.check_slab_point(&*rig.log, point), Err(CORRUPT));
}

#[test]
fn heads_that_fit_nothing() {
    // Behind the tail: what they say was written is nowhere.
    let mut image = Image::new((5, 1));
    image.fill_all([1, 2, 5]);
    assert_eq!(survey(&image), Err(CORRUPT));
    // In the first block that was still in flight: all before it is done with.
    let mut image = Image::new((3, 2));
    image.fill_all([1, 2, 4]);
    let found = survey(&image).unwrap();
    assert_eq!((found.end, found.entries), (JournalPoint::new(3, 0), 0));
    // Behind all blocks.
    let mut image = Image::new((9, 9));
    image.fill_all(1..=3);
    assert_eq!(survey(&image), Err(CORRUPT));
    // Before the ring.
    let mut image = Image::new((1, 1));
    image.fill_all(10..=35);
    assert_eq!(survey(&image), Err(CORRUPT));
}

#[test]
fn without_entries_the_counters_are_those_before() {
    let mut image = Image::new((4, 4));
    image.fill_all(2..=3).fill(4, 0);
    assert_eq!(survey(&image).unwrap().counters.logical_blocks_used, 1000);
    image.fill_all(2..=3).fill(5, 1).block(4).fill(0);
    let found = survey(&image).unwrap();
    assert_eq!((found.entries, found.next), (0, 6));
    assert_eq!(found.counters.logical_blocks_used, 1007);
    image.block(3).fill(0);
    assert_eq!(survey(&image).unwrap().counters, volume().counters);
}

#[test]
fn an_entry_that_makes_no_sense_is_damage() {
    let mut image = Image::new((2, 1));
    image.fill_all(1..=3);
    image.put(2, &[data(FIRST_DATA, 1, FIRST_DATA + 500)]);
    let (result, lines) = survey_of(&image);
    assert_eq!(result, Err(CORRUPT));
    assert_eq!(lines[1], "Invalid entry 0 in recovery journal block 2");
    // Before the head of the block map nobody cares.
    image
        .fill(2, FULL)
        .put(1, &[data(FIRST_DATA, 900, FIRST_DATA); 7]);
    assert_eq!(survey(&image).unwrap().tail, 3);
}

#[test]
fn the_old_format_is_left_to_older_versions() {
    let mut image = Image::new((1, 1));
    image.fill_all(1..=2);
    for sequence in 1..=2 {
        image.block(sequence)[32] = 1;
    }
    assert_eq!(survey(&image), Err(Error::Errno(EINVAL)));
    // Both formats at once are damage.
    image.fill(1, FULL);
    assert_eq!(survey(&image), Err(CORRUPT));
}

#[test]
fn usable_entries_of_real_blocks() {
    let volume = Volume {
        shape: recovery_journal::Shape::STANDARD,
        ..volume()
    };
    let block = |bytes: &[u8; 4096]| {
        let header = Header::decode(bytes);
        (header.sequence, usable_entries(bytes, &header, &volume))
    };
    assert_eq!(
        block(include_bytes!(
            "../../../../tools/testing/vectors/vdo/crash/rj-seq271.bin"
        )),
        (271, 53)
    );
    assert_eq!(
        block(include_bytes!(
            "../../../../tools/testing/vectors/vdo/recovery-case/before/rj-seq2117.bin"
        )),
        (2117, 217)
    );
}
