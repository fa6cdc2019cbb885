// SPDX-License-Identifier: GPL-2.0

//! Runs a workload under many seeds, or with a crash at every point, and names what failed.
//!
//! `DMOX_SIM_SEED=n` runs one seed only, `DMOX_SIM_SEEDS=n` or `=a..b` changes how many,
//! `DMOX_SIM_TRACE=1` prints what happens.

use crate::disk::Survival;
use crate::fault::CrashPoint;
use crate::fault::Side;
use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::panic::catch_unwind;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What was wrong.
    pub text: String,
}

/// Runs one seed; a panic is a failure like any other.
pub fn run_seed(seed: u64, workload: impl Fn(u64) -> Result<(), String>) -> Result<(), Failure> {
    match catch_unwind(AssertUnwindSafe(|| workload(seed))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(text)) => Err(Failure { seed, text }),
        Err(panic) => Err(Failure {
            seed,
            text: panic_text(&*panic),
        }),
    }
}

/// Runs seeds on all CPUs until one fails, and returns the first that did.
pub fn first_failure(
    seeds: Range<u64>,
    workload: impl Fn(u64) -> Result<(), String> + Sync,
) -> Option<Failure> {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let failures = Mutex::new(Vec::new());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if !seeds.contains(&seed) || failed.load(Ordering::Relaxed) {
            break;
        }
        if let Err(failure) = run_seed(seed, &workload) {
            failed.store(true, Ordering::Relaxed);
            failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(failure);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut failures = failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    failures.sort_by_key(|failure| failure.seed);
    failures.into_iter().next()
}

/// Runs a test's seeds, and panics with the first that fails. `command` reproduces a failure when
/// it is run with `DMOX_SIM_SEED` set.
pub fn run_seeds(
    seeds: Range<u64>,
    command: &str,
    workload: impl Fn(u64) -> Result<(), String> + Sync,
) {
    if let Some(Failure { seed, text }) = first_failure(seeds, workload) {
        panic!("seed {seed}: {text}\nagain with: DMOX_SIM_SEED={seed} DMOX_SIM_TRACE=1 {command}");
    }
}

/// Runs a workload in which something is wrong, and panics if none of the first `count` seeds says
/// so. Prints which one did.
pub fn must_find(
    what: impl Debug,
    count: u64,
    workload: impl Fn(u64) -> Result<(), String> + Sync,
) {
    let failure = first_failure(0..count, workload);
    let Some(Failure { seed, text }) = failure else {
        panic!("{what:?} was not found in {count} seeds");
    };
    println!("{what:?} found by seed {seed}: {text}");
}

/// Returns the seeds that the environment asks for, by default the first `count`.
pub fn seeds(count: u64) -> Range<u64> {
    match std::env::var("DMOX_SIM_SEEDS") {
        Err(_) => one_of(0..count),
        Ok(text) => one_of(match text.split_once("..") {
            Some((start, end)) => number(start).unwrap_or(0)..number(end).unwrap_or(u64::MAX),
            None => 0..number(&text).unwrap_or(count),
        }),
    }
}

/// Returns `all`, or the one that the environment asks for.
pub fn one_of(all: Range<u64>) -> Range<u64> {
    let one = std::env::var("DMOX_SIM_SEED").ok();
    one.as_deref()
        .and_then(number)
        .map_or(all, |seed| seed..seed + 1)
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// What each of `disks` disks may hold after a crash, for workloads small enough to try them
/// all: everything unflushed lost or kept, disk by disk, and sectors torn by chance.
pub fn survivals(disks: usize) -> Vec<Vec<Survival>> {
    let mut all: Vec<Vec<Survival>> = (0..1_u32 << disks)
        .map(|bits| {
            let kept = |disk| (bits >> disk) & 1 == 1;
            (0..disks)
                .map(|disk| {
                    if kept(disk) {
                        Survival::Kept
                    } else {
                        Survival::Lost
                    }
                })
                .collect()
        })
        .collect();
    all.push(vec![Survival::Torn; disks]);
    all.push(vec![Survival::Picked; disks]);
    all
}

/// Runs a workload without a crash, then once for each side of each write, flush and discard
/// that it made. `workload` returns how many it made. Returns how many runs there were.
pub fn enumerate_crash_points(
    workload: impl Fn(Option<CrashPoint>) -> Result<u64, String>,
) -> Result<u64, String> {
    let changes = workload(None)?;
    for change in 0..changes {
        for side in [Side::Issued, Side::Completed] {
            let point = CrashPoint::Operation(change, side);
            workload(Some(point)).map_err(|text| format!("crash at {point:?}: {text}"))?;
        }
    }
    Ok(1 + 2 * changes)
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("of unknown kind"))
}
