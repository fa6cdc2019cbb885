// SPDX-License-Identifier: GPL-2.0

//! Every short sequence of operations on a clone of four regions, crashed at every moment.
//!
//! A sequence is a number, read in base [`STEPS`]. After every step of the executor that changes
//! what a crash would leave, or what the user was promised, every kind of crash is tried: what
//! remains is booted, read, hydrated to the end and read again. What was tried before, with
//! another sequence, is not tried again.

use crate::flaw::Flaw;
use crate::inspect;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::machine::Table;
use crate::user::User;
use clone::engine::Settings;
use clone::geometry::Geometry;
use clone::hydration::Tuning;
use clone::message::Message;
use sim::clock::sleep;
use sim::disk::Discards;
use sim::disk::Survival;
use sim::pattern;
use sim::Executor;
use sim::Model;
use sim::Outcome;
use sim::Rng;
use sim::World;
use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Three regions of eight sectors and a short one.
const LENGTH: u64 = 29;

/// One step of a sequence.
#[derive(Clone, Debug)]
enum Step {
    Read(Range<u64>),
    Write(Range<u64>, bool),
    Discard(Range<u64>),
    Flush,
    Hydrate,
    Tick,
    Load,
    /// The status of a table that is loaded and not active.
    Status,
    Reload,
}

const ALL: [Step; 16] = [
    // A part of a region, parts of two, one region, several with a part before, the short last.
    Step::Write(2..5, false),
    Step::Write(12..20, false),
    Step::Write(8..16, false),
    Step::Write(6..24, false),
    Step::Write(24..29, false),
    Step::Write(9..11, true),
    Step::Write(0..8, true),
    Step::Discard(8..24),
    Step::Discard(4..29),
    Step::Flush,
    Step::Hydrate,
    Step::Tick,
    Step::Load,
    Step::Status,
    Step::Reload,
    Step::Read(0..29),
];

/// The number of different steps.
pub const STEPS: u64 = ALL.len() as u64;

/// How the steps of a sequence follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each starts when the one before has ended.
    OneByOne,
    /// They all start at once.
    AtOnce,
}

/// What was tried already.
#[derive(Default)]
pub struct Tried(Mutex<HashSet<u64>>);

impl Tried {
    /// Returns how many different crashes were tried.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn is_new(&self, what: impl Hash) -> bool {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(hasher.finish())
    }
}

fn plan(flaw: Option<Flaw>) -> Plan {
    Plan {
        geometry: Geometry::new(LENGTH, 3).expect("a small device"),
        island: None,
        metadata_blocks: 12,
        discards: Discards::Zero,
        workers: (2, 1),
        settings: Settings {
            hydration: false,
            discard_passdown: true,
            large_pages: clone::copier::LARGE_PAGES,
            tuning: Tuning {
                threshold: None,
                batch_size: Some(1),
            },
            read_only: false,
        },
        throttle_percent: 100,
        preempted: false,
        hostile: false,
        flaw,
    }
}

fn steps_of(mut number: u64, length: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..length {
        steps.push(ALL[(number % STEPS) as usize].clone());
        number /= STEPS;
    }
    // The last digit varies fastest, so that neighbours share what comes before.
    steps.reverse();
    steps
}

/// Runs sequence `number` of `length` steps and every crash in it.
pub fn run(
    number: u64,
    length: u32,
    order: Order,
    flaw: Option<Flaw>,
    tried: &Tried,
) -> Result<(), String> {
    let steps = steps_of(number, length);
    run_steps(&steps, order, flaw, tried).map_err(|text| format!("{order:?} {steps:?}: {text}"))
}

fn run_steps(
    steps: &[Step],
    order: Order,
    flaw: Option<Flaw>,
    tried: &Tried,
) -> Result<(), String> {
    let plan = plan(flaw);
    let world = World::new(1);
    let mut executor = Executor::new(&world);
    executor.set_limits(100_000, 60_000_000);
    let machine = Machine::new(&world, executor.spawner(), &plan, plan.blank());
    let user = User::new(&machine, Model::new(LENGTH));
    let driver = executor.spawn("driver", drive(user.clone(), steps.to_vec(), order));
    let mut last = (u64::MAX, 0);
    let mut failed = None;
    let outcome = executor.run_until(|_| {
        let now = (world.moments(), user.model.borrow().stamp());
        if now != last {
            last = now;
            failed = try_crashes(&world, &user, tried).err();
        }
        failed.is_some() || user.violation().is_some() || driver.is_done()
    });
    if let Some(text) = failed.or(user.violation()) {
        return Err(text);
    }
    if let Outcome::Stuck(tasks) = outcome {
        return Err(format!("stuck: {tasks:?}"));
    }
    Ok(())
}

async fn drive(user: User, steps: Vec<Step>, order: Order) {
    let machine = &user.machine;
    if let Err(error) = machine.start().await {
        return user.complain(format!("the first start failed: {error:?}"));
    }
    let loaded = Rc::new(RefCell::new(None));
    let mut tasks = Vec::new();
    for step in steps {
        let task = perform(user.clone(), step, loaded.clone());
        match order {
            Order::OneByOne => task.await,
            Order::AtOnce => tasks.push(machine.spawner().spawn("step", task)),
        }
    }
    for task in tasks {
        task.await;
    }
    let _ = user.read(0..LENGTH).await;
    machine.remove().await;
}

async fn perform(user: User, step: Step, loaded: Rc<RefCell<Option<Rc<Table>>>>) {
    let machine = &user.machine;
    let result = match step.clone() {
        Step::Read(sectors) => user.read(sectors).await,
        Step::Write(sectors, fua) => user.write(sectors, fua).await,
        Step::Discard(sectors) => user.discard(sectors).await,
        Step::Flush => user.flush().await,
        Step::Hydrate => {
            hydrate_one(machine).await;
            Ok(())
        }
        Step::Tick => {
            machine.tick();
            Ok(())
        }
        Step::Load => load(machine, &loaded).await,
        Step::Status => {
            let is_loaded = loaded.borrow().is_some();
            let result = if is_loaded {
                Ok(())
            } else {
                load(machine, &loaded).await
            };
            let table = loaded.borrow().clone();
            if let Some(table) = table {
                machine.status(&table, false).await;
            }
            result
        }
        Step::Reload => {
            let table = loaded.borrow_mut().take();
            let table = match table {
                Some(table) => Ok(table),
                None => machine.load().await,
            };
            match table {
                Ok(table) => machine.switch(table).await,
                Err(error) => Err(error),
            }
        }
    };
    if let Err(error) = result {
        user.complain(format!("{step:?} failed: {error:?}"));
    }
}

/// Loads a table in the place of one that is loaded and not active.
async fn load(machine: &Machine, loaded: &RefCell<Option<Rc<Table>>>) -> kernel::error::Result {
    let table = machine.load().await?;
    let before = loaded.borrow_mut().replace(table);
    if let Some(before) = before {
        machine.destroy(&before).await;
    }
    Ok(())
}

/// Lets about one more region hydrate. Another table may take over meanwhile.
async fn hydrate_one(machine: &Machine) {
    let Some(table) = machine.active() else {
        return;
    };
    let map = table.engine.volume().map();
    let before = map.hydrated();
    table.engine.message(Message::EnableHydration);
    let mut patience = 1000;
    while !map.is_complete() && map.hydrated() == before && patience > 0 {
        patience -= 1;
        sleep(&machine.world, 20).await;
    }
    table.engine.message(Message::DisableHydration);
}

/// Tries every kind of crash at this moment.
fn try_crashes(world: &World, user: &User, tried: &Tried) -> Result<(), String> {
    use Survival::{Kept, Lost, Picked, Torn};
    let mut model = user.model.borrow().clone();
    model.crash();
    let signature = model.signature();
    let mut rng = Rng::new(world.moments());
    let left = [Lost, Kept, Torn, Picked].map(|survival| {
        let images = world.survivors(&[survival, survival, Lost, Lost], &mut rng);
        let prints = [0, 1].map(|disk| pattern::fingerprint(&images[disk]));
        (survival, images, prints)
    });
    for (metadata, metadata_images, metadata_prints) in &left {
        for (destination, images, prints) in &left {
            if !tried.is_new((metadata_prints[0], prints[1], &signature)) {
                continue;
            }
            let images = vec![
                metadata_images[0].clone(),
                images[1].clone(),
                images[2].clone(),
                images[3].clone(),
            ];
            check_survivor(user, images, model.clone())
                .map_err(|text| format!("crash ({metadata:?}, {destination:?}): {text}"))?;
        }
    }
    Ok(())
}

/// Boots what a crash has left and checks what it shows.
fn check_survivor(user: &User, images: Vec<Vec<u8>>, model: Model) -> Result<(), String> {
    inspect::metadata(&images[0])?;
    let world = World::new(2);
    let mut executor = Executor::new(&world);
    let plan = Plan {
        throttle_percent: 100,
        preempted: false,
        flaw: None,
        ..user.machine.plan.clone()
    };
    let machine = Machine::new(&world, executor.spawner(), &plan, images);
    let user = User::new(&machine, model);
    let driver = executor.spawn("driver", check(user.clone()));
    let outcome = executor.run_until(|_| driver.is_done());
    match (user.violation(), outcome) {
        (Some(text), _) => Err(text),
        (None, Outcome::Stuck(tasks)) => Err(format!("stuck after the crash: {tasks:?}")),
        (None, _) => Ok(()),
    }
}

/// Boots, reads, hydrates, and reads again.
pub async fn check(user: User) {
    let machine = &user.machine;
    if let Err(error) = machine.start().await {
        return user.complain(format!(
            "the metadata cannot be used after the crash: {error:?}"
        ));
    }
    user.settle("after the crash").await;
    let Some(table) = machine.active() else {
        return;
    };
    table.engine.message(Message::EnableHydration);
    while !table.engine.volume().map().is_complete() {
        sleep(&machine.world, 100).await;
    }
    user.settle("hydrated after the crash").await;
    machine.remove().await;
}
