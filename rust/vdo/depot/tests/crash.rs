// SPDX-License-Identifier: GPL-2.0

//! The power fails again and again; after each recovery the counts are those of all entries that
//! the recovery journal had committed.
//!
//! The recovery journal is a list that never forgets: an entry is committed when it is in it. After
//! a crash it is replayed from where it need not be kept before, as the depot said: from the first
//! entry that was not applied, or the oldest hold, whichever comes first.

use super::*;
use crate::format::reference::MAX_COUNT;
use crate::format::JournalPoint;
use crate::format::Mapping;
use crate::format::Operation;
use crate::format::RecoveryEntry;
use crate::storage::Purpose;
use sim::clock::sleep;
use sim::disk::Survival;
use sim::fault::CrashPoint;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::harness;
use sim::rng::Rng;
use sim::world::World as Machine;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::sync::Mutex;

/// Entries of a block of the recovery journal.
const PER_BLOCK: usize = 7;

/// What a run of seeds does.
#[derive(Clone, Copy)]
struct Plan {
    toy: Toy,
    flaw: Option<Flaw>,
    entries: usize,
    boots: usize,
    /// Entries that may be committed and not yet applied.
    lag: usize,
}

/// What is committed.
struct Model {
    rng: Rng,
    /// Every block that has a count, and the count.
    counts: BTreeMap<Pbn, u8>,
    journal: Vec<(JournalPoint, RecoveryEntry)>,
    applied: usize,
    /// The first sequence of `journal`.
    base: Sequence,
    done: bool,
    /// Whoever runs on is to end.
    over: bool,
}

type Shared = std::sync::Arc<Mutex<Model>>;

impl Model {
    fn shared(seed: u64) -> Shared {
        std::sync::Arc::new(Mutex::new(Self {
            rng: Rng::new(seed ^ 0x5555),
            counts: BTreeMap::new(),
            journal: Vec::new(),
            applied: 0,
            base: 1,
            done: false,
            over: false,
        }))
    }

    /// Returns a block with a count that can still change.
    fn data_block(&mut self, below: u8) -> Option<Pbn> {
        let blocks: Vec<Pbn> = self
            .counts
            .iter()
            .filter(|(_, count)| **count < below)
            .map(|(pbn, _)| *pbn)
            .collect();
        match blocks.len() {
            0 => None,
            _ => Some(*self.rng.pick(&blocks)),
        }
    }

    fn commit(&mut self, operation: Operation, new: Pbn, old: Pbn) {
        let mapping = |pbn| match pbn {
            0 => Mapping::UNMAPPED,
            _ => Mapping::plain(pbn),
        };
        let index = self.journal.len();
        let point = JournalPoint::new(
            self.base + (index / PER_BLOCK) as u64,
            (index % PER_BLOCK) as u16,
        );
        let entry = RecoveryEntry {
            operation,
            page: 7,
            slot: 3,
            new: mapping(new),
            old: mapping(old),
        };
        self.journal.push((point, entry));
        if new != 0 {
            let count = self.counts.entry(new).or_insert(0);
            *count = match operation {
                Operation::Data => *count + 1,
                Operation::BlockMap => MAX_COUNT,
            };
        }
        if old != 0 {
            let count = self.counts.get_mut(&old).unwrap();
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&old);
            }
        }
    }

    /// The recovery journal begins anew, behind what it has.
    fn restart(&mut self) {
        self.base += (self.journal.len() / PER_BLOCK) as u64 + 1;
        self.journal.clear();
        self.applied = 0;
    }

    /// What is committed but not yet applied is known to be, because it is replayed.
    fn head(&self, hold: Option<Sequence>) -> Sequence {
        let next = self.journal.get(self.applied);
        let next = next.map_or(Sequence::MAX, |(point, _)| point.sequence);
        hold.map_or(next, |hold| hold.min(next))
    }
}

/// Fills the recovery journal.
async fn generate(machine: Machine, depot: Arc<Depot<TestWorld>>, model: Shared, plan: Plan) {
    let lock = || model.lock().unwrap();
    for _ in 0..plan.entries {
        loop {
            let lag = {
                let model = lock();
                model.journal.len() - model.applied
            };
            if lag < plan.lag {
                break;
            }
            if lock().over {
                return;
            }
            sleep(&machine, 50).await;
        }
        let choice = lock().rng.below(10);
        let mut news = std::vec![];
        if choice < 6 {
            let wanted = lock().rng.below(4) as u32 + 1;
            let Ok(run) = depot.allocate(wanted).await else {
                // Read-only: nothing comes any more.
                break;
            };
            let Some(run) = run else {
                {
                    let mut model = lock();
                    if let Some(old) = model.data_block(MAX_COUNT) {
                        model.commit(Operation::Data, 0, old);
                    }
                }
                sleep(&machine, 20).await;
                continue;
            };
            if choice == 0 {
                sleep(&machine, 30).await;
                depot.release(run);
                continue;
            }
            news.extend(run.start..run.start + u64::from(run.blocks));
        } else if choice < 8 {
            news.extend(lock().data_block(MAX_COUNT - 1));
        } else {
            news.push(0);
        }
        let mut model = lock();
        for new in news {
            if new != 0 && choice == 1 {
                model.commit(Operation::BlockMap, new, 0);
                continue;
            }
            let old = match model.rng.chance(2, 3) {
                true => model.data_block(MAX_COUNT).unwrap_or(0),
                false => 0,
            };
            model.commit(Operation::Data, new, old);
        }
    }
    lock().done = true;
}

/// Applies what is committed.
async fn apply(
    machine: Machine,
    depot: Arc<Depot<TestWorld>>,
    model: Shared,
    lag: usize,
) -> Result {
    loop {
        let (batch, done) = {
            let mut model = model.lock().unwrap();
            let count = 1 + model.rng.below(8) as usize;
            let from = model.applied;
            let to = model.journal.len().min(from + count);
            (model.journal[from..to].to_vec(), model.done)
        };
        if batch.is_empty() {
            if done {
                return Ok(());
            }
            sleep(&machine, 40).await;
            continue;
        }
        depot.apply(&batch).await?;
        let pause = {
            let mut model = model.lock().unwrap();
            model.applied += batch.len();
            model.rng.below(4 * lag as u64)
        };
        sleep(&machine, pause).await;
    }
}

/// Is in a hurry now and then.
async fn hurry(machine: Machine, depot: Arc<Depot<TestWorld>>, model: Shared) {
    loop {
        let (pause, ahead) = {
            let mut model = model.lock().unwrap();
            (model.rng.below(3000), model.rng.below(4))
        };
        sleep(&machine, pause + 1).await;
        if model.lock().unwrap().over {
            return;
        }
        if let Some(hold) = depot.oldest_hold() {
            depot.write_before(hold + ahead);
        }
    }
}

/// What a boot starts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    Nothing,
    Crash(Sequence),
    Save { scrubbed: bool },
}

async fn start(depot: Arc<Depot<TestWorld>>, from: From, model: Shared) -> Result {
    match from {
        From::Nothing => depot.load(Load::New).await?,
        From::Save { scrubbed: true } => depot.load(Load::Clean).await?,
        From::Save { scrubbed: false } => depot.load(Load::Recovering).await?,
        From::Crash(head) => {
            depot.load(Load::Crashed).await?;
            let journal = model.lock().unwrap().journal.clone();
            let entries: Vec<_> = journal
                .into_iter()
                .filter(|(point, _)| point.sequence >= head)
                .collect();
            for window in entries.chunks(5) {
                depot.replay(window).await?;
            }
            depot.commit_all().await?;
        }
    }
    Ok(())
}

/// Compares all counts.
fn compare(depot: &Depot<TestWorld>, model: &Model) -> Result<(), String> {
    let layout = depot.layout();
    for slab in 0..layout.slab_count {
        for sbn in 0..layout.slab.data_blocks {
            let pbn = layout.pbn(slab, sbn);
            let wanted = model.counts.get(&pbn).copied().unwrap_or(0);
            let found = depot.count(pbn);
            let is_same = found == Some(wanted) || (found == Some(255) && wanted == 0);
            if !is_same {
                return Err(format!("slab {slab} block {sbn}: {found:?}, not {wanted}"));
            }
        }
    }
    Ok(())
}

fn live(seed: u64, plan: &Plan) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut image = plan.toy.image();
    let mut from = From::Nothing;
    let model = Model::shared(seed);
    let mut boots = 0;
    while boots < plan.boots {
        boots += 1;
        let machine = Machine::new(rng.next_u64());
        let disk = machine.add_disk("disk", core::mem::take(&mut image));
        let mut executor = Executor::new(&machine);
        let mut depot = plan.toy.depot(&disk);
        depot.flaw = plan.flaw;
        let depot = arc(depot);
        spawn(&executor, &depot);
        if rng.chance(2, 3) {
            machine.crash_at(CrashPoint::Step(rng.below(4000)));
        }
        let parts = (&machine, &depot, &model);
        let ended = boot(&mut executor, parts, plan, &mut from, &mut rng);
        let crashed = match ended {
            Ok(()) => false,
            Err(End::Crashed) => true,
            Err(End::Failed(text)) => return Err(format!("boot {boots}: {text}")),
        };
        executor.power_off();
        let own = model.lock().unwrap_or_else(|error| error.into_inner());
        depot.check();
        if matches!(from, From::Nothing | From::Save { .. }) {
            assert!(own.journal.is_empty(), "what is begun anew has no journal");
        }
        drop(own);
        let survival: &[Survival] = if crashed { &[] } else { &[Survival::Lost] };
        image = machine.survivors(survival, &mut rng).remove(0);
    }
    Ok(())
}

/// The machine, what runs on it, and what that should hold.
type Parts<'a> = (&'a Machine, &'a Arc<Depot<TestWorld>>, &'a Shared);

/// Why a boot ended.
enum End {
    Crashed,
    Failed(String),
}

fn wait<T: 'static>(
    executor: &mut Executor<'static>,
    what: &str,
    future: impl core::future::Future<Output = Result<T>> + 'static,
) -> Result<T, End> {
    let task = executor.spawn(what, future);
    match executor.run_task(&task) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(End::Failed(format!("{what}: {error:?}"))),
        Err(Outcome::Crashed) => Err(End::Crashed),
        Err(outcome) => Err(End::Failed(format!("{what}: {outcome:?}"))),
    }
}

/// One life between two power cuts. `from` tells how the next one begins.
fn boot(
    executor: &mut Executor<'static>,
    (machine, depot, model): Parts<'_>,
    plan: &Plan,
    from: &mut From,
    rng: &mut Rng,
) -> Result<(), End> {
    wait(executor, "load", start(depot.clone(), *from, model.clone()))?;
    // The super block is written: the recovery journal begins anew.
    wait(executor, "flush", flush(depot.clone()))?;
    model.lock().unwrap().restart();
    *from = From::Crash(Sequence::MAX);
    let own = depot.clone();
    let started = wait(executor, "start", async move { own.start().await });
    let ended = started.and_then(|_| work(executor, (machine, depot, model), plan, rng));
    // From here on a crash means a recovery from what the depot holds now.
    let head = model.lock().unwrap().head(depot.oldest_hold());
    *from = From::Crash(head);
    let scrubbed = ended?;
    *from = From::Save { scrubbed };
    model.lock().unwrap().restart();
    Ok(())
}

async fn flush(depot: Arc<Depot<TestWorld>>) -> Result {
    let buffer = depot.storage.buffer(1)?;
    depot.storage.flush(Purpose::Metadata, buffer).await.1
}

/// Uses the volume and saves it. Returns whether all slabs were scrubbed.
fn work(
    executor: &mut Executor<'static>,
    (machine, depot, model): Parts<'_>,
    plan: &Plan,
    rng: &mut Rng,
) -> Result<bool, End> {
    let own = depot.clone();
    if rng.chance(1, 2) {
        wait(executor, "scrubbed", async move { own.scrubbed().await })?;
        compare(depot, &model.lock().unwrap()).map_err(End::Failed)?;
    }
    model.lock().unwrap().done = false;
    let parts = (machine.clone(), depot.clone(), model.clone());
    executor.spawn(
        "generate",
        generate(machine.clone(), depot.clone(), model.clone(), *plan),
    );
    executor.spawn_daemon(
        "hurry",
        hurry(machine.clone(), depot.clone(), model.clone()),
    );
    wait(
        executor,
        "apply",
        apply(parts.0, parts.1, parts.2, plan.lag),
    )?;
    depot.check();
    if rng.chance(1, 2) {
        let own = depot.clone();
        wait(executor, "scrubbed", async move { own.scrubbed().await })?;
        compare(depot, &model.lock().unwrap()).map_err(End::Failed)?;
    }
    let own = depot.clone();
    wait(executor, "save", async move {
        own.stop_scrubbing().await?;
        own.save().await
    })?;
    wait(executor, "flush", flush(depot.clone()))?;
    depot.check();
    Ok(depot.statistics().slabs_unscrubbed == 0)
}

fn plan(toy: Toy) -> Plan {
    Plan {
        toy,
        flaw: None,
        entries: 60,
        boots: 5,
        lag: 12,
    }
}

#[test]
fn counts_survive_crashes_of_tiny_slabs() {
    let command = "cargo test -p vdo counts_survive_crashes_of_tiny";
    let plan = plan(Toy::tiny());
    harness::run_seeds(harness::seeds(500), command, |seed| live(seed, &plan));
}

/// What is replayed is more than the ring of a slab journal holds.
#[test]
fn counts_survive_crashes_far_behind() {
    let command = "cargo test -p vdo counts_survive_crashes_far_behind";
    let plan = Plan {
        lag: 90,
        entries: 100,
        ..plan(Toy::tiny())
    };
    harness::run_seeds(harness::seeds(300), command, |seed| live(seed, &plan));
}

#[test]
fn counts_survive_crashes_of_small_slabs() {
    let command = "cargo test -p vdo counts_survive_crashes_of_small";
    let plan = Plan {
        entries: 150,
        ..plan(Toy::small())
    };
    harness::run_seeds(harness::seeds(200), command, |seed| live(seed, &plan));
}

#[test]
fn counts_survive_crashes_of_wide_slabs() {
    let command = "cargo test -p vdo counts_survive_crashes_of_wide";
    let plan = plan(Toy::wide());
    harness::run_seeds(harness::seeds(4), command, |seed| live(seed, &plan));
}

/// Whatever write fails, nobody waits for ever, and the counts are those of what is committed.
#[test]
fn a_failed_write_leaves_nobody_waiting() {
    for number in 0..250 {
        let toy = Toy::tiny();
        let machine = Machine::new(number);
        let disk = machine.add_disk("disk", toy.image());
        machine.add_fault(Fault::new(0, &[Kind::Write, Kind::Flush]).numbers(number..u64::MAX));
        let mut executor = Executor::new(&machine);
        let depot = arc(toy.depot(&disk));
        spawn(&executor, &depot);
        let mut rng = Rng::new(number);
        let model = Model::shared(number);
        let mut from = From::Nothing;
        let plan = plan(toy);
        let parts = (&machine, &depot, &model);
        match boot(&mut executor, parts, &plan, &mut from, &mut rng) {
            Ok(()) => {}
            Err(End::Crashed) => panic!("there is no crash"),
            Err(End::Failed(text)) => {
                let is_error = text.contains("ReadOnly") || text.contains("Errno");
                assert!(is_error, "write {number}: {text}");
            }
        }
        let hold = depot.oldest_hold();
        depot.stop();
        model.lock().unwrap().over = true;
        assert_eq!(executor.run_until_idle(), Outcome::Done);
        executor.power_off();
        let head = model.lock().unwrap().head(hold);
        if from == From::Nothing {
            continue;
        }
        model.lock().unwrap().over = false;
        // The next start is after a crash.
        let machine = Machine::new(number);
        let image = disk.world().survivors(&[], &mut rng).remove(0);
        let disk = machine.add_disk("disk", image);
        let mut executor = Executor::new(&machine);
        let depot = arc(toy.depot(&disk));
        spawn(&executor, &depot);
        let parts = (&machine, &depot, &model);
        let ended = boot(
            &mut executor,
            parts,
            &plan,
            &mut From::Crash(head),
            &mut rng,
        );
        if let Err(End::Failed(text)) = ended {
            panic!("after write {number}: {text}");
        }
    }
}

#[test]
fn broken_rules_are_found() {
    let flaws = [
        (Flaw::SummaryFirst, Toy::tiny()),
        (Flaw::SealedIsFollowed, Toy::tiny()),
        (Flaw::HoldIsReleased, Toy::tiny()),
        (Flaw::RingIsReused, Toy::small()),
    ];
    for (flaw, toy) in flaws {
        let plan = Plan {
            flaw: Some(flaw),
            entries: 100,
            ..plan(toy)
        };
        let found = harness::first_failure(0..3000, |seed| live(seed, &plan));
        let found = found.unwrap_or_else(|| panic!("{flaw:?} is not found"));
        std::println!("{flaw:?}: seed {} {}", found.seed, found.text);
    }
}
