// SPDX-License-Identifier: GPL-2.0

//! Volumes as mainline leaves them, stopped in order or crashed: logical blocks share data, and
//! compressed blocks share a block of storage, with all the counts that go with that.

use crate::plan::Plan;
use crate::toy;
use crate::toy::BLOCK_SECTORS;
use sim::pattern;
use sim::Model;
use sim::Rng;
use vdo::format::Mapping;
use vdo::format::Page;
use vdo::format::Pbn;
use vdo::format::BLOCK_SIZE;
use vdo_check::sample::Maker;
use vdo_check::sample::Sample;
use vdo_check::Shape;

/// A new block, and the pages of the block map on the way to it.
const MOST_BLOCKS: u64 = 6;

/// Blocks that are compressed together.
const FRAGMENTS: usize = 4;

/// Makes a volume by chance; returns its device, and what it must show.
pub fn volume(plan: &Plan, rng: &mut Rng) -> (Vec<u8>, Model) {
    let shape = Shape {
        journal: plan.toy.journal_shape,
        slab_journal: plan.toy.slab_journal_shape,
    };
    let (geometry, super_block) = plan.toy.blocks();
    let mut maker = Maker::with(Sample::of(geometry, super_block, shape));
    let mut content = vec![0; plan.space.blocks() as usize * BLOCK_SIZE];
    let mut known: Vec<(Mapping, Page)> = Vec::new();
    // Who wrote the volume kept room in its journals, and wrote counts before a slab's was full.
    let slab_journal =
        u64::from(plan.toy.layout.slab.flushing) * u64::from(plan.toy.slab_journal_shape.full);
    let all = maker.room();
    let room = all - (all / 2).min(slab_journal / 2);
    let mut blocks: Vec<u64> = (0..plan.space.blocks()).collect();
    for _ in 0..plan.space.blocks() + rng.below(plan.space.blocks()) {
        if maker.free() < MOST_BLOCKS || maker.room() < room {
            break;
        }
        // Some are written twice, or go away again.
        let block = *rng.pick(&blocks);
        if rng.chance(3, 4) && blocks.len() > 1 {
            blocks.retain(|other| *other != block);
        }
        let (mapping, data) = match rng.below(8) {
            0 => (Mapping::ZERO, [0; BLOCK_SIZE]),
            1 => (Mapping::UNMAPPED, [0; BLOCK_SIZE]),
            2..=4 if !known.is_empty() => *rng.pick(&known),
            5 => {
                let fragments = [(); FRAGMENTS].map(|()| soft(rng.next_u64()));
                let pbn = maker.compress(&fragments);
                known.extend(
                    (0..)
                        .zip(fragments)
                        .map(|(slot, data)| (Mapping::fragment(pbn, slot).expect("a slot"), data)),
                );
                known[known.len() - 1 - rng.below(FRAGMENTS as u64) as usize]
            }
            _ => {
                let data = plain(rng.next_u64(), block);
                let stored: Pbn = maker.store(&data);
                known.push((Mapping::plain(stored), data));
                (Mapping::plain(stored), data)
            }
        };
        maker.map(plan.space.lbn(block), mapping);
        content[block as usize * BLOCK_SIZE..][..BLOCK_SIZE].copy_from_slice(&data);
    }
    let sample = match rng.chance(1, 2) {
        true => maker.stop(),
        false => maker.crash(),
    };
    let mut image = plan.image();
    for (pbn, page) in sample.image.pages() {
        *toy::block_mut(&mut image, pbn) = *page;
    }
    (image, Model::holding(content, plan.unit()))
}

fn plain(version: u64, block: u64) -> Page {
    let data = pattern::run(version, block * BLOCK_SECTORS, BLOCK_SECTORS);
    data.try_into().expect("a block")
}

/// Data that can be compressed.
fn soft(version: u64) -> Page {
    let mut page = [version as u8; BLOCK_SIZE];
    page[..64].copy_from_slice(&pattern::sector(version, 0)[..64]);
    page
}
