// SPDX-License-Identifier: GPL-2.0

//! A clone's engine: users and a worker on different CPUs.
//!
//! The simulator lets tasks run only one after the other, up to where they wait. Here they may
//! meet between any two steps. The devices are memory, and complete at once.

#![cfg(loom)]

use clone::copier::Tools;
use clone::engine::Engine;
use clone::engine::Settings;
use clone::engine::World;
use clone::geometry::Geometry;
use clone::hydration::Tuning;
use clone::route::Job;
use clone::route::Operation;
use clone::route::Request;
use clone::route::Route;
use clone::route::Side;
use clone::route::Verdict;
use clone::volume::Volume;
use interleavings::block_on;
use interleavings::explore;
use interleavings::world::Memory;
use interleavings::world::Still;
use kernel::prelude::*;
use kernel::sync::Arc;
use loom::thread;
use std::fmt;
use std::ops::Range;

struct Host(Still);

impl World for Host {
    type Disk = Memory;
    type Clock = Still;

    fn clock(&self) -> &Still {
        &self.0
    }

    fn event(&self) {}

    fn error(&self, _: fmt::Arguments<'_>) {}

    fn hydration_failed(&self) {
        panic!("a copy failed");
    }

    fn throttle_percent(&self) -> u32 {
        100
    }
}

const OLD: u8 = 1;
const NEW: u8 = 2;
const BLANK: u8 = 3;

fn filled(sectors: usize, content: u8) -> Memory {
    Memory::new(vec![content; sectors * 512])
}

/// A clone of one region.
struct Device {
    engine: Arc<Engine<Host>>,
    source: Memory,
    destination: Memory,
}

/// A write or discard in the hands of the engine.
struct Bio {
    destination: Memory,
    sectors: Range<u64>,
}

impl Request for Bio {
    async fn forward(&mut self) -> Result {
        self.destination.fill(self.sectors.clone(), NEW);
        Ok(())
    }
}

impl Device {
    fn new(hydration: bool) -> std::sync::Arc<Self> {
        let geometry = Geometry::new(8, 3).unwrap();
        let metadata = Arc::new(filled(16 * 8, 0), GFP_KERNEL).unwrap();
        let volume = block_on(Volume::load(metadata.clone(), geometry, false)).unwrap();
        block_on(volume.activate(metadata, false)).unwrap();
        let (source, destination) = (filled(8, OLD), filled(8, BLANK));
        let settings = Settings {
            hydration,
            discard_passdown: true,
            large_pages: clone::copier::LARGE_PAGES,
            // A worker with a small buffer takes single regions only.
            tuning: Tuning {
                threshold: None,
                batch_size: Some(1),
            },
            read_only: false,
        };
        let volume = Arc::new(volume, GFP_KERNEL).unwrap();
        let engine = Engine::new(
            Host(Still),
            volume,
            source.clone(),
            destination.clone(),
            settings,
        );
        let engine = Arc::new(engine.unwrap(), GFP_KERNEL).unwrap();
        engine.resume();
        std::sync::Arc::new(Self {
            engine,
            source,
            destination,
        })
    }

    fn worker(&self) -> thread::JoinHandle<()> {
        let tools = Tools::new(&self.engine, 1).unwrap();
        let engine = self.engine.clone();
        thread::spawn(move || block_on(Engine::run_worker(engine, tools)))
    }

    /// Does what `map()` and the task behind it do.
    fn request(&self, operation: Operation, sectors: Range<u64>) {
        let destination = self.destination.clone();
        let bio = Bio {
            destination,
            sectors: sectors.clone(),
        };
        match self.engine.route(operation, sectors) {
            Route::Remap(Side::Destination, front) => self.destination.fill(front, NEW),
            Route::Serve(job, front) => self.serve(
                job,
                Bio {
                    sectors: front,
                    ..bio
                },
            ),
            route => panic!("{route:?}"),
        }
    }

    fn serve(&self, job: Job, mut bio: Bio) {
        match block_on(self.engine.serve(job, &mut bio)) {
            Verdict::Remap => block_on(bio.forward()).unwrap(),
            Verdict::End(result) => result.unwrap(),
        }
    }

    /// Returns what a user reads at `sector`.
    fn read(&self, sector: u64) -> u8 {
        match self.engine.route(Operation::Read, sector..sector + 1) {
            Route::Remap(Side::Source, _) => self.source.at(sector),
            Route::Remap(Side::Destination, _) => self.destination.at(sector),
            route => panic!("{route:?}"),
        }
    }
}

const WRITE: Operation = Operation::Write { fua: false };

/// Runs `request` while a worker hydrates, then `check`.
fn beside_hydration(
    request: impl Fn(&Device) + Send + Sync + 'static,
    check: impl Fn(&Device) + Send + Sync + 'static,
) {
    explore(2, move || {
        let device = Device::new(true);
        let worker = device.worker();
        request(&device);
        check(&device);
        device.engine.stop();
        worker.join().unwrap();
        check(&device);
    });
}

#[test]
fn hydration_does_not_undo_a_whole_write() {
    beside_hydration(
        |device| device.request(WRITE, 0..8),
        |device| assert_eq!([device.read(0), device.read(7)], [NEW, NEW]),
    );
}

#[test]
fn hydration_does_not_undo_a_partial_write() {
    beside_hydration(
        |device| device.request(WRITE, 2..4),
        |device| {
            let read = [0, 2, 3, 4].map(|sector| device.read(sector));
            assert_eq!(read, [OLD, NEW, NEW, OLD]);
        },
    );
}

#[test]
fn hydration_does_not_undo_a_write_after_a_discard() {
    beside_hydration(
        |device| {
            device.request(Operation::Discard, 0..8);
            device.request(WRITE, 2..4);
        },
        |device| assert_eq!([device.read(2), device.read(3)], [NEW, NEW]),
    );
}

#[test]
fn reads_during_hydration_find_the_data() {
    beside_hydration(|_| {}, |device| assert_eq!(device.read(0), OLD));
}

#[test]
fn writers_of_a_region_do_not_undo_each_other() {
    explore(2, || {
        let device = Device::new(false);
        let worker = device.worker();
        let other = device.clone();
        let other = thread::spawn(move || other.request(WRITE, 0..8));
        device.request(WRITE, 2..4);
        assert_eq!(device.read(2), NEW);
        other.join().unwrap();
        device.engine.stop();
        worker.join().unwrap();
        assert_eq!([0, 2, 4].map(|sector| device.read(sector)), [NEW; 3]);
    });
}
