// SPDX-License-Identifier: GPL-2.0

//! What the core sees of the world, beside the storage.

use core::fmt;
use core::future::Future;
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

/// A line of the log that may come with every request: about what failed, or cannot be used. Each
/// has a limit of its own, so that a storage that fails does not drown the log, nor one line
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// A read has failed.
    Read,
    /// A write has failed that had to read first.
    ReadModifyWrite,
    /// A write has failed.
    Write,
    /// A page of the block map could not be read or written.
    PageIo,
    /// A page of the block map is not what it should be.
    BadPage,
    /// An entry of a leaf page makes no sense.
    BadMapping,
    /// An entry of an interior page makes no sense.
    BadTree,
}

/// The world around one volume.
pub trait World: Send + Sync + 'static {
    /// The storage.
    type Disk: Disk;
    /// The clock.
    type Clock: Clock;
    /// A line of bios.
    type Bios: BioList;
    /// What compresses blocks.
    type Compressor: Compressor;

    /// Returns the clock.
    fn clock(&self) -> &Self::Clock;

    /// Writes a line to the log.
    fn log(&self, level: Level, text: fmt::Arguments<'_>);

    /// Writes a line about an error to the log, unless there were too many of its kind of late.
    fn log_repeated(&self, _: Repeated, text: fmt::Arguments<'_>) {
        self.log(Level::Error, text);
    }

    /// Returns the time of day, in milliseconds since 1970. It may go back.
    fn time_of_day_ms(&self) -> u64;

    /// Returns bits that nobody can guess.
    fn random(&self) -> u64;

    /// Raises the event of the device.
    fn event(&self);

    /// Decompresses `fragment`, a raw LZ4 block, into `block`, which it must fill.
    ///
    /// # Errors
    ///
    /// `EIO` if it does not.
    fn decompress(&self, fragment: &[u8], block: &mut Page) -> Result;

    /// Makes a compressor.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn compressor(&self) -> Result<Self::Compressor>;
}

/// Compresses blocks, one after the other, in memory that it has from the start.
pub trait Compressor: Send {
    /// Compresses `block` to a raw LZ4 block at the front of `into`. Returns its size; `None` if it
    /// does not fit. The higher the `acceleration`, from 1 on, the less is looked for.
    fn compress(&mut self, block: &Page, into: &mut [u8], acceleration: u32) -> Option<usize>;
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

/// A bio from above that reads, in the hands of the task that serves it.
///
/// Bytes are counted from its start.
pub trait ReadBio: Send {
    /// Returns the first sector.
    fn sector(&self) -> u64;

    /// Returns the number of sectors.
    fn sectors(&self) -> u32;

    /// Sends the whole bio to `sector` of the storage and waits until it is back.
    fn forward(&mut self, sector: u64) -> impl Future<Output = Result> + Send;

    /// Starts reading `sectors` sectors from `sector` of the storage on into the bytes from
    /// `offset` on. Waits for room for one more, if need be.
    ///
    /// # Errors
    ///
    /// That of a part that was started before.
    fn start_part(
        &mut self,
        offset: usize,
        sector: u64,
        sectors: u32,
    ) -> impl Future<Output = Result> + Send;

    /// Waits for all parts that were started.
    ///
    /// # Errors
    ///
    /// That of the first part that failed.
    fn finish_parts(&mut self) -> impl Future<Output = Result> + Send;

    /// Puts zeroes into `bytes` bytes from `offset` on.
    fn zero(&mut self, offset: usize, bytes: usize);

    /// Copies `data` to `offset`.
    fn copy_in(&mut self, offset: usize, data: &[u8]);

    /// Goes on where one may sleep, and start I/O of one's own.
    fn leave_map(&mut self) -> impl Future<Output = ()> + Send;
}
