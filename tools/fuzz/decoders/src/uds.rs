// SPDX-License-Identifier: GPL-2.0

//! Structures of the deduplication index, hostile: lists, index pages, headers, a saved volume index.

use std::sync::OnceLock;
use uds::delta::walk::walk_all;
use uds::delta::Code;
use uds::delta::Entry;
use uds::delta::Found;
use uds::delta::List;
use uds::delta::Query;
use uds::format::geometry::Shape;
use uds::format::index_page::IndexPage;
use uds::format::save::Save;
use uds::format::super_block::SuperBlock;
use uds::format::Geometry;
use uds::format::Name;
use uds::volume_index::Answer;
use uds::volume_index::Loader;
use uds::volume_index::Request;
use uds::volume_index::Saver;
use uds::volume_index::Sweep;
use uds::volume_index::VolumeIndex;

/// The nonce of the volume that hostile structures say they are of.
pub const NONCE: u64 = 0x1122_3344_5566_7788;

/// A small sparse index, which has everything.
pub fn geometry() -> Geometry {
    let shape = Shape {
        page_size: 4096,
        page_records: 64,
        record_pages: 4,
        chapters: 20,
        sparse_chapters: 16,
        sample_rate: 4,
    };
    Geometry::of_shape(shape).expect("a geometry that there is")
}

/// The names of a sound volume index, and some that it does not know.
fn names() -> impl Iterator<Item = Name> {
    (0..1500u64).map(|number| {
        let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut name = [number as u8; 16];
        // Some of them meet.
        let key = if number % 5 == 0 { key >> 43 } else { key };
        name[..8].copy_from_slice(&key.to_be_bytes());
        name[8..10].copy_from_slice(&(number as u16).to_be_bytes());
        Name(name)
    })
}

/// A sound volume index in a save.
pub fn saved_volume_index() -> &'static [u8] {
    static SAVED: OnceLock<Vec<u8>> = OnceLock::new();
    SAVED.get_or_init(|| {
        let index = VolumeIndex::new(&geometry()).expect("memory");
        for (number, name) in names().take(1000).enumerate() {
            let chapter = number as u64 / 200;
            index.open_chapter(chapter);
            let mut request = [index.request(name)];
            index.look_up(&mut request);
            let _ = index.insert(&mut request[0], chapter);
        }
        let mut saver = Saver::new(&index, NONCE);
        let mut saved = vec![0; saver.bytes() as usize];
        saver.fill(&index, &mut saved).expect("no change");
        saved
    })
}

/// Decodes a list bit by bit; true if it is sound.
fn plainly(data: &[u8], start: usize, end: usize, mean: u32, payload: usize) -> (Vec<Entry>, bool) {
    let increment = (836_158 * u64::from(mean) + 603_160) / 1_206_321;
    let min_bits = (u64::BITS - (increment + 1).leading_zeros()) as usize;
    let min_keys = (1 << min_bits) - increment;
    let bit = |at: usize| at < end && (data[at / 8] >> (at % 8)) & 1 == 1;
    let field = |at: usize, bits: usize| {
        (0..bits)
            .rev()
            .fold(0, |n, i| (n << 1) | u64::from(bit(at + i)))
    };
    let mut entries = Vec::new();
    let mut at = start;
    let mut address = 0u64;
    while at < end {
        let mut next = at + payload + min_bits;
        let mut delta = field(at + payload, min_bits);
        let mut name = None;
        if delta >= min_keys {
            while next < end && !bit(next) {
                next += 1;
                delta += increment;
            }
            next += 1;
        } else if delta == 0 && at > start {
            name = Some(Name(std::array::from_fn(|byte| {
                field(next + 8 * byte, 8) as u8
            })));
            next += 128;
        }
        address += delta;
        if next > end || address > u64::from(u32::MAX) {
            return (entries, false);
        }
        entries.push(Entry {
            at,
            bits: next - at,
            address: address as u32,
            payload: field(at, payload) as u32,
            name,
        });
        at = next;
    }
    (entries, true)
}

/// A list, whose code and place the first four bytes choose.
pub fn list(data: &[u8]) -> bool {
    let Some((&[mean, payload, start, cut], data)) = data.split_first_chunk() else {
        return false;
    };
    let mean = match mean {
        0..=99 => 4080,
        100..=199 => 65_536,
        _ => u32::from(mean) - 199,
    };
    let payload = usize::from(payload % 25);
    let start = usize::from(start);
    // No list of the format is longer.
    let bits = (data.len() * 8).min(start + 65_535);
    let end = bits.saturating_sub(usize::from(cut % 64));
    let Some(list) = List::new(data, start, end) else {
        return false;
    };
    let code = Code::new(mean, payload as u32);
    let (expected, is_sound) = plainly(data, start, end, mean, payload);
    let decoded: Vec<_> = list.entries(&code).collect();
    let entries: Vec<_> = decoded.iter().copied().flatten().collect();
    assert_eq!(entries, expected);
    assert_eq!(decoded.len() == entries.len(), is_sound);
    // Whatever is looked for is found as far as the list is sound.
    let asked = entries.iter().take(100).flat_map(|entry| {
        let own = (entry.address, entry.name.unwrap_or_default());
        [own, (entry.address ^ 1, Name([1; 16]))]
    });
    let asked: Vec<_> = asked.chain([(u32::MAX, Name::default())]).collect();
    let mut queries: Vec<_> = asked
        .iter()
        .enumerate()
        .map(|(number, (address, _))| Query::search(&code, number, list, *address))
        .collect();
    walk_all(&code, &mut queries);
    for query in &queries {
        let (address, name) = asked[query.number];
        let found = query.result(&code, &name);
        let plain = entries.iter().find(|entry| entry.address == address);
        let own = entries
            .iter()
            .find(|entry| entry.address == address && entry.name == Some(name));
        match (found.map(|search| search.found), plain, own) {
            (Ok(Found::Nothing), None, _) => {}
            (Ok(Found::Plain(payload)), Some(plain), None) => assert_eq!(payload, plain.payload),
            (Ok(Found::Collision(payload)), _, Some(own)) => assert_eq!(payload, own.payload),
            (Err(_), ..) => assert!(!is_sound),
            other => panic!("{address:#x}: {other:?}"),
        }
    }
    is_sound
}

/// An index page of a chapter, in which everything is looked for.
pub fn index_page(data: &[u8]) -> bool {
    let mut page = [0; 4096];
    for (to, from) in page.iter_mut().zip(data) {
        *to = *from;
    }
    page[..8].copy_from_slice(&NONCE.to_le_bytes());
    page[4096 - 7..].fill(0xff);
    let geometry = geometry();
    let Ok(page) = IndexPage::new(&page, NONCE) else {
        return false;
    };
    for number in 0..page.header.lists.min(200) {
        let list = page.list(page.header.first_list + number);
        if let Ok(list) = list {
            let _ = list.search(&geometry.code, 1 << 20, &Name::default());
        }
    }
    page.check_lists(&geometry).is_ok()
}

/// A super block, and the header of a save.
pub fn headers(data: &[u8]) -> bool {
    let mut blocks = [[0; 4096]; 2];
    for (to, from) in blocks.as_flattened_mut().iter_mut().zip(data) {
        *to = *from;
    }
    let Ok(super_block) = SuperBlock::decode(&blocks[0], 1) else {
        return false;
    };
    let _ = super_block.fits(&geometry());
    let mut again = blocks[0];
    super_block.encode(&mut again);
    assert_eq!(SuperBlock::decode(&again, 1).ok(), Some(super_block));
    Save::decode(&blocks[1], &super_block, 0).is_ok()
}

/// The volume index in a save: loaded, asked, told, swept and saved again.
pub fn volume_index(data: &[u8]) -> bool {
    let index = VolumeIndex::with_shards(&geometry(), 2).expect("memory");
    let mut loader = Loader::new(&index, NONCE, 1);
    if data.chunks(1000).any(|piece| loader.feed(piece).is_err()) {
        return false;
    }
    let Ok(newest) = loader.finish() else {
        return false;
    };
    let mut known = 0;
    for chapter in newest..newest + 3 {
        index.open_chapter(chapter);
        let mut requests: Vec<_> = names().map(|name| index.request(name)).collect();
        requests.sort_by_key(Request::order);
        index.look_up(&mut requests);
        for (number, request) in requests.iter_mut().enumerate() {
            known += usize::from(request.answer != Answer::Absent);
            let _ = match number % 3 {
                0 => index.insert(request, chapter),
                1 => index.re_point(request, chapter),
                _ => index.remove(request),
            };
        }
        let mut sweep = Sweep::default();
        while !index.sweep(&mut sweep, 100) {}
    }
    let mut saver = Saver::new(&index, NONCE);
    let mut saved = vec![0; saver.bytes() as usize];
    saver.fill(&index, &mut saved).expect("no change");
    let copy = VolumeIndex::new(&geometry()).expect("memory");
    let mut loader = Loader::new(&copy, NONCE, 1);
    loader.feed(&saved).expect("a save of ours");
    loader.finish().expect("a save of ours");
    known > 0
}
