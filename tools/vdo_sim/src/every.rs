// SPDX-License-Identifier: GPL-2.0

//! Runs a workload and crashes it at every moment that changes what a crash leaves.
//!
//! There is one run; at each such moment images of what a crash might leave are taken, and each
//! that was not seen before is booted: the volume recovers, shows what it must, works on, stops,
//! and is checked on disk. Of some, the recovery itself is crashed at every moment, and of some of
//! those again.

use crate::inspect;
use crate::inspect::Expected;
use crate::machine::Machine;
use crate::script;
use crate::script::Script;
use crate::script::Step;
use crate::user::User;
use kernel::prelude::*;
use sim::disk::Survival;
use sim::pattern;
use sim::rng::mix;
use sim::Executor;
use sim::Model;
use sim::Outcome;
use sim::Rng;
use sim::World;
use std::collections::HashSet;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Mutex;
use std::sync::PoisonError;

/// What was tried already, and how much of what follows a crash is tried.
pub struct Tried {
    seen: Mutex<HashSet<u64>>,
    /// Of so many crashes, one has its recovery crashed at every moment.
    pub one_in: u64,
}

/// How deep crashes of recoveries nest.
const DEEPEST: u32 = 2;

impl Tried {
    /// Nothing.
    pub fn new(one_in: u64) -> Self {
        Self {
            seen: Mutex::default(),
            one_in,
        }
    }

    /// Returns how many different crashes were tried.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn is_new(&self, print: u64) -> bool {
        self.lock().insert(print)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a script and every crash in it.
///
/// # Errors
///
/// What was wrong first.
pub fn run(script: &Script, seed: u64, tried: &Tried) -> core::result::Result<(), String> {
    let world = World::new(seed);
    let image = script.plan.image();
    let mut executor = Executor::new(&world);
    let machine = Machine::new(&world, executor.spawner(), &script.plan, image);
    let user = User::new(&machine, script.plan.model());
    let driver = executor.spawn("driver", drive(user.clone(), script.clone()));
    crash_everywhere(&world, &mut executor, &user, tried, 0, |_| driver.is_done())
        .map_err(|text| format!("{}: {text}", script.name))
}

/// Runs until `done`, and tries every crash on the way.
fn crash_everywhere<'a>(
    world: &World,
    executor: &mut Executor<'a>,
    user: &User,
    tried: &Tried,
    depth: u32,
    mut done: impl FnMut(&Executor<'a>) -> bool,
) -> core::result::Result<(), String> {
    let mut last = (u64::MAX, 0);
    let mut failed = None;
    executor.set_limits(400_000, 120_000_000);
    let outcome = executor.run_until(|executor| {
        let now = (world.moments(), user.model.borrow().stamp());
        if now != last {
            last = now;
            failed = try_crashes(world, user, tried, depth).err();
        }
        failed.is_some() || user.violation().is_some() || done(executor)
    });
    if let Some(text) = failed.or(user.violation()) {
        return Err(text);
    }
    match outcome {
        Outcome::Stuck(tasks) => Err(format!("stuck: {tasks:?}")),
        _ => Ok(()),
    }
}

async fn drive(user: User, script: Script) {
    if let Err(error) = user.machine.start().await {
        return user.complain(format!("the first start failed: {error:?}"));
    }
    for step in script.steps {
        let steps = match step {
            Step::Together(steps) => steps,
            step => vec![step],
        };
        let mut tasks = Vec::new();
        for step in steps {
            let user = user.clone();
            let spawner = user.machine.spawner().clone();
            tasks.push(spawner.spawn("step", async move {
                let result = script::perform(&user, step.clone()).await;
                (step, result)
            }));
        }
        for task in tasks {
            let (step, result) = task.await;
            match result {
                Err(error) if script.may_be_full && error == ENOSPC => {}
                Err(error) => user.complain(format!("{step:?} failed: {error:?}")),
                Ok(()) => {}
            }
        }
    }
    finish(&user, "at the end").await;
}

/// Reads everything, stops the volume and checks it on disk.
async fn finish(user: &User, when: &'static str) {
    if let Err(error) = user.read_all().await {
        user.complain(format!("{when}: a read failed: {error:?}"));
    }
    if user.machine.is_read_only() {
        user.complain(format!("{when}: read-only though nothing fails"));
    }
    user.machine.remove().await;
}

/// Tries every kind of crash at this moment.
fn try_crashes(
    world: &World,
    user: &User,
    tried: &Tried,
    depth: u32,
) -> core::result::Result<(), String> {
    use Survival::{Kept, Lost, Picked, Torn};
    let mut model = user.model.borrow().clone();
    model.crash();
    let mut hasher = DefaultHasher::new();
    model.signature().hash(&mut hasher);
    let signature = hasher.finish();
    let mut rng = Rng::new(mix(world.moments()) ^ u64::from(depth));
    let kinds: &[Survival] = match depth {
        0 => &[Lost, Kept, Torn, Picked, Torn, Picked],
        _ => &[Lost, Kept, Torn, Picked],
    };
    for kind in kinds {
        let image = world.survivors(&[*kind], &mut rng).swap_remove(0);
        let print = mix(pattern::fingerprint(&image) ^ mix(signature));
        if !tried.is_new(print) {
            continue;
        }
        let deeper = depth < DEEPEST && print % tried.one_in == 0;
        check_survivor(
            user,
            image,
            model.clone(),
            deeper.then_some(depth + 1),
            tried,
        )
        .map_err(|text| format!("crash ({kind:?}, at {} us): {text}", world.now()))?;
    }
    Ok(())
}

/// Boots what a crash has left and checks what it shows.
fn check_survivor(
    user: &User,
    image: Vec<u8>,
    model: Model,
    depth: Option<u32>,
    tried: &Tried,
) -> core::result::Result<(), String> {
    let expected = inspect::crashed(&user.machine.plan, &image)?;
    if model.stamp() % 16 == 0 {
        inspect::audit(&user.machine.plan.toy, &image)?;
    }
    let world = World::new(2);
    let mut executor = Executor::new(&world);
    let machine = Machine::new(&world, executor.spawner(), &user.machine.plan, image);
    let user = User::new(&machine, model);
    let driver = executor.spawn("driver", check(user.clone(), expected));
    if let Some(depth) = depth {
        let started = user.clone();
        crash_everywhere(&world, &mut executor, &user, tried, depth, |_| {
            driver.is_done() || started.machine.is_recovered()
        })?;
    }
    executor.set_limits(400_000, 120_000_000);
    let outcome = executor.run_until(|_| driver.is_done() || user.violation().is_some());
    match (user.violation(), outcome) {
        (Some(text), _) => Err(text),
        (None, Outcome::Stuck(tasks)) => Err(format!("stuck after the crash: {tasks:?}")),
        (None, _) => Ok(()),
    }
}

/// Boots, reads, writes a little, reads again, stops.
async fn check(user: User, expected: Option<Expected>) {
    if let Err(error) = user.machine.start().await {
        return user.complain(format!("no start after the crash: {error:?}"));
    }
    if let Err(error) = user.settle(expected).await {
        return user.complain(format!("after the crash: a read failed: {error:?}"));
    }
    let blocks = user.machine.plan.space.blocks();
    for (step, fails) in [
        (Step::Write(0..2), true),
        (Step::Write(blocks - 1..blocks), true),
        (Step::Discard(0..1), false),
        (Step::Flush, false),
    ] {
        match script::perform(&user, step.clone()).await {
            Err(error) if fails && error == ENOSPC => {}
            Err(error) => user.complain(format!("after the crash: {step:?}: {error:?}")),
            Ok(()) => {}
        }
    }
    user.machine.recovered().await;
    finish(&user, "at the end after the crash").await;
}
