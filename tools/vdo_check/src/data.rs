// SPDX-License-Identifier: GPL-2.0

//! Invariants 13 and 14: data blocks are plain or compressed, and what is compressed can be read.

use crate::finding::Findings;
use crate::finding::Place;
use crate::references::References;
use crate::references::Uses;
use crate::volume;
use crate::volume::Volume;
use crate::Progress;
use crate::Stage;
use vdo::format::Pbn;

/// Checks all blocks that leaf entries name.
pub(crate) fn check(
    volume: &Volume<'_>,
    references: &References,
    findings: &mut Findings,
    progress: &mut Progress<'_>,
) {
    let depot = volume.super_block.depot;
    for slab in 0..depot.slab_count {
        progress(Stage::Compressed, slab.into(), depot.slab_count.into());
        if !references.is_used(slab) {
            continue;
        }
        for sbn in 0..depot.slab.data_blocks {
            let (_, uses) = references.of(slab, sbn);
            if uses.is_compressed() {
                check_compressed(volume, depot.pbn(slab, sbn), uses, findings);
            }
        }
    }
}

fn check_compressed(volume: &Volume<'_>, pbn: Pbn, uses: Uses, findings: &mut Findings) {
    let place = Place::Block(pbn);
    if uses.is_plain() {
        findings.error(13, place, "named as it is, and as a compressed block");
    }
    let page = match volume.read(pbn) {
        Ok(page) => page,
        Err(error) => return findings.unreadable(pbn, &error),
    };
    for slot in uses.slots() {
        if let Err(error) = volume::decompress(&page, slot) {
            findings.error(14, place, error.to_string());
        }
    }
}
