// SPDX-License-Identifier: GPL-2.0

//! The way of the bitmap to disk, for clones too large to have data here: random bits are set and
//! committed until the power fails.

use crate::inspect;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::scene;
use clone::geometry::Geometry;
use sim::clock::sleep;
use sim::executor::Executor;
use sim::fault::CrashPoint;
use sim::Outcome;
use sim::Rng;
use sim::World;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

/// Sectors of a region.
const REGION: u64 = 8;

/// Regions whose bits are in one block of metadata.
const BLOCK_REGIONS: u64 = 509 * 64;

/// What must be on disk, and what may be.
struct Bits {
    committed: Vec<bool>,
    set: Vec<bool>,
}

/// Runs `seed`.
pub fn run(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    // A leaf of the bitmap's tree holds 252 blocks; few are beyond that.
    let blocks = if seed % 64 == 63 {
        260
    } else {
        1 + rng.below(6)
    };
    let regions = (blocks - 1) * BLOCK_REGIONS + 1 + rng.below(BLOCK_REGIONS);
    let geometry = Geometry::new(regions * REGION, 3).expect("not too many regions");
    let mut plan = Plan {
        geometry,
        ..scene::plan()
    };
    plan.metadata_blocks = smallest_metadata(&plan) + rng.below(3);
    let mut image = vec![0; plan.metadata_blocks as usize * 4096];
    let none = vec![false; regions as usize];
    let bits = Rc::new(RefCell::new(Bits {
        committed: none.clone(),
        set: none,
    }));
    for life in 0..3 {
        image =
            live(&mut rng, &plan, image, &bits).map_err(|text| format!("life {life}: {text}"))?;
    }
    Ok(())
}

/// Returns the number of blocks below which a load refuses the device.
fn smallest_metadata(plan: &Plan) -> u64 {
    let (mut refused, mut accepted) = (9, 4096);
    while refused + 1 < accepted {
        let blocks = (refused + accepted) / 2;
        let world = World::new(0);
        let mut executor = Executor::new(&world);
        let images = vec![
            vec![0; blocks as usize * 4096],
            Vec::new(),
            Vec::new(),
            Vec::new(),
        ];
        let machine = Machine::new(&world, executor.spawner(), plan, images);
        let load = executor.spawn("load", async move {
            let loaded = machine.load().await;
            if let Ok(table) = &loaded {
                machine.destroy(table).await;
            }
            loaded.is_ok()
        });
        if executor.run_task(&load) == Ok(true) {
            accepted = blocks;
        } else {
            refused = blocks;
        }
    }
    accepted
}

/// Boots, compares the bitmap, sets and commits bits until the power fails; returns what is left
/// of the metadata.
fn live(
    rng: &mut Rng,
    plan: &Plan,
    image: Vec<u8>,
    bits: &Rc<RefCell<Bits>>,
) -> Result<Vec<u8>, String> {
    let world = World::new(rng.next_u64());
    let mut executor = Executor::new(&world);
    let found = inspect::metadata(&image)?.unwrap_or_else(|| vec![false; bits.borrow().set.len()]);
    check(&found, &bits.borrow())?;
    *bits.borrow_mut() = Bits {
        committed: found.clone(),
        set: found,
    };
    let images = vec![image, Vec::new(), Vec::new(), Vec::new()];
    let machine = Machine::new(&world, executor.spawner(), plan, images);
    world.crash_at(CrashPoint::Step(rng.below(2000)));
    let user = executor.spawn("user", use_bitmap(machine, bits.clone(), rng.fork()));
    let outcome = executor.run_until(|_| user.is_done());
    match (outcome, user.take()) {
        (Outcome::Crashed, _) | (Outcome::Done, Some(Ok(()))) => {}
        (Outcome::Done, Some(Err(text))) => return Err(text),
        (outcome, _) => return Err(format!("{outcome:?}")),
    }
    executor.power_off();
    let left = world.survivors(&[], rng).swap_remove(scene::METADATA);
    Ok(left)
}

fn check(found: &[bool], bits: &Bits) -> Result<(), String> {
    for (region, found) in found.iter().enumerate() {
        if bits.committed[region] && !found {
            return Err(format!("region {region} was committed and is not on disk"));
        }
        if *found && !bits.set[region] {
            return Err(format!("region {region} is on disk and was never set"));
        }
    }
    Ok(())
}

async fn use_bitmap(
    machine: Rc<Machine>,
    bits: Rc<RefCell<Bits>>,
    mut rng: Rng,
) -> Result<(), String> {
    machine
        .start()
        .await
        .map_err(|error| format!("no start: {error:?}"))?;
    let table = machine.active().ok_or("no table")?;
    let volume = table.engine.volume();
    let hydrated = bits.borrow().set.iter().filter(|bit| **bit).count() as u64;
    if volume.map().hydrated() != hydrated {
        return Err(format!(
            "{} regions loaded, {hydrated} on disk",
            volume.map().hydrated()
        ));
    }
    for _ in 0..rng.below(40) {
        if rng.chance(1, 3) {
            let before = bits.borrow().set.clone();
            table.engine.commit_now().await;
            bits.borrow_mut().committed = before;
        } else if rng.chance(1, 8) {
            machine.tick();
            sleep(&machine.world, rng.below(2000)).await;
        } else {
            let range = pick_regions(plan_regions(&machine), &mut rng);
            bits.borrow_mut().set[range.start as usize..range.end as usize].fill(true);
            volume.map().set_hydrated(&range);
        }
    }
    Ok(())
}

fn plan_regions(machine: &Machine) -> u64 {
    machine.plan.geometry.regions()
}

fn pick_regions(regions: u64, rng: &mut Rng) -> Range<u64> {
    let start = rng.below(regions);
    let most = *rng.pick(&[1, 64, 1000, 2 * BLOCK_REGIONS]);
    start..start + 1 + rng.below(most.min(regions - start))
}
