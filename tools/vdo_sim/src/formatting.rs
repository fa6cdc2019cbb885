// SPDX-License-Identifier: GPL-2.0

//! A device is formatted, and the power fails at every moment of that.

use crate::device::Broken;
use crate::device::Device;
use crate::flaw::Flaw;
use crate::toy;
use crate::toy::Toy;
use kernel::prelude::*;
use kernel::sync::Arc;
use sim::disk::Survival;
use sim::Executor;
use sim::Outcome;
use sim::Rng;
use sim::World;
use vdo::format::geometry;
use vdo::volume::load;

/// Formats a toy with a schedule of `seed`; returns how many crashes were looked at.
///
/// # Errors
///
/// What a crash must not leave.
pub fn run(seed: u64, flaw: Option<Flaw>) -> core::result::Result<u64, String> {
    let toy = Toy::default();
    let world = World::new(seed);
    let mut executor = Executor::new(&world);
    let mut image = toy.junk(0);
    toy::block_mut(&mut image, 0).fill(0);
    let broken = Broken::new(toy.layout, flaw);
    let device = Device::new(world.add_disk("storage", image), broken);
    let parameters = toy.parameters();
    let formatter = executor.spawn("formatter", async move {
        let device = Arc::new(device, GFP_KERNEL).expect("memory");
        load::format(device, &parameters).await
    });
    let mut rng = Rng::new(seed);
    let (mut last, mut crashes, mut failed) = (u64::MAX, 0, None);
    let outcome = executor.run_until(|_| {
        if world.moments() != last {
            last = world.moments();
            for kind in [
                Survival::Lost,
                Survival::Kept,
                Survival::Torn,
                Survival::Picked,
            ] {
                let image = world.survivors(&[kind], &mut rng).swap_remove(0);
                let checked = check(&toy, &image);
                failed = failed
                    .take()
                    .or(checked.err().map(|text| format!("{kind:?}: {text}")));
                crashes += 1;
            }
        }
        failed.is_some() || formatter.is_done()
    });
    if let Some(text) = failed {
        return Err(text);
    }
    match (outcome, formatter.take()) {
        (Outcome::Done, Some(Ok(_))) => {}
        (outcome, result) => return Err(format!("{outcome:?}, {result:?}")),
    }
    let image = world.survivors(&[Survival::Lost], &mut rng).swap_remove(0);
    if geometry::is_blank(toy::block(&image, 0)) {
        return Err("formatted, but not for good".to_owned());
    }
    check(&toy, &image).map(|()| crashes)
}

/// A crash leaves a blank device, or a whole volume.
fn check(toy: &Toy, image: &[u8]) -> core::result::Result<(), String> {
    if geometry::is_blank(toy::block(image, 0)) {
        return Ok(());
    }
    let found = toy::super_block(image)?;
    let layout = &toy.layout;
    let (_, planned) = toy
        .parameters()
        .plan()
        .map_err(|error| format!("{error:?}"))?;
    if found != planned {
        return Err(format!("another super block: {found:?}"));
    }
    let roots = layout.data_start + 1..layout.depot().first_block;
    let journal = layout.journal()..layout.summary();
    for pbn in roots.chain(journal) {
        if toy::block(image, pbn).iter().any(|byte| *byte != 0) {
            return Err(format!("block {pbn} is not zero"));
        }
    }
    Ok(())
}
