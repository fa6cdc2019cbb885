// SPDX-License-Identifier: GPL-2.0

//! What mainline has saved is loaded, with every name.

use super::*;
use crate::format::open_chapter::HEADER_SIZE;
use crate::format::RECORD_SIZE;
use crate::vectors;

/// Puts files of mainline onto a device of an index of 0.25 GiB, and looks for their names.
fn check(sparse: bool, volume: &str, streams: &[&str], saved: &str, files: [&str; 3], slot: u64) {
    let geometry = Geometry::new(Memory(-256), sparse).unwrap();
    let mut config = config(geometry);
    let [super_block, config_block, open] = files.map(vectors::file);
    config.owner = u64::from_le_bytes(config_block[42..50].try_into().unwrap());
    let parsed = SuperBlock::decode(super_block.as_slice().try_into().unwrap(), START).unwrap();
    let header = vectors::file(saved);
    let save = Save::decode(header.as_slice().try_into().unwrap(), &parsed, slot as u16);
    let places = crate::format::save::Places::new(&parsed, save.unwrap().unwrap().zones);
    let at = parsed.save_block(slot as u16);
    // The device begins with what is before the index, and ends with the saves: chapters are sparse.
    let mut parts = vec![
        (START, super_block.clone()),
        (START + 1, config_block),
        (at, header),
        (at + places.page_map, vectors::file(volume)),
        (at + places.open_chapter, open.clone()),
    ];
    for (zone, stream) in (0..).zip(streams) {
        let block = at + places.volume_index + zone * places.zone_blocks;
        parts.push((block, vectors::file(stream)));
    }
    let mut image = blank(&geometry);
    for (block, bytes) in parts {
        let start = block as usize * 4096;
        image[start..start + bytes.len()].copy_from_slice(&bytes);
    }
    run(1, image, config, async |machine| {
        let opened = machine.open(false).await.unwrap();
        let log = machine.log().join("\n");
        assert!(log.contains("loaded index"), "{log}");
        let count = u32::from_le_bytes(open[10..14].try_into().unwrap());
        let mut batch = Batch::new(1).unwrap();
        let records = open[HEADER_SIZE..].chunks_exact(RECORD_SIZE);
        for record in records.take(count as usize) {
            let record = Record::decode(record.try_into().unwrap());
            let found = look_up(&opened.index, &mut batch, &[record.name]).await[0];
            assert_eq!(found, Some(record.metadata));
        }
        assert_eq!(opened.index.counts().entries, count.into());
        opened.close().await;
    });
}

#[test]
fn one_zone() {
    let files = [
        "a-super-block.bin",
        "a-config-block.bin",
        "a-open-chapter.bin",
    ];
    let stream = ["a-volume-index.bin.xz"];
    check(
        false,
        "a-page-map-empty.bin",
        &stream,
        "a-save0-header.bin",
        files,
        0,
    );
}

#[test]
fn two_zones() {
    let files = [
        "c-super-block.bin",
        "a-config-block.bin",
        "c-open-chapter.bin",
    ];
    let streams = ["c-volume-index-zone0.bin.xz", "c-volume-index-zone1.bin.xz"];
    let header = "c-save0-header-2zones.bin";
    check(false, "a-page-map-empty.bin", &streams, header, files, 0);
}
