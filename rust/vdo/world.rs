// SPDX-License-Identifier: GPL-2.0

//! What the core sees of the world, beside the storage.

use core::fmt;
use kernel::prelude::*;
use runtime::clock::Clock;
use runtime::disk::Disk;
use runtime::disk::Page;

/// How urgent a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warning,
    /// What an administrator may want to know.
    Info,
}

/// The world around one volume.
pub trait World: Send + Sync + 'static {
    /// The storage.
    type Disk: Disk;
    /// The clock.
    type Clock: Clock;
    /// A line of bios.
    type Bios: BioList;

    /// Returns the clock.
    fn clock(&self) -> &Self::Clock;

    /// Writes a line to the log.
    fn log(&self, level: Level, text: fmt::Arguments<'_>);

    /// Raises the event of the device.
    fn event(&self);

    /// Decompresses `fragment`, a raw LZ4 block, into `block`, which it must fill.
    ///
    /// # Errors
    ///
    /// `EIO` if it does not.
    fn decompress(&self, fragment: &[u8], block: &mut Page) -> Result;
}

/// What a bio asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Data to the device.
    Write,
    /// Blocks that read as zeroes.
    WriteZeroes,
    /// Blocks whose content is of no interest any more.
    Discard,
    /// Nothing but that what was acknowledged is on stable storage.
    Flush,
}

/// A bio from above that changes something, in our hands. Dropped, it fails with `EIO`.
pub trait Bio: Send + Sized {
    /// Returns what it asks for.
    fn operation(&self) -> Operation;

    /// Returns true if it is to be on stable storage before it completes.
    fn is_fua(&self) -> bool;

    /// Returns the first sector.
    fn sector(&self) -> u64;

    /// Returns the number of sectors.
    fn sectors(&self) -> u32;

    /// Returns a reader of its data, at the front.
    fn data(&self) -> impl Data + '_;

    /// Completes it.
    fn complete(self, result: Result);
}

/// The data of a write, read once from front to back.
///
/// The memory is the caller's, who may change it meanwhile: what was looked at and what is copied
/// then need not be the same.
pub trait Data {
    /// Returns true if all of the next `bytes` bytes are zero. Does not move on.
    fn is_zero(&self, bytes: usize) -> bool;

    /// Copies the next bytes, as many as `to` holds, and moves on.
    fn copy(&mut self, to: &mut [u8]);

    /// Moves on by `bytes` bytes.
    fn skip(&mut self, bytes: usize);
}

/// A first-in-first-out line of bios that allocates nothing: each lends its own memory.
pub trait BioList: Default + Send {
    /// The bios.
    type Bio: Bio;

    /// Adds a bio at the end.
    fn push(&mut self, bio: Self::Bio);

    /// Returns the first.
    fn first(&self) -> Option<&Self::Bio>;

    /// Takes the first.
    fn pop(&mut self) -> Option<Self::Bio>;
}
