// SPDX-License-Identifier: GPL-2.0

//! Decoding: entry by entry, or several lists in turns.
//!
//! Where an entry begins is known when the one before it is decoded: a chain of a load, shifts, a
//! comparison and a count of zeroes, which a CPU cannot shorten. It can follow several chains at
//! once. So whoever has many lists to look through has them decoded in turns ([`walk_all`]), one
//! entry of each at a time, which takes a third of the time.

use super::bits;
use super::bits::ones;
use super::bits::window;
use super::Code;
use super::Damaged;
use super::NAME_BITS;
use crate::format::name::Name;

/// Lists that are decoded in turns: more chains than these gain nothing.
const LANES: usize = 4;

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
    #[inline]
    pub(super) fn step(&self, code: &Code, at: usize) -> Result<Step, Damaged> {
        let (step, is_rare) = code.decode(window(self.data, at));
        let step = if is_rare {
            self.rare_step(code, at)?
        } else {
            step
        };
        match at + step.bits <= self.end {
            true => Ok(step),
            false => Err(Damaged),
        }
    }

    /// As [`Self::step`]: a difference of 0, or one with many zero bits. The end is not looked at.
    #[cold]
    #[inline(never)]
    fn rare_step(&self, code: &Code, at: usize) -> Result<Step, Damaged> {
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

impl Code {
    /// Decodes the entry that a window begins with; true if the window does not tell, which is rare.
    #[inline(always)]
    fn decode(&self, word: u64) -> (Step, bool) {
        let key = word >> self.payload_bits;
        let rest = key >> self.min_bits;
        let key = (key & ones(self.min_bits)) as u32;
        // No branch: which differences are long is a matter of chance.
        let is_long = u32::from(key >= self.min_keys);
        let limit = bits::WINDOW - self.payload_bits - self.min_bits;
        // (A bit that is always there spares a question of what to do if there is none.)
        let zeros = (rest | (1 << bits::WINDOW)).trailing_zeros() & is_long.wrapping_neg();
        let step = Step {
            payload: (word & ones(self.payload_bits)) as u32,
            delta: key + zeros * self.increment,
            bits: (self.payload_bits + self.min_bits + zeros + is_long) as usize,
            is_collision: false,
        };
        (step, key == 0 || zeros >= limit)
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
    /// Sees the entry at `at`, a position in the data; returns true to stop before it.
    fn stops_at(&mut self, at: usize, payload: u32, delta: u32) -> bool;
}

/// A list that is walked through by a visitor.
#[derive(Debug)]
pub struct Walk<'a, V> {
    /// The list.
    pub list: List<'a>,
    /// Who looks at the entries.
    pub visitor: V,
    /// Where the walk is: the entry at which the visitor stopped, or the end.
    pub at: usize,
    /// Whether the list was sound up to there.
    pub is_sound: bool,
}

impl<'a, V: Visitor> Walk<'a, V> {
    /// Begins a walk.
    pub fn new(list: List<'a>, visitor: V) -> Self {
        Self {
            list,
            visitor,
            at: list.start,
            is_sound: true,
        }
    }

    /// Walks as far as the visitor wants, or the list goes.
    pub fn run(&mut self, code: &Code) {
        while self.step(code) {}
    }

    /// Goes on by an entry; returns false if there is nothing more to do.
    #[inline(always)]
    fn step(&mut self, code: &Code) -> bool {
        if self.at >= self.list.end {
            return false;
        }
        match self.list.step(code, self.at) {
            Ok(step) if self.visitor.stops_at(self.at, step.payload, step.delta) => false,
            Ok(step) => {
                self.at += step.bits;
                true
            }
            Err(Damaged) => {
                self.is_sound = false;
                false
            }
        }
    }
}

/// Walks through several lists, in turns.
pub fn walk_all<V: Visitor>(code: &Code, walks: &mut [Walk<'_, V>]) {
    // A copy, whose fields the loop below keeps in registers.
    let code = *code;
    let mut waiting = walks.iter_mut();
    let mut lanes: [_; LANES] = core::array::from_fn(|_| waiting.next());
    loop {
        let mut is_busy = false;
        for lane in &mut lanes {
            let Some(walk) = lane else { continue };
            if !walk.step(&code) {
                *lane = waiting.next();
            }
            is_busy = true;
        }
        if !is_busy {
            return;
        }
    }
}
