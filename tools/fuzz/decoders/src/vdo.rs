// SPDX-License-Identifier: GPL-2.0

//! A vdo volume, with one part of it hostile, and the checker, which decodes all of it.

use std::sync::OnceLock;
use vdo::format::block_map;
use vdo::format::checksum::crc32;
use vdo::format::compressed;
use vdo::format::geometry;
use vdo::format::recovery_journal;
use vdo::format::Geometry;
use vdo::format::Page;
use vdo::format::SuperBlock;
use vdo_check::sample::varied;
use vdo_check::sample::Sample;
use vdo_check::sample::TOY;
use vdo_check::sample::TOY_SHAPE;
use vdo_check::Check;
use vdo_check::Image;
use vdo_check::MemoryImage;

/// Where a sample has its parts.
const SUPER_BLOCK: u64 = 2;
const ROOT: u64 = 3;
const PAGES: [u64; 5] = [ROOT, 6, 7, 8, 9];

/// A sound volume, stopped.
pub fn stopped() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| varied(&TOY, TOY_SHAPE).stop())
}

/// A sound volume, crashed.
pub fn crashed() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| varied(&TOY, TOY_SHAPE).crash())
}

/// Returns a block of a sample.
pub fn block(sample: &Sample, number: u64) -> Vec<u8> {
    let mut page = [0; 4096];
    let read = sample.image.read_block(number, &mut page);
    assert!(read.is_ok());
    page.to_vec()
}

/// Returns the first block of `data`, filled up with zeroes.
fn page(data: &[u8]) -> Page {
    let mut page = [0; 4096];
    for (to, from) in page.iter_mut().zip(data) {
        *to = *from;
    }
    page
}

/// Checks a volume; returns whether it is sound.
fn check(image: &MemoryImage) -> bool {
    let report = Check::new(image)
        .toy(TOY_SHAPE)
        .deep()
        .keep_mappings()
        .run();
    for finding in &report.findings {
        assert!(!finding.to_string().is_empty());
    }
    report.is_sound()
}

/// The geometry block is `data`, with a good checksum.
pub fn geometry(data: &[u8]) -> bool {
    let mut page = page(data);
    for at in [89, 97] {
        let mut sealed = page;
        let checksum = crc32(&sealed[..at]);
        sealed[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
        if Geometry::decode(&sealed).is_ok() {
            page = sealed;
        }
    }
    if let Ok(found) = Geometry::decode(&page) {
        let mut again = [0; 4096];
        found.encode(&mut again);
        assert_eq!(Geometry::decode(&again), Ok(found));
        let _ = found.device_block(found.data_start);
    }
    let _ = geometry::is_blank(&page);
    let mut image = stopped().image.clone();
    image.write(0, &page);
    check(&image)
}

/// The super block is `data`, with a good checksum; of a stopped volume and of a crashed one.
pub fn super_block(data: &[u8]) -> bool {
    let mut page = page(data);
    let checksum = crc32(&page[..434]);
    page[434..438].copy_from_slice(&checksum.to_le_bytes());
    if let Ok(found) = SuperBlock::decode(&page) {
        let mut again = [0; 4096];
        found.encode(&mut again);
        assert_eq!(SuperBlock::decode(&again), Ok(found));
        let _ = vdo::format::layout::grown(&found, found.physical_blocks.saturating_mul(2));
    }
    let mut sound = false;
    for sample in [stopped(), crashed()] {
        let mut image = sample.image.clone();
        image.write(SUPER_BLOCK, &page);
        sound |= check(&image);
    }
    sound
}

/// Each 4096 bytes of `data` are a block map page, from a root to a leaf.
pub fn pages(data: &[u8]) -> bool {
    let mut image = stopped().image.clone();
    for (number, data) in PAGES.into_iter().zip(data.chunks(4096)) {
        let mut page = page(data);
        // Give it a chance to be looked into.
        if page[32] & 1 == 1 {
            let entries: Vec<_> = block_map::entries(&page).collect();
            block_map::format_page(&mut page, TOY.nonce, number);
            block_map::set_initialized(&mut page, true);
            for (slot, mapping) in (0..).zip(entries) {
                block_map::set_entry(&mut page, slot, mapping);
            }
        }
        image.write(number, &page);
    }
    check(&image)
}

/// Each 4096 bytes of `data` are a block of the recovery journal, of the right volume.
pub fn journal(data: &[u8]) -> bool {
    let mut sound = false;
    for sample in [stopped(), crashed()] {
        let mut image = sample.image.clone();
        let start = sample.super_block.partitions.journal.start;
        for (number, data) in (start..start + 8).zip(data.chunks(4096)) {
            let mut page = page(data);
            let mut header = recovery_journal::Header::decode(&page);
            header.nonce = TOY.nonce;
            header.recovery_count = 0;
            header.encode(&mut page);
            image.write(number, &page);
        }
        sound |= check(&image);
    }
    sound
}

/// The blocks of `data` are those of slab 0 behind its data, then the summary.
pub fn slab(data: &[u8]) -> bool {
    let mut sound = false;
    for sample in [stopped(), crashed()] {
        let mut image = sample.image.clone();
        let depot = &sample.super_block.depot;
        let first = depot.reference_block(0, 0);
        let summary = sample.super_block.partitions.summary.start;
        for (number, data) in (first..first + 9).chain([summary]).zip(data.chunks(4096)) {
            let mut page = page(data);
            if number > first && number < summary {
                page[24..32].copy_from_slice(&TOY.nonce.to_le_bytes());
            }
            image.write(number, &page);
        }
        sound |= check(&image);
    }
    sound
}

/// A compressed block is `data`.
pub fn compressed(data: &[u8]) -> bool {
    let page = page(data);
    for slot in 0..=u8::MAX {
        if let Ok(fragment) = compressed::fragment(&page, slot) {
            assert!(fragment.len() <= compressed::FRAGMENTS_SIZE);
        }
    }
    let mut image = stopped().image.clone();
    let packed = PACKED;
    image.write(packed, &page);
    check(&image)
}

/// The compressed block of a sample.
pub const PACKED: u64 = 22;

/// Each 4096 bytes of `data` are a block of the volume, from block 0 on.
pub fn image(data: &[u8]) -> bool {
    let mut image = stopped().image.clone();
    for (number, data) in (0..TOY.physical_blocks).zip(data.chunks(4096)) {
        image.write(number, &page(data));
    }
    check(&image)
}
