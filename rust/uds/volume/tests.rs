// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::bench::Bench;
use crate::format::geometry::Shape;
use crate::format::Memory;
use crate::format::Record;
use crate::format::BLOCK_SIZE;
use crate::format::RECORD_SIZE;
use crate::open_chapter::Chapters;
use crate::vectors;
use runtime::disk::Durability;
use sim::fault::Kind;
use sim::Executor;
use sim::Rng;
use sim::SimDisk;
use sim::World;
use std::vec;
use std::vec::Vec;

const NONCE: u64 = 0x8ad8_88c7_403b_ec8b;
const FIRST: u64 = 5;

fn run<T>(world: &World, future: impl core::future::Future<Output = T>) -> T {
    let mut executor = Executor::new(world);
    let task = executor.spawn("task", future);
    executor.run_task(&task).unwrap()
}

fn toy() -> Geometry {
    Geometry::of_shape(Shape {
        page_size: 8192,
        page_records: 64,
        record_pages: 5,
        chapters: 4,
        sparse_chapters: 0,
        sample_rate: 0,
    })
    .unwrap()
}

fn volume(world: &World, geometry: &Geometry, image: Vec<u8>) -> (Arc<SimDisk>, Volume<SimDisk>) {
    let disk = Arc::new(world.add_disk("disk", image), GFP_KERNEL).unwrap();
    let volume = Volume::new(disk.clone(), geometry, FIRST, NONCE).unwrap();
    (disk, volume)
}

fn names(rng: &mut Rng, count: u32) -> Vec<Record> {
    let mut record = || Record {
        name: Name(core::array::from_fn(|_| rng.next_u64() as u8)),
        metadata: [rng.next_u64() as u8; 16],
    };
    (0..count).map(|_| record()).collect()
}

/// Looks for all names in a chapter.
async fn find(volume: &Volume<SimDisk>, chapter: Chapter, records: &[Record]) -> Vec<bool> {
    let wanted = records
        .iter()
        .map(|record| Wanted::new(record.name, chapter, 0));
    let mut wanted: Vec<_> = wanted.collect();
    volume.find(&mut wanted).await;
    let found = wanted.iter().zip(records);
    found
        .map(|(wanted, record)| {
            assert!(wanted.found.is_none_or(|found| found == record.metadata));
            wanted.found.is_some()
        })
        .collect()
}

#[test]
fn a_chapter_of_mainline() {
    let geometry = Geometry::new(Memory(-256), false).unwrap();
    let chapter = vectors::file("b-chapter0.bin.xz");
    let mut image = vec![0; (FIRST + geometry.page_blocks()) as usize * BLOCK_SIZE];
    image.extend_from_slice(&chapter);
    let map = vectors::file("b-page-map.bin");
    let world = World::new(0);
    let (_, volume) = volume(&world, &geometry, image);
    volume.with_page_map(|page_map| page_map.decode(0, &map[16..]));
    let mut records = Vec::new();
    for bytes in chapter.chunks_exact(RECORD_SIZE).skip(6 * 1024).step_by(97) {
        records.push(Record::decode(bytes.try_into().unwrap()));
    }
    run(&world, async {
        assert!(find(&volume, 0, &records).await.iter().all(|found| *found));
        let others = names(&mut Rng::new(1), 1000);
        assert!(find(&volume, 0, &others).await.iter().all(|found| !found));
        assert!(volume.is_idle());
    });
}

#[test]
fn chapters_are_written_and_found() {
    let geometry = toy();
    let world = World::new(1);
    let image = vec![0; (FIRST + geometry.volume_blocks()) as usize * BLOCK_SIZE];
    let (disk, volume) = volume(&world, &geometry, image);
    let chapters = Chapters::new(geometry.records, 3).unwrap();
    let mut bench = Bench::new(&*disk, &geometry).unwrap();
    let mut rng = Rng::new(9);
    let mut all = Vec::new();
    run(&world, async {
        for chapter in 0..7 {
            assert!(chapters.begin(chapter));
            let records = names(&mut rng, geometry.records);
            for record in &records {
                chapters.add(chapter, *record);
            }
            let written = bench.write_chapter(&disk, &volume, &geometry, &chapters, chapter);
            assert_eq!(written.await, Ok(0));
            chapters.end(chapter);
            all.push(records);
            for (older, records) in (0..).zip(&all) {
                // The place of one that is no more has another; what is in memory may still be found.
                let found = find(&volume, older, records).await;
                assert!(chapter >= older + 4 || found.iter().all(|found| *found));
            }
        }
    });
}

#[test]
fn what_is_bad_is_not_found() {
    let geometry = toy();
    let world = World::new(1);
    let image = vec![0; (FIRST + geometry.volume_blocks()) as usize * BLOCK_SIZE];
    let (disk, volume) = volume(&world, &geometry, image);
    let chapters = Chapters::new(geometry.records, 3).unwrap();
    let mut bench = Bench::new(&*disk, &geometry).unwrap();
    let records = names(&mut Rng::new(4), geometry.records);
    run(&world, async {
        for chapter in 0..2 {
            chapters.begin(chapter);
            for record in &records {
                chapters.add(chapter, *record);
            }
            let written = bench.write_chapter(&disk, &volume, &geometry, &chapters, chapter);
            written.await.unwrap();
        }
        // An index page of the first chapter is gone.
        let buffer = disk.buffer(1).unwrap();
        let sector = volume.block_of(0) * 8;
        let (_, result) = disk.write(sector, 8, buffer, Durability::Stable).await;
        result.unwrap();
        let mut wanted: Vec<_> = records.iter().map(|r| Wanted::new(r.name, 0, 0)).collect();
        let trouble = volume.find(&mut wanted).await;
        assert!(matches!(trouble, Some((0, Error::Fault(_)))), "{trouble:?}");
        assert!(volume.is_bad(0) && !volume.is_bad(1));
        assert_eq!(volume.find(&mut wanted).await, None);
        assert!(find(&volume, 1, &records).await.iter().all(|found| *found));
        // The device fails.
        world.add_fault(sim::fault::Fault::new(0, &[Kind::Read]));
        let mut wanted: Vec<_> = records.iter().map(|r| Wanted::new(r.name, 2, 0)).collect();
        let trouble = volume.find(&mut wanted).await;
        assert_eq!(trouble, Some((2, Error::Errno(EIO))));
        assert!(volume.is_idle());
    });
}
