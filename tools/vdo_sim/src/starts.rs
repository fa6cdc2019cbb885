// SPDX-License-Identifier: GPL-2.0

//! Starts and growths without memory, or on storage that fails for a while.
//!
//! Neither says anything about the volume. Whatever fails of it, at whichever moment, the next try
//! without that must find a volume that can be written and has its data.

use crate::inspect;
use crate::inspect::Expected;
use crate::machine::Machine;
use crate::plan::Growth;
use crate::script;
use crate::script::Step;
use crate::used::Used;
use crate::user::User;
use kernel::alloc;
use sim::clock::sleep;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::Executor;
use sim::Outcome;
use sim::World;
use std::cell::Cell;
use std::rc::Rc;

/// What fails, from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Every allocation.
    Memory,
    /// One read.
    OneRead,
    /// Every read.
    Reads,
    /// One write or flush.
    OneWrite,
    /// Everything: the path is down.
    Path,
}

/// What a start gets over: all of them.
pub const AT_A_START: [Lack; 5] = [
    Lack::Memory,
    Lack::OneRead,
    Lack::Reads,
    Lack::OneWrite,
    Lack::Path,
];

/// What a growth gets over.
pub const AT_A_GROWTH: [Lack; 3] = [Lack::Memory, Lack::OneRead, Lack::Reads];

/// When it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// The volume is started.
    Start,
    /// It grows.
    Growth(Growth),
}

impl Lack {
    fn begin(self, world: &World, moment: u64) {
        let fault = |kinds: &[Kind]| Fault::new(0, kinds);
        match self {
            Self::Memory => alloc::fail_after(Some(moment)),
            Self::OneRead => {
                world.add_fault(fault(&[Kind::Read]).numbers(moment..moment + 1));
            }
            Self::Reads => world.add_fault(fault(&[Kind::Read]).numbers(moment..u64::MAX)),
            Self::OneWrite => {
                let kinds = [Kind::Write, Kind::Flush];
                world.add_fault(fault(&kinds).numbers(moment..moment + 1));
            }
            Self::Path => world.add_fault(fault(&[]).numbers(moment..u64::MAX)),
        }
    }

    /// Ends it; returns true if anything has failed.
    fn end(self, world: &World, before: usize, moment: u64) -> bool {
        if self == Self::Memory {
            let left = alloc::allocations_left();
            alloc::fail_after(None);
            return left == Some(0);
        }
        world.clear_faults();
        let log = world.log();
        let seen = log.iter().skip(before).filter(|record| match self {
            Self::Memory => false,
            Self::OneRead | Self::Reads => record.kind == Kind::Read,
            Self::OneWrite => matches!(record.kind, Kind::Write | Kind::Flush),
            Self::Path => true,
        });
        seen.count() as u64 > moment
    }
}

/// Has it fail at every moment there is. Returns how many there are.
///
/// # Errors
///
/// What was wrong first.
pub fn run(used: &Used, during: During, lack: Lack) -> Result<u64, String> {
    for moment in 0.. {
        let failed = attempt(used, during, lack, moment)
            .map_err(|text| format!("{:?}, {lack:?} after {moment}: {text}", used.left))?;
        if !failed {
            return Ok(moment);
        }
    }
    Ok(0)
}

/// Has it fail at one moment; returns false if it came to nothing.
fn attempt(used: &Used, during: During, lack: Lack, moment: u64) -> Result<bool, String> {
    let expected = inspect::crashed(&used.plan, &used.image)?;
    let world = World::new(moment);
    let mut executor = Executor::new(&world);
    executor.set_limits(400_000, 120_000_000);
    let machine = Machine::new(&world, executor.spawner(), &used.plan, used.image.clone());
    let user = User::new(&machine, used.model.clone());
    let failed = Rc::new(Cell::new(false));
    let life = live(user.clone(), during, lack, moment, expected, failed.clone());
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
    moment: u64,
    expected: Option<Expected>,
    failed: Rc<Cell<bool>>,
) {
    let machine = &user.machine;
    let world = &machine.world;
    if during != During::Start {
        if let Err(error) = machine.start().await {
            return user.complain(format!("no first start: {error:?}"));
        }
        machine.recovered().await;
    }
    let before = world.log().len();
    lack.begin(world, moment);
    let own = machine.clone();
    let attempt = machine.spawner().spawn("attempt", async move {
        match during {
            During::Start => own.start().await,
            During::Growth(growth) => own.grow(growth).await,
        }
    });
    // The scrubber waits for memory, and a start for the scrubber.
    for _ in 0..100 {
        if attempt.is_done() {
            break;
        }
        sleep(world, 1000).await;
    }
    if !matches!(lack, Lack::OneWrite | Lack::Path) {
        // The scrubber reads on. (Writes that fail while a volume is in use make it read-only.)
        sleep(world, 30_000).await;
    }
    failed.set(lack.end(world, before, moment));
    let result = attempt.await;
    sleep(world, 30_000).await;
    if machine.volume().is_none() {
        if let Err(error) = machine.start().await {
            return user.complain(format!("{result:?}, then no start: {error:?}"));
        }
    } else if machine.suspended.get() {
        // What an administrator does: the old table again.
        if let Err(error) = machine.resume().await {
            return user.complain(format!("{result:?}, then no resume: {error:?}"));
        }
    }
    let may_fail = during == During::Start && matches!(lack, Lack::OneWrite | Lack::Path);
    if machine.is_read_only() && result.is_ok() && may_fail {
        // A write failed when the volume was in use already: that is for good.
        return;
    }
    if machine.is_read_only() {
        machine.remove().await;
        if let Err(error) = machine.start().await {
            return user.complain(format!("{result:?}, then no restart: {error:?}"));
        }
    }
    if machine.is_read_only() {
        return user.complain(format!("{result:?}, then read-only for good"));
    }
    if let During::Growth(growth) = during {
        if result.is_err() && !machine.has_grown(growth) {
            if let Err(error) = machine.grow(growth).await {
                return user.complain(format!("{result:?}, then no growth: {error:?}"));
            }
        }
    }
    use_it(&user, expected).await;
}

/// Reads, writes, stops, and looks at what is on the storage.
async fn use_it(user: &User, expected: Option<Expected>) {
    if let Err(error) = user.settle(expected).await {
        return user.complain(format!("a read failed: {error:?}"));
    }
    for step in [Step::Discard(0..1), Step::Fua(0..1), Step::Flush] {
        match script::perform(user, step.clone()).await {
            Err(error) if error == kernel::prelude::ENOSPC => {}
            Err(error) => return user.complain(format!("{step:?}: {error:?}")),
            Ok(()) => {}
        }
    }
    user.machine.recovered().await;
    if let Err(error) = user.read_all().await {
        return user.complain(format!("a read failed: {error:?}"));
    }
    // What is not applied yet is not counted yet.
    sleep(&user.machine.world, 200_000).await;
    let free = user.machine.free();
    user.machine.remove().await;
    let image = user.machine.world.images().swap_remove(0);
    // Of a growth that failed, some may have been done.
    let checked = user.machine.toy().found(&image);
    if let Err(text) = checked.and_then(|toy| inspect::stopped(&toy, &image, Some(free))) {
        user.complain(text);
    }
}
