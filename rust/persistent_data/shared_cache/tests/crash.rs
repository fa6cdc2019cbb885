// SPDX-License-Identifier: GPL-2.0

//! Random work with a power cut at any moment, and at every write of a small piece of work.

use super::*;
use sim::executor::Executor;
use sim::executor::Outcome;
use sim::fault::CrashPoint;
use sim::harness::enumerate_crash_points;
use sim::harness::first_failure;
use sim::harness::run_seeds;
use sim::harness::seeds;
use sim::harness::survivals;

const COMMAND: &str = "cargo test -p persistent_data shared_cache";

/// Runs users, writers and a reaper until the users are done or the power fails. Returns how many
/// writes and flushes there were.
fn work(seed: u64, flaw: Flaw, rounds: u64, point: Option<CrashPoint>) -> Result<u64, String> {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let pages = *rng.pick(&[1, 2, 3, 5, 16, 300]);
    let machine = &machine(seed, pages, flaw);
    if let Some(point) = point {
        machine.world.crash_at(point);
    }
    let mut executor = Executor::new(&machine.world);
    let users: Vec<_> = (0..1 + rng.below(8))
        .map(|_| executor.spawn("user", machine.user(rng.fork(), rounds)))
        .collect();
    for _ in 0..1 + rng.below(2) {
        let pages = 1 + rng.below(8) as usize;
        executor.spawn_daemon("writer", machine.writer(pages));
    }
    let keep = rng.below(4);
    executor.spawn_daemon("reaper", machine.reaper(keep));
    let mut outcome = executor.run();
    for user in &users {
        if let Some(result) = user.take() {
            result?;
        }
    }
    if outcome == Outcome::Done {
        let save = executor.spawn("save", async {
            let mut writer = machine.cache.writer(3).unwrap();
            machine.cache.write_all(&mut writer, &machine.journal).await
        });
        match executor.run_task(&save) {
            Ok(result) => result.map_err(|error| format!("save: {error:?}"))?,
            Err(other) => outcome = other,
        }
    }
    match outcome {
        Outcome::Crashed => {
            for survival in survivals(1) {
                for image in machine.world.survivors(&survival, &mut rng) {
                    machine.judge_disk(&image)?;
                }
            }
        }
        Outcome::Done => judge_saved(machine)?,
        Outcome::Stuck(who) => return Err(format!("stuck: {who:?}")),
    }
    Ok(machine.world.changes())
}

/// After all was written, the disk has the newest of everything, and counts are in order.
fn judge_saved(machine: &Machine) -> Result<(), String> {
    assert_eq!(machine.cache.oldest_change(), None);
    machine.journal.head.store(u64::MAX, SeqCst);
    machine.judge_disk(&machine.world.images()[0])?;
    let counters = machine.cache.counters(Residence::Evictable);
    let kept = machine.cache.counters(Residence::Kept);
    let in_use = counters.clean_pages + counters.free_pages;
    assert_eq!((counters.dirty_pages, kept.dirty_pages), (0, 0));
    assert_eq!((counters.incoming_pages, counters.outgoing_pages), (0, 0));
    assert!(in_use <= 300 && kept.clean_pages <= BLOCKS - KEPT);
    let loaded = counters.pages_loaded + kept.pages_loaded;
    assert_eq!(loaded, machine.cache.store().loads.load(SeqCst));
    Ok(())
}

fn by_seed(seed: u64, flaw: Flaw) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let point = match rng.below(4) {
        0 => None,
        1 => Some(CrashPoint::Step(1 + rng.below(3000))),
        _ => {
            let side = *rng.pick(&[sim::fault::Side::Issued, sim::fault::Side::Completed]);
            Some(CrashPoint::Operation(rng.below(200), side))
        }
    };
    work(seed, flaw, 40, point).map(|_| ())
}

#[test]
fn random_work_survives_crashes() {
    run_seeds(seeds(1500), COMMAND, |seed| by_seed(seed, Flaw::None));
}

#[test]
fn every_crash_point() {
    for seed in 0..4 {
        let runs = enumerate_crash_points(|point| work(seed, Flaw::None, 12, point)).unwrap();
        assert!(runs > 10, "{runs} runs");
    }
}

#[test]
fn flaws_are_found() {
    for flaw in [Flaw::NoGate, Flaw::SingleWrite, Flaw::EarlyAge] {
        let failure = first_failure(0..1500, |seed| by_seed(seed, flaw));
        let failure = failure.unwrap_or_else(|| panic!("{flaw:?} goes unnoticed"));
        assert!(
            failure.text.contains("which must be"),
            "{flaw:?}: {failure:?}"
        );
    }
}
