// SPDX-License-Identifier: GPL-2.0

//! Volumes with any field changed, under a right checksum, and what a machine does with them.
//!
//! A device that somebody hands over may say anything. Whatever it says, nothing panics (a stock
//! kernel checks arithmetic, and a panic is a BUG), nothing hangs, and nothing is written where a
//! volume of this layout has nothing to write.

mod damage;
mod places;

use crate::machine::Machine;
use crate::plan::Growth;
use crate::plan::Plan;
use crate::toy;
use crate::toy::BLOCK_SECTORS;
use crate::used;
use crate::used::Used;
use kernel::prelude::Result;
use places::Places;
use sim::choices::Choices;
use sim::clock::sleep;
use sim::Executor;
use sim::Outcome;
use sim::World;
use std::rc::Rc;
use std::sync::OnceLock;
use vdo::admin::table;
use vdo::format::BLOCK_SIZE;
use vdo::volume::open;
use vdo::world::Operation;

/// Volumes of each kind that are taken.
const OF_EACH_KIND: u64 = 4;

fn volumes() -> &'static [Used] {
    static VOLUMES: OnceLock<Vec<Used>> = OnceLock::new();
    VOLUMES.get_or_init(|| {
        let seeds = 0..OF_EACH_KIND;
        let of_seed = |seed| used::ALL.map(|left| Used::new(seed, left));
        seeds.flat_map(of_seed).collect()
    })
}

/// Does what `input` says: which volume, what is changed in it, and what is done with it.
///
/// # Errors
///
/// What was wrong first.
pub fn run(input: &[u8]) -> core::result::Result<(), String> {
    let mut choices = Choices::new(input);
    let used = choices.pick(volumes());
    let (plan, mut image) = (used.plan.clone(), used.image.clone());
    let was = plan.toy.found(&image)?;
    for _ in 0..=choices.below(3) {
        let what = damage::make(&mut image, &was, &mut choices);
        if std::env::var_os("DMOX_SIM_TRACE").is_some() {
            eprintln!("{:?}: {what}", used.left);
        }
    }
    for life in 0..=choices.below(2) {
        if life > 0 && choices.chance(1, 2) {
            let _ = toy::force_rebuild(&mut image);
        }
        image = live(&plan, image, &mut choices).map_err(|text| format!("life {life}: {text}"))?;
    }
    Ok(())
}

/// One life of a machine; returns what it leaves.
fn live(
    plan: &Plan,
    image: Vec<u8>,
    choices: &mut Choices,
) -> core::result::Result<Vec<u8>, String> {
    let world = World::new(choices.number());
    let mut executor = Executor::new(&world);
    executor.set_limits(400_000, 600_000_000);
    if !opens(&image) {
        return Ok(image);
    }
    let before = Places::of(&image)?;
    let machine = Machine::new(&world, executor.spawner(), plan, image.clone());
    let task = use_it(machine, choices.fork());
    drop(executor.spawn("life", task));
    let crashes = choices.chance(1, 4);
    let last = choices.below(3000);
    let outcome =
        executor.run_until(|executor| !executor.is_busy() || (crashes && executor.steps() > last));
    let stuck = match outcome {
        Outcome::Stuck(tasks) => Some(tasks),
        _ => None,
    };
    if let Some(tasks) = stuck {
        return Err(format!("stuck: {tasks:?}"));
    }
    let log = world.log();
    let is_cut_off = executor.is_busy();
    executor.power_off();
    let left = world.images().swap_remove(0);
    before.check(&image, &left, &log, is_cut_off)?;
    Ok(left)
}

/// Returns whether the kernel would make a device of it: for a table that says what the super block
/// says.
fn opens(image: &[u8]) -> bool {
    let Ok(found) = toy::super_block(image) else {
        return false;
    };
    let device = (image.len() / BLOCK_SIZE) as u64;
    if found.physical_blocks > device {
        return false;
    }
    let line = format!("V4 disk {} 4096 128 4", found.physical_blocks);
    let words: Vec<&str> = line.split(' ').collect();
    let sectors = found.logical_blocks.saturating_mul(BLOCK_SECTORS);
    let Ok(table) = table::parse(0, sectors, words.into_iter(), &mut |_, _| ()) else {
        return false;
    };
    let world = World::new(1);
    let disk = world.add_disk("disk", image.to_vec());
    let disk = kernel::sync::Arc::new(disk, kernel::prelude::GFP_KERNEL).expect("memory");
    let mut executor = Executor::new(&world);
    let opened = executor.spawn("open", async move {
        open::open(&disk, &table.settings, None, |_, _| ())
            .await
            .is_ok()
    });
    executor.run_task(&opened) == Ok(true)
}

/// Does what users and administrators do. Anything may fail.
async fn use_it(machine: Rc<Machine>, mut choices: Choices) {
    if machine.start().await.is_err() {
        return;
    }
    for _ in 0..=choices.below(2) {
        let (first, second) = (choices.below(12), choices.below(12));
        let spawner = machine.spawner().clone();
        let other = make_requests(machine.clone(), choices.fork(), first);
        let other = spawner.spawn("user", other);
        make_requests(machine.clone(), choices.fork(), second).await;
        other.await;
        let _ = machine.statistics();
        let _ = match choices.below(5) {
            0 => machine.suspend_and_resume(true).await,
            1 => machine.suspend_and_resume(false).await,
            2 => grow(&machine, choices.below(2000), 0).await,
            3 if machine.can_grow() => grow(&machine, 0, 3).await,
            _ => Ok(()),
        };
        if machine.suspended.get() && machine.resume().await.is_err() {
            break;
        }
    }
    if choices.below(2) == 0 {
        machine.recovered().await;
    }
    machine.remove().await;
}

async fn grow(machine: &Machine, logical: u64, slabs: u32) -> Result {
    let growth = Growth {
        logical,
        slabs,
        flush: logical % 2 == 0,
    };
    machine.grow(growth).await
}

async fn make_requests(machine: Rc<Machine>, mut choices: Choices, count: u64) {
    let volume = machine.toy().logical_blocks * BLOCK_SECTORS;
    if volume == 0 {
        return;
    }
    for _ in 0..count {
        // Often where something is already.
        let near = machine
            .plan
            .space
            .lbn(choices.below(machine.plan.space.blocks()));
        let start = match choices.below(4) {
            0..=1 => near * BLOCK_SECTORS,
            2 => volume - 1 - choices.below(volume.min(800)),
            _ => choices.below(volume),
        };
        let start = start.min(volume - 1);
        let sectors = (1 + choices.below(6 * BLOCK_SECTORS)).min(volume - start);
        let (start, sectors) = match choices.chance(1, 2) || start < BLOCK_SECTORS {
            true => (start, sectors),
            false => (
                start / BLOCK_SECTORS * BLOCK_SECTORS,
                BLOCK_SECTORS.min(volume - start),
            ),
        };
        let data = vec![choices.below(3) as u8; sectors as usize * 512];
        let fua = choices.chance(1, 4);
        let _ = match choices.below(8) {
            0..=1 => machine.read(start, sectors).await.1,
            2..=4 => {
                machine
                    .submit(Operation::Write, fua, start, sectors, &data)
                    .await
            }
            5 => {
                let wide = sectors.max(choices.below(20_000)).min(volume - start);
                machine
                    .submit(Operation::Discard, false, start, wide, &[])
                    .await
            }
            6 => {
                machine
                    .submit(Operation::WriteZeroes, fua, start, sectors, &[])
                    .await
            }
            _ => machine.submit(Operation::Flush, false, 0, 0, &[]).await,
        };
        if choices.chance(1, 6) {
            sleep(&machine.world, choices.below(20_000)).await;
        }
    }
}
