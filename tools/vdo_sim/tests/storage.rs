// SPDX-License-Identifier: GPL-2.0

//! What the storage is, and what may be done to it.

use kernel::sync::Arc;
use sim::fault::Kind;
use sim::pattern;
use sim::Executor;
use sim::World;
use std::future::Future;
use std::rc::Rc;
use vdo::admin::status::Mode;
use vdo::format::super_block::State;
use vdo::volume::engine::Engine;
use vdo::world::Operation;
use vdo_sim::host::Host;
use vdo_sim::machine::Machine;
use vdo_sim::plan::Plan;
use vdo_sim::toy;

type Volume = Arc<Engine<Host>>;

/// Runs what `body` makes of a machine that was started on `image`. Returns what a crash leaves.
fn run<F: Future<Output = ()> + 'static>(
    plan: &Plan,
    image: Vec<u8>,
    body: impl FnOnce(Rc<Machine>) -> F,
) -> Vec<u8> {
    let world = World::new(1);
    let mut executor = Executor::new(&world);
    let machine = Machine::new(&world, executor.spawner(), plan, image);
    let starting = machine.clone();
    let start = executor.spawn("start", async move { starting.start().await });
    assert_eq!(executor.run_task(&start), Ok(Ok(())));
    let body = executor.spawn("body", body(machine));
    assert_eq!(executor.run_task(&body), Ok(()));
    world.images().swap_remove(0)
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
    run(&plan, plan.image(), |machine| async move {
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
    let plan = Plan::default();
    run(&plan, plan.image(), |machine| async move {
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
    let plan = Plan::default();
    run(&plan, plan.image(), |machine| async move {
        let volume = engine(&machine);
        assert_eq!(write(&machine, 0, &pattern::run(7, 0, 16)).await, Ok(()));
        volume.suspend(false).await;
        assert!(volume.resume_protected().await.is_err());
        volume.resume().await.expect("resume");
        assert_eq!(write(&machine, 0, &pattern::run(8, 0, 16)).await, Ok(()));
    });
}

#[test]
fn what_the_journal_adds_to_a_read_only_volume_stays_in_no_page() {
    // On a leaf page each, all of which are in the journal only.
    const LBNS: [u64; 5] = [0, 812, 1624, 2436, 4968];
    let mut plan = Plan::default();
    plan.toy.layout.journal_blocks = 64;
    plan.toy.max_age = 60;
    plan.toy.cache_pages = 2;
    let image = run(&plan, plan.image(), |machine| async move {
        for lbn in LBNS {
            let data = pattern::run(lbn, 0, 8);
            assert_eq!(write(&machine, lbn * 8, &data).await, Ok(()));
        }
        engine(&machine).flush().await.expect("flush");
    });
    run(&plan, read_only(image), |machine| async move {
        assert_eq!(engine(&machine).mode(), Mode::ReadOnly);
        let reads = || {
            let log = machine.world.log().into_iter();
            log.filter(|record| record.kind == Kind::Read).count()
        };
        for _ in 0..3 {
            let before = reads();
            for lbn in LBNS {
                let (found, result) = machine.read(lbn * 8, 8).await;
                let data = pattern::run(lbn, 0, 8);
                assert_eq!((found == data, result), (true, Ok(())), "{lbn}");
            }
            // The pages that do not fit are read anew each time, beside the data.
            let pages = reads() - before - LBNS.len();
            assert!(pages >= LBNS.len() - 2, "{pages} pages were read");
        }
    });
}

/// What a volume leaves that has become read-only for good.
fn read_only(mut image: Vec<u8>) -> Vec<u8> {
    let mut found = toy::super_block(&image).expect("a super block");
    found.state = State::ReadOnly;
    found.encode(toy::block_mut(
        &mut image,
        Plan::default().toy.layout.data_start,
    ));
    image
}
