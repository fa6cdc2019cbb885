// SPDX-License-Identifier: GPL-2.0

//! A volume's engine: users, workers and the tasks behind them on different CPUs.
//!
//! The volume is a toy. It is started, and its block map made, by one thread; then some of its
//! tasks and the users go on as threads of their own. The storage is memory.

#![cfg(loom)]

mod vdo_host;

use interleavings::block_on;
use interleavings::explore;
use interleavings::world::Memory;
use interleavings::world::Still;
use kernel::prelude::*;
use kernel::sync::Arc;
use loom::thread;
use std::future::Future;
use vdo::storage::Storage;
use vdo::tuning::Tuning;
use vdo::volume::engine::Engine;
use vdo::volume::load;
use vdo::volume::load::Found;
use vdo::world::Operation;
use vdo::world::ReadBio;
use vdo_host::drive;
use vdo_host::Host;
use vdo_host::Task;
use vdo_sim::bio::SimBio;
use vdo_sim::bio::Wait;
use vdo_sim::inspect;
use vdo_sim::plan::Plan;

/// A read of one block.
struct Read {
    sector: u64,
    disk: Memory,
    data: Vec<u8>,
}

impl ReadBio for Read {
    fn sector(&self) -> u64 {
        self.sector
    }

    fn sectors(&self) -> u32 {
        8
    }

    async fn forward(&mut self, sector: u64) -> Result {
        self.data = self.disk.bytes(sector, 8);
        Ok(())
    }

    async fn start_part(&mut self, offset: usize, sector: u64, sectors: u32) -> Result {
        let bytes = self.disk.bytes(sector, sectors);
        self.copy_in(offset, &bytes);
        Ok(())
    }

    async fn finish_parts(&mut self) -> Result {
        Ok(())
    }

    fn zero(&mut self, offset: usize, bytes: usize) {
        self.data[offset..offset + bytes].fill(0);
    }

    fn copy_in(&mut self, offset: usize, data: &[u8]) {
        self.data[offset..offset + data.len()].copy_from_slice(data);
    }

    async fn leave_map(&mut self) {}
}

/// A volume that runs, and those of its tasks that no thread has.
struct Volume {
    engine: Arc<Engine<Host>>,
    disk: Memory,
    plan: Plan,
    /// The workers, and the claimer behind them.
    workers: Vec<Task>,
    journal_writer: Option<Task>,
    others: Vec<Task>,
}

impl Volume {
    /// A volume with so many workers, whose block 0 has been written and flushed.
    fn new(workers: usize) -> Self {
        let plan = Plan::default();
        let toy = &plan.toy;
        let disk = Memory::new(toy.formatted(0));
        let shared = Arc::new(disk.clone(), GFP_KERNEL).unwrap();
        let Ok(Found::Volume(geometry)) = block_on(load::find(&*shared)) else {
            panic!("no volume");
        };
        let storage = Storage::new(shared.clone(), geometry.bio_offset);
        let super_block = block_on(load::read_super_block(&storage, &geometry));
        let tuning = Tuning {
            workers,
            small_workers: 0,
            small_blocks: 0,
            claimers: 1,
            packers: 1,
            batch_blocks: 2,
            fragment_reads: 1,
            journal_memory_blocks: 2,
            journal_io_blocks: 2,
            commit_delay_ms: 5,
            cache_pages: toy.cache_pages,
            maximum_age: toy.max_age,
            slab_journal_pages: 2,
            io_pages: 1,
            journal_grant: usize::MAX,
            journal_shape: toy.journal_shape,
            slab_journal_shape: toy.slab_journal_shape,
            index_shape: None,
        };
        let super_block = super_block.unwrap().ok().unwrap();
        let engine = Engine::new(Host(Still), shared, &geometry, super_block, tuning).unwrap();
        let engine = Arc::new(engine, GFP_KERNEL).unwrap();
        let mut volume = Self {
            workers: Vec::new(),
            journal_writer: None,
            others: Vec::new(),
            engine: engine.clone(),
            disk,
            plan: plan.clone(),
        };
        for worker in 0..workers {
            let batch = engine.batch(worker).unwrap();
            let worker = Engine::run_worker(engine.clone(), batch);
            volume.workers.push(Box::pin(worker));
        }
        volume.journal_writer = Some(Box::pin(Engine::run_journal_writer(engine.clone())));
        let writer = engine.page_writer().unwrap();
        volume
            .workers
            .push(Box::pin(Engine::run_claimer(engine.clone())));
        volume
            .others
            .push(Box::pin(Engine::run_applier(engine.clone())));
        volume
            .others
            .push(Box::pin(Engine::run_page_writer(engine.clone(), writer)));
        volume
            .others
            .push(Box::pin(Engine::run_slab_committer(engine.clone())));
        volume
            .others
            .push(Box::pin(Engine::run_reference_writer(engine.clone())));
        volume
            .others
            .push(Box::pin(Engine::run_scrubber(engine.clone())));
        volume.drive(engine.start(toy.logical_blocks)).unwrap();
        let first = volume.submit(0);
        volume.drive(first).unwrap();
        volume.drive(engine.flush()).unwrap();
        volume
    }

    /// Polls `future` and all tasks until it is done.
    fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        let tasks = self.workers.iter_mut().chain(&mut self.journal_writer);
        drive(future, tasks.chain(&mut self.others))
    }

    /// Writes block 0, with a content of its own for each `version`.
    fn submit(&self, version: u8) -> Wait {
        let (bio, wait) = SimBio::new(Operation::Write, false, 0, 8, content(version));
        self.engine.submit(bio);
        wait
    }

    /// Returns what block 0 holds.
    fn read(&self) -> Vec<u8> {
        let mut bio = Read {
            sector: 0,
            disk: self.disk.clone(),
            data: vec![0; 4096],
        };
        block_on(self.engine.read(&mut bio)).unwrap();
        bio.data
    }

    /// Returns what block 0 would hold after a crash that keeps what was written so far.
    fn recovered(&self) -> Vec<u8> {
        let found = inspect::crashed(&self.plan, &self.disk.image());
        found.unwrap().unwrap().content[..4096].to_vec()
    }

    fn run_workers(&mut self) -> Vec<thread::JoinHandle<()>> {
        let tasks = self.workers.drain(..);
        tasks.map(|task| thread::spawn(|| block_on(task))).collect()
    }
}

fn content(version: u8) -> Vec<u8> {
    vec![0xC0 + version; 4096]
}

fn end(volume: Volume, threads: Vec<thread::JoinHandle<()>>) {
    volume.engine.stop();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Claims keep out newer writers for as long as older data is shown.
#[test]
fn a_read_finds_what_was_acknowledged_last() {
    explore(1, || {
        let mut volume = Volume::new(2);
        let first = volume.submit(1);
        let threads = volume.run_workers();
        block_on(first).unwrap();
        assert_eq!(volume.read()[0], content(1)[0]);
        block_on(volume.submit(2)).unwrap();
        assert_eq!(volume.read()[0], content(2)[0]);
        end(volume, threads);
    });
}

/// What is acknowledged is unsettled until the journal has it, and a flush waits for that.
#[test]
fn a_flush_covers_what_was_acknowledged_before() {
    explore(1, || {
        let mut volume = Volume::new(1);
        let first = volume.submit(1);
        let mut threads = volume.run_workers();
        let writer = volume.journal_writer.take().unwrap();
        threads.push(thread::spawn(|| block_on(writer)));
        block_on(first).unwrap();
        block_on(volume.engine.flush()).unwrap();
        assert_eq!(volume.recovered()[0], content(1)[0]);
        end(volume, threads);
    });
}
