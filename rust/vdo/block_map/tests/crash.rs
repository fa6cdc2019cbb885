// SPDX-License-Identifier: GPL-2.0

//! Random work with power cuts. After each, the journal is replayed as we do it, and as mainline
//! does it, and every mapping must be what the journal had committed.

use super::*;
use sim::executor::Executor;
use sim::executor::Outcome;
use sim::fault::CrashPoint;
use sim::fault::Side;
use sim::harness::enumerate_crash_points;
use sim::harness::first_failure;
use sim::harness::run_seeds;
use sim::harness::seeds;
use sim::harness::survivals;

const COMMAND: &str = "cargo test -p vdo block_map";

impl Machine {
    async fn pause(&self, rng: &mut Rng) {
        if rng.chance(1, 2) {
            let time = rng.below(300);
            sleep(&self.sim, time).await;
        }
    }

    /// Reads and writes blocks that belong to this user alone.
    async fn user(&self, (number, users): (u64, u64), mut rng: Rng, rounds: u64) -> Result {
        for _ in 0..rounds {
            let page_number = rng.below(LEAVES);
            let slots = match page_number {
                20 => 100,
                _ => ENTRIES,
            };
            let slot = rng.below(slots) / users * users + number;
            if slot >= slots {
                continue;
            }
            if rng.chance(1, 3) {
                let lbn = tree::first_lbn(page_number) + slot;
                let found = self.read(lbn).await?;
                let model = self.model.lock().unwrap();
                let expected = model.get(&lbn).copied().unwrap_or(Mapping::UNMAPPED);
                assert_eq!(found, expected, "LBN {lbn}");
            } else {
                let new = match rng.below(5) {
                    0 => Mapping::UNMAPPED,
                    1 => Mapping::ZERO,
                    _ => Mapping::plain(FIRST_BLOCK + rng.below(100)),
                };
                let all = [slot, slot + users, slot + 2 * users].map(|slot| slot as u16);
                let count = 1 + all[1..].iter().filter(|&&at| u64::from(at) < slots).count();
                let count = rng.below(count as u64) as usize + 1;
                self.write(page_number, &all[..count], new).await?;
            }
            self.pause(&mut rng).await;
        }
        Ok(())
    }

    /// Gives up blocks of the journal, as far as the map allows it, and has old pages written.
    async fn reaper(&self, keep: u64) {
        loop {
            let time = self.sim.with_rng(|rng| rng.below(3000));
            sleep(&self.sim, time).await;
            let now = sequence(self.ledger.len());
            let head = match self.ledger.flaw {
                Flaw::NoHold => now,
                _ => self.map.oldest_change().unwrap_or(now).min(now),
            };
            // Nor does a journal give up what is not committed.
            let head = head.min(sequence(self.ledger.committed.load(SeqCst)));
            let storage = storage(&self.disk);
            let buffer = storage.buffer(1).unwrap();
            let (_, flushed) = storage
                .flush(crate::storage::Purpose::Journal, buffer)
                .await;
            if flushed.is_err() {
                return;
            }
            self.ledger.head.fetch_max(head, SeqCst);
            self.map.write_before(now.saturating_sub(keep));
        }
    }

    /// Returns the mappings that are committed.
    fn committed(&self) -> BTreeMap<Lbn, Mapping> {
        let mut leaves = BTreeMap::new();
        let entries = self.ledger.replayed(0);
        let mut parents: BTreeMap<Pbn, (usize, u64)> = BTreeMap::new();
        for tree in 0..ROOTS {
            let root = ROOT_ORIGIN + u64::from(tree);
            parents.insert(root, (tree::ROOT_HEIGHT, 0));
            leaves.insert(root, tree);
        }
        let mut mappings = BTreeMap::new();
        let forest = Forest::new(ROOTS, LOGICAL_BLOCKS).unwrap();
        for entry in entries {
            let (height, index) = parents[&entry.page];
            let tree = leaves[&entry.page];
            if entry.operation == Operation::BlockMap {
                let child = index * ENTRIES + u64::from(entry.slot);
                parents.insert(entry.new.pbn, (height - 1, child));
                leaves.insert(entry.new.pbn, tree);
            } else {
                assert_eq!(height, 0);
                let page_number = forest.page_number(tree, index);
                let lbn = tree::first_lbn(page_number) + u64::from(entry.slot);
                mappings.insert(lbn, entry.new);
            }
        }
        mappings
    }
}

/// How a journal is replayed.
#[derive(Clone, Copy, Debug)]
enum Replay {
    /// A page that the journal allocates is empty.
    Ours,
    /// What is on disk is believed, if it is valid.
    Mainline,
}

/// Recovers `image`, and compares all mappings: in memory, and again as they are on disk.
fn recover(seed: u64, image: Vec<u8>, crashed: &Machine, how: Replay) -> Result<(), String> {
    let expected = crashed.committed();
    let machine = &Machine::with_image(seed, image, 2, Flaw::None, false);
    let mut executor = Executor::new(&machine.sim);
    let task = executor.spawn("recover", async {
        let fail = |error: Error| format!("recovery: {error}");
        for entry in crashed.ledger.replayed(crashed.ledger.head.load(SeqCst)) {
            let kind = match entry.operation {
                Operation::BlockMap => Kind::Interior,
                Operation::Data => Kind::Leaf,
            };
            if let (Kind::Interior, Replay::Ours) = (kind, how) {
                machine.map.create(entry.new.pbn).await.map_err(fail)?;
            }
            let page = machine.map.pin(entry.page, kind).await.map_err(fail)?;
            let change = Change {
                oldest: 0,
                newest: 0,
            };
            page.update(change, |page| {
                block_map::set_entry(page, entry.slot, entry.new);
            });
        }
        machine.map.write_all(&machine.ledger).await.map_err(fail)?;
        machine.compare(&expected).await
    });
    executor.spawn_daemon("writer", machine.writer());
    let result = executor.run_task(&task);
    result.map_err(|outcome| format!("{outcome:?}"))??;
    let image = machine.sim.images().swap_remove(0);
    let again = &Machine::with_image(seed, image, 3, Flaw::None, true);
    let mut executor = Executor::new(&again.sim);
    let task = executor.spawn("read", again.compare(&expected));
    let result = executor.run_task(&task);
    result.map_err(|outcome| format!("{outcome:?}"))?
}

/// Runs users until they are done or the power fails. Returns how many writes there were.
fn work(seed: u64, flaw: Flaw, rounds: u64, point: Option<CrashPoint>) -> Result<u64, String> {
    let mut rng = Rng::new(seed ^ 0x6d61_7021);
    let machine = &Machine::new(seed, *rng.pick(&[1, 2, 5, 40]), flaw);
    if let Some(point) = point {
        machine.sim.crash_at(point);
    }
    let mut executor = Executor::new(&machine.sim);
    let users = 1 + rng.below(6);
    let tasks: Vec<_> = (0..users)
        .map(|user| executor.spawn("user", machine.user((user, users), rng.fork(), rounds)))
        .collect();
    for _ in 0..1 + rng.below(2) {
        executor.spawn_daemon("writer", machine.writer());
    }
    let keep = rng.below(4);
    executor.spawn_daemon("reaper", machine.reaper(keep));
    let mut outcome = executor.run();
    for task in &tasks {
        if let Some(result) = task.take() {
            result.map_err(|error| format!("user: {error}"))?;
        }
    }
    if outcome == Outcome::Done {
        // Nothing was allocated that is not in the journal.
        let pages = machine.ledger.count(Operation::BlockMap);
        let all = FreeBlocks::new(&machine.sim, usize::MAX).len();
        assert_eq!(machine.free.len() + pages, all);
        assert!(pages <= LEAVES + INTERIOR);
        let save = executor.spawn("save", machine.map.write_all(&machine.ledger));
        match executor.run_task(&save) {
            Ok(result) => result.map_err(|error| format!("save: {error}"))?,
            Err(other) => outcome = other,
        }
    }
    match outcome {
        Outcome::Stuck(who) => return Err(format!("stuck: {who:?}")),
        Outcome::Done => {
            assert_eq!(machine.map.oldest_change(), None);
            machine.ledger.head.store(u64::MAX, SeqCst);
            recover(
                seed,
                machine.sim.images().swap_remove(0),
                machine,
                Replay::Ours,
            )?;
        }
        Outcome::Crashed => {
            for survival in survivals(1) {
                for image in machine.sim.survivors(&survival, &mut rng) {
                    for how in [Replay::Ours, Replay::Mainline] {
                        let result = recover(seed, image.clone(), machine, how);
                        result.map_err(|text| format!("{survival:?} {how:?}: {text}"))?;
                    }
                }
            }
        }
    }
    Ok(machine.sim.changes())
}

fn by_seed(seed: u64, flaw: Flaw) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let point = match rng.below(5) {
        0 => None,
        1 => Some(CrashPoint::Step(1 + rng.below(3000))),
        _ => {
            let side = *rng.pick(&[Side::Issued, Side::Completed]);
            Some(CrashPoint::Operation(rng.below(150), side))
        }
    };
    work(seed, flaw, 15, point).map(|_| ())
}

#[test]
fn random_work_survives_crashes() {
    run_seeds(seeds(150), COMMAND, |seed| by_seed(seed, Flaw::None));
}

#[test]
fn every_crash_point() {
    let runs = enumerate_crash_points(|point| work(2, Flaw::None, 3, point)).unwrap();
    assert!(runs > 10, "{runs} runs");
}

#[test]
fn flaws_are_found() {
    for flaw in [Flaw::NoGate, Flaw::SingleWrite, Flaw::NoHold] {
        let failure = first_failure(0..600, |seed| by_seed(seed, flaw));
        let failure = failure.unwrap_or_else(|| panic!("{flaw:?} goes unnoticed"));
        assert!(failure.text.contains("expected"), "{flaw:?}: {failure:?}");
    }
}
