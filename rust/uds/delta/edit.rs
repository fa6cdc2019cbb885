// SPDX-License-Identifier: GPL-2.0

//! Changing a list in its place, and writing one from the start.
//!
//! Lists that change begin with the first bit of their bytes. A change is first worked out
//! ([`Splice`]), so that its size is known, and then made.

use super::bits;
use super::walk::Step;
use super::Code;
use super::Damaged;
use super::Found;
use super::Fresh;
use super::List;
use super::Search;
use crate::format::name::Name;

/// Appends entries, somewhere in bytes. What does not fit is cut off: see [`Self::at`].
#[derive(Debug)]
pub struct Writer<'a> {
    data: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// The next bit to be written is `at`.
    pub fn new(data: &'a mut [u8], at: usize) -> Self {
        Self { data, at }
    }

    /// Returns the next bit to be written.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Appends an entry; its bits are [`Fresh::bits`].
    pub fn push(&mut self, code: &Code, entry: &Fresh) {
        self.put(code.payload_bits, entry.payload.into());
        match entry.delta.checked_sub(code.min_keys) {
            None => self.put(code.min_bits, entry.delta.into()),
            Some(long) => {
                let rest = long % code.increment;
                self.put(code.min_bits, u64::from(code.min_keys + rest));
                let mut zeros = long / code.increment;
                while zeros >= bits::WINDOW {
                    self.put(bits::WINDOW, 0);
                    zeros -= bits::WINDOW;
                }
                self.put(zeros, 0);
                self.put(1, 1);
            }
        }
        if let Some(name) = &entry.name {
            for byte in name.0 {
                self.put(8, byte.into());
            }
        }
    }

    fn put(&mut self, bits: u32, value: u64) {
        bits::put(self.data, self.at, bits, value);
        self.at += bits as usize;
    }
}

/// A change of a list: some bits go, and up to two entries come in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splice {
    at: usize,
    old_bits: usize,
    entries: [Option<Fresh>; 2],
    collisions: i32,
    /// The bits of the entry that is added or taken away, and its difference.
    first_bits: usize,
    delta: u32,
}

impl Splice {
    /// Adds a name: as a plain entry if `search`, which must be of this list as it is, found
    /// nothing, else as a collision of the entry that was found.
    ///
    /// # Errors
    ///
    /// If the list is damaged there.
    pub fn insert(
        code: &Code,
        list: &List<'_>,
        search: &Search,
        address: u32,
        payload: u32,
        name: &Name,
    ) -> Result<Self, Damaged> {
        let at = search.at as usize;
        if search.found != Found::Nothing {
            let collision = Fresh {
                payload,
                delta: 0,
                name: Some(*name),
            };
            return Ok(Self {
                at: at + step_at(code, list, at)?.bits,
                old_bits: 0,
                entries: [Some(collision), None],
                collisions: 1,
                first_bits: collision.bits(code),
                delta: 0,
            });
        }
        let delta = address.checked_sub(search.base).ok_or(Damaged)?;
        let plain = Fresh {
            payload,
            delta,
            name: None,
        };
        if at >= list.end() {
            return Ok(Self {
                at,
                old_bits: 0,
                entries: [Some(plain), None],
                collisions: 0,
                first_bits: plain.bits(code),
                delta,
            });
        }
        let next = list.step(code, at)?;
        let nearer = Fresh {
            payload: next.payload,
            delta: next.delta.checked_sub(delta).ok_or(Damaged)?,
            name: None,
        };
        Ok(Self {
            at,
            old_bits: next.bits,
            entries: [Some(plain), Some(nearer)],
            collisions: 0,
            first_bits: plain.bits(code),
            delta,
        })
    }

    /// Takes away the entry at `at`.
    ///
    /// # Errors
    ///
    /// If the list is damaged there.
    pub fn remove(code: &Code, list: &List<'_>, at: u32) -> Result<Self, Damaged> {
        let at = at as usize;
        let gone = step_at(code, list, at)?;
        let mut splice = Self {
            at,
            old_bits: gone.bits,
            entries: [None; 2],
            collisions: -i32::from(gone.is_collision),
            first_bits: gone.bits,
            delta: gone.delta,
        };
        let next_at = at + gone.bits;
        if gone.is_collision || next_at >= list.end() {
            return Ok(splice);
        }
        // Whoever is next is farther from the entry before; a collision becomes the plain entry.
        let next = list.step(code, next_at)?;
        splice.old_bits += next.bits;
        splice.collisions = -i32::from(next.is_collision);
        splice.entries[0] = Some(Fresh {
            payload: next.payload,
            delta: next.delta.checked_add(gone.delta).ok_or(Damaged)?,
            name: None,
        });
        Ok(splice)
    }

    /// Returns where the entry is that is added or taken away.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Returns the bits of the entry that is added or taken away.
    pub const fn first_bits(&self) -> usize {
        self.first_bits
    }

    /// Returns the difference of the entry that is added or taken away.
    pub const fn delta(&self) -> u32 {
        self.delta
    }

    /// Returns by how many the collisions become more.
    pub const fn collisions(&self) -> i32 {
        self.collisions
    }

    /// Returns how long a list of so many bits becomes.
    pub fn bits_after(&self, code: &Code, bits: usize) -> usize {
        bits.saturating_sub(self.old_bits) + self.new_bits(code)
    }

    fn new_bits(&self, code: &Code) -> usize {
        let entries = self.entries.iter().flatten();
        entries.map(|entry| entry.bits(code)).sum()
    }

    /// Makes the change, in a list of so many bits. There must be room for what it becomes.
    pub fn apply(&self, code: &Code, data: &mut [u8], bits: usize) {
        let old_end = self.at + self.old_bits;
        let new_end = self.at + self.new_bits(code);
        bits::shift(data, old_end, new_end, bits.saturating_sub(old_end));
        let mut writer = Writer::new(data, self.at);
        for entry in self.entries.iter().flatten() {
            writer.push(code, entry);
        }
    }
}

/// Decodes the entry at `at`, if the list goes that far.
fn step_at(code: &Code, list: &List<'_>, at: usize) -> Result<Step, Damaged> {
    if at >= list.end() {
        return Err(Damaged);
    }
    list.step(code, at)
}

/// Moves a list of so many bits, which begins at bit `from` of the data, to its first bit.
pub fn align(data: &mut [u8], from: usize, bits: usize) {
    bits::shift(data, from, 0, bits);
}

/// Gives the entry at `at` another payload.
pub fn set_payload(code: &Code, data: &mut [u8], at: u32, payload: u32) {
    bits::put(data, at as usize, code.payload_bits, payload.into());
}

/// What [`retain`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// The bits that are left.
    pub bits: usize,
    /// Entries that went.
    pub removed: u32,
    /// By how many the collisions became fewer: they went, or became plain.
    pub fewer_collisions: u32,
}

/// Removes the entries of a list of so many bits whose payload `keeps` refuses.
///
/// # Errors
///
/// If the list is damaged; it is then of no use any more.
pub fn retain(
    code: &Code,
    data: &mut [u8],
    bits: usize,
    mut keeps: impl FnMut(u32) -> bool,
) -> Result<Retained, Damaged> {
    let mut done = Retained::default();
    // Entries from `run` to `at` stay as they are and belong to `done.bits`; they move together.
    let mut run = 0;
    let mut at = 0;
    let mut address = 0u32;
    // Of the last entry that stays.
    let mut base = None;
    let mut is_base_removed = false;
    while at < bits {
        let step = List::new(data, 0, bits).ok_or(Damaged)?.step(code, at)?;
        address = address.checked_add(step.delta).ok_or(Damaged)?;
        let end = at + step.bits;
        if !keeps(step.payload) {
            bits::shift(data, run, done.bits, at - run);
            done.bits += at - run;
            done.removed += 1;
            done.fewer_collisions += u32::from(step.is_collision);
            run = end;
            is_base_removed = true;
        } else if step.is_collision && base == Some(address) {
            // Its plain entry is still there, or another took the place.
            is_base_removed = false;
        } else {
            if is_base_removed {
                let entry = Fresh {
                    payload: step.payload,
                    delta: address - base.unwrap_or(0),
                    name: None,
                };
                let new_end = done.bits + entry.bits(code);
                // It takes no more than what it stands for.
                if new_end > end {
                    return Err(Damaged);
                }
                Writer::new(data, done.bits).push(code, &entry);
                done.fewer_collisions += u32::from(step.is_collision);
                done.bits = new_end;
                run = end;
                is_base_removed = false;
            }
            base = Some(address);
        }
        at = end;
    }
    bits::shift(data, run, done.bits, at - run);
    done.bits += at - run;
    Ok(done)
}
