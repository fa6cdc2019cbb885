// SPDX-License-Identifier: GPL-2.0

//! Storage that does not take data: what that costs, and when it is over.

use kernel::prelude::Result;
use runtime::disk::SECTOR_SIZE;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::Executor;
use sim::Outcome;
use sim::World;
use std::future::Future;
use std::rc::Rc;
use vdo::format::Pbn;
use vdo::world::Operation;
use vdo_sim::bio::SimBio;
use vdo_sim::machine::Machine;
use vdo_sim::plan::Plan;
use vdo_sim::toy;
use vdo_sim::toy::BLOCK_SECTORS;

/// Runs a test on a new volume. The applier has time to free what was overwritten before each look
/// at what is free.
fn on_a_volume<F>(plan: &Plan, test: impl FnOnce(Rc<Machine>) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let world = World::new(1);
    let mut executor = Executor::new(&world);
    let machine = Machine::new(&world, executor.spawner(), plan, plan.image());
    let test = test(machine.clone());
    executor.spawn("driver", async move {
        machine.start().await.expect("a start");
        test.await;
        machine.world.clear_faults();
        machine.remove().await;
    });
    assert_eq!(executor.run(), Outcome::Done);
}

async fn write(machine: &Machine, lbn: u64, blocks: u64, fill: u8, fua: bool) -> Result {
    let sectors = blocks * BLOCK_SECTORS;
    let data = vec![fill; sectors as usize * SECTOR_SIZE];
    let write = machine.submit(Operation::Write, fua, lbn * BLOCK_SECTORS, sectors, &data);
    write.await
}

/// Returns how many blocks are free when everything is done that the writes so far have asked for.
async fn free(machine: &Machine) -> u64 {
    let flush = machine.submit(Operation::Flush, false, 0, 0, &[]);
    flush.await.expect("a flush");
    sim::clock::sleep(&machine.world, 100_000).await;
    machine.free()
}

/// No write to slabs succeeds.
fn refuse_data(machine: &Machine) {
    let sectors = machine.toy().layout.slab_sectors();
    let fault = Fault::new(0, &[Kind::Write]).sectors(sectors);
    machine.world.add_fault(fault);
}

/// Returns the last block on the storage that is full of `fill`.
fn last_block_of(machine: &Machine, fill: u8) -> Pbn {
    let image = machine.world.images().swap_remove(0);
    let is_full = |&pbn: &Pbn| toy::block(&image, pbn).iter().all(|byte| *byte == fill);
    let layout = machine.toy().layout;
    let mut slabs = layout.depot().first_block..layout.journal();
    slabs.rfind(is_full).expect("it was written")
}

/// A volume whose pages are not written soon: those are in slabs, too.
fn plan() -> Plan {
    let mut plan = Plan::default();
    plan.toy.layout.journal_blocks = 64;
    plan.toy.max_age = 60;
    plan
}

#[test]
fn a_storage_that_fails_for_a_while_uses_up_no_space() {
    on_a_volume(&plan(), |machine| async move {
        write(&machine, 0, 1, 1, true).await.expect("a write");
        let before = free(&machine).await;
        refuse_data(&machine);
        for _ in 0..200 {
            write(&machine, 0, 1, 2, true).await.expect_err("no data");
        }
        machine.world.clear_faults();
        assert_eq!(free(&machine).await, before);
        write(&machine, 0, 1, 3, true).await.expect("a write");
    });
}

#[test]
fn a_storage_that_fails_does_not_drown_the_log() {
    let plan = Plan {
        small_sectors: true,
        ..plan()
    };
    on_a_volume(&plan, |machine| async move {
        write(&machine, 0, 8, 1, true).await.expect("a write");
        let engine = machine.volume().expect("a volume").engine.clone();
        let lines = || {
            let all = engine.world().log().len();
            (engine.world().repeated(), all - engine.world().repeated())
        };
        let before = lines();
        let sectors = machine.toy().layout.slab_sectors();
        let fault = Fault::new(0, &[Kind::Read, Kind::Write]).sectors(sectors);
        machine.world.add_fault(fault);
        for _ in 0..100 {
            write(&machine, 0, 1, 2, true).await.expect_err("no data");
            let (_, read) = machine.read(0, BLOCK_SECTORS).await;
            read.expect_err("no data");
            let part = machine.submit(Operation::Write, true, 0, 1, &[3; SECTOR_SIZE]);
            part.await.expect_err("no data");
        }
        // All of them may be cut off.
        assert_eq!(lines(), (before.0 + 300, before.1));
        assert!(!machine.is_read_only());
    });
}

#[test]
fn of_a_run_only_what_is_bad_is_set_aside() {
    on_a_volume(&plan(), |machine| async move {
        write(&machine, 0, 7, 1, true).await.expect("a write");
        let before = free(&machine).await;
        // One of the next seven blocks.
        let bad = (last_block_of(&machine, 1) + 3) * BLOCK_SECTORS;
        let fault = Fault::new(0, &[Kind::Write]).sectors(bad..bad + BLOCK_SECTORS);
        machine.world.add_fault(fault);
        write(&machine, 0, 7, 2, true)
            .await
            .expect("it goes elsewhere");
        assert_eq!(free(&machine).await, before - 1);
    });
}

#[test]
fn what_was_set_aside_is_used_before_there_is_no_space() {
    on_a_volume(&plan(), |machine| async move {
        write(&machine, 0, 1, 1, true).await.expect("a write");
        let before = free(&machine).await;
        // Each first try fails: its block is set aside. The next is in another slab.
        for fill in 1..machine.toy().layout.slabs as u8 {
            // The next is in the slab of the last one.
            let depot = machine.toy().layout.depot();
            let (slab, _) = depot.slab_of(last_block_of(&machine, fill)).expect("data");
            let data = u64::from(depot.slab.data_blocks);
            let first = depot.pbn(slab, 0);
            let sectors = first * BLOCK_SECTORS..(first + data) * BLOCK_SECTORS;
            let fault = Fault::new(0, &[Kind::Write]).sectors(sectors);
            machine.world.add_fault(fault.numbers(0..1));
            write(&machine, 0, 1, fill + 1, true)
                .await
                .expect("it goes elsewhere");
            machine.world.clear_faults();
        }
        assert!(free(&machine).await < before, "nothing was set aside");
        for lbn in 0..=before {
            write(&machine, lbn, 1, 3, false)
                .await
                .expect("there is room");
        }
        write(&machine, before + 1, 1, 3, false)
            .await
            .expect_err("now there is none");
    });
}

#[test]
fn a_write_that_no_batch_can_hold_fails() {
    on_a_volume(&plan(), |machine| async move {
        let volume = machine.volume().expect("a volume");
        for operation in [Operation::Write, Operation::WriteZeroes] {
            let sectors = (plan_blocks() + 1) * BLOCK_SECTORS;
            let data = match operation {
                Operation::Write => vec![1; sectors as usize * SECTOR_SIZE],
                _ => Vec::new(),
            };
            let (bio, wait) = SimBio::new(operation, false, 0, sectors as u32, data);
            volume.engine.submit(bio);
            wait.await.expect_err("more than a batch has room for");
        }
        let (data, result) = machine.read(0, BLOCK_SECTORS).await;
        result.expect("a read");
        assert!(data.iter().all(|byte| *byte == 0), "a part was written");
    });
}

fn plan_blocks() -> u64 {
    Plan::default().batch_blocks as u64
}
