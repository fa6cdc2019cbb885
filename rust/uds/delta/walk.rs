// SPDX-License-Identifier: GPL-2.0

//! Decoding: entry by entry, or several lists in turns.
//!
//! Where an entry begins is known when the one before it is decoded: a chain of a load, shifts, a
//! comparison and a count of zeroes, which a CPU cannot shorten. It can follow several chains at
//! once. So whoever has several lists to look through has them decoded in turns ([`walk_all`]), one
//! entry of each at a time, which takes half the time or less.

use super::bits;
use super::bits::ones;
use super::bits::window;
use super::Code;
use super::Damaged;
use super::NAME_BITS;
use crate::format::name::Name;

/// The bits of a list.
///
/// Entries are decoded with one load of 8 bytes each. Those within 8 bytes of the end of `data`
/// take a longer way, so there had better be something behind the list.
#[derive(Clone, Copy, Debug, Default)]
pub struct List<'a> {
    data: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> List<'a> {
    /// The bits of `data` from `start` to before `end`; `None` if they are not there.
    pub const fn new(data: &'a [u8], start: usize, end: usize) -> Option<Self> {
        match data.len().checked_mul(8) {
            Some(bits) if start <= end && end <= bits => Some(Self { data, start, end }),
            _ => None,
        }
    }

    /// Returns the length, in bits.
    pub const fn bits(&self) -> usize {
        self.end - self.start
    }

    /// Returns the first bit, as a position in the data.
    pub const fn start(&self) -> usize {
        self.start
    }

    /// Returns the bit behind the last, as a position in the data.
    pub const fn end(&self) -> usize {
        self.end
    }

    /// Returns the entries; after damage is found, no more.
    pub fn entries(self, code: &'a Code) -> Entries<'a> {
        Entries {
            list: self,
            code,
            at: self.start,
            address: 0,
        }
    }

    /// Decodes the entry at `at`, a position in the data before the end.
    pub(super) fn step(&self, code: &Code, at: usize) -> Result<Step, Damaged> {
        let step = self.decode(code, at)?;
        match at + step.bits <= self.end {
            true => Ok(step),
            false => Err(Damaged),
        }
    }

    /// The same, but the end is not looked at.
    fn decode(&self, code: &Code, at: usize) -> Result<Step, Damaged> {
        let word = window(self.data, at);
        let fixed = (code.payload_bits + code.min_bits) as usize;
        let payload = (word & ones(code.payload_bits)) as u32;
        let key = ((word >> code.payload_bits) & ones(code.min_bits)) as u32;
        if key < code.min_keys {
            let is_collision = key == 0 && at != self.start;
            let name_bits = if is_collision { NAME_BITS as usize } else { 0 };
            return Ok(Step {
                payload,
                delta: key,
                bits: fixed + name_bits,
                is_collision,
            });
        }
        let mut one = at + fixed;
        loop {
            if one >= self.end {
                return Err(Damaged);
            }
            let zeros = window(self.data, one).trailing_zeros();
            if zeros < bits::WINDOW {
                one += zeros as usize;
                break;
            }
            one += bits::WINDOW as usize;
        }
        // A list that is longer than any in the format could count too far.
        let zeros = u32::try_from(one - at - fixed).map_err(|_| Damaged)?;
        let delta = zeros.checked_mul(code.increment).ok_or(Damaged)?;
        Ok(Step {
            payload,
            delta: delta.checked_add(key).ok_or(Damaged)?,
            bits: fixed + zeros as usize + 1,
            is_collision: false,
        })
    }

    /// Returns the name of the collision that ends before `end`.
    pub(super) fn name_before(&self, end: usize) -> Name {
        let mut name = Name::default();
        let start = end.saturating_sub(NAME_BITS as usize);
        for (at, byte) in (start..).step_by(8).zip(&mut name.0) {
            *byte = window(self.data, at) as u8;
        }
        name
    }
}

/// What an entry says, taken alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) payload: u32,
    pub(super) delta: u32,
    /// Of the whole entry.
    pub(super) bits: usize,
    pub(super) is_collision: bool,
}

/// What it takes to decode entries, worked out of a [`Code`].
///
/// Differences are taken times the number of payloads, which spares shifting them into place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    payload: u64,
    key: u64,
    rest: u64,
    min_keys: u64,
    increment: u64,
    fixed: u32,
}

/// What a window says, if it says all: [`Entry`]'s parts.
struct Glimpse {
    payload: u32,
    scaled_delta: u64,
    bits: u32,
    is_rare: bool,
}

impl Decoder {
    fn new(code: &Code) -> Self {
        let fixed = code.payload_bits + code.min_bits;
        Self {
            payload: ones(code.payload_bits),
            key: ones(fixed) & !ones(code.payload_bits),
            rest: !ones(fixed),
            min_keys: u64::from(code.min_keys) << code.payload_bits,
            increment: u64::from(code.increment) << code.payload_bits,
            fixed,
        }
    }

    /// Decodes the entry that a window begins with. It is rare that the window does not tell.
    #[inline(always)]
    fn decode(&self, word: u64) -> Glimpse {
        // A bit that is always there spares a question of what to do if there is none.
        let zeros = ((word & self.rest) | (1 << bits::WINDOW)).trailing_zeros();
        let key = word & self.key;
        // No branch: which differences are long is a matter of chance.
        let is_short = key < self.min_keys;
        let end = if is_short { self.fixed } else { zeros };
        Glimpse {
            payload: (word & self.payload) as u32,
            scaled_delta: key + u64::from(end - self.fixed) * self.increment,
            bits: end + u32::from(!is_short),
            is_rare: key == 0 || end >= bits::WINDOW,
        }
    }
}

/// An entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins, as a position in the data.
    pub at: usize,
    /// Its bits.
    pub bits: usize,
    /// Its address.
    pub address: u32,
    /// Its payload.
    pub payload: u32,
    /// The full name, of a collision.
    pub name: Option<Name>,
}

impl Entry {
    /// Returns where the next entry begins.
    pub const fn end(&self) -> usize {
        self.at + self.bits
    }
}

/// The entries of a list.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    list: List<'a>,
    code: &'a Code,
    at: usize,
    address: u32,
}

impl Entries<'_> {
    fn decode(&mut self) -> Result<Entry, Damaged> {
        let step = self.list.step(self.code, self.at)?;
        self.address = self.address.checked_add(step.delta).ok_or(Damaged)?;
        let end = self.at + step.bits;
        let entry = Entry {
            at: self.at,
            bits: step.bits,
            address: self.address,
            payload: step.payload,
            name: step.is_collision.then(|| self.list.name_before(end)),
        };
        self.at = end;
        Ok(entry)
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.list.end {
            return None;
        }
        let entry = self.decode();
        if entry.is_err() {
            self.at = self.list.end;
        }
        Some(entry)
    }
}

/// What looks at the entries of a list, one after the other.
pub trait Visitor {
    /// Sees the entry at `at`, a position in the data; returns true to stop before it. The
    /// difference is times two to the power of the payload's bits.
    fn stops_at(&mut self, at: usize, payload: u32, scaled_delta: u64) -> bool;
}

/// A list that is walked through by a visitor.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a, V> {
    /// The list.
    pub list: List<'a>,
    /// Who looks at the entries.
    pub visitor: V,
    /// Which of several walks this is.
    pub number: usize,
    /// Where the walk is: the entry at which the visitor stopped, or the end.
    pub at: usize,
    /// Whether the list was sound up to there.
    pub is_sound: bool,
    is_over: bool,
}

impl<'a, V: Visitor> Walk<'a, V> {
    /// Begins a walk at the first entry.
    pub fn new(number: usize, list: List<'a>, visitor: V) -> Self {
        Self {
            list,
            visitor,
            number,
            at: list.start,
            is_sound: true,
            is_over: false,
        }
    }

    /// Has the walk begin with another entry, bits from the start of the list.
    pub fn starting_at(mut self, from: usize) -> Self {
        self.at += from;
        self
    }

    /// Walks as far as the visitor wants, or the list goes.
    pub fn run(&mut self, code: &Code) {
        let decoder = Decoder::new(code);
        while self.step(code, &decoder) {}
    }

    /// Goes on by an entry; returns false if that was the end.
    #[inline(always)]
    fn step(&mut self, code: &Code, decoder: &Decoder) -> bool {
        let at = self.at;
        let byte = at / 8;
        let word = self.list.data.get(byte..byte + 8);
        let Some(word) = word.and_then(<[u8]>::first_chunk) else {
            return self.careful_step(code);
        };
        let seen = decoder.decode(u64::from_le_bytes(*word) >> (at % 8));
        let next = at + seen.bits as usize;
        if seen.is_rare || next > self.list.end {
            return self.careful_step(code);
        }
        if self.visitor.stops_at(at, seen.payload, seen.scaled_delta) {
            self.is_over = true;
            return false;
        }
        self.at = next;
        true
    }

    /// The same near the end of the data or the list, and where a window does not tell all.
    #[cold]
    #[inline(never)]
    fn careful_step(&mut self, code: &Code) -> bool {
        self.is_over = true;
        if self.at >= self.list.end {
            return false;
        }
        match self.list.step(code, self.at) {
            Ok(step) => {
                let scaled_delta = u64::from(step.delta) << code.payload_bits;
                let stops = self.visitor.stops_at(self.at, step.payload, scaled_delta);
                if !stops {
                    self.at += step.bits;
                    self.is_over = false;
                }
            }
            Err(Damaged) => self.is_sound = false,
        }
        !self.is_over
    }
}

/// Walks through several lists, in turns. The order of the walks may change.
pub fn walk_all<V: Visitor>(code: &Code, walks: &mut [Walk<'_, V>]) {
    let decoder = Decoder::new(code);
    let mut rest = walks;
    while !rest.is_empty() {
        let mut goes_on = true;
        for walk in rest.iter_mut() {
            goes_on &= walk.step(code, &decoder);
        }
        if goes_on {
            continue;
        }
        // Those that are over come last, and are left alone.
        let mut busy = 0;
        for at in 0..rest.len() {
            if rest.get(at).is_some_and(|walk| !walk.is_over) {
                rest.swap(busy, at);
                busy += 1;
            }
        }
        rest = rest.get_mut(..busy).unwrap_or_default();
    }
}
