// SPDX-License-Identifier: GPL-2.0

//! A disk's medium with a volatile cache in front of it, sector by sector.
//!
//! A write starts, reaches the cache at some moment that may differ from sector to sector, and
//! completes. What the cache holds of a sector becomes stable when a flush is issued after the
//! completion, or when the write itself was one with FUA. Until then each sector on its own may
//! survive a crash in any of the versions that were under way since it was last stable.

use crate::pattern::Sector;
use crate::rng::Rng;
use runtime::disk::SECTOR_SIZE;
use std::collections::BTreeMap;
use std::ops::Range;

/// Orders what happens in a world.
pub type Stamp = u64;

/// What a crash leaves of sectors that are not stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing: every sector is as it was when it was last stable.
    Lost,
    /// The newest version of every sector, also of writes that have not completed.
    Kept,
    /// Each sector on its own, any version.
    Torn,
    /// Each write on its own, whole or not at all.
    Picked,
}

/// A medium and its cache.
pub(crate) struct Cache {
    medium: Vec<u8>,
    unstable: BTreeMap<u64, Versions>,
}

/// The versions of a sector that a crash may leave, apart from the stable one.
#[derive(Default)]
struct Versions {
    /// In the order in which they reached the cache; the last one is what reads see.
    cached: Vec<Version>,
    /// Not yet in the cache.
    moving: Vec<Version>,
}

struct Version {
    write: u64,
    completed: Option<Stamp>,
    /// No flush makes it stable.
    fickle: bool,
    bytes: Box<Sector>,
}

impl Cache {
    pub(crate) fn new(medium: Vec<u8>) -> Self {
        Self {
            medium,
            unstable: BTreeMap::new(),
        }
    }

    pub(crate) fn sectors(&self) -> u64 {
        (self.medium.len() / SECTOR_SIZE) as u64
    }

    /// Write `write` of `data` to the sectors from `start` on is under way.
    pub(crate) fn start(&mut self, write: u64, start: u64, data: &[u8], fickle: bool) {
        for (number, bytes) in (start..).zip(data.chunks_exact(SECTOR_SIZE)) {
            let mut copy = Box::new([0; SECTOR_SIZE]);
            copy.copy_from_slice(bytes);
            let version = Version {
                write,
                completed: None,
                fickle,
                bytes: copy,
            };
            self.unstable
                .entry(number)
                .or_default()
                .moving
                .push(version);
        }
    }

    /// Reads `range`. A write under way may reach the cache just before, sector by sector.
    pub(crate) fn read(&mut self, range: Range<u64>, rng: &mut Rng) -> Vec<u8> {
        let mut data = Vec::new();
        for number in range {
            if let Some(versions) = self.unstable.get_mut(&number) {
                while !versions.moving.is_empty() && rng.chance(1, 2) {
                    let index = rng.below(versions.moving.len() as u64) as usize;
                    let version = versions.moving.remove(index);
                    versions.cached.push(version);
                }
            }
            data.extend_from_slice(self.newest(number));
        }
        data
    }

    /// Returns what reached the cache of `range`.
    pub(crate) fn peek(&self, range: Range<u64>) -> Vec<u8> {
        let sectors = range.map(|number| self.newest(number));
        sectors.flatten().copied().collect()
    }

    fn newest(&self, number: u64) -> &[u8] {
        match self
            .unstable
            .get(&number)
            .and_then(|versions| versions.cached.last())
        {
            Some(version) => &*version.bytes,
            None => &self.medium[bytes_of(number)],
        }
    }

    /// Write `write` to `range` completes at `now`; with FUA it is stable.
    pub(crate) fn complete(&mut self, write: u64, range: Range<u64>, now: Stamp, stable: bool) {
        for number in range {
            let Some(versions) = self.unstable.get_mut(&number) else {
                continue;
            };
            if let Some(index) = versions
                .moving
                .iter()
                .position(|other| other.write == write)
            {
                let version = versions.moving.remove(index);
                versions.cached.push(version);
            }
            let Some(index) = versions
                .cached
                .iter()
                .position(|other| other.write == write)
            else {
                continue;
            };
            versions.cached[index].completed = Some(now);
            if stable {
                self.harden(number, index);
            }
        }
    }

    /// Write `write` to `range` fails at `now`: each sector has changed or not.
    pub(crate) fn fail(&mut self, write: u64, range: Range<u64>, now: Stamp, rng: &mut Rng) {
        for number in range.clone() {
            if let Some(versions) = self.unstable.get_mut(&number) {
                if rng.chance(1, 2) {
                    versions.moving.retain(|other| other.write != write);
                }
            }
        }
        self.complete(write, range, now, false);
    }

    /// A flush that was issued at `issued` completes.
    pub(crate) fn flush(&mut self, issued: Stamp) {
        let numbers: Vec<u64> = self.unstable.keys().copied().collect();
        for number in numbers {
            let covered = |version: &Version| {
                !version.fickle && version.completed.is_some_and(|at| at < issued)
            };
            let cached = &self.unstable[&number].cached;
            if let Some(index) = cached.iter().rposition(covered) {
                self.harden(number, index);
            }
        }
    }

    /// Makes cached version `index` of a sector the stable one.
    fn harden(&mut self, number: u64, index: usize) {
        let Some(versions) = self.unstable.get_mut(&number) else {
            return;
        };
        self.medium[bytes_of(number)].copy_from_slice(&*versions.cached[index].bytes);
        versions.cached.drain(..=index);
        if versions.cached.is_empty() && versions.moving.is_empty() {
            self.unstable.remove(&number);
        }
    }

    /// Returns what a crash leaves.
    pub(crate) fn survivor(&self, survival: Survival, rng: &mut Rng) -> Vec<u8> {
        let mut medium = self.medium.clone();
        let salt = rng.next_u64();
        for (number, versions) in &self.unstable {
            let all: Vec<&Version> = versions.cached.iter().chain(&versions.moving).collect();
            let chosen = match survival {
                Survival::Lost => None,
                Survival::Kept => all.last(),
                Survival::Torn => all.get(rng.below(all.len() as u64 + 1) as usize),
                Survival::Picked => all
                    .iter()
                    .rev()
                    .find(|version| crate::rng::mix(version.write ^ salt) & 1 == 1),
            };
            if let Some(version) = chosen {
                medium[bytes_of(*number)].copy_from_slice(&*version.bytes);
            }
        }
        medium
    }

    /// Returns the medium with everything that the cache holds written back.
    pub(crate) fn settled(&self) -> Vec<u8> {
        self.survivor(Survival::Kept, &mut Rng::new(0))
    }
}

fn bytes_of(number: u64) -> Range<usize> {
    let start = number as usize * SECTOR_SIZE;
    start..start + SECTOR_SIZE
}
