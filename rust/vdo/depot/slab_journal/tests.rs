// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::depot::holds::Hold;
use crate::depot::holds::Holds;
use crate::format::Page;
use runtime::disk::Disk;
use sim::disk::SimDisk;
use sim::world::World;

type BufferOf = <SimDisk as Disk>::Buffer;

const SHAPE: Shape = Shape { full: 3, data: 5 };

fn disk() -> SimDisk {
    World::new(0).add_disk("disk", std::vec![0; 4096])
}

fn journal(head: Sequence, tail: Sequence) -> SlabJournal<BufferOf> {
    let mut journal = SlabJournal::new(head, tail, JournalPoint::NONE, 99);
    journal.set_page(disk().buffer(1).unwrap());
    journal
}

fn config() -> SlabConfig {
    SlabConfig::new(64, 8).unwrap()
}

fn push(journal: &mut SlabJournal<BufferOf>, change: Change, sequence: Sequence) -> JournalPoint {
    let point = JournalPoint::new(sequence, 4);
    journal.push(SHAPE, 7, change, point).unwrap()
}

/// The block under construction holds `sequence`; returns whether it is to be sealed.
fn hold(journal: &mut SlabJournal<BufferOf>, sequence: Sequence) -> bool {
    let hold = Hold {
        sequence,
        slab: 0,
        block: journal.tail(),
    };
    journal.hold(Holds::new(1).unwrap().take(hold).unwrap())
}

fn header(closed: &Closed<BufferOf>) -> Header {
    let page: &Page = closed.page.as_ref().unwrap().page(0).unwrap();
    Header::decode(page)
}

#[test]
fn a_full_block_is_followed_at_once() {
    let mut journal = journal(2, 2);
    for index in 0..5 {
        assert!(!journal.must_close(SHAPE, Change::Increment));
        let point = push(&mut journal, Change::Increment, 10 + u64::from(index));
        assert_eq!(point, JournalPoint::new(2, index));
    }
    assert!(journal.is_full(SHAPE) && journal.must_close(SHAPE, Change::Decrement));
    assert!(journal.close(6, disk().buffer(1).unwrap()).is_err());
    assert!(!hold(&mut journal, 10));
    let closed = journal.close(6, disk().buffer(1).unwrap()).unwrap();
    let found = header(&closed);
    assert_eq!((found.head, found.sequence, found.entry_count), (2, 2, 5));
    assert_eq!(found.recovery_point, JournalPoint::new(14, 4));
    assert!(closed.held.is_some());
    assert_eq!(
        push(&mut journal, Change::Increment, 15),
        JournalPoint::new(3, 0)
    );
    assert!(!journal.is_settled());
}

#[test]
fn a_page_of_the_block_map_closes_a_block_early() {
    let mut journal = journal(1, 1);
    for sequence in 1..=3 {
        push(&mut journal, Change::Increment, sequence);
    }
    assert!(journal.must_close(SHAPE, Change::BlockMapIncrement));
    assert!(!journal.must_close(SHAPE, Change::Increment));
}

#[test]
fn a_sealed_block_waits_for_the_summary() {
    let mut journal = journal(1, 1);
    assert!(matches!(journal.seal(0), Sealing::Nothing));
    push(&mut journal, Change::Increment, 5);
    hold(&mut journal, 5);
    let Sealing::Sealed(mut closed) = journal.seal(0) else {
        panic!("there is an entry");
    };
    assert!(closed.is_sealed);
    assert_eq!(header(&closed).entry_count, 1);
    assert_eq!(journal.blocked(&config(), false), Some(Blocked::Sealed));
    assert!(matches!(journal.seal(0), Sealing::Nothing));
    journal.summarised(&mut closed);
    assert!(closed.page.is_none() && journal.is_settled());
    assert_eq!(journal.blocked(&config(), false), None);
    assert_eq!(
        push(&mut journal, Change::Decrement, 6),
        JournalPoint::new(2, 0)
    );
    hold(&mut journal, 6);
    assert!(matches!(journal.seal(0), Sealing::Sealed(_)));
}

#[test]
fn a_block_is_not_sealed_before_those_ahead_of_it_are_taken() {
    let mut journal = journal(1, 1);
    for _ in 0..5 {
        push(&mut journal, Change::Increment, 5);
    }
    hold(&mut journal, 5);
    let mut closed = journal.close(0, disk().buffer(1).unwrap()).unwrap();
    push(&mut journal, Change::Increment, 6);
    assert!(!hold(&mut journal, 6));
    assert!(matches!(journal.seal(0), Sealing::NotYet));
    assert!(journal.take(&mut closed));
    assert!(matches!(journal.seal(0), Sealing::Sealed(_)));
}

#[test]
fn a_block_is_not_sealed_before_it_is_known_what_it_holds() {
    let mut journal = journal(1, 1);
    push(&mut journal, Change::Increment, 5);
    assert!(matches!(journal.seal(0), Sealing::NotYet));
    assert!(hold(&mut journal, 5));
    assert!(matches!(journal.seal(0), Sealing::Sealed(_)));
}

#[test]
fn a_block_that_was_to_be_sealed_and_is_full_does_not_have_the_next_sealed() {
    let mut journal = journal(1, 1);
    push(&mut journal, Change::Increment, 5);
    hold(&mut journal, 5);
    let mut first = journal.close(0, disk().buffer(1).unwrap()).unwrap();
    for _ in 0..5 {
        push(&mut journal, Change::Increment, 6);
    }
    hold(&mut journal, 6);
    assert!(matches!(journal.seal(0), Sealing::NotYet));
    let mut second = journal.close(0, disk().buffer(1).unwrap()).unwrap();
    assert!(!journal.take(&mut first) && !journal.take(&mut second));
    push(&mut journal, Change::Increment, 7);
    assert!(!hold(&mut journal, 7));
}

#[test]
fn long_journals_wait_for_counts_and_full_rings_for_the_summary() {
    let config = config();
    let blocking = u64::from(config.blocking);
    assert!(blocking < 8);
    let short = journal(3, 3 + blocking - 1);
    assert_eq!(short.blocked(&config, false), None);
    let mut long = journal(3, 3 + blocking);
    assert_eq!(long.blocked(&config, false), Some(Blocked::TooLong));
    assert_eq!(long.blocked(&config, true), None);
    long.reap(u64::MAX);
    assert_eq!(long.blocked(&config, false), None);
    let mut full = journal(3, 11);
    assert_eq!(full.blocked(&config, true), Some(Blocked::RingFull));
    // That counts are written is not enough: a recovery would still read the ring.
    full.reap(11);
    assert_eq!(full.blocked(&config, false), Some(Blocked::RingFull));
    full.cleaned();
    assert_eq!(full.blocked(&config, false), None);
}

#[test]
fn the_head_passes_nothing_that_is_not_in_the_summary() {
    let mut journal = journal(1, 1);
    for _ in 0..5 {
        push(&mut journal, Change::Increment, 5);
    }
    hold(&mut journal, 5);
    let mut closed = journal.close(0, disk().buffer(1).unwrap()).unwrap();
    journal.reap(2);
    assert_eq!(journal.head, 1);
    journal.summarised(&mut closed);
    journal.reap(2);
    assert_eq!((journal.head, journal.len()), (2, 0));
}

/// Fills the block under construction and closes it.
fn fill(journal: &mut SlabJournal<BufferOf>, sequence: Sequence) -> Closed<BufferOf> {
    for _ in 0..5 {
        push(journal, Change::Increment, sequence);
    }
    hold(journal, sequence);
    journal.close(0, disk().buffer(1).unwrap()).unwrap()
}

#[test]
fn a_block_that_waited_for_the_committer_says_from_where_the_ring_is_needed() {
    let mut journal = journal(1, 1);
    let mut round = [fill(&mut journal, 5), fill(&mut journal, 6)];
    for closed in &mut round {
        journal.take(closed);
    }
    let mut late = fill(&mut journal, 7);
    assert_eq!(header(&late).head, 1);
    // The summary of this round says that the slab is clean.
    for closed in &mut round {
        journal.summarised(closed);
    }
    journal.cleaned();
    journal.reap(4);
    assert_eq!((journal.head, journal.published_head), (3, 2));
    journal.take(&mut late);
    let found = header(&late);
    assert!(found.is_valid(99));
    assert_eq!((found.head, found.sequence, found.entry_count), (3, 3, 5));
    assert_eq!(found.recovery_point, JournalPoint::new(7, 4));
    journal.summarised(&mut late);
    assert!(journal.published_head <= found.head);
}
