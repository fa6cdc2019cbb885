// SPDX-License-Identifier: GPL-2.0

//! Metadata that mainline wrote: read, rebuilt, changed.

use crate::array::Array;
use crate::bitset::Bitset;
use crate::btree;
use crate::btree::Cursor;
use crate::fixture::*;
use crate::space_map::Root;
use crate::transaction::TransactionManager;
use pd_testing::check;
use pd_testing::check::runs;
use pd_testing::disk::MemDisk;
use pd_testing::vectors;
use pd_testing::vectors::CLONE_IMAGES;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

fn bits(tm: &mut Tm, set: &Bitset) -> Vec<bool> {
    let mut words = vec![0; set.bits().div_ceil(64) as usize];
    now(set.load(tm, |at, word| words[at as usize] = word)).unwrap();
    (0..set.bits() as usize)
        .map(|bit| (words[bit / 64] >> (bit % 64)) & 1 == 1)
        .collect()
}

#[test]
fn clone_images_open_and_stay_as_they_are() {
    for name in CLONE_IMAGES {
        let (image, expected) = (vectors::image(name), vectors::expected(name));
        let disk = MemDisk::new(image.clone());
        let (mut tm, user) = open(&disk, SMALL).unwrap();
        assert_eq!(user.region_size, expected.region_size, "{name}");
        assert_eq!(user.target_size, expected.target_size, "{name}");
        assert_eq!(tm.nr_used(), expected.allocated, "{name}");
        let regions = user.target_size.div_ceil(user.region_size);
        assert_eq!(regions, expected.regions, "{name}");
        let set = now(Bitset::open(&mut tm, user.root, regions)).unwrap();
        assert_eq!(runs(&bits(&mut tm, &set)), expected.runs, "{name}");
        assert!(
            !tm.is_changed() && disk.take_log().is_empty() && disk.image() == image,
            "{name}"
        );
    }
}

#[test]
fn the_checker_agrees_with_what_mainline_reported() {
    for name in CLONE_IMAGES {
        let (image, expected) = (vectors::image(name), vectors::expected(name));
        let found = check::clone(&image).unwrap();
        assert!(
            found.checker.errors.is_empty(),
            "{name}: {:?}",
            found.checker.errors
        );
        assert_eq!(runs(&found.bits), expected.runs, "{name}");
        let live = found.checker.live.iter();
        let live: Vec<_> = live
            .map(|(&b, &(kind, sum))| (b, kind.into(), sum))
            .collect();
        assert_eq!(live, expected.live, "{name}");
    }
}

#[test]
fn a_format_writes_what_mainline_writes() {
    let disk = MemDisk::blank(1024);
    let mut tm = now(TransactionManager::format(cache(&disk, SMALL))).unwrap();
    let set = now(Bitset::create(&mut tm, 16_384)).unwrap();
    commit(&mut tm, User::of(set.root(), 16_384)).unwrap();
    assert!(disk.image() == vectors::image("fresh-r8"));
}

#[test]
fn clone_images_can_be_changed() {
    for name in CLONE_IMAGES {
        let disk = MemDisk::new(vectors::image(name));
        let (mut tm, user) = open(&disk, SMALL).unwrap();
        let regions = user.target_size.div_ceil(user.region_size);
        let mut set = now(Bitset::open(&mut tm, user.root, regions)).unwrap();
        let mut model = bits(&mut tm, &set);
        let rounds = if name == "wrapped-r8" { 300 } else { 3 };
        for round in 0..rounds {
            let bit = round * 7919 % regions;
            now(set.set(&mut tm, bit, true)).unwrap();
            model[bit as usize] = true;
            commit(
                &mut tm,
                User {
                    root: set.root(),
                    ..user
                },
            )
            .unwrap();
        }
        let image = disk.image();
        let found = check::clone(&image).unwrap();
        assert!(
            found.checker.errors.is_empty(),
            "{name}: {:?}",
            found.checker.errors
        );
        assert!(found.bits == model, "{name}");
    }
}

fn root(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(block[at..at + 8].try_into().unwrap())
}

fn open_thin(name: &str) -> (Tm, Vec<u8>) {
    let image = vectors::image(name);
    let map = Root::decode(image[192..224].try_into().unwrap());
    let disk = MemDisk::new(image.clone());
    (
        now(TransactionManager::open(cache(&disk, SMALL), map, 1024)).unwrap(),
        image,
    )
}

fn tree(tm: &mut Tm, root: u64) -> BTreeMap<u64, u64> {
    let mut entries = BTreeMap::new();
    now(Cursor::<u64>::new(root).for_each(tm.cache(), |key, value| {
        entries.insert(key, value);
        Ok(())
    }))
    .unwrap();
    entries
}

#[test]
fn thin_images_hold_what_was_mapped() {
    let (inserted, removed) = vectors::thin_keys();
    for (name, keys) in [
        ("thin-a", inserted.clone()),
        ("thin-b", {
            let removed: std::collections::BTreeSet<_> = removed.into_iter().collect();
            inserted
                .into_iter()
                .filter(|key| !removed.contains(key))
                .collect()
        }),
    ] {
        let (mut tm, image) = open_thin(name);
        let devices = tree(&mut tm, root(&image, 320));
        let mappings = tree(&mut tm, devices[&0]);
        let keys: std::collections::BTreeSet<_> = keys.into_iter().collect();
        assert!(mappings.keys().eq(keys.iter()), "{name}");
        let judged = check::thin(&image);
        assert!(
            judged.checker.errors.is_empty(),
            "{name}: {:?}",
            judged.checker.errors
        );
        assert_eq!(judged.devices[&0].shape, vectors::thin_shape(name));
    }
}

/// Reads the mappings of `thin_dump`'s output, by device; shared parts are named "def".
fn thin_dump(name: &str) -> BTreeMap<u64, BTreeMap<u64, u64>> {
    let text = vectors::file(&std::format!("{name}.xml.xz"));
    let text = std::str::from_utf8(&text).unwrap();
    let mut devices = BTreeMap::<u64, BTreeMap<u64, u64>>::new();
    let mut shared = BTreeMap::<&str, Vec<(u64, u64)>>::new();
    let mut within: Option<&str> = None;
    let mut device = 0;
    for line in text.lines().map(str::trim) {
        let quoted = |key: &str| {
            line.split_once(&std::format!(" {key}=\""))?
                .1
                .split('"')
                .next()
        };
        let attribute = |key: &str| quoted(key).and_then(|value| value.parse::<u64>().ok());
        let mut found = vec![];
        match line
            .trim_start_matches('<')
            .split([' ', '>'])
            .next()
            .unwrap()
        {
            "def" => within = quoted("name"),
            "/def" => within = None,
            "device" => device = attribute("dev_id").unwrap(),
            "ref" => found = shared[quoted("name").unwrap()].clone(),
            "single_mapping" => {
                let time = attribute("time").unwrap();
                let value = (attribute("data_block").unwrap() << 24) | time;
                found.push((attribute("origin_block").unwrap(), value));
            }
            "range_mapping" => {
                for at in 0..attribute("length").unwrap() {
                    let value = (attribute("data_begin").unwrap() + at) << 24;
                    let key = attribute("origin_begin").unwrap() + at;
                    found.push((key, value | attribute("time").unwrap()));
                }
            }
            _ => {}
        }
        match within {
            Some(name) => shared.entry(name).or_default().extend(found),
            None => devices.entry(device).or_default().extend(found),
        }
    }
    devices
}

#[test]
fn snapshots_hold_what_thin_dump_says() {
    let (mut tm, image) = open_thin("thin-c");
    let expected = thin_dump("thin-c");
    let devices = tree(&mut tm, root(&image, 320));
    assert_eq!(devices.len(), 4);
    for (id, root) in devices {
        let mappings = tree(&mut tm, root);
        assert_eq!(mappings.len(), 803);
        assert_eq!(mappings, expected[&id], "device {id}");
    }
    // A block with more parents than a bitmap can count.
    assert_eq!(now(tm.count(371)), Ok(3));
    assert!(check::thin(&image).checker.errors.is_empty());
}

#[test]
fn shared_nodes_of_mainline_are_copied_and_counted() {
    let (mut tm, image) = open_thin("thin-c");
    let expected = thin_dump("thin-c");
    let details = root(&image, 328);
    let mut top = root(&image, 320);
    // Change one device; its snapshots must not notice. (Data blocks are not counted here.)
    let mut device = now(btree::lookup::<u64, _>(tm.cache(), top, 2))
        .unwrap()
        .unwrap();
    for key in 0..700 {
        device = now(btree::insert(&mut tm, device, key * 25, &(key << 24)))
            .unwrap()
            .root;
    }
    top = now(btree::insert(&mut tm, top, 2, &device)).unwrap().root;
    now(tm.commit(&THIN, |block, map| {
        block[8..].copy_from_slice(&image[8..4096]);
        block[192..224].copy_from_slice(&map.encode());
        block[320..328].copy_from_slice(&top.to_le_bytes());
        block[328..336].copy_from_slice(&details.to_le_bytes());
    }))
    .unwrap();
    for (id, root) in tree(&mut tm, top) {
        let mappings = tree(&mut tm, root);
        assert_eq!(mappings == expected[&id], id != 2, "device {id}");
    }
    let disk = tm.into_cache();
    let image = disk_image(disk);
    let errors = check::thin(&image).checker.errors;
    assert!(
        errors.iter().all(|error| error.starts_with("data block")),
        "{errors:?}"
    );
}

fn disk_image(cache: crate::cache::BlockCache<MemDisk>) -> Vec<u8> {
    cache.into_disk().image()
}

static THIN: crate::block::BlockKind = crate::block::BlockKind {
    name: "superblock",
    verify: |_, _| Ok(()),
    seal: |block, number| {
        crate::block::Stamp {
            salt: 160_774,
            number_at: 8,
        }
        .seal(block, number);
    },
};

#[test]
fn cache_arrays_hold_what_cache_dump_says() {
    let image = vectors::image("cache-k");
    let judged = check::cache(&image);
    assert!(
        judged.checker.errors.is_empty(),
        "{:?}",
        judged.checker.errors
    );
    let map = Root::decode(image[64..96].try_into().unwrap());
    let disk = MemDisk::new(image.clone());
    let mut tm = now(TransactionManager::open(cache(&disk, SMALL), map, 1024)).unwrap();
    let mappings = Array::<u64>::open(root(&image, 192), 4000);
    let hints = Array::<u32>::open(root(&image, 200), 4000);
    let mut found = vec![(0, 0); 4000];
    now(mappings.load(&mut tm, |at, value| found[at as usize].0 = value)).unwrap();
    now(hints.load(&mut tm, |at, value| found[at as usize].1 = value)).unwrap();
    let dirty = now(Bitset::open(&mut tm, root(&image, 284), 4000)).unwrap();
    let dirty = bits(&mut tm, &dirty);

    let text = vectors::file("cache-k.xml.xz");
    let text = std::str::from_utf8(&text).unwrap();
    let mut expected = vec![None; 4000];
    for line in text.lines().filter(|line| line.contains("<mapping ")) {
        let value = |key: &str| line.split_once(&std::format!(" {key}=\"")).unwrap().1;
        let value = |key: &str| value(key).split('"').next().unwrap();
        let block: usize = value("cache_block").parse().unwrap();
        let origin: u64 = value("origin_block").parse().unwrap();
        expected[block] = Some(((origin << 16) | 1, value("dirty") == "true"));
    }
    for line in text.lines().filter(|line| line.contains("<hint ")) {
        let (block, data) = line.split_once("\" data=\"").unwrap();
        let block: usize = block.rsplit('"').next().unwrap().parse().unwrap();
        assert_eq!(found[block].1, base64_u32(data), "hint {block}");
    }
    for (block, &(mapping, hint)) in found.iter().enumerate() {
        assert_eq!(
            (mapping, hint),
            (judged.mappings[block], judged.hints[block])
        );
        assert_eq!(dirty[block], judged.dirty[block]);
        match expected[block] {
            Some((value, is_dirty)) => {
                assert_eq!((mapping, dirty[block]), (value, is_dirty));
            }
            None => assert_eq!(mapping & 1, 0),
        }
    }
}

/// Decodes the four bytes that eight characters of base64 stand for.
fn base64_u32(text: &str) -> u32 {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |c: u8| digits.iter().position(|&other| other == c).unwrap_or(0) as u64;
    let bits = text
        .bytes()
        .take(6)
        .fold(0, |bits, c| (bits << 6) | digit(c));
    ((bits >> 4) as u32).swap_bytes()
}
