// SPDX-License-Identifier: GPL-2.0

//! A volume that crashed under load, and what mainline's recovery made of it.

use std::fs;
use std::path::PathBuf;
use vdo::format::block_map;
use vdo::format::reference;
use vdo::format::slab_journal;
use vdo::format::Page;
use vdo::format::SuperBlock;
use vdo_check::recover;
use vdo_check::MemoryImage;
use vdo_check::Shape;

/// Where recovery journal, slab journal and summary of the volume start.
const JOURNAL: u64 = 687_481;
const SLAB_JOURNAL: u64 = 687_157;
const SUMMARY: u64 = 720_249;
const REFERENCE_BLOCKS: u64 = 687_155;

fn block(name: &str) -> Box<Page> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = folder
        .join("../testing/vectors/vdo/recovery-case")
        .join(name);
    let bytes = fs::read(&path).unwrap();
    Box::new(bytes.try_into().unwrap())
}

fn crashed() -> MemoryImage {
    let mut image = MemoryImage::new(720_313);
    let mut put = |at, name: &str| image.write(at, &block(&format!("before/{name}.bin")));
    put(0, "geometry");
    put(679_128, "super");
    put(SUMMARY, "summary-zone0-blk0");
    put(REFERENCE_BLOCKS, "ref-blk0");
    put(REFERENCE_BLOCKS + 1, "ref-blk1");
    for page in 679_204..=679_208 {
        put(page, &format!("bm-{page}"));
    }
    for sequence in (2110..=2123).filter(|&sequence| sequence != 2118) {
        put(JOURNAL + sequence, &format!("rj-seq{sequence}"));
    }
    for sequence in 673..=676 {
        put(SLAB_JOURNAL + sequence % 224, &format!("sj-seq{sequence}"));
    }
    image
}

#[test]
fn we_come_to_what_mainline_comes_to() {
    let image = crashed();
    let recovered = recover::recovered(&image, Shape::STANDARD, false);
    let (recovery, volume) = recovered.unwrap();
    assert_eq!((recovery.highest, recovery.tail), (2123, 2117));
    assert_eq!(recovery.block_map_head, 2110);
    assert_eq!(recovery.slab_journal_head, 2113);
    assert_eq!((recovery.entries, recovery.pages), (1736, 5));
    // Changes that slab journals already hold count too, here and in mainline.
    assert_eq!(recovery.slab_updates, 2170);
    assert_eq!(recovery.slab_entries, 600);

    let after = SuperBlock::decode(&block("after/super.bin")).unwrap();
    let super_block = recovery.super_block;
    assert_eq!(super_block.journal_start, after.journal_start);
    assert_eq!(super_block.logical_blocks_used, after.logical_blocks_used);
    assert_eq!(
        super_block.block_map_data_blocks,
        after.block_map_data_blocks
    );
    assert_eq!(super_block.complete_recoveries, after.complete_recoveries);

    for pbn in 679_204..=679_208 {
        let ours = volume.read(pbn).unwrap();
        let theirs = block(&format!("after/bm-{pbn}.bin"));
        assert!(
            block_map::entries(&ours).eq(block_map::entries(&theirs)),
            "{pbn}"
        );
    }

    let ours = volume.read(SLAB_JOURNAL + 677 % 224).unwrap();
    let theirs = block("after/sj-seq677.bin");
    let header = slab_journal::Header::decode(&ours);
    let expected = slab_journal::Header::decode(&theirs);
    assert_eq!(
        slab_journal::Header {
            head: expected.head,
            ..header
        },
        expected
    );
    let shape = slab_journal::Shape::STANDARD;
    assert!(header
        .entries(&ours, shape)
        .eq(expected.entries(&theirs, shape)));
    assert_eq!(volume.summary(0).unwrap().tail_block_offset, 6);

    let mut theirs = Vec::new();
    for index in 0..2 {
        let mut counts = [0; reference::COUNTS_PER_BLOCK as usize];
        reference::decode(&block(&format!("after/ref-blk{index}.bin")), &mut counts);
        theirs.extend(counts);
    }
    let ours = volume.counts(0).unwrap();
    assert_eq!(ours, theirs[..ours.len()]);
    assert_eq!(ours.iter().filter(|&&count| count == 0).count(), 4362);
}
