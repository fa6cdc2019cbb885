// SPDX-License-Identifier: GPL-2.0

//! Whatever is on disk, decoders end, and say what they found or what is wrong.

use super::geometry::Shape;
use super::index_page::IndexPage;
use super::page_map::PageMap;
use super::record_page;
use super::save::Save;
use super::super_block::SuperBlock;
use super::*;
use crate::vectors;
use proptest::prelude::*;
use std::vec::Vec;

/// Bytes of a good structure, some of them changed; or any.
fn damaged(names: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let changes = prop::collection::vec(change, 0..20);
    // Two pages are enough of a chapter.
    let good = |name: &&str| vectors::file(name).into_iter().take(65_536).collect();
    let good: Vec<Vec<u8>> = names.iter().map(good).collect();
    (prop::sample::select(good), changes, any::<bool>()).prop_map(|(good, changes, near)| {
        let mut bytes = good;
        for (at, value) in changes {
            let end = if near {
                bytes.len().min(600)
            } else {
                bytes.len()
            };
            bytes[at.index(end)] = value;
        }
        bytes
    })
}

fn block(bytes: &[u8]) -> Block {
    bytes[..BLOCK_SIZE].try_into().unwrap()
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let sizes = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    (sizes, any::<u32>(), any::<u32>(), 0..4_u32).prop_map(|(sizes, sparse, rate, shift)| {
        let small = |value: u32| value >> (shift * 8);
        Shape {
            page_size: small(sizes.0) / 4096 * 4096,
            page_records: small(sizes.1),
            record_pages: small(sizes.2),
            chapters: small(sizes.3),
            sparse_chapters: small(sparse),
            sample_rate: small(rate),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn heads(
        super_block in damaged(&["a-super-block.bin", "f-super-block-v7.bin"]),
        config in damaged(&["a-config-block.bin", "f-config-block-0802.bin"]),
        save in damaged(&["a-save0-header.bin", "c-save0-header-2zones.bin", "a-save1-header-unsaved.bin"]),
        place in prop_oneof![Just(1_u64), any::<u64>()],
        slot in 0..2_u16,
    ) {
        let geometry = Geometry::new(Memory(-256), false).unwrap();
        let _ = config::decode(&block(&config), &geometry, 1, place == 1);
        let mut known = SuperBlock::decode(&block(&vectors::file("a-super-block.bin")), 1).unwrap();
        if let Ok(decoded) = SuperBlock::decode(&block(&super_block), place) {
            known = decoded;
            for slot in 0..2 {
                prop_assert!(known.save_block(slot) >= known.volume_block());
            }
            let mut out = [0; BLOCK_SIZE];
            known.encode(&mut out);
            prop_assert_eq!(SuperBlock::decode(&out, place), Ok(known));
        }
        if let Ok(Some(found)) = Save::decode(&block(&save), &known, slot) {
            let mut out = [0; BLOCK_SIZE];
            found.encode(&mut out, &known, slot);
            prop_assert_eq!(Save::decode(&out, &known, slot), Ok(Some(found)));
        }
        let header = save.first_chunk().unwrap();
        let _ = open_chapter::decode(header, 100);
        let mut map = PageMap::new(&geometry).unwrap();
        let _ = map.decode_header(save.first_chunk().unwrap());
        map.decode(3, &save);
        prop_assert!(map.page_of(place, slot.into()) < 6);
    }

    #[test]
    fn index_pages(
        page in damaged(&["b-chapter0.bin.xz", "b-chapter1-index-pages-overflow.bin.xz"]),
        name in any::<[u8; 16]>(),
        size in prop_oneof![Just(32_768_usize), Just(4096), 0..5000_usize],
    ) {
        const NONCE: u64 = 0x8ad8_88c7_403b_ec8b;
        let geometry = Geometry::new(Memory(-256), false).unwrap();
        if let Ok(page) = IndexPage::new(&page[..size], NONCE) {
            let _ = page.check_lists(&geometry);
            let name = Name(name);
            let (address, list) = geometry.chapter_place(name.chapter_key());
            for list in [list, page.header.first_list, u32::MAX] {
                if let Ok(list) = page.list(list) {
                    let _ = list.search(&geometry.code, address, &name);
                    prop_assert!(list.entries(&geometry.code).count() <= 65_535 / 22 + 1);
                }
            }
            prop_assert!(page.end() <= size * 8);
        }
    }

    #[test]
    fn records(record in any::<[u8; RECORD_SIZE]>(), at in any::<u32>(), records in any::<u32>()) {
        let name = Record::decode(&record).name;
        let mut block = [0; BLOCK_SIZE];
        let number = at % record_page::BLOCK_RECORDS;
        let place = number as usize * RECORD_SIZE;
        block[place..place + RECORD_SIZE].copy_from_slice(&record);
        let found = record_page::walk(&name, records, at, &block);
        prop_assert!(matches!(found, record_page::Step::Found(_)));
        let other = Name([0x80; 16]);
        if let record_page::Step::At(next) = record_page::walk(&other, records, at, &block) {
            prop_assert!(next < records);
            prop_assert!(next / record_page::BLOCK_RECORDS > at / record_page::BLOCK_RECORDS);
        }
    }

    #[test]
    fn geometries(shape in any_shape(), chapters in any::<[u64; 3]>(), moved in any::<(u64, u16)>()) {
        if let Some(mut geometry) = Geometry::of_shape(shape) {
            let slots = u64::from(shape.chapters);
            geometry.moved = geometry::Moved {
                chapter: moved.0,
                slot: u64::from(moved.1) % slots,
            };
            for chapter in chapters {
                prop_assert!(geometry.slot_of(chapter) < slots);
                let _ = geometry.is_sparse(chapter, chapters[0], chapters[1]);
                prop_assert!(geometry.oldest_of(chapter) <= chapter.saturating_add(2));
                prop_assert!(geometry.expired_by(chapter) <= 2);
            }
            prop_assert!(geometry.total_blocks() > geometry.volume_blocks());
        }
    }
}
