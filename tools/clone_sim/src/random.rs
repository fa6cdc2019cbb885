// SPDX-License-Identifier: GPL-2.0

//! One seed decides everything: geometry, users, faults, reloads, and when the power fails.
//!
//! A run is a few lives of a machine. In each, users read, write, discard and flush at the same
//! time while an operator sends messages, asks for the status, suspends, loads tables, resumes with
//! them or clears them, and a clock ticks. A table may be read-only, or name another destination. A
//! life ends in a crash, or the device is removed; the next one boots what is left. In the end the
//! faults are gone, the clone hydrates, and the destination itself must hold what the user was
//! promised.

use crate::flaw::Flaw;
use crate::inspect;
use crate::machine::Line;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::machine::Table;
use crate::user::User;
use clone::copier::LARGE_PAGES;
use clone::engine::Settings;
use clone::geometry::Geometry;
use clone::hydration::Tuning;
use clone::message::Message;
use clone::volume::Mode;
use sim::clock::sleep;
use sim::disk::Discards;
use sim::fault::CrashPoint;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::Executor;
use sim::Model;
use sim::Outcome;
use sim::Preemption;
use sim::Rng;
use sim::World;
use std::ops::Range;
use std::rc::Rc;

/// Runs `seed`, with a broken rule if one is given.
pub fn run(seed: u64, flaw: Option<Flaw>) -> std::result::Result<(), String> {
    let mut rng = Rng::new(seed);
    let plan = plan(&mut rng, flaw);
    run_plan(&mut rng, &plan)
}

/// Runs `seed` on a clone of either kind, with tasks that are preempted, as on several CPUs.
pub fn run_preempted(seed: u64, flaw: Option<Flaw>) -> std::result::Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut plan = match rng.below(4) {
        0 => large_plan(&mut rng, flaw),
        _ => plan(&mut rng, flaw),
    };
    plan.preempted = true;
    run_plan(&mut rng, &plan)
}

/// Runs `seed` on a clone of several bitmap blocks, whose commits take several transactions.
pub fn run_large(seed: u64, flaw: Option<Flaw>) -> std::result::Result<(), String> {
    let mut rng = Rng::new(seed);
    let plan = large_plan(&mut rng, flaw);
    run_plan(&mut rng, &plan)
}

/// What a life leaves.
struct Left {
    images: Vec<Vec<u8>>,
    model: Model,
    on_spare: bool,
}

fn run_plan(rng: &mut Rng, plan: &Plan) -> std::result::Result<(), String> {
    let lives = rng.below(3) + 1;
    let mut left = Left {
        images: plan.blank(),
        model: Model::new(plan.geometry.length()),
        on_spare: false,
    };
    for life in 0..=lives {
        let last = life == lives;
        let lived = live(rng, plan, left, last);
        left = lived.map_err(|text| format!("life {life}: {text}"))?;
    }
    Ok(())
}

fn large_plan(rng: &mut Rng, flaw: Option<Flaw>) -> Plan {
    let island = 1 + rng.below(6);
    let blocks = 2 + rng.below(5);
    let regions = (blocks - 1) * island + 1 + rng.below(island);
    let short = rng.below(8);
    // A transaction needs places for three blocks beside those of the bitmap.
    let room = 1 + rng.below(blocks.min(3));
    Plan {
        geometry: Geometry::new((regions << 3) - short, 3).expect("a small device"),
        island: Some(island),
        metadata_blocks: blocks + 8 + room,
        ..plan(rng, flaw)
    }
}

fn plan(rng: &mut Rng, flaw: Option<Flaw>) -> Plan {
    let shift = *rng.pick(&[3, 3, 4, 6, 6]);
    let regions = 1 + rng.below(24);
    let short = if rng.chance(1, 2) {
        rng.below(1 << shift)
    } else {
        0
    };
    Plan {
        geometry: Geometry::new((regions << shift) - short, shift).expect("a small device"),
        island: None,
        metadata_blocks: *rng.pick(&[10, 11, 16, 40]),
        discards: *rng.pick(&[
            Discards::Zero,
            Discards::Keep,
            Discards::Junk,
            Discards::Unsupported,
        ]),
        workers: (1 + rng.below(3) as usize, 1),
        settings: Settings {
            hydration: rng.chance(1, 2),
            discard_passdown: rng.chance(3, 4),
            // A region of 64 sectors is copied in up to eight pieces.
            large_pages: *rng.pick(&[1, 1, 2, 3, LARGE_PAGES]),
            tuning: Tuning {
                threshold: rng.chance(1, 2).then_some(rng.below(8) as u32),
                batch_size: rng.chance(1, 2).then_some(rng.below(8) as u32),
            },
            read_only: false,
        },
        throttle_percent: *rng.pick(&[100, 100, 100, 150, 50]),
        preempted: false,
        hostile: false,
        flaw,
    }
}

/// One life of the machine; returns what it leaves on its disks, and what they must show.
fn live(rng: &mut Rng, plan: &Plan, found: Left, last: bool) -> std::result::Result<Left, String> {
    let world = World::new(rng.next_u64());
    let mut executor = Executor::new(&world);
    // Who waits for one that is preempted looks often.
    let steps = if plan.preempted { 4_000_000 } else { 400_000 };
    executor.set_limits(steps, 120_000_000);
    if plan.preempted {
        executor.preempt(Preemption::random(rng));
    }
    let was_complete = is_complete(&found.images)?;
    let machine = Machine::new(&world, executor.spawner(), plan, found.images);
    machine.on_spare.set(found.on_spare);
    let user = User::new(&machine, found.model);
    let mut choices = rng.fork();
    if last {
        executor.spawn("driver", finish(user.clone(), was_complete));
    } else {
        add_faults(&world, &mut choices);
        if choices.chance(3, 4) {
            world.crash_at(CrashPoint::Step(choices.below(3000)));
        }
        executor.spawn("driver", use_device(user.clone(), choices));
    }
    let outcome = executor.run();
    if let Some(text) = user.violation() {
        return Err(text);
    }
    let crashed = match outcome {
        Outcome::Done => false,
        Outcome::Crashed => true,
        Outcome::Stuck(tasks) => return Err(format!("stuck: {tasks:?}")),
    };
    executor.power_off();
    let images = if crashed {
        world.survivors(&[], rng)
    } else {
        world.images()
    };
    if !is_complete(&images)? && last {
        return Err("not everything is hydrated on disk".to_owned());
    }
    let mut model = user.model.borrow().clone();
    if crashed {
        model.crash();
    }
    Ok(Left {
        images,
        model,
        on_spare: machine.on_spare.get(),
    })
}

/// Returns true if everything is hydrated on disk, which must be sound.
fn is_complete(images: &[Vec<u8>]) -> std::result::Result<bool, String> {
    let bits = inspect::metadata(&images[0])?;
    Ok(bits.is_some_and(|bits| !bits.contains(&false)))
}

/// Half of all lives go without faults; the others have a few rare ones.
fn add_faults(world: &World, rng: &mut Rng) {
    use Kind::{Discard, Flush, Read, Write};
    if rng.chance(1, 2) {
        return;
    }
    for _ in 0..=rng.below(2) {
        let choices: [(usize, &[Kind]); 6] = [
            (0, &[Write, Flush]),
            (1, &[Read]),
            (1, &[Write]),
            (1, &[Flush]),
            (1, &[Discard]),
            (2, &[Read]),
        ];
        let (disk, kinds) = *rng.pick(&choices);
        let first = rng.below(20);
        let fault = Fault::new(disk, kinds).permille(*rng.pick(&[20, 200, 1000]));
        world.add_fault(fault.numbers(first..first + 1 + rng.below(20)));
    }
}

/// Boots, checks what is there, and uses the device.
async fn use_device(user: User, mut rng: Rng) {
    let machine = user.machine.clone();
    if boot(&user).await.is_none() {
        return;
    }
    let ticker = machine.clone();
    machine.spawner().spawn_daemon("ticker", async move {
        loop {
            sleep(&ticker.world, 1_000_000).await;
            ticker.tick();
        }
    });
    let mut tasks = Vec::new();
    for _ in 0..=rng.below(4) {
        tasks.push(
            machine
                .spawner()
                .spawn("user", make_requests(user.clone(), rng.fork())),
        );
    }
    tasks.push(
        machine
            .spawner()
            .spawn("operator", operate(user.clone(), rng.fork())),
    );
    for task in tasks {
        task.await;
    }
    machine.world.clear_faults();
    if !machine.remove().await {
        // What was not flushed is as after a crash.
        user.model.borrow_mut().crash();
    }
}

/// Starts the device and checks that it shows what it must. Faults may prevent either.
async fn boot(user: &User) -> Option<()> {
    let machine = &user.machine;
    for _ in 0..3 {
        if machine.start().await.is_ok() {
            let _ = user.settle_if_readable("after boot").await;
            return Some(());
        }
        // A resume that failed leaves a table that has never been active.
        let table = machine.table.borrow_mut().take();
        if let Some(table) = table {
            machine.destroy(&table).await;
        }
        machine.world.clear_faults();
    }
    user.complain("the device does not start though nothing fails".to_owned());
    None
}

/// Makes requests of all kinds, one after the other.
pub(crate) async fn make_requests(user: User, mut rng: Rng) {
    for _ in 0..rng.below(30) {
        let sectors = pick_sectors(&user.machine.plan.geometry, &mut rng);
        // Requests may fail where faults are; the model knows what that leaves.
        let _ = match rng.below(16) {
            0..=4 => user.read(sectors).await,
            5..=9 => user.write(sectors, false).await,
            10 => user.write(sectors, true).await,
            11 => user.discard(sectors).await,
            12 => {
                // What file systems do with the blocks of a file that is gone. While the regions are
                // being copied it is a race.
                let geometry = user.machine.plan.geometry;
                let freed = geometry.sectors(&geometry.touched(&sectors));
                let discarded = user.discard(freed).await;
                discarded.and(user.write(sectors, false).await)
            }
            13..=14 => user.flush().await,
            _ => {
                let most = *rng.pick(&[100, 10_000, 1_500_000]);
                sleep(&user.machine.world, rng.below(most)).await;
                Ok(())
            }
        };
    }
}

fn pick_sectors(geometry: &Geometry, rng: &mut Rng) -> Range<u64> {
    let length = geometry.length();
    let start = rng.below(length);
    let size = *rng.pick(&[
        1,
        geometry.region_size(),
        3 * geometry.region_size(),
        length,
    ]);
    let end = start + 1 + rng.below(size.min(length - start));
    if rng.chance(1, 2) {
        // Whole regions, as file systems and trims ask for them.
        return geometry.sectors(&geometry.touched(&(start..end)));
    }
    start..end
}

/// Messages, status, and what is done to tables.
async fn operate(user: User, mut rng: Rng) {
    let machine = &user.machine;
    let mut loaded: Option<Rc<Table>> = None;
    for _ in 0..rng.below(12) {
        let most = *rng.pick(&[300, 5_000, 50_000]);
        sleep(&machine.world, rng.below(most)).await;
        let Some(table) = machine.active() else {
            return;
        };
        match rng.below(14) {
            0 => table.engine.message(Message::EnableHydration),
            1 => table.engine.message(Message::DisableHydration),
            2 => table
                .engine
                .message(Message::Threshold(rng.below(8) as u32)),
            3 => table
                .engine
                .message(Message::BatchSize(rng.below(8) as u32)),
            4 => drop(machine.status(&table, rng.chance(1, 4)).await),
            5..=7 => match &loaded {
                // Loaded now, looked at and resumed some time later, or never.
                Some(loaded) if rng.chance(3, 4) => {
                    drop(machine.status(loaded, rng.chance(1, 8)).await);
                }
                _ => {
                    if let Ok(table) = machine.load_line(pick_line(&mut rng)).await {
                        destroy(machine, loaded.replace(table)).await;
                    }
                }
            },
            8 => destroy(machine, loaded.take()).await,
            9 => machine.pause().await,
            10 => resume(&user, table).await,
            _ => reload(&user, loaded.take(), &mut rng).await,
        }
    }
    destroy(machine, loaded).await;
    if let (true, Some(table)) = (machine.suspended.get(), machine.active()) {
        resume(&user, table).await;
    }
}

fn pick_line(rng: &mut Rng) -> Line {
    Line {
        read_only: rng.chance(1, 6),
        moves: rng.chance(1, 6),
    }
}

async fn reload(user: &User, loaded: Option<Rc<Table>>, rng: &mut Rng) {
    let machine = &user.machine;
    let table = match loaded {
        Some(table) => table,
        None => match machine.load_line(pick_line(rng)).await {
            Ok(table) => table,
            Err(_) => return,
        },
    };
    resume(user, table).await;
}

/// Resumes with `table`, after a suspend if need be.
async fn resume(user: &User, table: Rc<Table>) {
    let machine = &user.machine;
    let mut resumed = machine.switch(table).await;
    if resumed.is_err() {
        // The new table cannot be used: load the old line again.
        machine.world.clear_faults();
        resumed = machine.start().await;
    }
    if let Err(error) = resumed {
        user.complain(format!("a reload failed though nothing fails: {error:?}"));
    }
}

async fn destroy(machine: &Machine, table: Option<Rc<Table>>) {
    if let Some(table) = table {
        machine.destroy(&table).await;
    }
}

/// The last life: hydrates everything, and looks at the destination itself.
async fn finish(user: User, was_complete: bool) {
    let machine = &user.machine;
    if boot(&user).await.is_none() {
        return;
    }
    user.settle("after the last boot").await;
    let Some(table) = machine.active() else {
        return;
    };
    table.engine.message(Message::Threshold(4));
    table.engine.message(Message::EnableHydration);
    while !table.engine.volume().map().is_complete() {
        sleep(&machine.world, 10_000).await;
        machine.tick();
    }
    user.settle("hydrated").await;
    table.engine.commit_now().await;
    if table.engine.volume().mode() != Mode::ReadWrite {
        user.complain("read-only though nothing fails".to_owned());
    }
    if machine.events() != u32::from(!was_complete) {
        user.complain(format!("{} events for completion", machine.events()));
    }
    machine.remove().await;
    let destination = &machine.world.images()[machine.destination_now().number()];
    let settled = user
        .model
        .borrow_mut()
        .settle(0, destination, "the destination");
    if let Err(violation) = settled {
        user.complain(violation.to_string());
    }
}
