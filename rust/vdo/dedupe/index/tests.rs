// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::error::Error;
use crate::fixture::world::arc;
use crate::fixture::world::TestWorld;
use crate::format::geometry::GeometryVersion;
use crate::format::index::IndexMemory;
use sim::clock::sleep;
use sim::Executor;
use sim::SimDisk;
use std::rc::Rc;
use std::string::String;
use std::vec;

const SHAPE: Shape = Shape {
    page_size: 4096,
    page_records: 8,
    record_pages: 2,
    chapters: 4,
    sparse_chapters: 0,
    sample_rate: 0,
};

/// A volume of which the first block was taken away.
const OFFSET: u64 = 5;

fn geometry() -> Geometry {
    let blocks = uds::format::Geometry::of_shape(SHAPE)
        .unwrap()
        .total_blocks();
    Geometry {
        version: GeometryVersion::V5,
        unused: 0,
        nonce: 42,
        uuid: [0; 16],
        bio_offset: OFFSET,
        region_ids: [0, 1],
        index_start: OFFSET + 1,
        data_start: OFFSET + 1 + blocks,
        index_memory: IndexMemory::QUARTER,
        sparse: 0,
    }
}

struct Rig {
    session: Session<TestWorld>,
    world: Arc<TestWorld>,
    disk: SimDisk,
    health: Arc<Health>,
}

impl Rig {
    async fn until(&self, state: IndexState) {
        while self.session.state() != state {
            sleep(self.disk.world(), 10).await;
        }
    }

    fn said(&self, text: &str) -> usize {
        let is_it = |line: &&String| line.contains(text);
        self.world.lines().iter().filter(is_it).count()
    }
}

/// Runs `work` with the session of a new volume.
fn run(work: impl AsyncFnOnce(&Rig)) {
    let geometry = geometry();
    let world = sim::World::new(7);
    let image = vec![0; (geometry.data_start - OFFSET) as usize * 4096];
    let disk = world.add_disk("disk", image);
    disk.set_latency(100..200);
    let test_world = TestWorld::new(&world);
    let storage = arc(Storage::new(arc(disk.clone()), OFFSET));
    let health = arc(Health::new(false));
    let region = place(&geometry, Some(SHAPE));
    let session = Session::new(test_world.clone(), storage, health.clone(), region, true);
    let rig = Rc::new(Rig {
        session: session.unwrap(),
        world: test_world,
        disk,
        health,
    });
    let mut executor = Executor::new(&world);
    let own = rig.clone();
    let control = executor.spawn("control", async move { own.session.run().await });
    let own = rig.clone();
    let writer = executor.spawn("writer", async move { own.session.write_chapters().await });
    let test = executor.spawn("test", async move {
        work(&rig).await;
        rig.session.stop();
    });
    executor.run_task(&test).unwrap();
    executor.run_task(&control).unwrap();
    executor.run_task(&writer).unwrap();
}

#[test]
fn it_follows_orders_and_the_volume() {
    run(async |rig| {
        let session = &rig.session;
        assert_eq!(session.state(), IndexState::Closed);
        session.order(IndexOrder::Enable);
        // The volume does not run yet.
        sleep(rig.disk.world(), 10_000).await;
        assert_eq!(session.state(), IndexState::Closed);
        assert_eq!(rig.said("creating index"), 0);
        session.resume();
        assert_eq!(session.state(), IndexState::Opening);
        rig.until(IndexState::Online).await;
        assert_eq!(rig.said("Setting UDS index target state to online"), 1);
        assert!(session.index().is_some());

        session.order(IndexOrder::Disable);
        assert_eq!(session.state(), IndexState::Offline);
        assert!(session.index().is_none());
        session.order(IndexOrder::Enable);
        assert_eq!(session.state(), IndexState::Online);

        session.suspend(true).await;
        assert_eq!(session.state(), IndexState::Closed);
        assert!(session.index().is_none());
        assert_eq!(rig.said("finished save"), 1);
        session.resume();
        assert_eq!(session.state(), IndexState::Online);

        session.order(IndexOrder::Close);
        assert_eq!(session.state(), IndexState::Closing);
        rig.until(IndexState::Closed).await;
        assert!(session.index().is_none());
        // Nothing had changed.
        assert_eq!(rig.said("finished save"), 1);
        session.order(IndexOrder::Enable);
        rig.until(IndexState::Online).await;
        assert_eq!(rig.said("creating index"), 1);
        session.order(IndexOrder::Create);
        rig.until(IndexState::Opening).await;
        rig.until(IndexState::Online).await;
        assert_eq!(rig.said("creating index"), 2);
    });
}

#[test]
fn a_volume_that_cannot_be_written_has_none() {
    run(async |rig| {
        let session = &rig.session;
        session.order(IndexOrder::Enable);
        session.resume();
        rig.until(IndexState::Online).await;
        rig.health.enter_read_only(Error::Errno(EIO));
        assert_eq!(session.state(), IndexState::Closed);
        session.suspend(false).await;
        session.resume();
        session.order(IndexOrder::Create);
        let changes = rig.disk.world().changes();
        sleep(rig.disk.world(), 100_000).await;
        assert_eq!(rig.disk.world().changes(), changes);
        assert!(session.index().is_none());
    });
}

#[test]
fn a_failure_is_told() {
    run(async |rig| {
        let session = &rig.session;
        let fault = sim::fault::Fault::new(0, &[sim::fault::Kind::Write]);
        rig.disk.world().add_fault(fault);
        session.order(IndexOrder::Enable);
        session.resume();
        rig.until(IndexState::Error).await;
        assert_eq!(rig.said("Setting UDS index target state to error"), 1);
        rig.disk.world().clear_faults();
        session.order(IndexOrder::Enable);
        rig.until(IndexState::Online).await;
        assert_eq!(rig.said("Setting UDS index target state to online"), 2);
    });
}

#[test]
fn a_volume_without_room_for_one_goes_without() {
    assert!(place(&geometry(), None).is_none());
    let mut other = geometry();
    other.index_memory = IndexMemory(0);
    assert_eq!(shape(&other), None);
    assert!(shape(&geometry()).is_some());
    let found = place(&geometry(), Some(SHAPE)).unwrap();
    assert_eq!((found.start, found.owner), (1, 42));
}
