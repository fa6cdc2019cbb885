// SPDX-License-Identifier: GPL-2.0

//! An index against a map from which the oldest names are forgotten.

use super::*;
use std::collections::HashMap;

/// What an index should know.
#[derive(Default)]
struct Model {
    /// The value of each name, and the chapter in which it was last remembered.
    names: HashMap<Name, (Metadata, Chapter)>,
    /// Names in the order in which they came; some came again later.
    order: Vec<Name>,
}

impl Model {
    fn put(&mut self, record: Record, chapter: Chapter) {
        self.order.push(record.name);
        self.names.insert(record.name, (record.metadata, chapter));
    }

    fn expected(&self, name: &Name, oldest: Chapter) -> Option<Metadata> {
        let (metadata, chapter) = self.names.get(name)?;
        (*chapter >= oldest).then_some(*metadata)
    }

    /// Returns a name that is known, mostly one of the last ones.
    fn pick(&self, rng: &mut Rng) -> Name {
        let len = self.order.len() as u64;
        let back = rng.below(len).min(rng.below(len));
        self.order[(len - 1 - back) as usize]
    }
}

/// What is wrong, in numbers.
#[derive(Debug, Default)]
struct Tally {
    asked: u64,
    missed: u64,
}

/// Puts many names in, a batch at a time, with restarts; checks everything that is found.
async fn many_names(machine: &Machine<'_>, batches: u64, seed: u64, exact: bool) -> Tally {
    let mut rng = Rng::new(seed);
    let mut model = Model::default();
    let mut opened = machine.open(true).await.unwrap();
    let mut batch = Batch::new(8).unwrap();
    let mut tally = Tally::default();
    for number in 0..batches {
        let mut records: Vec<Record> = Vec::new();
        for place in 0..8 {
            let name = if model.order.is_empty() || rng.chance(1, 2) {
                random_name(&mut rng)
            } else {
                model.pick(&mut rng)
            };
            if records.iter().all(|record| record.name != name) {
                let metadata = value(number * 8 + place);
                records.push(Record { name, metadata });
            }
        }
        let names: Vec<_> = records.iter().map(|record| record.name).collect();
        let index = &opened.index;
        let oldest = index.oldest();
        let found = look_up(index, &mut batch, &names).await;
        for (name, found) in names.iter().zip(&found) {
            let expected = model.expected(name, oldest);
            if exact {
                assert_eq!(*found, expected, "{name:?} in batch {number}");
            } else if *found != expected {
                assert_eq!(*found, None, "{name:?} in batch {number}");
                tally.missed += 1;
            }
            tally.asked += u64::from(expected.is_some());
        }
        // Some are believed, some get another value, some are left alone.
        for (record, found) in records.iter_mut().zip(&found) {
            if let (Some(found), true) = (found, rng.chance(1, 2)) {
                record.metadata = *found;
            }
        }
        let is_left = rng.chance(1, 8);
        if !is_left {
            index.remember(&mut batch, |item| Some(records[item.tag as usize].metadata));
            index.settle().await.unwrap();
            // The chapter that a name went to is known only if no other was opened meanwhile.
            for record in &records {
                let (chapter, newest) = (index.newest().saturating_sub(1), index.newest());
                let is_in = |chapter| {
                    let found = index.chapters.look_up(chapter, &record.name);
                    found.flatten().is_some()
                };
                let chapter = if is_in(newest) { newest } else { chapter };
                model.put(*record, chapter);
            }
        }
        if rng.chance(1, 200) {
            index.save().await.unwrap();
            if rng.chance(1, 2) {
                let state = (index.newest(), index.oldest(), index.counts().entries);
                opened.close().await;
                opened = machine.open(false).await.unwrap();
                let index = &opened.index;
                let log = machine.log().join("\n");
                assert!(log.contains("loaded index"), "{log}");
                let now = (index.newest(), index.oldest(), index.counts().entries);
                assert_eq!(now, state);
            }
        }
    }
    assert_eq!(opened.index.dropped(), 0);
    opened.close().await;
    tally
}

fn check(shape: Shape, batches: u64, seeds: core::ops::Range<u64>, exact: bool) {
    let geometry = Geometry::of_shape(shape).unwrap();
    for seed in sim::harness::one_of(seeds) {
        run(
            seed,
            blank(&geometry),
            config(geometry),
            async move |machine| {
                let tally = many_names(&machine, batches, seed, exact).await;
                assert!(tally.asked > batches / 2, "{tally:?}");
                assert!(tally.missed * 100 <= tally.asked, "{tally:?}");
            },
        );
    }
}

#[test]
fn smallest() {
    check(shape(), 3000, 0..4, true);
}

#[test]
fn several_pages() {
    let shape = Shape {
        page_size: 8192,
        page_records: 100,
        record_pages: 7,
        chapters: 6,
        ..shape()
    };
    check(shape, 5000, 0..1, true);
}

#[test]
fn rebuilt() {
    // As after a crash: without a save. What was in the open chapter is gone.
    let geometry = Geometry::of_shape(shape()).unwrap();
    run(5, blank(&geometry), config(geometry), async |machine| {
        let mut rng = Rng::new(3);
        let mut batch = Batch::new(8).unwrap();
        let mut all = Vec::new();
        for round in 0..6 {
            let opened = machine.open(round == 0).await.unwrap();
            let index = &opened.index;
            let newest = index.newest();
            let oldest = index.oldest();
            let log = machine.log().join("\n");
            assert_eq!(log.contains("Replaying volume"), round > 0, "{log}");
            // What was in the open chapter is gone.
            all.retain(|(_, chapter): &(Record, Chapter)| *chapter < newest);
            let mut found_old = 0;
            for (record, chapter) in &all {
                let found = look_up(index, &mut batch, &[record.name]).await[0];
                if (oldest..newest).contains(chapter) {
                    assert_eq!(found, Some(record.metadata), "{chapter}");
                    found_old += 1;
                } else {
                    assert_eq!(found, None, "{chapter}");
                }
            }
            assert_eq!(found_old, 32 * (newest - oldest));
            for _ in 0..30 {
                let records: Vec<_> = (0..8)
                    .map(|_| Record {
                        name: random_name(&mut rng),
                        metadata: value(rng.next_u64()),
                    })
                    .collect();
                let chapter = index.newest();
                put(index, &mut batch, &records).await;
                index.settle().await.unwrap();
                all.extend(records.iter().map(|record| (*record, chapter)));
            }
            opened.close().await;
        }
    });
}

#[test]
fn a_damaged_chapter_is_forgotten() {
    let geometry = Geometry::of_shape(shape()).unwrap();
    run(5, blank(&geometry), config(geometry), async |machine| {
        let mut rng = Rng::new(3);
        let mut batch = Batch::new(8).unwrap();
        let mut all = Vec::new();
        let opened = machine.open(true).await.unwrap();
        for _ in 0..20 {
            let records: Vec<_> = (0..8)
                .map(|_| Record {
                    name: random_name(&mut rng),
                    metadata: value(rng.next_u64()),
                })
                .collect();
            let chapter = opened.index.newest();
            put(&opened.index, &mut batch, &records).await;
            opened.index.settle().await.unwrap();
            all.extend(records.iter().map(|record| (*record, chapter)));
        }
        let block = opened.index.volume.block_of(2);
        let newest = opened.index.newest();
        opened.close().await;
        let zeroes = sim::disk::Operation::write(block * 8, vec![0; 4096], true);
        machine.disk.submit(zeroes).await.1.unwrap();
        let opened = machine.open(false).await.unwrap();
        assert_eq!(opened.index.newest(), newest);
        for (record, chapter) in &all {
            let found = look_up(&opened.index, &mut batch, &[record.name]).await[0];
            let is_there = *chapter != 2 && *chapter < newest;
            assert_eq!(found, is_there.then_some(record.metadata));
        }
        opened.close().await;
    });
}

#[test]
fn sparse() {
    let geometry = Geometry::of_shape(Shape {
        page_size: 4096,
        page_records: 64,
        record_pages: 2,
        chapters: 12,
        sparse_chapters: 8,
        sample_rate: 4,
    })
    .unwrap();
    run(7, blank(&geometry), config(geometry), async |machine| {
        let mut rng = Rng::new(3);
        let mut batch = Batch::new(64).unwrap();
        let mut all = Vec::new();
        let mut opened = machine.open(true).await.unwrap();
        while opened.index.newest() < 11 {
            let records: Vec<_> = (0..64)
                .map(|_| Record {
                    name: random_name(&mut rng),
                    metadata: value(rng.next_u64()),
                })
                .collect();
            put(&opened.index, &mut batch, &records).await;
            opened.index.settle().await.unwrap();
            all.extend(records);
        }
        for round in 0..3 {
            // Names of a chapter that is sparse by now: in order, from the first sample on.
            let found = {
                let mut found = Vec::new();
                for record in &all[..128] {
                    found.extend(look_up(&opened.index, &mut batch, &[record.name]).await);
                }
                found
            };
            let first = all[..128]
                .iter()
                .position(|record| geometry.is_sample(record.name.sample_key()))
                .unwrap();
            for (at, (record, found)) in all.iter().zip(&found).enumerate() {
                assert_eq!(
                    *found,
                    (at >= first).then_some(record.metadata),
                    "{round} {at}"
                );
            }
            if round == 0 {
                opened.index.save().await.unwrap();
            }
            opened.close().await;
            opened = machine.open(false).await.unwrap();
            if round == 0 {
                // So that it is rebuilt next.
                let mut bench = opened.index.bench.take().await;
                opened.index.void_save(&mut bench).await.unwrap();
                opened.index.bench.give(bench);
            }
        }
        opened.close().await;
    });
}
