// SPDX-License-Identifier: GPL-2.0

//! Saves: of mainline, of our own, and such as nobody wrote.

use super::super::load::LoadError;
use super::super::stream::Item;
use super::super::stream::ITEM_SIZE;
use super::super::*;
use super::dense;
use super::full;
use super::sparse;
use super::Pair;
use crate::delta::List;
use crate::format::Memory;
use crate::vectors;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// The nonce of the volume of which `a-` and `b-` are.
const NONCE_A: u64 = 0x8ad8_88c7_403b_ec8b;

const SMALL: Memory = Memory(-256);

fn load(index: &VolumeIndex, nonce: u64, zones: &[&[u8]], step: usize) -> Result<u64, LoadError> {
    let mut loader = Loader::new(index, nonce, zones.len() as u32);
    for (number, zone) in zones.iter().enumerate() {
        if number > 0 {
            loader.next_zone()?;
        }
        for piece in zone.chunks(step) {
            loader.feed(piece)?;
        }
    }
    loader.finish()
}

fn save(index: &VolumeIndex, nonce: u64, step: usize) -> Vec<u8> {
    let mut saver = Saver::new(index, nonce);
    let mut all = Vec::new();
    loop {
        let mut piece = vec![0xee; step];
        let count = saver.fill(index, &mut piece).unwrap();
        all.extend_from_slice(&piece[..count]);
        if count < step {
            break;
        }
    }
    assert_eq!(all.len() as u64, saver.bytes());
    all
}

/// The nonce of a saved stream.
fn nonce(stream: &[u8]) -> u64 {
    let at = if stream.starts_with(b"MI6") { 12 } else { 0 };
    u64::from_le_bytes(stream[at + 8..at + 16].try_into().unwrap())
}

/// The entries of an index, as the listings have them.
fn listing(index: &VolumeIndex) -> Vec<String> {
    let mut lines = Vec::new();
    for set in index.sets.iter() {
        let tag = char::from(set.geometry.tag);
        for list in 0..set.geometry.lists {
            set.shard(list).unwrap().with(|shard| {
                let bits = shard.bits(list) as usize;
                if bits == 0 {
                    return;
                }
                let data = List::new(shard.bytes(list), 0, bits).unwrap();
                for entry in data.entries(&set.geometry.code) {
                    let entry = entry.unwrap();
                    let name = entry.name.map_or("-".into(), |name| {
                        name.0.map(|byte| format!("{byte:02x}")).concat()
                    });
                    lines.push(format!(
                        "{tag} {list} {bits} {:05x} {} {name} {} {}",
                        entry.address, entry.payload, entry.at, entry.bits
                    ));
                }
            });
        }
    }
    lines
}

fn expected(name: &str) -> Vec<String> {
    let text = vectors::text(name);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(String::from).collect()
}

/// What a stream is, but for what may differ: where lists begin in their data, and bits around them.
fn aligned(stream: &[u8], sizes: &BTreeMap<(u8, u32), usize>) -> Vec<u8> {
    let first = stream.windows(8).rposition(|part| part == b"DI-00002");
    let header = &stream[first.unwrap()..];
    let lists = u32::from_le_bytes(header[20..24].try_into().unwrap()) as usize;
    let mut at = first.unwrap() + 40 + 2 * lists;
    let mut out = stream[..at].to_vec();
    while stream[at] != b'z' {
        let item = Item::decode(stream[at..at + ITEM_SIZE].try_into().unwrap());
        let data = &stream[at + ITEM_SIZE..][..item.bytes.into()];
        at += ITEM_SIZE + data.len();
        let bits = sizes[&(item.tag, item.list)];
        let mut moved = data.to_vec();
        crate::delta::edit::align(&mut moved, item.bit.into(), bits);
        moved.truncate(bits.div_ceil(8));
        if bits % 8 > 0 {
            *moved.last_mut().unwrap() &= (1 << (bits % 8)) - 1;
        }
        let item = Item {
            bit: 0,
            bytes: moved.len() as u16,
            ..item
        };
        out.extend_from_slice(&item.encode());
        out.extend_from_slice(&moved);
    }
    out.extend_from_slice(&stream[at..at + 8]);
    out
}

fn sizes(index: &VolumeIndex) -> BTreeMap<(u8, u32), usize> {
    let mut sizes = BTreeMap::new();
    for set in index.sets.iter() {
        for list in 0..set.geometry.lists {
            let bits = set.shard(list).unwrap().with(|shard| shard.bits(list));
            sizes.insert((set.geometry.tag, list), bits as usize);
        }
    }
    sizes
}

#[test]
fn saves_of_mainline_decode_and_come_out_the_same() {
    for (stream, text, is_sparse) in [
        ("a-volume-index.bin.xz", "a-volume-index.txt", false),
        ("d-volume-index-sparse.bin.xz", "d-volume-index.txt", true),
    ] {
        let geometry = Geometry::new(SMALL, is_sparse).unwrap();
        let stream = vectors::file(stream);
        let index = VolumeIndex::new(&geometry).unwrap();
        assert_eq!(load(&index, nonce(&stream), &[&stream], 1 << 20), Ok(0));
        assert_eq!(listing(&index), expected(text));
        let records = expected(text).len() as u64;
        assert_eq!(index.counts().entries, records);
        let again = save(&index, nonce(&stream), 1 << 20);
        let sizes = sizes(&index);
        assert!(aligned(&again, &sizes) == aligned(&stream, &sizes));
        // In pieces that cut everything.
        let index = VolumeIndex::new(&geometry).unwrap();
        assert_eq!(load(&index, nonce(&stream), &[&again], 4093), Ok(0));
        assert_eq!(listing(&index), expected(text));
        assert!(save(&index, nonce(&stream), 4093) == again);
    }
    assert_eq!(nonce(&vectors::file("a-volume-index.bin.xz")), NONCE_A);
}

#[test]
fn two_zones_become_one() {
    let geometry = Geometry::new(SMALL, false).unwrap();
    let zones = [0, 1].map(|zone| vectors::file(&format!("c-volume-index-zone{zone}.bin.xz")));
    let index = VolumeIndex::new(&geometry).unwrap();
    let nonce = nonce(&zones[0]);
    assert_eq!(load(&index, nonce, &[&zones[0], &zones[1]], 1000), Ok(0));
    assert_eq!(listing(&index), expected("c-volume-index.txt"));
    assert_eq!((index.counts().entries, index.counts().collisions), (24, 4));
    // Zones that are missing, doubled or in the wrong order are noticed.
    for wrong in [
        &[&zones[0][..]][..],
        &[&zones[1], &zones[0]],
        &[&zones[0], &zones[0]],
        &[&zones[0], &zones[1], &zones[1]],
    ] {
        let index = VolumeIndex::new(&geometry).unwrap();
        assert!(load(&index, nonce, wrong, 1 << 20).is_err());
    }
}

#[test]
fn what_is_expired_is_told_from_what_is_not() {
    let geometry = Geometry::new(SMALL, false).unwrap();
    let stream = vectors::file("e-volume-index-wrapped.bin.xz");
    let index = VolumeIndex::new(&geometry).unwrap();
    assert_eq!(load(&index, nonce(&stream), &[&stream], 1 << 20), Ok(2424));
    let text = vectors::text("e-volume-index-wrapped.txt");
    let mut alive = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let parts: Vec<_> = line.split(' ').collect();
        let list: u64 = parts[0].parse().unwrap();
        let address = u64::from_str_radix(parts[1], 16).unwrap();
        let mut name = [0; 16];
        name[..8].copy_from_slice(&((list << 20) | address).to_be_bytes());
        let mut request = index.request(Name(name));
        let bound = index.sets[0].shard(request.list).unwrap();
        let bound = bound.with(|shard| shard.bound(request.list));
        index.look_up(core::slice::from_mut(&mut request));
        if parts[4] == "1" {
            assert_eq!(bound, parts[3].parse::<u64>().unwrap());
            assert_eq!(request.answer, Answer::Hint(2424));
            alive += 1;
        } else {
            assert_eq!(request.answer, Answer::Absent);
        }
    }
    assert!(alive > 0);
    assert_eq!(index.counts().entries, alive);
}

#[test]
fn what_is_saved_is_what_is_loaded() {
    for (geometry, seed) in [(full(16), 11), (full(11), 12)] {
        let mut pair = Pair::new(geometry, seed);
        pair.crowd = 0;
        for round in 0..10 {
            for _ in 0..1000 {
                pair.batch();
            }
            let step = 1 + pair.chance.below(5000) as usize;
            let stream = save(&pair.index, 5, step);
            let step = 1 + pair.chance.below(5000) as usize;
            let index = VolumeIndex::with_shards(&geometry, 1 + round % 5).unwrap();
            assert_eq!(load(&index, 5, &[&stream], step), Ok(pair.newest));
            assert_eq!(index.counts().entries, pair.index.counts().entries);
            assert_eq!(index.used_bits(), pair.index.used_bits());
            pair.index = index;
        }
        pair.check_counts();
    }
}

#[test]
fn a_save_fits_whatever_the_number_of_zones() {
    let geometry = dense(16);
    let set = super::geometry_set(&geometry);
    let mut pair = Pair::new(geometry, 14);
    // All names in the lists of what may be the last zone of several.
    let first = u64::from(set.lists - set.lists / 16);
    for number in 0..12_000 {
        let list = first + pair.chance.below(u64::from(set.lists / 16));
        let mut name = pair.chance.name();
        let key = (list << 20) | pair.chance.below(3);
        name.0[..8].copy_from_slice(&key.to_be_bytes());
        let mut request = pair.index.request(name);
        pair.index.look_up(core::slice::from_mut(&mut request));
        pair.index.insert(&mut request, number % 2);
    }
    pair.open(1);
    let stream = save(&pair.index, 5, 4096);
    let index = VolumeIndex::new(&geometry).unwrap();
    assert_eq!(load(&index, 5, &[&stream], 4096), Ok(1));
    let room = super::max_bits(&set, 16);
    assert!(
        pair.index.used_bits() > room,
        "{} {room}",
        pair.index.used_bits()
    );
    assert!(index.used_bits() <= room);
    let lines = listing(&index).len() as u64;
    assert_eq!(index.counts().entries, lines);
}

#[test]
fn a_save_of_what_changes_is_none() {
    let mut pair = Pair::new(dense(16), 15);
    pair.batch();
    let mut saver = Saver::new(&pair.index, 5);
    let mut piece = [0; 512];
    assert_eq!(saver.fill(&pair.index, &mut piece), Ok(512));
    pair.batch();
    let mut rest = vec![0; 1 << 20];
    assert!(saver.fill(&pair.index, &mut rest).is_err());
}

/// A save of some names at toy size.
fn sample() -> (Geometry, Vec<u8>) {
    let geometry = sparse();
    let mut pair = Pair::new(geometry, 16);
    for _ in 0..300 {
        pair.batch();
    }
    let stream = save(&pair.index, 5, 1 << 16);
    (geometry, stream)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn damaged_saves_are_refused_or_used_without_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        seed in any::<u64>(),
    ) {
        let (geometry, mut stream) = sample();
        for (at, place, value) in damage {
            // The headers, the tables, the lists.
            let end = [100, 2600, stream.len()][usize::from(place)];
            let at = at.index(end);
            stream[at] = value;
        }
        if let Some(cut) = cut {
            stream.truncate(cut.index(stream.len()));
        }
        let index = VolumeIndex::with_shards(&geometry, 2).unwrap();
        if let Ok(newest) = load(&index, 5, &[&stream], 1000) {
            // Whatever it says, it can be asked, told, swept and saved.
            let mut chance = super::Chance(seed);
            for chapter in newest..newest + 3 {
                index.open_chapter(chapter);
                for _ in 0..40 {
                    let mut name = chance.name();
                    if chance.below(2) == 0 {
                        name = chance.crowded_name(3);
                    }
                    let mut request = index.request(name);
                    index.look_up(core::slice::from_mut(&mut request));
                    let _ = index.insert(&mut request, chapter);
                    let _ = index.re_point(&mut request, chapter);
                    let _ = index.remove(&mut request);
                }
                let mut sweep = Sweep::default();
                while !index.sweep(&mut sweep, 64) {}
            }
            let again = save(&index, 5, 4096);
            let copy = VolumeIndex::new(&geometry).unwrap();
            prop_assert_eq!(load(&copy, 5, &[&again], 4096), Ok(newest + 2));
        }
    }
}
