// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::depot::holds::Holds;
use crate::format::reference::PROVISIONAL;
use crate::format::slab_journal::Header;
use crate::format::Mapping;
use crate::format::RecoveryEntry;
use kernel::prelude::GFP_KERNEL;
use proptest::prelude::*;
use runtime::disk::Disk;
use sim::disk::SimDisk;
use sim::world::World;
use std::vec::Vec;

#[test]
fn an_entry_is_an_increment_and_then_a_decrement() {
    let entry = |operation, new, old| RecoveryEntry {
        operation,
        page: 1,
        slot: 2,
        new: Mapping {
            pbn: new,
            ..Mapping::ZERO
        },
        old: Mapping {
            pbn: old,
            ..Mapping::ZERO
        },
    };
    let entries = [
        (JournalPoint::new(9, 216), entry(Operation::Data, 50, 60)),
        (JournalPoint::new(10, 0), entry(Operation::Data, 0, 0)),
        (JournalPoint::new(10, 1), entry(Operation::BlockMap, 70, 0)),
        (JournalPoint::new(10, 2), entry(Operation::Data, 0, 50)),
    ];
    let mut changes = Changes::new(&entries);
    let mut found = Vec::new();
    while let Some(next) = changes.next() {
        found.push((next.pbn, next.change, next.point.sequence, next.point.entry));
        changes.advance();
    }
    let wanted = [
        (50, Change::Increment, 9, 432),
        (60, Change::Decrement, 9, 433),
        (70, Change::BlockMapIncrement, 10, 2),
        (50, Change::Decrement, 10, 5),
    ];
    assert_eq!(found, wanted);
}

type BufferOf = <SimDisk as Disk>::Buffer;

/// Blocks of slab 0 to begin with, then of slab 1.
const FIRST: Pbn = 10;

fn rules(shape: Shape, is_replay: bool) -> Rules {
    Rules {
        layout: DepotLayout {
            first_block: FIRST,
            slab_count: 2,
            slab: SlabConfig::new(64, 16).unwrap(),
        },
        shape,
        is_replay,
        is_ring_kept: true,
    }
}

fn page(disk: &SimDisk) -> BufferOf {
    disk.buffer(1).unwrap()
}

/// What can be seen of a slab and its journal, beside the blocks that were closed.
#[derive(Debug, PartialEq)]
struct Seen {
    header: Header,
    page: Vec<u8>,
    recovery_point: JournalPoint,
    counts: Vec<Option<u8>>,
    dirty: u32,
    applied: Option<JournalPoint>,
    to_write: u32,
    initialised_by: Option<Sequence>,
    left: (usize, bool),
    blocks: Vec<Vec<u8>>,
    begun: Vec<(Sequence, Sequence)>,
    freed: i64,
    made: u32,
    flushed: u32,
    end: Result<Option<Blocked>>,
}

/// Returns what is left to be done.
fn left(changes: &mut Changes<'_, RecoveryEntry>) -> (usize, bool) {
    let _ = changes.next();
    (changes.entries.len(), changes.is_half)
}

/// Makes a change as [`Slab::apply`] does, but no others with it.
fn apply_slowly(
    slab: &mut Slab<BufferOf>,
    rules: &Rules,
    changes: &mut Changes<'_, RecoveryEntry>,
    spare: &mut Option<BufferOf>,
    effects: &mut Effects<BufferOf>,
) -> Result<Progress> {
    let Some(next) = changes.next() else {
        return Ok(Progress::Made);
    };
    let sbn = match rules.layout.slab_of(next.pbn) {
        Some((0, sbn)) => sbn,
        _ => return Ok(Progress::Made),
    };
    if next.point <= slab.journal.recovery_point {
        if !rules.is_replay {
            return Err(IMPOSSIBLE);
        }
        changes.advance();
        return Ok(Progress::Made);
    }
    if let Some(blocked) = slab.make(rules, 0, (sbn, next), spare, effects)? {
        return Ok(Progress::Blocked(blocked));
    }
    changes.advance();
    Ok(Progress::Made)
}

/// Makes changes as far as they are of the slab and not blocked.
fn all(
    is_slow: bool,
    rules: &Rules,
    counted: bool,
    entries: &[(JournalPoint, RecoveryEntry)],
) -> Seen {
    let disk = World::new(0).add_disk("disk", std::vec![0; 4096]);
    let config = rules.layout.slab;
    let mut journal = SlabJournal::new(1, 1, JournalPoint::new(5, 2), 99);
    journal.set_page(page(&disk));
    let mut slab = Slab::used(SummaryEntry::unused(&config), journal);
    if counted {
        let mut counts = Counts::new(&config, GFP_KERNEL).unwrap();
        for sbn in 0..config.data_blocks {
            // Some that can become no more, and some that can become no less.
            counts.set(
                sbn,
                [2, 0, PROVISIONAL, 1, 253, 1, 120, 3][sbn as usize % 8],
            );
        }
        slab.set_ready(counts, None);
    }
    let mut holds = Holds::new(1000).unwrap();
    let mut changes = Changes::new(entries);
    let mut spare = None;
    let (mut blocks, mut begun) = (Vec::new(), Vec::new());
    let (mut freed, mut made, mut flushed) = (0, 0, 0);
    let end = loop {
        let mut effects = Effects::new();
        let before = left(&mut changes);
        let progress = if is_slow {
            apply_slowly(&mut slab, rules, &mut changes, &mut spare, &mut effects)
        } else {
            slab.apply(rules, 0, &mut changes, &mut spare, &mut effects)
        };
        freed += effects.freed;
        made += effects.made;
        flushed += effects.flushed;
        if let Some(hold) = effects.begun {
            begun.push((hold.sequence, hold.block));
            slab.journal.hold(holds.take(hold).unwrap());
        }
        if let Some(closed) = effects.closed {
            blocks.push(closed.page.unwrap().page(0).unwrap().to_vec());
        }
        match progress {
            Err(error) => break Err(error),
            Ok(Progress::Blocked(Blocked::NoPage)) => spare = Some(page(&disk)),
            Ok(Progress::Blocked(blocked)) => break Ok(Some(blocked)),
            Ok(Progress::Made) if left(&mut changes) == before => break Ok(None),
            Ok(Progress::Made) => {}
        }
    };
    // One that is full is closed at once if there is a page for the next.
    if slab.journal.is_full(rules.shape) {
        let closed = slab.journal.close(0, page(&disk)).unwrap();
        blocks.push(closed.page.unwrap().page(0).unwrap().to_vec());
    }
    let filled = 36 + 3 * usize::from(slab.journal.entries());
    Seen {
        header: *slab.journal.header(),
        page: slab.journal.page().unwrap().page(0).unwrap()[36..filled].to_vec(),
        recovery_point: slab.journal.recovery_point,
        to_write: slab.to_write,
        initialised_by: slab.initialised_by,
        counts: match slab.counts() {
            Some(counts) => (0..config.data_blocks).map(|sbn| counts.get(sbn)).collect(),
            None => Vec::new(),
        },
        dirty: slab.counts().map_or(0, |counts| counts.dirty()),
        applied: slab.counts().map(|counts| counts.applied),
        left: left(&mut changes),
        blocks,
        begun,
        freed,
        made,
        flushed,
        end,
    }
}

/// Entries: mostly of data blocks, mostly in order, mostly of slab 0.
fn entries() -> impl Strategy<Value = Vec<(JournalPoint, RecoveryEntry)>> {
    let pbn = || {
        prop_oneof![
            2 => Just(0),
            20 => (0_u64..40).prop_map(|sbn| FIRST + sbn),
            1 => FIRST + 60..FIRST + 70,
            1 => Just(3),
        ]
    };
    let operation = prop_oneof![15 => Just(Operation::Data), 1 => Just(Operation::BlockMap)];
    let step = prop_oneof![20 => 1_u64..3, 1 => Just(0)];
    let entry = (operation, pbn(), pbn(), step);
    prop::collection::vec(entry, 0..90).prop_map(|entries| {
        let mut point = 5 * 7;
        let mapping = |pbn| match pbn {
            0 => Mapping::UNMAPPED,
            _ => Mapping::plain(pbn),
        };
        entries
            .into_iter()
            .map(|(operation, new, old, step)| {
                point += step;
                let entry = RecoveryEntry {
                    operation,
                    page: 1,
                    slot: 2,
                    new: mapping(new),
                    old: mapping(old),
                };
                (JournalPoint::new(point / 7, (point % 7) as u16), entry)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Changes that are made many at once are made as each on its own.
    #[test]
    fn many_changes_at_once_are_made_as_each_on_its_own(
        entries in entries(),
        shape in prop_oneof![
            Just(Shape { full: 5, data: 7 }),
            Just(Shape { full: 30, data: 33 }),
            Just(Shape::STANDARD),
        ],
        is_replay: bool,
        counted: bool,
    ) {
        let rules = rules(shape, is_replay);
        let slow = all(true, &rules, counted, &entries);
        let fast = all(false, &rules, counted, &entries);
        prop_assert_eq!(fast, slow);
    }
}
