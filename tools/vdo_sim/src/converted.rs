// SPDX-License-Identifier: GPL-2.0

//! Volumes of the old manager that were converted for LVM.
//!
//! LVM's import has the device begin some blocks later, in what was the index, and writes the
//! geometry block there, which says so: that many is `bio_offset`. Everything else stays where it
//! is, and so do the numbers of all blocks. The super block's physical size is that much less,
//! though the last block has the number that it had; a volume that was formatted so, or has grown
//! since, has it as if the missing blocks were there.

use crate::inspect;
use crate::inspect::Expected;
use crate::machine::Machine;
use crate::plan::Growth;
use crate::plan::Plan;
use crate::script;
use crate::script::Step;
use crate::toy;
use crate::used::Left;
use crate::used::Used;
use crate::user::User;
use sim::clock::sleep;
use sim::Executor;
use sim::Model;
use sim::Outcome;
use sim::Rng;
use sim::World;
use vdo::format::geometry::Geometry;
use vdo::format::BLOCK_SIZE;

/// So many blocks are taken away.
const OFFSET: u64 = 3;

/// The index of the volume before.
const INDEX_BLOCKS: u64 = 6;

/// What the tool does to the physical size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Physical {
    /// It is what is left of the device.
    Less,
    /// It stays as it was.
    Same,
}

/// Makes a volume, converts it, and uses it: after a crash, and with more slabs.
///
/// # Errors
///
/// What was wrong first.
pub fn run(seed: u64, left: Left, physical: Physical) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut plan = Plan::random(&mut rng);
    plan.toy.layout.data_start = 1 + INDEX_BLOCKS;
    let used = Used::of(plan, &mut rng, left);
    let expected = inspect::crashed(&used.plan, &used.image)?;
    let (plan, model) = (used.plan, used.model);
    let image = convert(&used.image, physical);
    let steps = [Step::Write(0..2), Step::Flush, Step::Write(1..4)];
    let (image, model) = live(&plan, image, model, expected, &steps, false)?;
    inspect::audit(&plan.toy, &image)?;
    let expected = inspect::crashed(&plan, &converted_back(&image))?;
    let growth = Growth {
        logical: 0,
        slabs: 3,
        flush: true,
    };
    let steps = [Step::Write(2..3), Step::Grow(growth), Step::Fua(0..4)];
    let (image, _) = live(&plan, image, model, expected, &steps, true)?;
    let found = toy::super_block(&image)?;
    if found.physical_blocks != found.partitions.summary.end() {
        return Err("it has grown, and its size is not what mainline expects".to_owned());
    }
    inspect::audit(&plan.toy, &image)
}

fn convert(image: &[u8], physical: Physical) -> Vec<u8> {
    let mut geometry = Geometry::decode(toy::block(image, 0)).expect("a geometry block");
    let mut found = toy::super_block(image).expect("a super block");
    let mut image = image[OFFSET as usize * BLOCK_SIZE..].to_vec();
    // The device is as large as it was: what grows there has room.
    image.extend([0; OFFSET as usize * BLOCK_SIZE]);
    geometry.bio_offset = OFFSET;
    geometry.index_start = OFFSET + 1;
    geometry.encode(toy::block_mut(&mut image, 0));
    if physical == Physical::Less {
        found.physical_blocks -= OFFSET;
    }
    found.encode(toy::block_mut(&mut image, geometry.data_start - OFFSET));
    image
}

/// Returns the volume as it would be if it had not been converted, for those who know of no offset.
pub fn converted_back(image: &[u8]) -> Vec<u8> {
    let (Ok(mut geometry), Ok(mut found)) = (
        Geometry::decode(toy::block(image, 0)),
        toy::super_block(image),
    ) else {
        return image.to_vec();
    };
    if geometry.bio_offset != OFFSET {
        return image.to_vec();
    }
    let mut image = [&[0; OFFSET as usize * BLOCK_SIZE], image].concat();
    geometry.bio_offset = 0;
    geometry.index_start = 1;
    geometry.encode(toy::block_mut(&mut image, 0));
    found.physical_blocks = found.partitions.summary.end();
    found.encode(toy::block_mut(&mut image, geometry.data_start));
    image
}

fn live(
    plan: &Plan,
    image: Vec<u8>,
    model: Model,
    expected: Option<Expected>,
    steps: &[Step],
    stops: bool,
) -> Result<(Vec<u8>, Model), String> {
    let world = World::new(7);
    let mut executor = Executor::new(&world);
    executor.set_limits(400_000, 120_000_000);
    let machine = Machine::new(&world, executor.spawner(), plan, image);
    let user = User::new(&machine, model);
    executor.spawn(
        "life",
        use_it(user.clone(), expected, steps.to_vec(), stops),
    );
    let outcome = executor.run();
    if let Some(text) = user.violation() {
        return Err(text);
    }
    if outcome != Outcome::Done {
        return Err(format!("{outcome:?}"));
    }
    executor.power_off();
    let mut model = user.model.borrow().clone();
    model.crash();
    let left = world.survivors(&[], &mut Rng::new(3)).swap_remove(0);
    Ok((left, model))
}

async fn use_it(user: User, expected: Option<Expected>, steps: Vec<Step>, stops: bool) {
    let machine = &user.machine;
    if let Err(error) = machine.start().await {
        return user.complain(format!("no start: {error:?}"));
    }
    if let Err(error) = user.settle(expected).await {
        return user.complain(format!("a read failed: {error:?}"));
    }
    machine.recovered().await;
    for step in steps {
        match script::perform(&user, step.clone()).await {
            Err(error) if error == kernel::prelude::ENOSPC => {}
            Err(error) => user.complain(format!("{step:?}: {error:?}")),
            Ok(()) => {}
        }
    }
    if machine.is_read_only() {
        return user.complain("read-only though nothing fails".to_owned());
    }
    if !stops {
        return;
    }
    if let Err(error) = user.read_all().await {
        return user.complain(format!("a read failed: {error:?}"));
    }
    // What is not applied yet is not counted yet.
    sleep(&machine.world, 200_000).await;
    let free = machine.free();
    machine.remove().await;
    let image = converted_back(&machine.world.images().swap_remove(0));
    if let Err(text) = inspect::stopped(&machine.toy(), &image, Some(free)) {
        user.complain(text);
    }
}
