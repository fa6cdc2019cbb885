// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::format::block_map;
use crate::format::Mapping;
use crate::recovery::fixture::child;
use crate::recovery::fixture::data;
use crate::recovery::fixture::volume;
use crate::recovery::fixture::Image;
use crate::recovery::fixture::FIRST_DATA;
use crate::recovery::fixture::NONCE;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

/// Pages in memory.
#[derive(Default)]
struct Memory {
    pages: Mutex<BTreeMap<Pbn, (Kind, Page)>>,
    written: Mutex<bool>,
}

impl Memory {
    fn mapping(&self, pbn: Pbn, slot: u16) -> Mapping {
        block_map::entry(&self.pages.lock().unwrap()[&pbn].1, slot)
    }
}

impl Pages for Memory {
    async fn create(&self, pbn: Pbn) -> Result {
        let mut page = [0; 4096];
        block_map::format_page(&mut page, NONCE, pbn);
        self.pages.lock().unwrap().insert(pbn, (Kind::Leaf, page));
        Ok(())
    }

    async fn update(
        &self,
        pbn: Pbn,
        kind: Kind,
        mut change: impl FnMut(&mut Page) + Send,
    ) -> Result {
        let mut pages = self.pages.lock().unwrap();
        let page = pages.entry(pbn).or_insert((kind, [0; 4096]));
        page.0 = kind;
        change(&mut page.1);
        Ok(())
    }

    async fn write_all(&self) -> Result {
        *self.written.lock().unwrap() = true;
        Ok(())
    }
}

/// Slab journals that know up to where they have everything.
struct Slabs {
    point: JournalPoint,
    seen: Mutex<Vec<JournalPoint>>,
    finished: Mutex<bool>,
}

impl SlabJournals for Slabs {
    fn latest_recovery_point(&self) -> JournalPoint {
        self.point
    }

    async fn replay(&self, entries: &[(JournalPoint, RecoveryEntry)]) -> Result<u64> {
        let mut seen = self.seen.lock().unwrap();
        seen.extend(entries.iter().map(|(point, _)| *point));
        Ok(entries.len() as u64)
    }

    async fn finish_replay(&self) -> Result {
        *self.finished.lock().unwrap() = true;
        Ok(())
    }
}

fn slabs(point: JournalPoint) -> Slabs {
    Slabs {
        point,
        seen: Mutex::default(),
        finished: Mutex::default(),
    }
}

const A: Pbn = FIRST_DATA + 1;
const B: Pbn = FIRST_DATA + 2;
const ROOT: Pbn = 3;

/// A journal that makes page `A` in the root, fills it, and changes page `B`.
fn image() -> Image {
    let mut image = Image::new((2, 1));
    image.put(1, &[data(B, 9, FIRST_DATA + 9); 7]);
    let mut second = vec![child(ROOT, 5, A)];
    second.extend((0..6).map(|slot| data(A, slot, FIRST_DATA + 20 + u64::from(slot))));
    image.put(2, &second);
    image.put(
        3,
        &[
            data(B, 4, FIRST_DATA + 30),
            data(A, 1, FIRST_DATA + 31),
            data(A, 1, 0),
            data(B, 4, FIRST_DATA + 33),
            data(A, 2, FIRST_DATA + 34),
            data(B, 5, FIRST_DATA + 35),
            data(A, 2, FIRST_DATA + 36),
        ],
    );
    image.put(4, &[data(A, 700, FIRST_DATA + 40)]);
    image
}

fn check_pages(pages: &Memory) {
    let plain = |number| Mapping::plain(FIRST_DATA + number);
    assert_eq!(pages.mapping(ROOT, 5), Mapping::plain(A));
    assert_eq!(pages.mapping(A, 0), plain(20));
    assert_eq!(pages.mapping(A, 1), Mapping::UNMAPPED);
    assert_eq!(pages.mapping(A, 2), plain(36));
    assert_eq!(pages.mapping(A, 5), plain(25));
    assert_eq!(pages.mapping(A, 700), plain(40));
    assert_eq!(pages.mapping(B, 4), plain(33));
    assert_eq!(pages.mapping(B, 5), plain(35));
    // What the head has passed is not replayed, and stays as it is.
    assert_eq!(pages.mapping(B, 9), plain(99));
    // A new page starts empty, whatever was there before.
    assert_eq!(pages.mapping(A, 100), Mapping::UNMAPPED);
    let pages = pages.pages.lock().unwrap();
    assert_eq!(pages[&ROOT].0, Kind::Interior);
    assert_eq!(pages[&A].0, Kind::Leaf);
}

fn old_pages() -> Memory {
    let pages = Memory::default();
    for (pbn, slot) in [(A, 100), (B, 9)] {
        let mut page = [0; 4096];
        block_map::set_entry(&mut page, slot, Mapping::plain(FIRST_DATA + 99));
        pages.pages.lock().unwrap().insert(pbn, (Kind::Leaf, page));
    }
    pages
}

#[test]
fn the_last_change_of_a_slot_counts() {
    let rig = image().rig();
    let volume = volume();
    let survey = rig
        .run(Survey::new(&*rig.log, &rig.storage, &volume))
        .unwrap();
    let (pages, slabs) = (old_pages(), slabs(JournalPoint::new(1, 2)));
    rig.run(recover(
        &*rig.log,
        &rig.storage,
        &volume,
        &survey,
        &pages,
        &slabs,
    ))
    .unwrap();
    check_pages(&pages);
    assert!(*pages.written.lock().unwrap());
    assert!(*slabs.finished.lock().unwrap());
    let seen = slabs.seen.lock().unwrap();
    let all = (1..4).flat_map(|sequence| (0..7).map(move |n| JournalPoint::new(sequence, n)));
    let all: Vec<_> = all.chain([JournalPoint::new(4, 0)]).collect();
    assert_eq!(*seen, all);
    assert_eq!(
        rig.log.lines()[2..],
        [
            "Replaying 15 recovery entries into block map",
            "Flushing block map changes",
            "Replaying entries into slab journals for zone 0",
            "Replayed 22 journal entries into slab journals",
        ]
    );
}

#[test]
fn small_windows_give_the_same() {
    let rig = image().rig();
    let volume = volume();
    let survey = rig
        .run(Survey::new(&*rig.log, &rig.storage, &volume))
        .unwrap();
    for window in [1, 10, 14] {
        let pages = old_pages();
        rig.run(replay_in_windows(
            &rig.storage,
            &volume,
            &survey,
            &pages,
            window,
        ))
        .unwrap();
        check_pages(&pages);
    }
}

#[test]
fn nothing_is_changed_where_the_journal_is_damaged() {
    let rig = image().rig();
    let volume = volume();
    let survey = rig
        .run(Survey::new(&*rig.log, &rig.storage, &volume))
        .unwrap();
    let (pages, slabs) = (Memory::default(), slabs(JournalPoint::new(4, 2)));
    let result = rig.run(recover(
        &*rig.log,
        &rig.storage,
        &volume,
        &survey,
        &pages,
        &slabs,
    ));
    assert_eq!(result, Err(Status::CorruptJournal.into()));
    assert!(pages.pages.lock().unwrap().is_empty());
    assert!(slabs.seen.lock().unwrap().is_empty());
}

#[test]
fn an_empty_journal_still_finishes_the_slab_journals() {
    let rig = Image::new((1, 1)).rig();
    let volume = volume();
    let survey = rig
        .run(Survey::new(&*rig.log, &rig.storage, &volume))
        .unwrap();
    let (pages, slabs) = (Memory::default(), slabs(JournalPoint::NONE));
    rig.run(recover(
        &*rig.log,
        &rig.storage,
        &volume,
        &survey,
        &pages,
        &slabs,
    ))
    .unwrap();
    assert!(*slabs.finished.lock().unwrap());
    assert_eq!(
        rig.log.lines()[1],
        "Replaying 0 recovery entries into block map"
    );
}
