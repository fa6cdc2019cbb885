// SPDX-License-Identifier: GPL-2.0

//! One seed decides everything: sizes, users, faults, suspends, growth, and when the power fails.
//!
//! A run is a few lives of a machine. In each, users read, write, discard and flush at the same
//! time while an operator suspends, resumes and grows the volume. A life ends in a crash, or the
//! device is removed; the next one boots what is left. A volume that went read-only because of a
//! fault is rebuilt. In the end the faults are gone, everything is read, the volume is stopped,
//! and every invariant is checked on disk.

use crate::answers::ALL;
use crate::flaw::Flaw;
use crate::inherited;
use crate::inspect;
use crate::inspect::Expected;
use crate::machine::Machine;
use crate::plan::Growth;
use crate::plan::Plan;
use crate::toy;
use crate::toy::BLOCK_SECTORS;
use crate::user::User;
use sim::clock::sleep;
use sim::disk::Survival;
use sim::fault::CrashPoint;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::model::Shape;
use sim::Executor;
use sim::Model;
use sim::Outcome;
use sim::Preemption;
use sim::Rng;
use sim::World;
use std::ops::Range;
use vdo::world::Operation;

/// Runs `seed`, with a broken rule if one is given.
///
/// # Errors
///
/// What was wrong first.
pub fn run(seed: u64, flaw: Option<Flaw>) -> core::result::Result<(), String> {
    run_on(seed, flaw, false)
}

/// As [`run`], with tasks that are preempted, as on several CPUs.
///
/// # Errors
///
/// What was wrong first.
pub fn run_preempted(seed: u64, flaw: Option<Flaw>) -> core::result::Result<(), String> {
    run_on(seed, flaw, true)
}

fn run_on(seed: u64, flaw: Option<Flaw>, preempted: bool) -> core::result::Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut plan = Plan::random(&mut rng);
    plan.preempted = preempted;
    plan.flaw = flaw;
    if flaw.is_none() && seed % 2 == 0 {
        plan = plan.with_index();
    }
    plan.compression = flaw.is_none() && seed % 3 == 0;
    let start = match rng.chance(1, 6) {
        true => inherited::volume(&plan, &mut rng),
        false => (plan.image(), plan.model()),
    };
    live_on(&mut rng, &plan, start)
}

/// As [`run`], always with a volume that mainline wrote.
///
/// # Errors
///
/// What was wrong first.
pub fn run_inherited(seed: u64) -> core::result::Result<(), String> {
    let mut rng = Rng::new(seed);
    let plan = Plan::random(&mut rng);
    let start = inherited::volume(&plan, &mut rng);
    live_on(&mut rng, &plan, start)
}

/// A few lives of a machine.
fn live_on(
    rng: &mut Rng,
    plan: &Plan,
    (mut image, mut model): (Vec<u8>, Model),
) -> core::result::Result<(), String> {
    let lives = rng.below(3) + 1;
    for life in 0..=lives {
        let lived = live(rng, plan, image, model, life == lives);
        (image, model) = lived.map_err(|text| format!("life {life}: {text}"))?;
    }
    Ok(())
}

/// One life of the machine; returns what it leaves on its disk, and what that must show.
fn live(
    rng: &mut Rng,
    plan: &Plan,
    image: Vec<u8>,
    model: Model,
    last: bool,
) -> core::result::Result<(Vec<u8>, Model), String> {
    let world = World::new(rng.next_u64());
    let mut executor = Executor::new(&world);
    // Who waits for one that is preempted looks often.
    let steps = if plan.preempted { 4_000_000 } else { 400_000 };
    executor.set_limits(steps, 240_000_000);
    let expected = inspect::crashed(plan, &image)?;
    if expected.is_some() && rng.chance(1, 4) {
        inspect::audit(&plan.toy, &image)?;
    }
    let mut image = image;
    if last || rng.chance(1, 2) {
        toy::force_rebuild(&mut image)?;
    }
    if plan.preempted {
        executor.preempt(Preemption::random(rng));
    }
    let machine = Machine::new(&world, executor.spawner(), plan, image);
    let user = User::new(&machine, model);
    let mut choices = rng.fork();
    if last {
        executor.spawn("driver", finish(user.clone(), expected));
    } else {
        if plan.flaw.is_none() {
            add_faults(&world, plan, &mut choices);
        }
        if choices.chance(3, 4) {
            let most = *choices.pick(&[300, 3000, 12_000]);
            world.crash_at(CrashPoint::Step(choices.below(most)));
        }
        executor.spawn("driver", use_volume(user.clone(), choices, expected));
    }
    let outcome = executor.run();
    if let Some(text) = user.violation() {
        return Err(text);
    }
    match outcome {
        Outcome::Done | Outcome::Crashed
            if machine.is_closing()
                && plan.flaw.is_some_and(|flaw| flaw != Flaw::CleanTooEarly) =>
        {
            // What is broken is not what an orderly stop promises.
            let mut model = user.model.borrow().clone();
            if outcome == Outcome::Crashed {
                model.crash();
            }
            executor.power_off();
            return Ok((world.images().swap_remove(0), model));
        }
        Outcome::Done | Outcome::Crashed => {}
        Outcome::Stuck(tasks) => {
            let statistics = machine.statistics();
            world.trace(|| format!("stuck    {statistics:#?}"));
            world.trace(|| format!("stuck    {plan:#?}"));
            return Err(format!("stuck: {tasks:?}"));
        }
    }
    executor.power_off();
    // Also what was stopped in order must not need what is not stable.
    let mut model = user.model.borrow().clone();
    model.crash();
    let survival = *rng.pick(&[Survival::Lost, Survival::Kept]);
    let survivals: &[Survival] = match plan.flaw {
        Some(flaw) if flaw.is_one_ahead() => &[survival],
        _ => &[],
    };
    Ok((world.survivors(survivals, rng).swap_remove(0), model))
}

/// Half of all lives go without faults; the others have a few rare ones.
fn add_faults(world: &World, plan: &Plan, rng: &mut Rng) {
    use Kind::{Flush, Read, Write};
    if rng.chance(1, 2) {
        return;
    }
    for _ in 0..=rng.below(2) {
        let choices: [&[Kind]; 5] = [
            &[Write],
            &[Write, Flush],
            &[Read],
            &[Flush],
            &[Read, Write, Flush],
        ];
        let kinds = *rng.pick(&choices);
        let first = rng.below(400);
        let most = *rng.pick(&[1, 20]);
        let count = 1 + rng.below(most);
        let fault = Fault::new(0, kinds)
            .permille(*rng.pick(&[20, 200, 1000]))
            .numbers(first..first + count);
        world.add_fault(match rng.below(3) {
            // Anywhere, in the slabs, or in a part of a slab.
            0 => fault,
            1 => fault.sectors(plan.toy.layout.slab_sectors()),
            _ => {
                let slabs = plan.toy.layout.slab_sectors();
                let start = slabs.start + rng.below(slabs.end - slabs.start);
                fault.sectors(start..start + 1 + rng.below(64))
            }
        });
    }
}

/// Boots, checks what is there, and uses the volume.
async fn use_volume(user: User, mut rng: Rng, expected: Option<Expected>) {
    let machine = user.machine.clone();
    if !boot(&user, expected.clone()).await {
        return;
    }
    if rng.chance(1, 4) {
        user.recovered(expected).await;
    }
    let mut tasks = Vec::new();
    for _ in 0..=rng.below(4) {
        let requests = make_requests(user.clone(), rng.fork());
        tasks.push(machine.spawner().spawn("user", requests));
    }
    let operator = operate(user.clone(), rng.fork());
    tasks.push(machine.spawner().spawn("operator", operator));
    for task in tasks {
        task.await;
    }
    machine.world.clear_faults();
    let _ = user.read_all().await;
    machine.remove().await;
}

/// Starts the device and checks that it shows what it must. Faults may prevent either.
async fn boot(user: &User, expected: Option<Expected>) -> bool {
    let machine = &user.machine;
    for _ in 0..3 {
        let struck = machine.world.struck(&ALL);
        match machine.start().await {
            Ok(()) => {
                let _ = user.settle(expected).await;
                return true;
            }
            Err(error) if machine.world.struck(&ALL) == struck => {
                user.complain(format!("no start though nothing has failed: {error:?}"));
                return false;
            }
            Err(_) => machine.world.clear_faults(),
        }
    }
    user.complain("the volume does not start though nothing fails".to_owned());
    false
}

pub(crate) async fn make_requests(user: User, mut rng: Rng) {
    let quiet = user.machine.plan.flaw.is_some_and(Flaw::is_quiet);
    for _ in 0..rng.below(40) {
        let sectors = pick_sectors(&user.machine.plan, &mut rng);
        // Requests may fail where faults are, or for want of space: whether they may is for
        // others to say, and the model knows what that leaves.
        let _ = match rng.below(20) {
            0..=4 => user.read(sectors).await.map(drop),
            5..=9 if user.machine.plan.deduplication && rng.chance(3, 4) => {
                let shape = pick_copies(&user.machine.plan, &mut rng);
                user.write_shaped(sectors, shape, false).await
            }
            5..=9 => user.write(sectors, false).await,
            10 => user.write(sectors, !quiet).await,
            11..=12 => {
                let shape = pick_shape(&user.machine.plan, &sectors, &mut rng);
                let fua = rng.chance(1, 4) && !quiet;
                user.write_shaped(sectors, shape, fua).await
            }
            13 => {
                let operation = *rng.pick(&[Operation::Write, Operation::WriteZeroes]);
                let fua = rng.chance(1, 4) && !quiet;
                user.zero(sectors, operation, fua).await
            }
            14..=15 => {
                let fua = rng.chance(1, 4) && !quiet;
                let sectors = pick_discard(&user.machine, sectors, &mut rng);
                user.discard(sectors, fua).await
            }
            16..=17 if !quiet => user.flush().await,
            _ => {
                let most = *rng.pick(&[100, 2000, 20_000]);
                sleep(&user.machine.world, rng.below(most)).await;
                Ok(())
            }
        };
    }
}

/// Returns what of the volume is to be discarded: from the first sector to the last, a little more,
/// or everything.
fn pick_discard(machine: &Machine, sectors: Range<u64>, rng: &mut Rng) -> Range<u64> {
    let space = &machine.plan.space;
    let (start, last) = (space.place(sectors.start), space.place(sectors.end - 1));
    let end = machine.plan.toy.logical_blocks * BLOCK_SECTORS;
    match rng.below(16) {
        0 => 0..end,
        1 => start..(start + 2000 * BLOCK_SECTORS).min(end),
        _ => start..last + 1,
    }
}

/// Returns data with zeroes in it, or the same data in several places.
#[expect(clippy::single_range_in_vec_init, reason = "one hole")]
fn pick_shape(plan: &Plan, sectors: &Range<u64>, rng: &mut Rng) -> Shape {
    let Range { start, end } = *sectors;
    let block = |sector: u64| {
        let first = sector / BLOCK_SECTORS * BLOCK_SECTORS;
        first.max(start)..(first + BLOCK_SECTORS).min(end)
    };
    let middle = start + rng.below(end - start);
    let mut holes = match rng.below(8) {
        0 => vec![block(start)],
        1 => vec![block(middle)],
        2 => vec![block(end - 1)],
        3 => vec![block(start), block(end - 1)],
        4 => Vec::from([start..block(end - 1).start]),
        5 => Vec::from([block(start).end..end]),
        6 => Vec::from([middle..end]),
        _ => Vec::new(),
    };
    if rng.chance(1, 4) {
        holes.push(start..middle);
    }
    let copies = rng
        .chance(1, 3)
        .then(|| ((1 << 40) + rng.below(2), plan.unit().max(BLOCK_SECTORS)));
    Shape { holes, copies }
}

/// Returns data of which there are few kinds of blocks.
fn pick_copies(plan: &Plan, rng: &mut Rng) -> Shape {
    Shape {
        holes: Vec::new(),
        copies: Some(((1 << 40) + rng.below(6), plan.unit().max(BLOCK_SECTORS))),
    }
}

fn pick_sectors(plan: &Plan, rng: &mut Rng) -> Range<u64> {
    let length = plan.space.sectors();
    let unit = plan.unit();
    let start = rng.below(length / unit);
    let size = *rng.pick(&[1, 2, 8, 16]);
    let end = start + 1 + rng.below(size.min(length / unit - start));
    start * unit..end * unit
}

/// Suspends and growth.
async fn operate(user: User, mut rng: Rng) {
    let machine = &user.machine;
    // A suspend is an orderly stop.
    let stops = machine
        .plan
        .flaw
        .is_none_or(|flaw| flaw == Flaw::CleanTooEarly);
    for _ in 0..rng.below(5) {
        sleep(&machine.world, rng.below(40_000)).await;
        if !stops {
            continue;
        }
        let struck = machine.world.struck(&ALL);
        // No slabs are added before those that there are have been recovered.
        let recovered = machine.is_recovered();
        let result = match rng.below(8) {
            0..=2 => machine.suspend_and_resume(true).await,
            3..=4 => machine.suspend_and_resume(false).await,
            5 => {
                let growth = Growth {
                    logical: 1 + rng.below(2000),
                    slabs: 0,
                    flush: rng.chance(1, 2),
                };
                machine.grow(growth).await
            }
            6 if machine.can_grow() => {
                let growth = Growth {
                    logical: 0,
                    slabs: 3,
                    flush: rng.chance(1, 2),
                };
                machine.grow(growth).await
            }
            _ => Ok(()),
        };
        let has_reason =
            machine.is_read_only() || !recovered || machine.world.struck(&ALL) != struck;
        if result.is_err() && !has_reason {
            user.complain(format!("an operator got {result:?} without a reason"));
        }
        if result.is_err() && machine.suspended.get() {
            // What an administrator does: the old table again.
            machine.world.clear_faults();
            if let Err(error) = machine.resume().await {
                user.complain(format!("no resume though nothing fails: {error:?}"));
            }
        }
    }
}

/// The last life.
async fn finish(user: User, expected: Option<Expected>) {
    if !boot(&user, expected.clone()).await {
        return;
    }
    let machine = &user.machine;
    user.recovered(expected).await;
    if let Err(error) = user.read_all().await {
        return user.complain(format!("at the end: a read failed: {error:?}"));
    }
    if machine.is_read_only() {
        return user.complain("read-only though nothing fails".to_owned());
    }
    machine.remove().await;
}
