// SPDX-License-Identifier: GPL-2.0

//! An index page of a chapter: delta lists that say which record page a name is on.
//!
//! | Place | Size | Field |
//! |---|---|---|
//! | byte 0 | 8 bytes | nonce of the volume |
//! | byte 8 | 8 bytes | chapter |
//! | byte 16 | 2 bytes | first list of this page |
//! | byte 18 | 2 bytes | number of lists |
//! | bit 160 | 19 bits each | the bit at which each list begins, and the last ends |
//! | behind | | the lists, without gaps |
//! | last 7 bytes | | all ones |
//!
//! The four numbers of very old volumes may be big-endian. The pages of a chapter have all lists
//! from the first to the last, as many on each as fit. A page may be without lists.

use super::fault::check;
use super::field::bytes;
use super::field::put;
use super::geometry::INDEX_GUARD;
use super::geometry::INDEX_HEADER;
use super::geometry::OFFSET_BITS;
use super::Chapter;
use super::Fault;
use super::Geometry;
use crate::delta::List;
use crate::delta::MAX_LIST_BITS;

const NAME: &str = "chapter index page";

/// The bit at which the places of the lists begin.
const OFFSETS_AT: usize = INDEX_HEADER as usize * 8;

/// Bytes in which the places of both ends of a list are: see [`bounds`].
pub const BOUNDS_SIZE: usize = 8;

/// What a page begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The nonce of the volume.
    pub nonce: u64,
    /// The chapter.
    pub chapter: Chapter,
    /// The first list.
    pub first_list: u32,
    /// The number of lists.
    pub lists: u32,
}

impl Header {
    /// Decodes the start of a page, which must be of the volume with this nonce.
    pub fn decode(page: &[u8], page_size: u32, nonce: u64) -> Result<Self, Fault> {
        let little = Self {
            nonce: u64::from_le_bytes(bytes(page, 0)),
            chapter: u64::from_le_bytes(bytes(page, 8)),
            first_list: u16::from_le_bytes(bytes(page, 16)).into(),
            lists: u16::from_le_bytes(bytes(page, 18)).into(),
        };
        let header = if little.nonce == nonce {
            little
        } else {
            Self {
                nonce: u64::from_be_bytes(bytes(page, 0)),
                chapter: u64::from_be_bytes(bytes(page, 8)),
                first_list: u16::from_be_bytes(bytes(page, 16)).into(),
                lists: u16::from_be_bytes(bytes(page, 18)).into(),
            }
        };
        if header.nonce != nonce {
            return Err(Fault::Nonce {
                name: NAME,
                expected: nonce,
                found: little.nonce,
            });
        }
        let most = (page_size.saturating_sub(INDEX_HEADER) * 8) / OFFSET_BITS;
        let lists = header.lists;
        check(lists <= most, "number of lists on a page", lists.into())?;
        check(
            header.chapter < 1 << 48,
            "chapter of a page",
            header.chapter,
        )?;
        Ok(header)
    }

    fn encode(&self, page: &mut [u8]) {
        put(page, 0, self.nonce.to_le_bytes());
        put(page, 8, self.chapter.to_le_bytes());
        put(page, 16, (self.first_list as u16).to_le_bytes());
        put(page, 18, (self.lists as u16).to_le_bytes());
    }

    /// Returns the bit at which the first list begins.
    pub fn lists_at(&self) -> usize {
        lists_at(self.lists as usize)
    }

    /// Returns where in the page the places of a list's ends are, for [`bounds`]: the first byte of
    /// [`BOUNDS_SIZE`], and the first bit in it; `None` if the page does not have the list.
    pub fn place_of_bounds(&self, list: u32) -> Option<(usize, u32)> {
        let number = list.checked_sub(self.first_list)?;
        if number >= self.lists {
            return None;
        }
        let bit = OFFSETS_AT + OFFSET_BITS as usize * number as usize;
        Some((bit / 8, bit as u32 % 8))
    }

    /// Returns the bits of a list, if it can be there, from the bytes at the place that
    /// [`place_of_bounds`](Self::place_of_bounds) says.
    pub fn bounds(
        &self,
        bytes: [u8; BOUNDS_SIZE],
        shift: u32,
        page_size: u32,
    ) -> Result<(usize, usize), Fault> {
        let mask = (1 << OFFSET_BITS) - 1;
        let word = u64::from_le_bytes(bytes) >> shift;
        let start = (word & mask) as usize;
        let end = ((word >> OFFSET_BITS) & mask) as usize;
        let is_sound = self.lists_at() <= start
            && start <= end
            && end <= end_of_lists(page_size)
            && end - start <= MAX_LIST_BITS;
        check(
            is_sound,
            "place of a list",
            word & ((mask << OFFSET_BITS) | mask),
        )?;
        Ok((start, end))
    }
}

fn lists_at(lists: usize) -> usize {
    OFFSETS_AT + OFFSET_BITS as usize * (lists + 1)
}

/// Returns the bit behind the last that lists may have.
fn end_of_lists(page_size: u32) -> usize {
    page_size.saturating_sub(INDEX_GUARD) as usize * 8
}

/// A whole page.
#[derive(Clone, Copy, Debug)]
pub struct IndexPage<'a> {
    /// What it begins with.
    pub header: Header,
    page: &'a [u8],
}

impl<'a> IndexPage<'a> {
    /// Returns a page, which is checked, but for what is in its lists.
    pub fn new(page: &'a [u8], nonce: u64) -> Result<Self, Fault> {
        let header = Header::decode(page, page.len() as u32, nonce)?;
        let this = Self { header, page };
        let lists = header.lists as usize;
        let guard = page.len().saturating_sub(INDEX_GUARD as usize);
        let is_guarded = page
            .get(guard..)
            .is_some_and(|g| g.iter().all(|&b| b == 0xff));
        check(is_guarded, "guard of a page", 0)?;
        check(
            lists_at(lists) <= end_of_lists(page.len() as u32),
            "number of lists on a page",
            lists as u64,
        )?;
        let mut end = lists_at(lists);
        for list in 0..header.lists {
            let (start, next) = this.bounds(header.first_list + list)?;
            check(start == end, "place of a list", start as u64)?;
            end = next;
        }
        if lists == 0 {
            let at = this.offset(0);
            check(at == end, "place of a list", at as u64)?;
        }
        Ok(this)
    }

    fn offset(&self, number: usize) -> usize {
        let bit = OFFSETS_AT + OFFSET_BITS as usize * number;
        let word = u32::from_le_bytes(bytes(self.page, bit / 8));
        (word >> (bit % 8)) as usize & ((1 << OFFSET_BITS) - 1)
    }

    fn bounds(&self, list: u32) -> Result<(usize, usize), Fault> {
        let missing = Fault::Field {
            name: "list of a page",
            found: list.into(),
        };
        let (byte, shift) = self.header.place_of_bounds(list).ok_or(missing)?;
        let bytes = bytes(self.page, byte);
        self.header.bounds(bytes, shift, self.page.len() as u32)
    }

    /// Returns a list.
    pub fn list(&self, list: u32) -> Result<List<'a>, Fault> {
        let (start, end) = self.bounds(list)?;
        List::new(self.page, start, end).ok_or(Fault::Field {
            name: "end of a list",
            found: end as u64,
        })
    }

    /// Checks all lists: that they decode to their ends, and name record pages that are there.
    pub fn check_lists(&self, geometry: &Geometry) -> Result<(), Fault> {
        let Header {
            first_list, lists, ..
        } = self.header;
        let pages = geometry.shape.record_pages;
        for number in first_list..first_list + lists {
            let list = self.list(number)?;
            for entry in list.entries(&geometry.code) {
                let page = entry.map_or(u32::MAX, |entry| entry.payload);
                check(page < pages, "entry of a list", page.into())?;
            }
        }
        Ok(())
    }

    /// Returns where on the page the last list ends: a bit.
    pub fn end(&self) -> usize {
        self.offset(self.header.lists as usize)
    }
}

/// Returns how many of these lists, from the first on, fit on a page; `sizes` are in bits.
pub fn lists_that_fit(sizes: &[u16], page_size: u32) -> usize {
    let room = end_of_lists(page_size);
    let mut bits = 0;
    for (number, size) in sizes.iter().enumerate() {
        bits += usize::from(*size);
        if lists_at(number + 1) + bits > room {
            return number;
        }
    }
    sizes.len()
}

/// Begins a page, which is all zeroes, with the header and the places of lists of these sizes, and
/// ends it. Returns the bit at which the first list goes.
pub fn begin(
    page: &mut [u8],
    nonce: u64,
    chapter: Chapter,
    first_list: u32,
    sizes: &[u16],
) -> usize {
    let header = Header {
        nonce,
        chapter,
        first_list,
        lists: sizes.len() as u32,
    };
    header.encode(page);
    let mut end = header.lists_at();
    let mut bit = OFFSETS_AT;
    let mut put_offset = |offset: usize| {
        let at = bit / 8;
        let word = u32::from_le_bytes(bytes(page, at)) | ((offset as u32) << (bit % 8));
        put(page, at, word.to_le_bytes());
        bit += OFFSET_BITS as usize;
    };
    put_offset(end);
    for size in sizes {
        end += usize::from(*size);
        put_offset(end);
    }
    let guard = page.len().saturating_sub(INDEX_GUARD as usize);
    page.get_mut(guard..).unwrap_or_default().fill(0xff);
    header.lists_at()
}

#[cfg(test)]
mod tests;
