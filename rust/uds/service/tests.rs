// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::format::geometry::Geometry;
use crate::index::tests::blank;
use crate::index::tests::config;
use crate::index::tests::look_up;
use crate::index::tests::put;
use crate::index::tests::random_name;
use crate::index::tests::shape;
use crate::index::tests::test_world;
use crate::index::tests::value;
use crate::index::tests::TestWorld;
use crate::index::Batch;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::Executor;
use sim::Rng;
use sim::SimDisk;
use std::string::String;
use std::vec::Vec;

struct Rig {
    service: Arc<Service<TestWorld>>,
    world: Arc<TestWorld>,
    disk: Arc<SimDisk>,
    rng: Rng,
    batch: Batch,
}

impl Rig {
    async fn until(&self, state: State) {
        while self.service.state() != state {
            sim::clock::sleep(self.disk.world(), 10).await;
        }
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.world.log.lock().unwrap())
    }

    fn records(&mut self, count: usize) -> Vec<Record> {
        let record = |_| Record {
            name: random_name(&mut self.rng),
            metadata: value(self.rng.next_u64()),
        };
        (0..count).map(record).collect()
    }

    /// Remembers names, if the index is in use.
    async fn put(&mut self, count: usize) -> Vec<Record> {
        let records = self.records(count);
        if let Some(index) = self.service.index() {
            for records in records.chunks(8) {
                put(&index, &mut self.batch, records).await;
                let _ = index.settle().await;
            }
        }
        records
    }

    /// Returns how many of these are known.
    async fn count(&mut self, records: &[Record]) -> usize {
        let Some(index) = self.service.index() else {
            return 0;
        };
        let mut count = 0;
        for record in records {
            let found = look_up(&index, &mut self.batch, &[record.name]).await[0];
            assert!(found.is_none_or(|found| found == record.metadata));
            count += usize::from(found.is_some());
        }
        count
    }
}

/// Runs `work` with a service, on a disk on which something takes time, and stops it.
fn run(work: impl AsyncFnOnce(&mut Rig)) {
    let geometry = Geometry::of_shape(shape()).unwrap();
    let world = sim::World::new(4);
    let disk = world.add_disk("disk", blank(&geometry));
    disk.set_latency(100..200);
    let disk = Arc::new(disk, GFP_KERNEL).unwrap();
    let test_world = test_world();
    let service = Service::new(test_world.clone(), disk.clone(), config(geometry), true);
    let service = Arc::new(service, GFP_KERNEL).unwrap();
    let mut rig = Rig {
        service: service.clone(),
        world: test_world,
        disk,
        rng: Rng::new(5),
        batch: Batch::new(8).unwrap(),
    };
    let mut executor = Executor::new(&world);
    executor.set_limits(u64::MAX, u64::MAX);
    let runner = service.clone();
    let control = executor.spawn("control", async move { runner.run().await });
    let runner = service.clone();
    let writer = executor.spawn("writer", async move { runner.write().await });
    let task = executor.spawn("test", async move {
        work(&mut rig).await;
        rig.service.stop();
    });
    executor.run_task(&task).unwrap();
    executor.run_task(&control).unwrap();
    executor.run_task(&writer).unwrap();
}

#[test]
fn a_life() {
    run(async |rig| {
        let service = rig.service.clone();
        assert_eq!(service.state(), State::Suspended);
        service.enable();
        service.resume();
        assert_eq!(service.state(), State::Opening);
        rig.until(State::Online).await;
        let first = rig.put(40).await;
        assert_eq!(rig.count(&first).await, 40);
        service.disable();
        assert_eq!(service.state(), State::Offline);
        assert!(service.index().is_none() && service.opened().is_some());
        service.enable();
        assert_eq!(rig.count(&first).await, 40);

        service.close();
        rig.until(State::Closed).await;
        assert!(service.opened().is_none());
        let log = rig.log().join("\n");
        assert!(
            log.contains("creating index\nbeginning save\nfinished save"),
            "{log}"
        );
        service.enable();
        rig.until(State::Online).await;
        assert_eq!(rig.count(&first).await, 40);

        service.suspend(true).await;
        assert_eq!(service.state(), State::Suspended);
        assert!(service.index().is_none());
        service.resume();
        assert_eq!(service.state(), State::Online);
        assert_eq!(rig.count(&first).await, 40);

        service.create();
        rig.until(State::Opening).await;
        rig.until(State::Online).await;
        assert_eq!(rig.count(&first).await, 0);
    });
}

#[test]
fn who_has_a_closed_index_does_not_harm_the_next() {
    run(async |rig| {
        let service = rig.service.clone();
        service.enable();
        service.resume();
        rig.until(State::Online).await;
        let known = rig.put(40).await;
        let old = service.index().unwrap();
        service.close();
        assert!(service.index().is_none());
        rig.until(State::Closed).await;
        let changes = rig.disk.world().changes();
        // More than a chapter.
        let late = rig.records(80);
        for records in late.chunks(8) {
            put(&old, &mut rig.batch, records).await;
            sim::clock::sleep(rig.disk.world(), 1000).await;
        }
        assert_eq!(rig.disk.world().changes(), changes);
        rig.log();
        service.enable();
        rig.until(State::Online).await;
        assert!(rig.log().join("\n").contains("loaded index"));
        assert_eq!((rig.count(&known).await, rig.count(&late).await), (40, 0));
    });
}

#[test]
fn what_comes_while_it_opens_is_kept() {
    run(async |rig| {
        let service = rig.service.clone();
        service.enable();
        service.resume();
        let records = rig.records(50);
        // Two rounds of what there is room for: some before the opening begins, some while.
        while service.state() == State::Opening {
            for record in &records {
                service.keep(record.name, record.metadata);
            }
            sim::clock::sleep(rig.disk.world(), 10).await;
        }
        assert_eq!(service.state(), State::Online);
        let known = rig.count(&records).await;
        assert!(known >= 30, "{known}");
    });
}

#[test]
fn a_rebuild_rests_while_suspended() {
    run(async |rig| {
        let service = rig.service.clone();
        service.enable();
        service.resume();
        rig.until(State::Online).await;
        let records = rig.put(200).await;
        // A save that cannot be made is as good as a crash.
        rig.disk.world().add_fault(Fault::new(0, &[Kind::Write]));
        service.close();
        rig.until(State::Closed).await;
        rig.disk.world().clear_faults();
        rig.log();
        service.enable();
        let mut rests = 0;
        while service.state() == State::Opening {
            sim::clock::sleep(rig.disk.world(), 700).await;
            service.suspend(true).await;
            assert_eq!(service.state(), State::Suspended);
            sim::clock::sleep(rig.disk.world(), 10_000).await;
            service.resume();
            rests += 1;
        }
        assert!(rests > 1);
        let log = rig.log().join("\n");
        assert_eq!(log.matches("Replaying volume").count(), 1, "{log}");
        assert_eq!(rig.count(&records).await, 192);
    });
}

#[test]
fn failures_are_shown() {
    run(async |rig| {
        let service = rig.service.clone();
        rig.disk.world().add_fault(Fault::new(0, &[Kind::Write]));
        service.enable();
        service.resume();
        rig.until(State::Error).await;
        let log = rig.log().join("\n");
        assert!(
            log.contains("Error opening index") && log.contains("event"),
            "{log}"
        );
        assert!(service.index().is_none());
        // Again, and still no luck.
        service.create();
        rig.until(State::Error).await;
        rig.disk.world().clear_faults();
        service.create();
        rig.until(State::Online).await;
        // A chapter cannot be written.
        rig.disk.world().add_fault(Fault::new(0, &[Kind::Write]));
        rig.put(80).await;
        rig.until(State::Error).await;
        assert!(service.index().is_none());
        service.suspend(true).await;
        service.resume();
        assert_eq!(service.state(), State::Error);
        rig.disk.world().clear_faults();
        service.enable();
        rig.until(State::Online).await;
    });
}

#[test]
fn tasks_may_move_between_cpus() {
    fn is_send<T: Send>(_: T) {}
    run(async |rig| {
        is_send(rig.service.run());
        is_send(rig.service.write());
        is_send(rig.service.suspend(true));
    });
}
