// SPDX-License-Identifier: GPL-2.0

//! Writes sound input for every fuzz target into `corpus/TARGET/sound` of the folder given.

use fuzz_decoders::metadata::sound;
use fuzz_decoders::uds;
use fuzz_decoders::vdo;
use std::env;
use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let folder = env::args().nth(1).unwrap_or_else(|| "fuzz".to_owned());
    let image = sound();
    let block = |number: usize| image[number * 4096..][..4096].to_vec();
    let seeds = [
        ("superblock", block(0)),
        ("index", block(1)),
        ("overflow", [block(3), block(2)].concat()),
        ("bitmap", block(3)),
        ("node", block(4)),
        ("tree", block(4).repeat(3)),
        ("array", block(5)),
        ("image", image[..8 * 4096].to_vec()),
    ];
    let volume = |start: u64, count: u64| {
        let blocks = (start..start + count).map(|number| vdo::block(vdo::stopped(), number));
        blocks.collect::<Vec<_>>().concat()
    };
    let super_block = &vdo::stopped().super_block;
    let slab = super_block.depot.reference_block(0, 0);
    let summary = super_block.partitions.summary.start;
    let vdo_seeds = [
        ("vdo_geometry", volume(0, 1)),
        ("vdo_super_block", volume(2, 1)),
        (
            "vdo_pages",
            [3, 6, 7, 8, 9].map(|number| volume(number, 1)).concat(),
        ),
        (
            "vdo_journal",
            volume(super_block.partitions.journal.start, 3),
        ),
        ("vdo_slab", [volume(slab, 9), volume(summary, 1)].concat()),
        ("vdo_compressed", volume(vdo::PACKED, 1)),
        ("vdo_image", volume(0, 60)),
    ];
    let list = [&[0, 10, 0, 4][..], &[0; 22]].concat();
    let uds_seeds = [
        ("uds_list", list),
        ("uds_volume_index", uds::saved_volume_index().to_vec()),
    ];
    let others = vdo_seeds.into_iter().chain(uds_seeds);
    for (target, seed) in seeds.into_iter().chain(others) {
        let corpus = Path::new(&folder).join("corpus").join(target);
        fs::create_dir_all(&corpus)?;
        fs::write(corpus.join("sound"), seed)?;
    }
    Ok(())
}
