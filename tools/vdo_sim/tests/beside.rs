// SPDX-License-Identifier: GPL-2.0

//! Requests of every kind end while others keep the volume busy.

use kernel::prelude::Result;
use runtime::disk::SECTOR_SIZE;
use sim::harness;
use sim::Executor;
use sim::Outcome;
use sim::World;
use std::cell::Cell;
use std::rc::Rc;
use vdo::world::Operation;
use vdo_sim::machine::Machine;
use vdo_sim::plan::Plan;
use vdo_sim::toy::BLOCK_SECTORS;

/// Writers, each of which has a write on its way all the time: more than the workers take at once.
const WRITERS: u64 = 16;

/// A write that fills a batch.
const WRITE_BLOCKS: u64 = 7;

/// While a request waits no more writes than this may be begun and end: a worker's share before it
/// takes a discard, for each worker, what they have in hand, and as much again while the request
/// is served, which takes some I/O.
const MOST_WRITES: u64 = 60;

/// What the writers have done, and when they are to stop.
#[derive(Default)]
struct Load {
    written: Cell<u64>,
    stop: Cell<bool>,
}

/// What is asked for beside the writers.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Discard,
    WriteZeroes,
    Write,
    WritePart,
    WriteFua,
    Flush,
    Read,
}

const ALL: [Asked; 7] = [
    Asked::Discard,
    Asked::WriteZeroes,
    Asked::Write,
    Asked::WritePart,
    Asked::WriteFua,
    Asked::Flush,
    Asked::Read,
];

/// Writes to blocks of its own until it is told to stop.
async fn write(machine: Rc<Machine>, load: Rc<Load>, number: u64) {
    let sectors = WRITE_BLOCKS * BLOCK_SECTORS;
    let data = vec![number as u8 + 1; sectors as usize * SECTOR_SIZE];
    let start = 8 * number * BLOCK_SECTORS;
    while !load.stop.get() {
        let written = machine.submit(Operation::Write, false, start, sectors, &data);
        written.await.expect("a write");
        load.written.set(load.written.get() + 1);
        assert!(
            load.written.get() < 20 * MOST_WRITES,
            "what was asked for starves"
        );
    }
}

/// Asks for something that concerns blocks which the writers leave alone.
async fn ask(machine: &Machine, asked: Asked) -> Result {
    let start = 8 * WRITERS * BLOCK_SECTORS;
    let (count, fua) = (4 * BLOCK_SECTORS, matches!(asked, Asked::WriteFua));
    let data = vec![0xa5; count as usize * SECTOR_SIZE];
    match asked {
        Asked::Discard => {
            let discard = machine.submit(Operation::Discard, false, start, count, &[]);
            discard.await
        }
        Asked::WriteZeroes => {
            let zero = machine.submit(Operation::WriteZeroes, false, start, count, &[]);
            zero.await
        }
        Asked::Write | Asked::WriteFua => {
            let write = machine.submit(Operation::Write, fua, start, count, &data);
            write.await
        }
        Asked::WritePart => {
            let write = machine.submit(Operation::Write, false, start + 3, 2, &data[..1024]);
            write.await
        }
        Asked::Flush => machine.submit(Operation::Flush, false, 0, 0, &[]).await,
        Asked::Read => machine.read(start, count).await.1,
    }
}

fn ends_beside_writers(seed: u64, asked: Asked) -> core::result::Result<(), String> {
    let mut plan = Plan {
        journal_memory_blocks: 4,
        ..Plan::default()
    };
    plan.toy.layout.slabs = 24;
    plan.toy.cache_pages = 4;
    let world = World::new(seed);
    let mut executor = Executor::new(&world);
    let machine = Machine::new(&world, executor.spawner(), &plan, plan.image());
    let most = Rc::new(Cell::new(0));
    let (spawner, taken) = (executor.spawner(), most.clone());
    executor.spawn("driver", async move {
        machine.start().await.expect("a start");
        let load = Rc::<Load>::default();
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| spawner.spawn("writer", write(machine.clone(), load.clone(), number)))
            .collect();
        // What is asked for is there already, and the load has begun.
        ask(&machine, Asked::Write).await.expect("a write");
        let before = load.written.get();
        ask(&machine, asked).await.expect("what was asked for");
        taken.set(load.written.get() - before);
        load.stop.set(true);
        for writer in writers {
            writer.await;
        }
        machine.remove().await;
    });
    match executor.run() {
        Outcome::Done if most.get() <= MOST_WRITES => Ok(()),
        Outcome::Done => Err(format!("{asked:?} waited for {} writes", most.get())),
        outcome => Err(format!("{outcome:?}")),
    }
}

#[test]
fn every_kind_of_request_ends_beside_writers() {
    harness::run_seeds(
        harness::seeds(800),
        "cargo test -p vdo_sim --test beside",
        |seed| ends_beside_writers(seed, ALL[seed as usize % ALL.len()]),
    );
}
