// SPDX-License-Identifier: GPL-2.0

//! The power fails, or something else does.

use super::*;
use sim::fault::CrashPoint;
use sim::fault::Fault as DiskFault;
use sim::fault::Kind;
use sim::harness;
use std::cell::RefCell;
use std::rc::Rc;

/// What was done before the crash.
#[derive(Clone, Debug, Default)]
struct Done {
    /// All that was ever remembered, and the chapter of each.
    records: Vec<(Record, Chapter)>,
    /// Chapters below this one are on stable storage.
    written: Chapter,
    /// The records that are in a save which is complete.
    saved: usize,
    is_created: bool,
}

async fn work(machine: Machine<'_>, done: Rc<RefCell<Done>>) {
    let opened = machine.open(false).await.unwrap();
    done.borrow_mut().is_created = true;
    let index = &opened.index;
    let mut rng = Rng::new(3);
    let mut batch = Batch::new(16).unwrap();
    for round in 0..14 {
        let records: Vec<_> = (0..16)
            .map(|_| Record {
                name: random_name(&mut rng),
                metadata: value(rng.next_u64()),
            })
            .collect();
        let chapter = index.newest();
        let with_chapter = records.iter().map(|record| (*record, chapter));
        done.borrow_mut().records.extend(with_chapter);
        put(index, &mut batch, &records).await;
        index.settle().await.unwrap();
        done.borrow_mut().written = index.newest();
        if [2, 3, 9].contains(&round) {
            index.save().await.unwrap();
            let mut done = done.borrow_mut();
            done.saved = done.records.len();
        }
    }
    opened.close().await;
}

/// Checks what is found of it afterwards.
async fn check(machine: Machine<'_>, done: Done) -> Result<(), String> {
    let opened = machine
        .open(false)
        .await
        .map_err(|error| error.to_string())?;
    let index = &opened.index;
    let mut batch = Batch::new(1).unwrap();
    let log = machine.log().join("; ");
    let oldest = index.oldest();
    for (number, (record, chapter)) in done.records.iter().enumerate() {
        let found = look_up(index, &mut batch, &[record.name]).await[0];
        if found.is_some_and(|found| found != record.metadata) {
            return Err(format_args!("{record:?} is {found:?} now").to_string());
        }
        // The save counts as long as no chapter was to be written after it.
        let full = |records: usize| records / machine.config.geometry.records as usize;
        let in_save = number < done.saved && full(done.saved) == full(done.records.len());
        let must_be = (*chapter < done.written || in_save) && *chapter >= oldest;
        if must_be && found.is_none() && done.is_created {
            return Err(format_args!(
                "record {number} of chapter {chapter} is gone: {} written, {} saved; {log}; now {} to {}",
                done.written,
                done.saved,
                index.oldest(),
                index.newest()
            )
            .to_string());
        }
    }
    // It goes on: chapters are written, and found.
    let mut rng = Rng::new(99);
    let mut batch = Batch::new(16).unwrap();
    let mut more = Vec::new();
    for _ in 0..3 {
        let records: Vec<_> = (0..16)
            .map(|_| Record {
                name: random_name(&mut rng),
                metadata: value(rng.next_u64()),
            })
            .collect();
        put(index, &mut batch, &records).await;
        index.settle().await.map_err(|error| error.to_string())?;
        more.extend(records);
    }
    index.save().await.map_err(|error| error.to_string())?;
    opened.close().await;
    let opened = machine
        .open(false)
        .await
        .map_err(|error| error.to_string())?;
    for record in &more {
        let found = look_up(&opened.index, &mut batch, &[record.name]).await[0];
        if found != Some(record.metadata) {
            return Err(format_args!("{record:?} is {found:?} after a restart").to_string());
        }
    }
    opened.close().await;
    Ok(())
}

fn crash(point: Option<CrashPoint>) -> Result<u64, String> {
    let geometry = Geometry::of_shape(shape()).unwrap();
    let world = sim::World::new(1);
    let disk = world.add_disk("disk", blank(&geometry));
    let done = Rc::new(RefCell::new(Done::default()));
    if let Some(point) = point {
        world.crash_at(point);
    }
    let mut executor = Executor::new(&world);
    executor.set_limits(u64::MAX, u64::MAX);
    let machine = Machine {
        spawner: Rc::new(executor.spawner()),
        world: test_world(),
        disk: Arc::new(disk, GFP_KERNEL).unwrap(),
        config: config(geometry),
    };
    let task = executor.spawn("work", work(machine, done.clone()));
    let _ = executor.run_task(&task);
    executor.power_off();
    let done = done.borrow().clone();
    for (number, survival) in harness::survivals(1).iter().enumerate() {
        let mut rng = Rng::new(number as u64);
        let image = world.survivors(survival, &mut rng).remove(0);
        let done = done.clone();
        let checked = run(2, image, config(geometry), async move |machine| {
            check(machine, done).await
        });
        checked.map_err(|text| std::format!("{survival:?}: {text}"))?;
    }
    Ok(world.changes())
}

#[test]
fn at_every_write() {
    let runs = harness::enumerate_crash_points(crash).unwrap();
    assert!(runs > 50, "{runs}");
}

#[test]
fn a_clock_that_goes_back() {
    let geometry = Geometry::of_shape(shape()).unwrap();
    run(1, blank(&geometry), config(geometry), async |machine| {
        let opened = machine.open(true).await.unwrap();
        let mut rng = Rng::new(3);
        let mut batch = Batch::new(4).unwrap();
        let mut all = Vec::new();
        for _ in 0..4 {
            let record = Record {
                name: random_name(&mut rng),
                metadata: value(rng.next_u64()),
            };
            put(&opened.index, &mut batch, &[record]).await;
            all.push(record);
            opened.index.save().await.unwrap();
            *machine.world.time.lock().unwrap() -= 100_000;
        }
        opened.close().await;
        let opened = machine.open(false).await.unwrap();
        for record in &all {
            let found = look_up(&opened.index, &mut batch, &[record.name]).await[0];
            assert_eq!(found, Some(record.metadata));
        }
        opened.close().await;
    });
}

#[test]
fn a_device_that_fails() {
    let geometry = Geometry::of_shape(shape()).unwrap();
    run(1, blank(&geometry), config(geometry), async |machine| {
        let opened = machine.open(true).await.unwrap();
        let index = &opened.index;
        machine
            .disk
            .world()
            .add_fault(DiskFault::new(0, &[Kind::Write]));
        let mut rng = Rng::new(3);
        let mut batch = Batch::new(16).unwrap();
        for _ in 0..8 {
            let records: Vec<_> = (0..16)
                .map(|_| Record {
                    name: random_name(&mut rng),
                    metadata: value(rng.next_u64()),
                })
                .collect();
            put(index, &mut batch, &records).await;
        }
        assert_eq!(index.settle().await, Err(Error::Errno(EIO)));
        assert_eq!(index.failure(), Some(Error::Errno(EIO)));
        assert_eq!(index.save().await, Err(Error::Errno(EIO)));
        let name = random_name(&mut rng);
        assert_eq!(look_up(index, &mut batch, &[name]).await, [None]);
        opened.close().await;
        let log = machine.log().join("\n");
        assert!(log.contains("cannot write chapter 0"), "{log}");
    });
}
