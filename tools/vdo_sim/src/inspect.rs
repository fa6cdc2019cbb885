// SPDX-License-Identifier: GPL-2.0

//! What must be true of the storage after a crash, and after a stop.

use crate::codec;
use crate::plan::Plan;
use crate::toy;
use crate::toy::Toy;
use crate::toy::BLOCK_SECTORS;
use crate::witness;
use crate::witness::Found;
use std::io;
use vdo::format::compressed;
use vdo::format::super_block::State;
use vdo::format::Page;
use vdo::format::BLOCK_SIZE;
use vdo_check::Check;
use vdo_check::Image;
use vdo_check::Report;
use vdo_check::Shape;

/// What a volume must be when it is started.
#[derive(Clone)]
pub struct Expected {
    /// What it shows.
    pub content: Vec<u8>,
    /// How many data blocks are free once all slabs are scrubbed.
    pub free: u64,
}

/// Checks what a crash has left; returns what the volume must be when it is started, unless it is
/// read-only.
///
/// # Errors
///
/// What is wrong.
pub fn crashed(plan: &Plan, image: &[u8]) -> Result<Option<Expected>, String> {
    let found = check(&plan.toy, image)?;
    Ok(match found.super_block.state {
        State::ReadOnly | State::ForceRebuild => None,
        _ => Some(Expected {
            content: content(plan, &found, image),
            free: found.super_block.depot.data_blocks() - found.used,
        }),
    })
}

/// Checks what an orderly stop has left; `free` is how many data blocks the volume said were free,
/// if it knew.
///
/// # Errors
///
/// What is wrong.
pub fn stopped(toy: &Toy, image: &[u8], free: Option<u64>) -> Result<(), String> {
    let found = check(toy, image)?;
    audit(toy, image)?;
    let state = found.super_block.state;
    if !matches!(state, State::Clean | State::Recovering) {
        return Err(format!("stopped in state {state:?}"));
    }
    let really = found.super_block.depot.data_blocks() - found.used;
    match free {
        Some(free) if free != really => {
            Err(format!("{free} blocks were said to be free, {really} are"))
        }
        _ => Ok(()),
    }
}

/// Has the checker that administrators use look at an image, with the index if that is wanted.
pub fn report(toy: &Toy, image: &[u8], index: Option<uds::format::geometry::Shape>) -> Report {
    let shape = Shape {
        journal: toy.journal_shape,
        slab_journal: toy.slab_journal_shape,
    };
    let image = Bytes(image);
    let mut check = Check::new(&image).toy(shape).deep();
    if let Some(shape) = index {
        check = check.index(shape);
    }
    check.run()
}

/// Sees that the checker finds nothing; the index is not looked at.
///
/// # Errors
///
/// What it finds.
pub fn audit(toy: &Toy, image: &[u8]) -> Result<(), String> {
    let report = report(toy, image, None);
    if report.is_sound() {
        return Ok(());
    }
    // For `dmox`, or a look with one's own eyes.
    if let Some(path) = std::env::var_os("DMOX_SIM_SAVE") {
        std::fs::write(path, image).unwrap_or_default();
    }
    let findings = report.findings.iter().take(4);
    let texts: Vec<String> = findings.map(|finding| finding.to_string()).collect();
    Err(format!("the checker: {}", texts.join("; ")))
}

struct Bytes<'a>(&'a [u8]);

impl Image for Bytes<'_> {
    fn blocks(&self) -> u64 {
        (self.0.len() / BLOCK_SIZE) as u64
    }

    fn read_block(&self, number: u64, page: &mut Page) -> io::Result<()> {
        if number >= self.blocks() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *page = *toy::block(self.0, number);
        Ok(())
    }
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
                let stored = toy::block(image, mapping.pbn);
                match mapping.state.slot() {
                    Some(slot) => bytes.extend_from_slice(&unpack(stored, slot)),
                    None => bytes.extend_from_slice(stored),
                }
            }
            _ => bytes.extend_from_slice(&[0; BLOCK_SIZE]),
        }
    }
    bytes
}

/// Returns what a block was before it was compressed; what cannot be decompressed is nobody's data.
fn unpack(stored: &Page, slot: u8) -> Vec<u8> {
    let fragment = compressed::fragment(stored, slot).unwrap_or_default();
    codec::decompress(fragment).unwrap_or(vec![0xA5; BLOCK_SIZE])
}
