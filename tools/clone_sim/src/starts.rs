// SPDX-License-Identifier: GPL-2.0

//! What is done to tables and to the metadata without memory, or on a disk that fails for a while.
//!
//! Neither says anything about the clone. Whatever fails of it, at whichever moment, a load has
//! changed nothing on the disks, and the next try without that finds a clone that can be written and
//! has its data; also if the power fails in between.

use crate::inspect;
use crate::machine::Machine;
use crate::machine::Table;
use crate::scene::DESTINATION;
use crate::scene::METADATA;
use crate::used::Used;
use crate::user::User;
use clone::message::Message;
use clone::volume::Mode;
use kernel::alloc;
use kernel::prelude::*;
use sim::clock::sleep;
use sim::disk::Survival;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::Executor;
use sim::Model;
use sim::Outcome;
use sim::Rng;
use sim::World;
use std::cell::Cell;
use std::rc::Rc;

/// What fails, from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Every allocation.
    Memory,
    /// One read of the metadata.
    OneRead,
    /// Every read of the metadata.
    Reads,
    /// One write or flush of the metadata.
    OneWrite,
    /// The metadata device: its path is down.
    Path,
    /// One write or flush of the destination.
    Destination,
}

/// All of them.
pub const LACKS: [Lack; 6] = [
    Lack::Memory,
    Lack::OneRead,
    Lack::Reads,
    Lack::OneWrite,
    Lack::Path,
    Lack::Destination,
];

/// When it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// The device is made: a table is loaded and resumed.
    Start,
    /// What was written is committed, by a flush.
    Flush,
    /// The same, by who asks for the status.
    Status,
    /// The same, by a suspend; then the same table is resumed.
    Suspend,
    /// A table is loaded, and resumed in the place of the one that is active.
    Reload,
    /// The same when the metadata could not be written, so that nothing is recorded any more.
    Recovery,
    /// The last region is hydrated.
    Completion,
}

impl During {
    /// Returns what may be tried when it has failed.
    pub fn again(self) -> &'static [Again] {
        match self {
            Self::Start | Self::Reload | Self::Recovery => &[Again::Resume, Again::Load],
            _ => &[Again::Load],
        }
    }
}

/// What is tried when a resume has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The same table is resumed.
    Resume,
    /// A table is loaded.
    Load,
}

impl Lack {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Memory | Self::Path => &[],
            Self::OneRead | Self::Reads => &[Kind::Read],
            Self::OneWrite | Self::Destination => &[Kind::Write, Kind::Flush],
        }
    }

    fn disk(self) -> usize {
        match self {
            Self::Destination => DESTINATION,
            _ => METADATA,
        }
    }

    fn begin(self, world: &World, moment: u64) {
        let fault = Fault::new(self.disk(), self.kinds());
        match self {
            Self::Memory => alloc::fail_after(Some(moment)),
            Self::Reads | Self::Path => world.add_fault(fault.numbers(moment..u64::MAX)),
            _ => world.add_fault(fault.numbers(moment..moment + 1)),
        }
    }

    /// Ends it; returns true if there was anything to fail.
    fn end(self, world: &World, before: usize, moment: u64) -> bool {
        if self == Self::Memory {
            let left = alloc::allocations_left();
            alloc::fail_after(None);
            return left == Some(0);
        }
        world.clear_faults();
        let log = world.log();
        let mine = log.iter().skip(before).filter(|record| {
            let kinds = self.kinds();
            record.disk == self.disk() && (kinds.is_empty() || kinds.contains(&record.kind))
        });
        mine.count() as u64 > moment
    }

    /// Returns the errors that it may give.
    fn gives(self, error: Error) -> bool {
        match self {
            Self::Memory => error == ENOMEM,
            _ => error == EIO,
        }
    }
}

/// Has it fail at every moment there is. Returns how many there are.
///
/// # Errors
///
/// What was wrong first.
pub fn run(used: &Used, during: During, lack: Lack, again: Again) -> Result<u64, String> {
    for moment in 0.. {
        let failed = attempt(used, during, lack, again, moment).map_err(|text| {
            let left = used.left;
            format!("{left:?}, {during:?}, {lack:?} after {moment}, then {again:?}: {text}")
        })?;
        if !failed {
            return Ok(moment);
        }
    }
    Ok(0)
}

/// Has it fail at one moment; returns false if it came to nothing.
fn attempt(
    used: &Used,
    during: During,
    lack: Lack,
    again: Again,
    moment: u64,
) -> Result<bool, String> {
    let world = World::new(moment);
    let mut executor = Executor::new(&world);
    executor.set_limits(400_000, 600_000_000);
    let machine = Machine::new(&world, executor.spawner(), &used.plan, used.images.clone());
    let user = User::new(&machine, used.model.clone());
    let failed = Rc::new(Cell::new(false));
    let life = live(user.clone(), during, lack, again, moment, failed.clone());
    executor.spawn("life", life);
    let outcome = executor.run();
    alloc::fail_after(None);
    match (user.violation(), outcome) {
        (Some(text), _) => Err(text),
        (None, Outcome::Done) => Ok(failed.get()),
        (None, outcome) => Err(format!("{outcome:?}")),
    }
}

async fn live(
    user: User,
    during: During,
    lack: Lack,
    again: Again,
    moment: u64,
    failed: Rc<Cell<bool>>,
) {
    let machine = &user.machine;
    let world = &machine.world;
    if let Err(error) = prepare(&user, during).await {
        return user.complain(format!("{error:?} though nothing fails"));
    }
    let before = world.log().len();
    lack.begin(world, moment);
    let result = make(&user, during).await;
    failed.set(lack.end(world, before, moment));
    if result.is_err_and(|error| !lack.gives(error)) {
        user.complain(format!("failed with {result:?}"));
    }
    if result.is_err() && !failed.get() {
        user.complain(format!("{result:?} though nothing has failed"));
    }
    if let Err(text) = crash_now(&user).await {
        return user.complain(format!("{result:?}, then a crash: {text}"));
    }
    if !machine.suspended.get() {
        if let Err(error) = user.read(0..machine.plan.geometry.length()).await {
            return user.complain(format!("{result:?}, then a read: {error:?}"));
        }
        // It may succeed, but only if nothing can be lost any more.
        let flushed = user.flush().await;
        if let Err(text) = crash_now(&user).await {
            return user.complain(format!("{result:?}, then flush {flushed:?}, then {text}"));
        }
    }
    if let Err(error) = try_again(machine, again).await {
        return user.complain(format!("{result:?}, then {error:?}"));
    }
    use_it(&user).await;
}

/// What comes before.
async fn prepare(user: &User, during: During) -> Result {
    let machine = &user.machine;
    if during == During::Start {
        return Ok(());
    }
    machine.start().await?;
    user.settle("after the first start").await;
    let end = machine.plan.geometry.length();
    user.write(0..8, true).await?;
    user.write(end - 3..end, false).await?;
    user.discard(8..24).await?;
    if during == During::Recovery {
        machine
            .world
            .add_fault(Fault::new(METADATA, &[Kind::Write, Kind::Flush]));
        let _ = user.flush().await;
        machine.world.clear_faults();
    }
    Ok(())
}

/// What fails, or does not.
async fn make(user: &User, during: During) -> Result {
    let machine = &user.machine;
    match during {
        During::Start => {
            let table = load(user).await?;
            machine.switch(table).await
        }
        During::Flush => user.flush().await,
        During::Status => {
            let table = machine.active().ok_or(EIO)?;
            let line = machine.status(&table, false).await;
            if line.is_empty() {
                user.complain("no status".to_owned());
            }
            Ok(())
        }
        During::Suspend => {
            let table = machine.active().ok_or(EIO)?;
            machine.switch(table).await
        }
        During::Reload | During::Recovery => {
            let table = load(user).await?;
            machine.switch(table).await
        }
        During::Completion => {
            let engine = user.engine();
            engine.message(Message::EnableHydration);
            for _ in 0..40 {
                sleep(&machine.world, 100_000).await;
                machine.tick();
            }
            Ok(())
        }
    }
}

/// Loads a table. Whether that fails or not, it changes nothing.
async fn load(user: &User) -> Result<Rc<Table>> {
    let world = &user.machine.world;
    let before = world.changes();
    let loaded = user.machine.load().await;
    if world.changes() != before {
        user.complain("a load has written something".to_owned());
    }
    loaded
}

/// Looks at what a crash would leave now: a clone that starts and shows what it must.
async fn crash_now(user: &User) -> Result<(), String> {
    let machine = &user.machine;
    let mut model = user.model.borrow().clone();
    model.crash();
    for survival in [Survival::Lost, Survival::Kept] {
        let images = machine.world.survivors(&[survival; 4], &mut Rng::new(0));
        inspect::metadata(&images[METADATA])?;
        let world = World::new(1);
        let mut executor = Executor::new(&world);
        let other = Machine::new(&world, executor.spawner(), &machine.plan, images);
        let other = User::new(&other, model.clone());
        let own = other.clone();
        executor.spawn("life after the crash", async move {
            match own.machine.start().await {
                Ok(()) => own.settle("after the crash").await,
                Err(error) => own.complain(format!("no start: {error:?}")),
            }
        });
        let outcome = executor.run();
        if let Some(text) = other.violation() {
            return Err(format!("{survival:?}: {text}"));
        }
        if outcome != Outcome::Done {
            return Err(format!("{survival:?}: {outcome:?}"));
        }
    }
    Ok(())
}

/// What an administrator does, until the device is there and records what is written.
async fn try_again(machine: &Machine, again: Again) -> Result {
    if machine.suspended.get() {
        match machine.active().filter(|_| again == Again::Resume) {
            Some(table) => machine.switch(table).await?,
            None => machine.switch(machine.load().await?).await?,
        }
    }
    let is_fallen = |table: Rc<Table>| table.engine.volume().mode() == Mode::ReadOnly;
    if machine.active().is_some_and(is_fallen) {
        machine.switch(machine.load().await?).await?;
    }
    Ok(())
}

/// Reads, writes, hydrates, stops, and looks at what is on the disks.
async fn use_it(user: &User) {
    let machine = &user.machine;
    user.settle("at the next try").await;
    let end = machine.plan.geometry.length();
    for (what, result) in [
        ("a write", user.write(24..30, false).await),
        ("a FUA write", user.write(end - 9..end, true).await),
        ("a discard", user.discard(0..16).await),
        ("a flush", user.flush().await),
    ] {
        if let Err(error) = result {
            return user.complain(format!("at the next try: {what}: {error:?}"));
        }
    }
    let engine = user.engine();
    if engine.volume().mode() != Mode::ReadWrite {
        return user.complain("nothing is recorded".to_owned());
    }
    if let Err(text) = crash_now(user).await {
        return user.complain(format!("a crash at the next try: {text}"));
    }
    let (events, complete) = (machine.events(), engine.volume().map().is_complete());
    engine.message(Message::EnableHydration);
    while !engine.volume().map().is_complete() {
        sleep(&machine.world, 10_000).await;
        machine.tick();
    }
    user.settle("hydrated").await;
    engine.commit_now().await;
    if !complete && machine.events() != events + 1 {
        user.complain(format!("{events} events, then {}", machine.events()));
    }
    drop(engine);
    machine.remove().await;
    let images = machine.world.images();
    match inspect::metadata(&images[METADATA]) {
        Ok(Some(bits)) if !bits.contains(&false) => {}
        Ok(_) => user.complain("not everything is hydrated on disk".to_owned()),
        Err(text) => user.complain(text),
    }
    let mut model: Model = user.model.borrow().clone();
    if let Err(violation) = model.settle(0, &images[DESTINATION], "the destination") {
        user.complain(violation.to_string());
    }
}
