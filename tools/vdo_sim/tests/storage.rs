// SPDX-License-Identifier: GPL-2.0

//! What the storage is, and what may be done to it.

use kernel::sync::Arc;
use sim::pattern;
use sim::Executor;
use sim::World;
use std::future::Future;
use std::rc::Rc;
use vdo::admin::status::Mode;
use vdo::volume::engine::Engine;
use vdo::world::Operation;
use vdo_sim::host::Host;
use vdo_sim::machine::Machine;
use vdo_sim::plan::Plan;

type Volume = Arc<Engine<Host>>;

/// Runs what `body` makes of a machine that was started.
fn run<F: Future<Output = ()> + 'static>(plan: Plan, body: impl FnOnce(Rc<Machine>) -> F) {
    let world = World::new(1);
    let mut executor = Executor::new(&world);
    let machine = Machine::new(&world, executor.spawner(), &plan, plan.image());
    let starting = machine.clone();
    let start = executor.spawn("start", async move { starting.start().await });
    assert_eq!(executor.run_task(&start), Ok(Ok(())));
    let body = executor.spawn("body", body(machine));
    assert_eq!(executor.run_task(&body), Ok(()));
}

fn engine(machine: &Machine) -> Volume {
    machine.volume().expect("a volume").engine.clone()
}

async fn write(machine: &Machine, sector: u64, data: &[u8]) -> kernel::prelude::Result {
    let sectors = (data.len() / 512) as u64;
    machine
        .submit(Operation::Write, false, sector, sectors, data)
        .await
}

#[test]
fn parts_of_blocks_are_read_from_storage_that_reads_whole_ones() {
    let plan = Plan {
        small_sectors: true,
        large_storage_blocks: true,
        ..Plan::default()
    };
    run(plan, |machine| async move {
        let data = pattern::run(7, 0, 48);
        assert_eq!(write(&machine, 0, &data).await, Ok(()));
        engine(&machine).flush().await.expect("flush");
        for first in 0..24 {
            for sectors in 1..=24 {
                let (found, result) = machine.read(first, sectors).await;
                assert_eq!(result, Ok(()), "{sectors} sectors from {first}");
                let bytes = first as usize * 512..(first + sectors) as usize * 512;
                assert!(found == data[bytes], "{sectors} sectors from {first}");
            }
        }
    });
}

#[test]
fn a_volume_whose_table_is_for_reading_writes_nothing() {
    run(Plan::default(), |machine| async move {
        let volume = engine(&machine);
        let data = pattern::run(7, 0, 16);
        assert_eq!(write(&machine, 0, &data).await, Ok(()));
        volume.suspend(true).await;
        volume.resume_protected().await.expect("saved");
        assert_eq!(volume.mode(), Mode::ReadOnly);
        let before = machine.world.changes();

        assert!(write(&machine, 0, &pattern::run(8, 0, 16)).await.is_err());
        let discard = machine.submit(Operation::Discard, false, 0, 16, &[]).await;
        assert!(discard.is_err());
        assert!(volume.check_physical_growth(1 << 20).is_err());
        let (found, result) = machine.read(0, 16).await;
        assert_eq!((found == data, result), (true, Ok(())));
        // Neither now, nor when it is suspended for the next table.
        volume.suspend(true).await;
        assert_eq!(machine.world.changes(), before);

        volume.resume().await.expect("resume");
        assert_eq!(volume.mode(), Mode::Normal);
        assert_eq!(write(&machine, 0, &pattern::run(8, 0, 16)).await, Ok(()));
    });
}

#[test]
fn a_volume_that_was_not_saved_is_not_made_one_for_reading() {
    run(Plan::default(), |machine| async move {
        let volume = engine(&machine);
        assert_eq!(write(&machine, 0, &pattern::run(7, 0, 16)).await, Ok(()));
        volume.suspend(false).await;
        assert!(volume.resume_protected().await.is_err());
        volume.resume().await.expect("resume");
        assert_eq!(write(&machine, 0, &pattern::run(8, 0, 16)).await, Ok(()));
    });
}
