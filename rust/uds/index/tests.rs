// SPDX-License-Identifier: GPL-2.0

mod concurrent;
mod crash;
mod mainline;
mod model;

use super::*;
use crate::control::Control;
use crate::format::geometry::Shape;
use crate::format::Memory;
use core::fmt;
use sim::executor::Join;
use sim::executor::Spawner;
use sim::Executor;
use sim::Rng;
use sim::SimDisk;
use std::string::String;
use std::string::ToString;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

pub(crate) const START: u64 = 1;

/// A world whose clock stands where it is put.
pub(crate) struct TestWorld {
    pub(crate) time: Mutex<u64>,
    pub(crate) log: Mutex<Vec<String>>,
}

impl World for TestWorld {
    type Disk = SimDisk;

    fn log(&self, _: Level, text: fmt::Arguments<'_>) {
        self.log.lock().unwrap().push(text.to_string());
    }

    fn event(&self) {
        self.log.lock().unwrap().push("event".to_string());
    }

    fn time_of_day_ms(&self) -> u64 {
        let mut time = self.time.lock().unwrap();
        *time += 1;
        *time
    }

    fn random(&self) -> u64 {
        self.time_of_day_ms().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

pub(crate) fn shape() -> Shape {
    Shape {
        page_size: 4096,
        page_records: 16,
        record_pages: 2,
        chapters: 8,
        sparse_chapters: 0,
        sample_rate: 0,
    }
}

pub(crate) fn config(geometry: Geometry) -> Config {
    Config {
        geometry,
        start: START,
        blocks: geometry.total_blocks(),
        owner: 77,
    }
}

pub(crate) fn blank(geometry: &Geometry) -> Vec<u8> {
    vec![0; (START + geometry.total_blocks()) as usize * 4096]
}

/// A machine with an index on its disk.
#[derive(Clone)]
struct Machine<'a> {
    spawner: std::rc::Rc<Spawner<'a>>,
    world: Arc<TestWorld>,
    disk: Arc<SimDisk>,
    config: Config,
}

/// An index that is open, and the task that writes its chapters.
struct Opened {
    index: Arc<Index<TestWorld>>,
    writer: Join<()>,
}

impl Opened {
    async fn close(self) {
        self.index.stop();
        self.writer.await;
    }
}

impl Machine<'_> {
    async fn open(&self, anew: bool) -> Result<Opened> {
        let control = Control::new();
        let opened = open(&self.world, &self.disk, &self.config, anew, &control);
        let index = opened.await?;
        let writer = index.clone();
        let writer = self
            .spawner
            .spawn_daemon("writer", async move { writer.write_chapters().await });
        Ok(Opened { index, writer })
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.world.log.lock().unwrap())
    }
}

/// Runs `work` on a machine with this disk.
fn run<T: 'static>(
    seed: u64,
    image: Vec<u8>,
    config: Config,
    work: impl for<'a> AsyncFnOnce(Machine<'a>) -> T,
) -> T {
    let world = sim::World::new(seed);
    let disk = world.add_disk("disk", image);
    let mut executor = Executor::new(&world);
    executor.set_limits(u64::MAX, u64::MAX);
    let machine = Machine {
        spawner: std::rc::Rc::new(executor.spawner()),
        world: test_world(),
        disk: Arc::new(disk, GFP_KERNEL).unwrap(),
        config,
    };
    let task = executor.spawn("test", work(machine));
    executor.run_task(&task).unwrap()
}

pub(crate) fn test_world() -> Arc<TestWorld> {
    let world = TestWorld {
        time: Mutex::new(1_000_000),
        log: Mutex::default(),
    };
    Arc::new(world, GFP_KERNEL).unwrap()
}

pub(crate) fn random_name(rng: &mut Rng) -> Name {
    let halves = [rng.next_u64(), rng.next_u64()];
    let mut name = Name::default();
    name.0[..8].copy_from_slice(&halves[0].to_le_bytes());
    name.0[8..].copy_from_slice(&halves[1].to_le_bytes());
    name
}

pub(crate) fn value(number: u64) -> Metadata {
    u128::from(number).to_le_bytes()
}

/// Looks names up, and says what is known of each.
pub(crate) async fn look_up(
    index: &Index<TestWorld>,
    batch: &mut Batch,
    names: &[Name],
) -> Vec<Option<Metadata>> {
    batch.clear();
    for (tag, name) in (0..).zip(names) {
        assert!(batch.push(*name, tag));
    }
    index.look_up(batch).await;
    let mut found = vec![None; names.len()];
    for item in batch.items() {
        assert_eq!(item.name, names[item.tag as usize]);
        found[item.tag as usize] = item.advice;
    }
    found
}

/// Looks names up and remembers each with what goes with it.
pub(crate) async fn put(index: &Index<TestWorld>, batch: &mut Batch, records: &[Record]) {
    let names: Vec<_> = records.iter().map(|record| record.name).collect();
    look_up(index, batch, &names).await;
    index.remember(batch, |item| Some(records[item.tag as usize].metadata));
}

#[test]
fn tasks_may_move_between_cpus() {
    fn is_send<T: Send>(_: T) {}
    let geometry = Geometry::of_shape(shape()).unwrap();
    run(0, blank(&geometry), config(geometry), async |machine| {
        let control = Control::new();
        let (world, disk) = (&machine.world, &machine.disk);
        is_send(open(world, disk, &machine.config, false, &control));
        let opened = machine.open(true).await.unwrap();
        let mut batch = Batch::new(1).unwrap();
        is_send(opened.index.look_up(&mut batch));
        is_send(opened.index.save());
        is_send(opened.index.next_full());
        is_send(opened.index.write_chapter(0));
        is_send(opened.index.write_chapters());
        opened.close().await;
    });
}

#[test]
fn what_is_remembered_is_found() {
    let geometry = Geometry::of_shape(shape()).unwrap();
    run(1, blank(&geometry), config(geometry), async |machine| {
        let opened = machine.open(false).await.unwrap();
        let index = &opened.index;
        let mut batch = Batch::new(16).unwrap();
        let mut rng = Rng::new(2);
        let names: Vec<_> = (0..10).map(|_| random_name(&mut rng)).collect();
        assert_eq!(look_up(index, &mut batch, &names).await, [None; 10]);
        index.remember(&mut batch, |item| {
            (item.tag != 3).then(|| value(item.tag.into()))
        });
        let found = look_up(index, &mut batch, &names).await;
        for (number, found) in (0..).zip(found) {
            assert_eq!(found, (number != 3).then(|| value(number)));
        }
        opened.close().await;
    });
}

#[test]
fn names_that_come_while_others_are_kept_out_are_counted() {
    let geometry = Geometry::of_shape(shape()).unwrap();
    run(3, blank(&geometry), config(geometry), async |machine| {
        let opened = machine.open(false).await.unwrap();
        let index = &opened.index;
        let mut batch = Batch::new(4).unwrap();
        let mut rng = Rng::new(4);
        let names: Vec<_> = (0..4).map(|_| random_name(&mut rng)).collect();
        let known = |item: &Item| (item.tag > 0).then(|| value(7));
        look_up(index, &mut batch, &names).await;
        index.freeze().await.unwrap();
        index.remember(&mut batch, known);
        index.remember_unasked(names[0], value(8));
        assert_eq!((index.dropped(), index.asked().updated), (4, 0));
        index.thaw();
        assert_eq!(look_up(index, &mut batch, &names).await, [None; 4]);
        index.remember(&mut batch, known);
        assert_eq!(index.dropped(), 4);
        opened.close().await;
    });
}
