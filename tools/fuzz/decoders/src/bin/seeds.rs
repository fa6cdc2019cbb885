// SPDX-License-Identifier: GPL-2.0

//! Writes sound input for every fuzz target into `corpus/TARGET/sound` of the folder given.

use fuzz_decoders::metadata::sound;
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
    for (target, seed) in seeds {
        let corpus = Path::new(&folder).join("corpus").join(target);
        fs::create_dir_all(&corpus)?;
        fs::write(corpus.join("sound"), seed)?;
    }
    Ok(())
}
