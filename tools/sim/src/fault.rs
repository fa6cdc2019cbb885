// SPDX-License-Identifier: GPL-2.0

//! What goes wrong, and when: failing operations and the moment of a crash.

use kernel::error::code::EIO;
use kernel::error::Error;
use std::ops::Range;

/// Kinds of operations on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A read.
    Read,
    /// A write, also one with FUA.
    Write,
    /// A flush of the disk's cache.
    Flush,
    /// A discard.
    Discard,
}

/// A rule that makes operations fail.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The disk, by its number in the world.
    pub disk: usize,
    /// The kinds of operations that fail; empty means all.
    pub kinds: Vec<Kind>,
    /// Which of the disk's operations of these kinds fail, counted from 0.
    pub numbers: Range<u64>,
    /// The sectors an operation must touch to fail; flushes touch all.
    pub sectors: Range<u64>,
    /// How many of a thousand such operations fail.
    pub permille: u64,
    /// What they fail with.
    pub error: Error,
    pub(crate) seen: u64,
}

impl Fault {
    /// Makes every operation of these kinds fail on `disk`, with `EIO`; narrow it from there.
    pub fn new(disk: usize, kinds: &[Kind]) -> Self {
        Self {
            disk,
            kinds: kinds.to_vec(),
            numbers: 0..u64::MAX,
            sectors: 0..u64::MAX,
            permille: 1000,
            error: EIO,
            seen: 0,
        }
    }

    /// Fails only the operations with these numbers.
    pub fn numbers(mut self, numbers: Range<u64>) -> Self {
        self.numbers = numbers;
        self
    }

    /// Fails only operations that touch `sectors`.
    pub fn sectors(mut self, sectors: Range<u64>) -> Self {
        self.sectors = sectors;
        self
    }

    /// Fails only so many of a thousand.
    pub fn permille(mut self, permille: u64) -> Self {
        self.permille = permille;
        self
    }

    /// Counts an operation and returns true if it is one of those that may fail.
    pub(crate) fn strikes(&mut self, disk: usize, kind: Kind, sectors: &Range<u64>) -> bool {
        let touches = kind == Kind::Flush
            || (self.sectors.start < sectors.end && sectors.start < self.sectors.end);
        if disk != self.disk || !(self.kinds.is_empty() || self.kinds.contains(&kind)) || !touches {
            return false;
        }
        let number = self.seen;
        self.seen += 1;
        self.numbers.contains(&number)
    }
}

/// On which side of an operation's life the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The operation has been issued; nothing has come back.
    Issued,
    /// The device has completed it; nobody has been told.
    Completed,
}

/// When the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// At the write, flush or discard with this number, counted from 0 over all disks.
    Operation(u64, Side),
    /// After so many steps of the executor.
    Step(u64),
}
