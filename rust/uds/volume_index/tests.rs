// SPDX-License-Identifier: GPL-2.0

mod model;
mod saves;

use super::*;
use crate::format::geometry::Shape;
use core::mem::discriminant;
use kernel::alloc::fail_after;
use model::Model;
use std::vec::Vec;

/// Numbers that look like chance.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A name of any kind.
    pub(super) fn name(&mut self) -> Name {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.next().to_be_bytes());
        name[8..].copy_from_slice(&self.next().to_be_bytes());
        Name(name)
    }

    /// One of some names that often meet, in so many lists.
    fn crowded_name(&mut self, lists: u64) -> Name {
        let key = (self.below(lists) << 20) | (self.below(40) * self.below(2) * 600);
        let mut name = [0; 16];
        name[..8].copy_from_slice(&key.to_be_bytes());
        name[14] = self.below(12) as u8;
        name[15] = (self.below(2) * 32) as u8;
        Name(name)
    }
}

/// A dense index that forgets soon, whose payloads are all in use.
pub(super) fn dense(chapters: u32) -> Geometry {
    Geometry::of_shape(Shape {
        page_size: 4096,
        page_records: 64,
        record_pages: 4,
        chapters,
        sparse_chapters: 0,
        sample_rate: 0,
    })
    .unwrap()
}

/// One whose lists are as long as those of real ones.
pub(super) fn full(chapters: u32) -> Geometry {
    Geometry::of_shape(Shape {
        page_size: 4096,
        page_records: 128,
        record_pages: 32,
        chapters,
        sparse_chapters: 0,
        sample_rate: 0,
    })
    .unwrap()
}

pub(super) fn sparse() -> Geometry {
    Geometry::of_shape(Shape {
        page_size: 4096,
        page_records: 64,
        record_pages: 4,
        chapters: 20,
        sparse_chapters: 16,
        sample_rate: 4,
    })
    .unwrap()
}

/// Asks and tells an index and a model the same.
pub(super) struct Pair {
    pub(super) geometry: Geometry,
    pub(super) index: VolumeIndex,
    pub(super) model: Model,
    pub(super) chance: Chance,
    pub(super) newest: Chapter,
    /// Names in the newest chapter.
    added: u32,
    /// How many lists get most names.
    pub(super) crowd: u64,
}

impl Pair {
    pub(super) fn new(geometry: Geometry, seed: u64) -> Self {
        Self {
            index: VolumeIndex::with_shards(&geometry, 4).unwrap(),
            model: Model::new(&geometry),
            geometry,
            chance: Chance(seed),
            newest: 0,
            added: 0,
            crowd: 3,
        }
    }

    pub(super) fn open(&mut self, newest: Chapter) {
        self.newest = newest;
        self.added = 0;
        self.index.open_chapter(newest);
        // Collisions take more room than there is: some chapters are forgotten early.
        let sets = self.index.sets.iter();
        let low: Vec<_> = sets
            .map(|set| set.shards[0].with(|shard| shard.low))
            .collect();
        self.model.open_chapter(newest, &low);
    }

    fn name(&mut self) -> Name {
        match self.chance.below(3) {
            0 if self.crowd > 0 => self.chance.crowded_name(self.crowd),
            1 => {
                // One that may be known.
                let number = self.chance.below(4000);
                Chance(number ^ ((self.newest / 4) << 32)).name()
            }
            _ => self.chance.name(),
        }
    }

    /// Changes what is known of a name, as one who knows what hints are worth.
    fn change(&mut self, request: &mut Request) {
        let answer = request.answer;
        let known = self.model.look_up(request);
        let is_own = self.model.is_own(request);
        let is_removal = is_own && self.chance.below(16) == 0;
        let outcome = if is_removal {
            self.index.remove(request)
        } else if is_own {
            self.index.re_point(request, self.newest)
        } else {
            self.index.insert(request, self.newest)
        };
        match outcome {
            Outcome::Done => {
                // Only the chapter may have become another since the look-up.
                assert_eq!(discriminant(&answer), discriminant(&known));
                if is_removal {
                    self.model.remove(request);
                } else {
                    self.model.set(request, self.newest);
                    self.added += 1;
                }
            }
            Outcome::Changed => {
                assert_eq!(request.answer, known);
                self.change(request);
            }
            Outcome::Dropped => assert!(!is_own),
        }
    }

    /// A batch of look-ups, some of which are followed by changes.
    pub(super) fn batch(&mut self) -> u32 {
        let size = 1 + self.chance.below(40);
        let mut requests: Vec<_> = (0..size)
            .map(|_| {
                let name = self.name();
                self.index.request(name)
            })
            .collect();
        requests.sort_by_key(Request::order);
        self.index.look_up(&mut requests);
        for request in &requests {
            assert_eq!(request.answer, self.model.look_up(request));
        }
        for request in &mut requests {
            self.change(request);
        }
        if self.added >= self.geometry.records {
            self.open(self.newest + 1);
        }
        size as u32
    }

    pub(super) fn sweep(&mut self) {
        let mut sweep = Sweep::default();
        while !self.index.sweep(&mut sweep, 100) {}
    }

    /// After a sweep the counts are those of the model.
    pub(super) fn check_counts(&mut self) {
        self.sweep();
        for shard in self.index.sets.iter().flat_map(|set| set.shards.iter()) {
            shard.with(|shard| shard.check());
        }
        let counts = self.index.counts();
        assert_eq!(
            (counts.entries, counts.collisions),
            self.model.counts(),
            "entries and collisions"
        );
        assert_eq!(counts.damaged, 0);
    }
}

fn run(geometry: Geometry, seed: u64, operations: u32) {
    let mut pair = Pair::new(geometry, seed);
    let mut done = 0;
    while done < operations {
        done += pair.batch();
        if pair.chance.below(300) == 0 {
            pair.check_counts();
        }
    }
    pair.check_counts();
    assert!(pair.newest > 3 * u64::from(geometry.shape.chapters));
}

#[test]
fn a_dense_index_does_what_a_model_does() {
    run(dense(16), 1, 600_000);
    run(dense(11), 2, 300_000);
}

#[test]
fn a_sparse_index_does_what_a_model_does() {
    run(sparse(), 3, 600_000);
}

#[test]
fn without_memory_names_are_lost_and_nothing_else() {
    let mut pair = Pair::new(dense(16), 4);
    for round in 0..3000 {
        fail_after((round % 3 == 0).then_some(0));
        pair.batch();
    }
    fail_after(None);
    pair.check_counts();
    assert!(pair.index.counts().without_memory > 0);
}

#[test]
fn a_list_that_is_full_takes_no_more() {
    let geometry = dense(16);
    let mut pair = Pair::new(geometry, 5);
    for number in 0..1000u64 {
        let mut name = [0; 16];
        name[8..].copy_from_slice(&number.to_be_bytes());
        let mut request = pair.index.request(Name(name));
        pair.index.look_up(core::slice::from_mut(&mut request));
        if pair.index.insert(&mut request, 0) == Outcome::Done {
            pair.model.set(&request, 0);
        }
    }
    let counts = pair.index.counts();
    let collision = geometry_set(&geometry).code.collision_bits() as u64;
    assert_eq!(counts.collisions, (65_535 - 30) / collision);
    assert_eq!(counts.overflows, 1000 - counts.entries);
    pair.check_counts();
    // All of them are forgotten together.
    pair.open(16);
    pair.sweep();
    assert_eq!(pair.index.counts().entries, 0);
    assert_eq!(pair.index.used_bits(), 0);
}

pub(super) fn geometry_set(geometry: &Geometry) -> SubIndex {
    match geometry.volume_index {
        SubIndexes::Dense(set) | SubIndexes::Sparse(set, _) => set,
    }
}

#[test]
fn too_much_is_forgotten_early() {
    let geometry = dense(16);
    let index = VolumeIndex::new(&geometry).unwrap();
    let mut chance = Chance(6);
    let mut early = 0;
    for chapter in 0..15 {
        early += index.open_chapter(chapter);
        // Many times what belongs into a chapter.
        for _ in 0..12 * geometry.records {
            let mut request = index.request(chance.name());
            index.look_up(core::slice::from_mut(&mut request));
            index.insert(&mut request, chapter);
        }
    }
    assert!(early > 0);
}

#[test]
fn a_merge_is_as_good_as_many_insertions() {
    for geometry in [dense(16), sparse()] {
        let mut pair = Pair::new(geometry, 7);
        pair.crowd = 256;
        let mut conflicts = 0;
        for batch in 0..12 {
            let first = pair.newest;
            let last = first + 1 + batch % 3;
            let mut names = Vec::new();
            for chapter in first..last {
                for _ in 0..geometry.records {
                    let name = pair.name();
                    names.push(pair.index.known(name, chapter));
                }
            }
            pair.open(last - 1);
            names.sort_by_key(Known::order);
            let mut open = Vec::new();
            pair.index
                .merge(&names, |request, chapter| open.push((request, chapter)));
            conflicts += open.len();
            for (mut request, chapter) in open {
                pair.index.look_up(core::slice::from_mut(&mut request));
                // A model of its own: what any look-up finds must be the newest chapter.
                let _ = match pair.model.is_own(&request) {
                    true => pair.index.re_point(&mut request, chapter),
                    false => pair.index.insert(&mut request, chapter),
                };
            }
            for known in &names {
                let request = pair.index.request(known.name);
                pair.model.set(&request, known.chapter);
            }
            pair.open(last);
            for known in &names {
                let mut request = pair.index.request(known.name);
                pair.index.look_up(core::slice::from_mut(&mut request));
                let newest = pair.model.newest(&request);
                match request.answer {
                    Answer::Exact(chapter) => assert_eq!(Some(chapter), newest),
                    Answer::Hint(_) => {}
                    Answer::Absent => assert_eq!(newest, None),
                }
            }
            let (entries, collisions) = pair.model.counts();
            pair.sweep();
            let counts = pair.index.counts();
            assert_eq!((counts.entries, counts.collisions), (entries, collisions));
        }
        assert!(conflicts > 0);
    }
}
