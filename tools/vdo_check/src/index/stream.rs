// SPDX-License-Identifier: GPL-2.0

//! Reading a save: regions of blocks as bytes in order, and the volume index in them.

use super::Region;
use std::io;
use uds::delta::List;
use uds::format::geometry::SubIndex;
use uds::format::geometry::VOLUME_ADDRESS_BITS;
use uds::format::save::Places;
use uds::format::save::Save;
use uds::format::Chapter;
use uds::format::Name;
use vdo::format::Page;
use vdo::format::BLOCK_SIZE;

/// What is wrong, in words.
pub(super) type Result<T> = std::result::Result<T, String>;

/// Bytes behind the data of a list, so that it is decoded in the short way.
const BEHIND: usize = 16;

/// Blocks as bytes in order.
pub(super) struct Bytes<'a> {
    region: &'a Region<'a>,
    next: u64,
    end: u64,
    page: Box<Page>,
    at: usize,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(region: &'a Region<'a>, block: u64, blocks: u64) -> Self {
        Self {
            region,
            next: block,
            end: block + blocks,
            page: Box::new([0; BLOCK_SIZE]),
            at: BLOCK_SIZE,
        }
    }

    pub(super) fn take(&mut self, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            if self.at == BLOCK_SIZE {
                self.refill().map_err(|error| error.to_string())?;
            }
            let count = out.len().min(BLOCK_SIZE - self.at);
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&self.page[self.at..self.at + count]);
            self.at += count;
            out = later;
        }
        Ok(())
    }

    fn refill(&mut self) -> io::Result<()> {
        if self.next == self.end {
            return Err(io::Error::other("it has no room for what it should hold"));
        }
        self.region.image.read_block(self.next, &mut self.page)?;
        self.next += 1;
        self.at = 0;
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.take(&mut out)?;
        Ok(out)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Takes a number or magic that can only be this one.
    pub(super) fn expect<T: PartialEq + std::fmt::Debug>(
        found: Result<T>,
        wanted: T,
        what: &str,
    ) -> Result<()> {
        match found? {
            found if found == wanted => Ok(()),
            found => Err(format!("{what} is {found:?}, not {wanted:?}")),
        }
    }
}

/// An entry of the volume index.
pub(super) struct Entry {
    pub(super) set: u8,
    pub(super) list: u32,
    pub(super) address: u32,
    pub(super) chapter: Chapter,
    /// Its chapter is remembered.
    pub(super) is_live: bool,
}

/// A set of lists, as far as it was read.
struct Set {
    number: u8,
    geometry: SubIndex,
    /// The first list of the next zone.
    next: u32,
    entries: u64,
    collisions: u64,
    /// Less what was found of both.
    said: (u64, u64),
}

/// The lists of a set in one zone.
struct Part {
    first: u32,
    low: Chapter,
    bounds: Vec<Chapter>,
    sizes: Vec<u16>,
}

/// Reads the volume index of a save; `each` gets every entry. Returns how many there are.
pub(super) fn volume_index(
    region: &Region<'_>,
    slot: u16,
    save: &Save,
    mut each: impl FnMut(Entry),
) -> Result<u64> {
    let places = Places::new(&region.super_block, save.zones);
    let start = region.super_block.save_block(slot) + places.volume_index;
    let mut sets: Vec<_> = (0..)
        .zip(region.sets())
        .map(|(number, geometry)| Set {
            number,
            geometry,
            next: 0,
            entries: 0,
            collisions: 0,
            said: (0, 0),
        })
        .collect();
    for zone in 0..save.zones {
        let block = start + u64::from(zone) * places.zone_blocks;
        let mut bytes = Bytes::new(region, block, places.zone_blocks);
        read_zone(region, &mut bytes, save, zone, &mut sets, &mut each)
            .map_err(|text| format!("zone {zone}: {text}"))?;
    }
    let mut entries = 0;
    for set in &sets {
        let tag = char::from(set.geometry.tag);
        if set.next != set.geometry.lists {
            return Err(format!("lists of '{tag}' from {} on are missing", set.next));
        }
        // Which zone counts an entry is not said.
        if (set.entries, set.collisions) != set.said {
            let (said, collisions) = set.said;
            return Err(format!(
                "'{tag}' has {} entries and {} collisions, not {said} and {collisions}",
                set.entries, set.collisions
            ));
        }
        entries += set.entries;
    }
    Ok(entries)
}

fn read_zone(
    region: &Region<'_>,
    bytes: &mut Bytes<'_>,
    save: &Save,
    zone: u16,
    sets: &mut [Set],
    each: &mut impl FnMut(Entry),
) -> Result<()> {
    let rate = region.geometry.shape.sample_rate;
    if rate > 0 {
        Bytes::expect(bytes.array(), *b"MI6-0001", "the magic of a sparse index")?;
        Bytes::expect(bytes.u32(), rate, "the sample rate")?;
    }
    let mut parts = Vec::new();
    for set in &mut *sets {
        parts.push(set.read_head(bytes, region.nonce, save, zone)?);
    }
    for (set, part) in sets.iter_mut().zip(&parts) {
        for ((list, &bound), &bits) in (part.first..).zip(&part.bounds).zip(&part.sizes) {
            if bits > 0 {
                set.read_list(region, bytes, save, part, (list, bound, bits), each)
                    .map_err(|text| format!("list {list}: {text}"))?;
            }
        }
    }
    Bytes::expect(bytes.array(), *b"z\0\0\0\0\0\0\0", "the end")
}

impl Set {
    fn read_head(
        &mut self,
        bytes: &mut Bytes<'_>,
        nonce: u64,
        save: &Save,
        zone: u16,
    ) -> Result<Part> {
        Bytes::expect(bytes.array(), *b"MI5-0005", "the magic of a volume index")?;
        Bytes::expect(bytes.u64(), nonce, "the nonce")?;
        let low = bytes.u64()?;
        Bytes::expect(bytes.u64(), save.newest, "the newest chapter")?;
        if low > save.newest || save.newest - low > self.geometry.chapters {
            return Err(format!("the oldest chapter is {low}"));
        }
        Bytes::expect(bytes.u32(), self.next, "the first list")?;
        let lists = bytes.u32()?;
        if lists > self.geometry.lists - self.next {
            return Err(format!("there are {lists} lists"));
        }
        let mut bounds = Vec::new();
        for list in self.next..self.next + lists {
            let bound = bytes.u64()?;
            if bound > save.newest {
                return Err(format!("list {list} has nothing older than {bound}"));
            }
            bounds.push(bound);
        }
        Bytes::expect(bytes.array(), *b"DI-00002", "the magic of delta lists")?;
        Bytes::expect(bytes.u32(), zone.into(), "the zone")?;
        Bytes::expect(bytes.u32(), save.zones.into(), "the number of zones")?;
        Bytes::expect(bytes.u32(), self.next, "the first list again")?;
        Bytes::expect(bytes.u32(), lists, "the number of lists again")?;
        let (entries, collisions) = self.said;
        self.said = (
            entries.wrapping_add(bytes.u64()?),
            collisions.wrapping_add(bytes.u64()?),
        );
        let first = self.next;
        let sizes = (0..lists).map(|_| bytes.u16()).collect::<Result<_>>()?;
        self.next += lists;
        Ok(Part {
            first,
            low,
            bounds,
            sizes,
        })
    }

    fn read_list(
        &mut self,
        region: &Region<'_>,
        bytes: &mut Bytes<'_>,
        save: &Save,
        part: &Part,
        (list, bound, bits): (u32, Chapter, u16),
        each: &mut impl FnMut(Entry),
    ) -> Result<()> {
        let [tag, bit] = bytes.array()?;
        let count = bytes.u16()?;
        let number = bytes.u32()?;
        let wanted = (usize::from(bit) + usize::from(bits)).div_ceil(8);
        let head = (tag, number, usize::from(count));
        if bit > 7 || head != (self.geometry.tag, list, wanted) {
            return Err(format!(
                "it begins with tag {tag:#x}, bit {bit}, {count} bytes, list {number}"
            ));
        }
        let mut data = vec![0; wanted + BEHIND];
        bytes.take(&mut data[..wanted])?;
        let (start, end) = (usize::from(bit), usize::from(bit) + usize::from(bits));
        let found = List::new(&data, start, end).ok_or("it has no data")?;
        let payloads = 1 << self.geometry.code.payload_bits();
        for entry in found.entries(&self.geometry.code) {
            let entry = entry.map_err(|_| "it does not decode to its end")?;
            if entry.address >> VOLUME_ADDRESS_BITS > 0 {
                return Err(format!("it has address {:#x}", entry.address));
            }
            // No entry is older than the bound, which so tells chapters with one number apart.
            let back = (u64::from(entry.payload)).wrapping_sub(bound) % payloads;
            let chapter = bound + back;
            if chapter > save.newest {
                return Err(format!("it names chapter {chapter}"));
            }
            if let Some(name) = entry.name {
                self.collisions += 1;
                self.check_name(region, &name, list, entry.address)?;
            }
            self.entries += 1;
            each(Entry {
                set: self.number,
                list,
                address: entry.address,
                chapter,
                is_live: chapter >= part.low,
            });
        }
        Ok(())
    }

    fn check_name(&self, region: &Region<'_>, name: &Name, list: u32, address: u32) -> Result<()> {
        match region.key(name) == (self.number, list, address) {
            true => Ok(()),
            false => Err(format!("it has {:x?}, which does not belong there", name.0)),
        }
    }
}
