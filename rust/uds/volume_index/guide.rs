// SPDX-License-Identifier: GPL-2.0

//! What is known of a list besides its bits, so that little of it has to be decoded.
//!
//! Addresses are cut into four quarters, and a list into four *parts*, by where the entries of the
//! later quarters begin. A search begins with the part of its address. And each part has a bound: none of
//! its entries is of an older chapter. Most entries that expire are alone in their list, so only the
//! part that has one is looked through.
//!
//! What is before the start of a part has addresses below its quarter, always. So a list of which nothing
//! is known has three empty parts, and one that is all of it. For a search to begin there, the address
//! of the entry before the start must be known as well: it is remembered as the distance to the
//! quarter.

use crate::delta::Code;
use crate::delta::Damaged;
use crate::delta::List;
use crate::format::geometry::VOLUME_ADDRESS_BITS;
use core::cmp::Ordering;

/// Parts of a list.
pub(super) const PARTS: usize = 4;

const QUARTER: u32 = 1 << (VOLUME_ADDRESS_BITS - 2);

/// No distance that is known; or no entry, whose age it could be.
const NONE: u16 = u16::MAX;

/// Where the parts of a list begin, and how old their entries are at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guide {
    /// Of the second part and those behind it: the first bit.
    starts: [u16; PARTS - 1],
    /// How far below their quarters the addresses before that are.
    distances: [u16; PARTS - 1],
    /// Of each part: how many chapters its bound is above that of the list.
    ages: [u16; PARTS],
}

/// Returns the first address of the quarter of a part, but for the first.
const fn quarter(number: usize) -> u32 {
    QUARTER * (number as u32 + 1)
}

/// What is too far is not known.
fn distance(number: usize, base: u32) -> u16 {
    let distance = quarter(number).checked_sub(base);
    distance
        .and_then(|distance| u16::try_from(distance).ok())
        .unwrap_or(NONE)
}

/// What is too high is lower than it could be.
fn narrow(age: u32) -> u16 {
    u16::try_from(age).unwrap_or(NONE).min(NONE - 1)
}

impl Guide {
    /// Of a list of which nothing is known, but that no entry is older than its bound.
    pub(super) const UNKNOWN: Self = Self {
        starts: [0; PARTS - 1],
        distances: [NONE; PARTS - 1],
        ages: [NONE, NONE, NONE, 0],
    };

    /// Of a list without entries.
    pub(super) const EMPTY: Self = Self {
        ages: [NONE; PARTS],
        ..Self::UNKNOWN
    };

    /// Returns whether nothing is known of a list.
    pub(super) fn is_unknown(&self) -> bool {
        self.starts == [0; PARTS - 1]
    }

    /// Goes through a list; `age` tells how many chapters a payload is above the list's bound.
    pub(super) fn of(
        code: &Code,
        list: List<'_>,
        age: impl Fn(u32) -> u32,
    ) -> Result<Self, Damaged> {
        let mut guide = Self {
            starts: [list.bits() as u16; PARTS - 1],
            distances: [NONE; PARTS - 1],
            ages: [NONE; PARTS],
        };
        let mut part = 0;
        let mut base = 0;
        for entry in list.entries(code) {
            let entry = entry?;
            while part < PARTS - 1 && entry.address >= quarter(part) {
                guide.start(part, entry.at - list.start(), base);
                part += 1;
            }
            guide.note_part(part, age(entry.payload));
            base = entry.address;
        }
        for part in part..PARTS - 1 {
            guide.start(part, list.bits(), base);
        }
        Ok(guide)
    }

    fn start(&mut self, number: usize, at: usize, base: u32) {
        if let Some(start) = self.starts.get_mut(number) {
            *start = at as u16;
        }
        if let Some(place) = self.distances.get_mut(number) {
            *place = distance(number, base);
        }
    }

    /// Returns where a search for an address may begin: at which bit, and behind which address.
    #[inline]
    pub(super) fn beginning(&self, address: u32) -> (u32, u32) {
        let parts = (address / QUARTER) as usize;
        let starts = self.starts.iter().zip(&self.distances).enumerate();
        for (number, (start, distance)) in starts.take(parts).rev() {
            if *distance != NONE {
                return ((*start).into(), quarter(number) - u32::from(*distance));
            }
        }
        (0, 0)
    }

    /// Returns the first bit of a part of a list of so many bits, and the one behind its last.
    pub(super) fn part(&self, part: usize, bits: usize) -> (usize, usize) {
        let before = part.checked_sub(1).and_then(|part| self.starts.get(part));
        let start = before.map_or(0, |start| usize::from(*start));
        let end = self.starts.get(part).map_or(bits, |end| usize::from(*end));
        (start.min(bits), end.max(start).min(bits))
    }

    /// An entry with this address, of `first_bits`, was put in at `at`; the list is longer by `growth`.
    pub(super) fn insert(&mut self, at: usize, first_bits: usize, growth: usize, address: u32) {
        let (starts, distances) = (self.starts.iter_mut(), self.distances.iter_mut());
        for (number, (start, place)) in starts.zip(distances).enumerate() {
            let old = usize::from(*start);
            if old > at {
                *start = (old + growth) as u16;
            } else if old == at && address < quarter(number) {
                *start = (at + first_bits) as u16;
                *place = distance(number, address);
            }
        }
    }

    /// The entry of `gone_bits` at `at`, whose difference was `delta`, was taken out; the list is
    /// shorter by `loss`.
    pub(super) fn remove(&mut self, at: usize, gone_bits: usize, loss: usize, delta: u32) {
        for (start, distance) in self.starts.iter_mut().zip(&mut self.distances) {
            let old = usize::from(*start);
            match old.cmp(&(at + gone_bits)) {
                Ordering::Greater => *start = old.saturating_sub(loss) as u16,
                Ordering::Equal => {
                    *start = at as u16;
                    if *distance != NONE {
                        let farther = delta.saturating_add((*distance).into());
                        *distance = u16::try_from(farther).unwrap_or(NONE);
                    }
                }
                Ordering::Less => {}
            }
        }
    }

    /// Returns whether a part may have entries that are less than `age` chapters above the bound.
    pub(super) fn is_stale(&self, part: usize, age: u64) -> bool {
        let bound = self.ages.get(part);
        bound.is_some_and(|bound| *bound != NONE && u64::from(*bound) < age)
    }

    /// The oldest entry of a part, if it has one, is so many chapters above the bound.
    pub(super) fn set_age(&mut self, part: usize, age: Option<u32>) {
        if let Some(bound) = self.ages.get_mut(part) {
            *bound = age.map_or(NONE, narrow);
        }
    }

    /// The entry at `at` is so many chapters above the bound.
    pub(super) fn note(&mut self, at: usize, age: u32) {
        let starts = self.starts.iter();
        let part = starts.filter(|start| usize::from(**start) <= at).count();
        self.note_part(part, age);
    }

    fn note_part(&mut self, part: usize, age: u32) {
        if let Some(bound) = self.ages.get_mut(part) {
            *bound = narrow(age).min(*bound);
        }
    }

    /// The bound of the list goes up to that of its oldest part; returns by how many chapters. `None` if
    /// there is no entry.
    pub(super) fn raise(&mut self) -> Option<u32> {
        let least = self
            .ages
            .iter()
            .filter(|age| **age != NONE)
            .min()
            .copied()?;
        for age in self.ages.iter_mut().filter(|age| **age != NONE) {
            *age -= least;
        }
        Some(least.into())
    }

    /// The bound of the list goes down by so many chapters.
    pub(super) fn lower(&mut self, chapters: u32) {
        for age in self.ages.iter_mut().filter(|age| **age != NONE) {
            *age = narrow(chapters.saturating_add((*age).into()));
        }
    }
}

#[cfg(test)]
impl Guide {
    /// What the guide says of a list is true.
    pub(super) fn check(&self, code: &Code, list: List<'_>, age: impl Fn(u32) -> u32) {
        let entries = || list.entries(code).map(|entry| entry.expect("a sound list"));
        for (number, (start, distance)) in self.starts.iter().zip(&self.distances).enumerate() {
            let start = usize::from(*start);
            let is_border = start == list.bits() || entries().any(|entry| entry.at == start);
            assert!(is_border, "a part begins with an entry");
            let before = entries().take_while(|entry| entry.at < start).last();
            assert!(before.is_none_or(|entry| entry.address < quarter(number)));
            if *distance != NONE {
                let base = before.map_or(0, |entry| entry.address);
                assert_eq!(base + u32::from(*distance), quarter(number));
                let next = entries().find(|entry| entry.at == start);
                assert!(next.is_none_or(|entry| entry.address >= quarter(number)));
            }
        }
        assert!(self.starts.is_sorted());
        for (part, bound) in self.ages.iter().enumerate() {
            let (start, end) = self.part(part, list.bits());
            for entry in entries().filter(|entry| (start..end).contains(&entry.at)) {
                assert!(*bound != NONE && u32::from(*bound) <= age(entry.payload));
            }
        }
    }
}
