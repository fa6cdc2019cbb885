// SPDX-License-Identifier: GPL-2.0

//! The data of a bio.
//!
//! It belongs to the submitter of the bio, and may be changed by others at any time: what was read
//! of it may be different when it is read again. All functions stop at its end. A bio of a kind
//! that has no data, or not in this direction, is treated as one whose data has ended: a discard
//! has a length, but no memory, and the memory that a write comes from is not to be changed.

use super::Bio;
use super::Kind;
use core::pin::Pin;
use core::ptr;
use kernel::bindings;

/// Reads the data of a bio from front to end; the bio itself is left alone.
#[derive(Clone, Copy)]
pub struct DataReader<'b> {
    bio: &'b Bio,
    at: Position,
}

/// Writes the data of a bio that reads, from front to end; the bio itself is left alone.
pub struct DataWriter<'b> {
    bio: Pin<&'b mut Bio>,
    at: Position,
}

/// A place in the data of a bio.
///
/// # Invariants
///
/// The iterator is one of the bio's data, or its `bi_size` is 0.
#[derive(Clone, Copy)]
struct Position(bindings::bvec_iter);

impl Bio {
    /// Returns a reader of the data, also of a bio that reads and has not been completed.
    pub fn reader(&self) -> DataReader<'_> {
        let has_data = matches!(self.kind(), Kind::Read | Kind::Write);
        DataReader {
            bio: self,
            at: Position::first(self, has_data),
        }
    }

    /// Returns a writer of the data, if the bio reads.
    pub fn writer(self: Pin<&mut Self>) -> DataWriter<'_> {
        let reads = self.kind() == Kind::Read;
        DataWriter {
            at: Position::first(&self, reads),
            bio: self,
        }
    }
}

impl Position {
    /// Returns the first byte, or the end if the bio is taken to be without data.
    fn first(bio: &Bio, has_data: bool) -> Self {
        // SAFETY: The bio is valid, and nobody changes it while there is a reference.
        let mut iter = unsafe { (*bio.as_raw()).bi_iter };
        if !has_data {
            iter.bi_size = 0;
        }
        // INVARIANT: `bi_iter` is one of the bio's data, and reads and writes have data.
        Self(iter)
    }

    fn skip(&mut self, bio: &Bio, bytes: u32) {
        // A bio without data has nothing to move over.
        if self.0.bi_size != 0 {
            // SAFETY: The bio is valid, and by the type invariant the iterator one of its data.
            unsafe { dm_bindings::dmox_bio_skip(bio.as_raw(), &mut self.0, bytes) };
        }
    }
}

impl DataReader<'_> {
    /// Returns true if the next `bytes` bytes, or all up to the end, are zero. Does not move.
    pub fn is_zero(&self, bytes: u32) -> bool {
        // SAFETY: The bio is valid, and by the type invariant the iterator one of its data, or at
        // its end.
        unsafe { dm_bindings::dmox_bio_is_zero(self.bio.as_raw(), &self.at.0, bytes) }
    }

    /// Copies the next bytes into `to`, as far as there are any, and moves behind them.
    pub fn copy_to(&mut self, to: &mut [u8]) {
        let bytes = u32::try_from(to.len()).unwrap_or(u32::MAX);
        // SAFETY: The bio is valid, and by the type invariant the iterator one of its data, or at
        // its end; `to` is valid for writes of `bytes`.
        unsafe {
            dm_bindings::dmox_bio_copy_out(
                self.bio.as_raw(),
                &mut self.at.0,
                to.as_mut_ptr().cast(),
                bytes,
            );
        }
    }

    /// Moves on by `bytes` bytes, to the end at most.
    pub fn skip(&mut self, bytes: u32) {
        self.at.skip(self.bio, bytes);
    }
}

impl DataWriter<'_> {
    /// Copies `from` over the next bytes, as far as there are any, and moves behind them.
    pub fn copy_from(&mut self, from: &[u8]) {
        let bytes = u32::try_from(from.len()).unwrap_or(u32::MAX);
        // SAFETY: `from` is valid for reads of `bytes`.
        unsafe { self.copy_in(from.as_ptr(), bytes) };
    }

    /// Zeroes the next `bytes` bytes, as far as there are any, and moves behind them.
    pub fn zero(&mut self, bytes: u32) {
        // SAFETY: Nothing is read from a null pointer.
        unsafe { self.copy_in(ptr::null(), bytes) };
    }

    /// Moves on by `bytes` bytes, to the end at most.
    pub fn skip(&mut self, bytes: u32) {
        self.at.skip(&self.bio, bytes);
    }

    /// # Safety
    ///
    /// `from` is null, for zeroes, or valid for reads of `bytes`.
    unsafe fn copy_in(&mut self, from: *const u8, bytes: u32) {
        // SAFETY: The bio is valid, and by the type invariant the iterator one of its data, or at
        // its end. The submitter of a read wants its data written to. `from` is as the function
        // wants it, by the contract.
        unsafe {
            dm_bindings::dmox_bio_copy_in(self.bio.as_raw(), &mut self.at.0, from.cast(), bytes);
        }
    }
}
