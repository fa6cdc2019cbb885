// SPDX-License-Identifier: GPL-2.0

//! Invariants 39 to 41, and 45: saves, of which the latest counts.

use super::stream;
use super::stream::Bytes;
use super::stream::Result;
use super::Known;
use super::Region;
use crate::finding::Findings;
use crate::finding::Place;
use std::collections::HashMap;
use std::collections::HashSet;
use uds::format::open_chapter;
use uds::format::save;
use uds::format::save::Places;
use uds::format::save::Save;
use uds::format::super_block::SAVES;
use uds::format::Record;

/// Of larger volume indexes it is not looked up where each entry leads to.
const ENTRIES: usize = 1 << 24;

/// What is written whole or not at all.
const SECTOR: usize = 512;

/// A save that is loaded by the next start.
pub(super) struct Saved {
    pub(super) slot: u16,
    pub(super) names: u64,
    pub(super) known: Known,
}

/// Checks all saves; returns the one that counts, if it is good.
pub(super) fn check(region: &Region<'_>, findings: &mut Findings) -> Option<Saved> {
    let mut saves = [None; SAVES];
    for (slot, save) in (0..).zip(&mut saves) {
        *save = header(region, slot, findings);
    }
    let (slot, save) = save::latest(&saves)?;
    match body(region, slot, &save, findings) {
        Ok(saved) => saved,
        Err(text) => {
            findings.error(40, Place::Save(slot), text);
            None
        }
    }
}

fn header(region: &Region<'_>, slot: u16, findings: &mut Findings) -> Option<Save> {
    let page = match region.read(region.super_block.save_block(slot)) {
        Ok(page) => page,
        Err(error) => {
            findings.error(0, Place::Save(slot), error.to_string());
            return None;
        }
    };
    let save = Save::decode(&page, &region.super_block, slot);
    save.unwrap_or_else(|fault| {
        findings.error(39, Place::Save(slot), fault.to_string());
        None
    })
}

/// Checks what a save holds; `None` if it was made void, as it is before a chapter is written.
fn body(
    region: &Region<'_>,
    slot: u16,
    save: &Save,
    findings: &mut Findings,
) -> Result<Option<Saved>> {
    let places = Places::new(&region.super_block, save.zones);
    let start = region.super_block.save_block(slot);
    let first = region.read(start + places.open_chapter);
    let first = first.map_err(|error| format!("open chapter: {error}"))?;
    // A crash may have left the rest of the block.
    if first.iter().take(SECTOR).all(|byte| *byte == 0) {
        let text = "void, as a chapter was written after it: the index will be rebuilt";
        findings.note(40, Place::Save(slot), text);
        return Ok(None);
    }
    if save.newest - save.oldest >= u64::from(region.geometry.shape.chapters) {
        let text = format!("chapters {} to {}", save.oldest, save.newest);
        return Err(format!("more chapters than there is room for: {text}"));
    }
    let open = open_chapter(region, start + places.open_chapter)
        .map_err(|text| format!("open chapter: {text}"))?;
    let page_map =
        page_map(region, start + places.page_map).map_err(|text| format!("page map: {text}"))?;
    let mut newest = HashSet::new();
    let mut entries: HashMap<_, Vec<_>> = HashMap::new();
    let mut kept = 0;
    let names = stream::volume_index(region, slot, save, |entry| {
        let key = (entry.set, entry.list, entry.address);
        if entry.chapter == save.newest {
            newest.insert(key);
        } else if region.deep && entry.is_live && kept < ENTRIES {
            entries.entry(entry.chapter).or_default().push(key);
            kept += 1;
        }
    });
    let names = match names {
        Ok(names) => names,
        Err(text) => {
            findings.error(41, Place::Save(slot), format!("volume index: {text}"));
            return Ok(None);
        }
    };
    let unknown = open
        .iter()
        .filter(|record| !newest.contains(&region.key(&record.name)))
        .count();
    if unknown > 0 {
        // It may be that their lists were full.
        let text = format!("the volume index lacks {unknown} names of the open chapter");
        findings.warn(45, Place::Save(slot), text);
    }
    Ok(Some(Saved {
        slot,
        names,
        known: Known {
            oldest: save.oldest,
            newest: save.newest,
            page_map: Some(page_map),
            entries,
        },
    }))
}

fn open_chapter(region: &Region<'_>, block: u64) -> Result<Vec<Record>> {
    let blocks = region.super_block.open_chapter_blocks;
    let mut bytes = Bytes::new(region, block, blocks);
    let count = open_chapter::decode(&bytes.array()?, region.geometry.records);
    let count = count.map_err(|fault| fault.to_string())?;
    (0..count)
        .map(|_| Ok(Record::decode(&bytes.array()?)))
        .collect()
}

fn page_map(region: &Region<'_>, block: u64) -> Result<Vec<u16>> {
    let blocks = region.super_block.page_map_blocks;
    let mut bytes = Bytes::new(region, block, blocks);
    Bytes::expect(bytes.array(), *b"ALBIPM02", "the magic")?;
    bytes.u64()?;
    let entries = u64::from(region.geometry.shape.chapters) * region.geometry.mapped_pages();
    (0..entries).map(|_| bytes.u16()).collect()
}
