// SPDX-License-Identifier: GPL-2.0

//! Invariants 42 to 44, and 46: chapters on disk.

use super::Key;
use super::Known;
use super::Region;
use crate::finding::Findings;
use crate::finding::Place;
use crate::Progress;
use crate::Stage;
use std::collections::HashMap;
use std::collections::HashSet;
use uds::format::index_page::Header;
use uds::format::index_page::IndexPage;
use uds::format::record_page;
use uds::format::Chapter;
use uds::format::Name;
use uds::format::Record;
use uds::format::NO_CHAPTER;
use uds::format::RECORD_SIZE;
use vdo::format::BLOCK_SIZE;

/// Checks all chapters that the index has: those that a save knows, or a rebuild would find. Returns
/// the oldest, and the one behind the newest.
pub(super) fn check(
    region: &Region<'_>,
    known: Option<&Known>,
    findings: &mut Findings,
    progress: &mut Progress<'_>,
) -> (Chapter, Chapter) {
    let slots = probe(region);
    let (oldest, newest) = match known {
        Some(known) => (known.oldest, known.newest),
        None => rebuilt(region, &slots, findings),
    };
    for chapter in oldest..newest {
        progress(Stage::Index, chapter - oldest, newest - oldest);
        let slot = region.geometry.slot_of(chapter);
        let found = slots.get(slot as usize).copied().unwrap_or(NO_CHAPTER);
        if found != chapter {
            let text = match found {
                NO_CHAPTER => "is not there".to_owned(),
                other => format!("is not there: chapter {other} is in its place"),
            };
            findings.error(42, Place::Chapter(chapter), text);
            continue;
        }
        let page_map = known.and_then(|known| known.page_map.as_deref());
        let Ok(pages) = index_pages(region, chapter, page_map, findings) else {
            continue;
        };
        if region.deep {
            let entries = known.and_then(|known| known.entries.get(&chapter));
            let entries = entries.map_or(&[][..], Vec::as_slice);
            records(region, chapter, &pages, entries, findings);
        }
    }
    (oldest, newest)
}

/// Returns which chapter the first block of each slot says is there.
fn probe(region: &Region<'_>) -> Vec<Chapter> {
    let geometry = &region.geometry;
    let first = region.super_block.volume_block();
    let found = (0..u64::from(geometry.shape.chapters)).map(|slot| {
        let page = region.read(first + geometry.slot_block(slot)).ok()?;
        let header = Header::decode(&*page, geometry.shape.page_size, region.nonce).ok()?;
        (geometry.slot_of(header.chapter) == slot).then_some(header.chapter)
    });
    found.map(|found| found.unwrap_or(NO_CHAPTER)).collect()
}

/// Returns the oldest chapter, and the one behind the newest, that a rebuild finds.
fn rebuilt(region: &Region<'_>, slots: &[Chapter], findings: &mut Findings) -> (Chapter, Chapter) {
    let mut there: Vec<_> = slots.iter().filter(|found| **found != NO_CHAPTER).collect();
    there.sort_unstable();
    for &chapter in there.into_iter().rev() {
        if index_pages(region, chapter, None, &mut Findings::default()).is_ok() {
            let newest = chapter + 1;
            return (region.geometry.oldest_of(newest), newest);
        }
        let text = "was not written to its end: it is not counted";
        findings.note(42, Place::Chapter(chapter), text);
    }
    (0, 0)
}

/// A chapter is damaged, which was told.
struct Damaged;

fn read_page(region: &Region<'_>, chapter: Chapter, page: u64) -> std::io::Result<Vec<u8>> {
    let geometry = &region.geometry;
    let slot = geometry.slot_of(chapter);
    let blocks = geometry.page_blocks();
    let first = region.super_block.volume_block() + geometry.slot_block(slot) + page * blocks;
    let mut bytes = Vec::with_capacity(blocks as usize * BLOCK_SIZE);
    for block in first..first + blocks {
        bytes.extend_from_slice(&*region.read(block)?);
    }
    Ok(bytes)
}

/// Checks the index pages of a chapter, and returns them.
fn index_pages(
    region: &Region<'_>,
    chapter: Chapter,
    page_map: Option<&[u16]>,
    findings: &mut Findings,
) -> Result<Vec<Vec<u8>>, Damaged> {
    let geometry = &region.geometry;
    let mut pages = Vec::new();
    let mut next = 0;
    let mut is_damaged = false;
    for number in 0..geometry.index_pages {
        let place = Place::ChapterIndex {
            chapter,
            page: number,
        };
        let bytes = match read_page(region, chapter, number.into()) {
            Ok(bytes) => bytes,
            Err(error) => {
                findings.error(0, place, error.to_string());
                return Err(Damaged);
            }
        };
        let page = IndexPage::new(&bytes, region.nonce);
        let header = page.and_then(|page| page.check_lists(geometry).map(|()| page.header));
        let header = match header {
            Ok(header) => header,
            Err(fault) => {
                findings.error(42, place, fault.to_string());
                return Err(Damaged);
            }
        };
        if (header.chapter, header.first_list) != (chapter, next) {
            let text = format!(
                "is of chapter {}, and begins with list {}, not {next}",
                header.chapter, header.first_list
            );
            findings.error(42, place, text);
            return Err(Damaged);
        }
        next += header.lists;
        let last = next.saturating_sub(1);
        let at = geometry.slot_of(chapter) * geometry.mapped_pages() + u64::from(number);
        let mapped = page_map
            .filter(|_| number + 1 < geometry.index_pages)
            .and_then(|map| map.get(at as usize));
        if mapped.is_some_and(|mapped| u32::from(*mapped) != last) {
            let text = format!("ends with list {last}; the page map has {mapped:?}");
            findings.error(43, place, text);
            is_damaged = true;
        }
        pages.push(bytes);
    }
    if next != geometry.chapter_lists() {
        let text = format!("its index ends with list {next}");
        findings.error(42, Place::Chapter(chapter), text);
        return Err(Damaged);
    }
    match is_damaged {
        true => Err(Damaged),
        false => Ok(pages),
    }
}

/// Checks the records of a chapter, that its index names them, and that the volume index does not lead
/// to others.
fn records(
    region: &Region<'_>,
    chapter: Chapter,
    index: &[Vec<u8>],
    entries: &[Key],
    findings: &mut Findings,
) {
    let geometry = &region.geometry;
    let mut pages_of: HashMap<Name, HashSet<u32>> = HashMap::new();
    let mut places = HashSet::new();
    let mut keys = HashSet::new();
    for page in 0..geometry.shape.record_pages {
        let place = Place::ChapterRecords { chapter, page };
        let bytes = match read_page(region, chapter, u64::from(geometry.index_pages + page)) {
            Ok(bytes) => bytes,
            Err(error) => {
                findings.error(0, place, error.to_string());
                return;
            }
        };
        let mut before = None;
        let mut wrong = 0;
        for at in record_page::in_order(geometry.shape.page_records) {
            let at = at as usize * RECORD_SIZE;
            let Some(record) = bytes.get(at..).and_then(|bytes| bytes.first_chunk()) else {
                continue;
            };
            let name = Record::decode(record).name;
            wrong += u32::from(before.is_some_and(|before| name < before));
            before = Some(name);
            pages_of.entry(name).or_default().insert(page);
            let (address, list) = geometry.chapter_place(name.chapter_key());
            places.insert((list, address, page));
            keys.insert(region.key(&name));
        }
        if wrong > 0 {
            findings.error(44, place, format!("{wrong} names are not in their order"));
        }
    }
    // Names that the index does not have: lists may have been full. Copies fill a chapter up.
    let named = named(region, index, &places, |text, page| {
        findings.error(44, Place::ChapterIndex { chapter, page }, text);
    });
    let lost = pages_of.iter().filter(|(name, pages)| {
        let (address, list) = geometry.chapter_place(name.chapter_key());
        !pages
            .iter()
            .any(|page| named.contains(&(list, address, *page)))
    });
    let lost = lost.count();
    if lost > 0 {
        let text = format!("its index has no room for {lost} names");
        findings.warn(44, Place::Chapter(chapter), text);
    }
    let strange = entries.iter().filter(|key| !keys.contains(key)).count();
    if strange > 0 {
        let text = format!("{strange} entries of the volume index lead to names that it lacks");
        findings.error(46, Place::Chapter(chapter), text);
    }
}

/// Returns what the index pages name, by list, address and page of records. `tell` gets what is wrong
/// with a page.
fn named(
    region: &Region<'_>,
    index: &[Vec<u8>],
    places: &HashSet<(u32, u32, u32)>,
    mut tell: impl FnMut(String, u32),
) -> HashSet<(u32, u32, u32)> {
    let geometry = &region.geometry;
    let mut named = HashSet::new();
    for (number, bytes) in (0..).zip(index) {
        let Ok(page) = IndexPage::new(bytes, region.nonce) else {
            continue;
        };
        let mut wrong = 0;
        let first = page.header.first_list;
        for list in first..first + page.header.lists {
            let Ok(found) = page.list(list) else { continue };
            for entry in found.entries(&geometry.code).flatten() {
                let place = (list, entry.address, entry.payload);
                wrong += u32::from(!places.contains(&place));
                named.insert(place);
            }
        }
        if wrong > 0 {
            tell(
                format!("{wrong} entries lead to pages without such a name"),
                number,
            );
        }
    }
    named
}
