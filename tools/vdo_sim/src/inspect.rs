// SPDX-License-Identifier: GPL-2.0

//! What must be true of the storage after a crash, and after a stop.

use crate::plan::Plan;
use crate::toy;
use crate::toy::Toy;
use crate::toy::BLOCK_SECTORS;
use crate::witness;
use crate::witness::Found;
use vdo::format::super_block::State;
use vdo::format::BLOCK_SIZE;

/// Checks what a crash has left; returns what the volume must show when it is started, unless it
/// is read-only.
///
/// # Errors
///
/// What is wrong.
pub fn crashed(plan: &Plan, image: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let found = check(&plan.toy, image)?;
    Ok(match found.super_block.state {
        State::ReadOnly | State::ForceRebuild => None,
        _ => Some(content(plan, &found, image)),
    })
}

/// Checks what an orderly stop has left; `used` is how many data blocks the volume said that it
/// used.
///
/// # Errors
///
/// What is wrong.
pub fn stopped(toy: &Toy, image: &[u8], used: u64) -> Result<(), String> {
    let found = check(toy, image)?;
    let state = found.super_block.state;
    if !matches!(state, State::Clean | State::Recovering) {
        return Err(format!("stopped in state {state:?}"));
    }
    if found.used != used {
        return Err(format!(
            "{used} blocks were said to be used, {} are",
            found.used
        ));
    }
    Ok(())
}

fn check(toy: &Toy, image: &[u8]) -> Result<Found, String> {
    let found = witness::read(toy, image).map_err(|text| format!("on disk: {text}"))?;
    // Of a volume that went read-only, who knows what is left; a rebuild has to do with it.
    let lost = matches!(
        found.super_block.state,
        State::ReadOnly | State::ForceRebuild
    );
    match found.errors.first() {
        Some(text) if !lost => Err(format!(
            "on disk, {:?}: {text} ({} errors)",
            found.super_block.state,
            found.errors.len()
        )),
        _ => Ok(found),
    }
}

/// Returns what the blocks of the model hold.
fn content(plan: &Plan, found: &Found, image: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((plan.space.sectors() * 512) as usize);
    for block in 0..plan.space.sectors() / BLOCK_SECTORS {
        match found.map.get(&plan.space.lbn(block)) {
            Some(mapping) if mapping.pbn != 0 => {
                bytes.extend_from_slice(toy::block(image, mapping.pbn));
            }
            _ => bytes.extend_from_slice(&[0; BLOCK_SIZE]),
        }
    }
    bytes
}
