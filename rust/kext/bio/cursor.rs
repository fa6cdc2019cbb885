// SPDX-License-Identifier: GPL-2.0

//! The data of a bio.

use super::Bio;
use core::ptr;
use kernel::bindings;

/// A place in the data of a bio.
///
/// The data belongs to whoever made the bio and may be changed by him at any time.
#[derive(Clone, Copy)]
pub struct Cursor<'b> {
    bio: &'b Bio,
    /// Where; the bio's own iterator is left alone.
    iter: bindings::bvec_iter,
}

// SAFETY: The bio belongs to no thread. Through a cursor nothing of it is changed but its data, by
// a reference to the cursor that excludes others.
unsafe impl Send for Cursor<'_> {}

impl Bio {
    /// Returns a cursor at the first byte.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor {
            bio: self,
            // SAFETY: The bio is ours.
            iter: unsafe { (*self.raw()).bi_iter },
        }
    }
}

impl Cursor<'_> {
    /// Returns true if the next `bytes` bytes, or all up to the end, are zero. Does not move.
    pub fn is_zero(&self, bytes: u32) -> bool {
        // SAFETY: The bio is ours, and the iterator one of its data.
        unsafe { dm_bindings::dmox_bio_is_zero(self.bio.raw(), &self.iter, bytes) }
    }

    /// Copies the next bytes into `to`, as far as there are any, and moves behind them.
    pub fn copy_to(&mut self, to: &mut [u8]) {
        let bytes = u32::try_from(to.len()).unwrap_or(u32::MAX);
        // SAFETY: The bio is ours, and the iterator one of its data; `to` is valid for `bytes`.
        unsafe {
            dm_bindings::dmox_bio_copy_out(
                self.bio.raw(),
                &mut self.iter,
                to.as_mut_ptr().cast(),
                bytes,
            );
        }
    }

    /// Copies `from` over the next bytes, as far as there are any, and moves behind them.
    ///
    /// For bios that read: others are not to be changed.
    pub fn copy_from(&mut self, from: &[u8]) {
        let bytes = u32::try_from(from.len()).unwrap_or(u32::MAX);
        // SAFETY: The bio is ours, and the iterator one of its data, which who made a bio that
        // reads wants to be written to; `from` is valid for `bytes`.
        unsafe {
            dm_bindings::dmox_bio_copy_in(
                self.bio.raw(),
                &mut self.iter,
                from.as_ptr().cast(),
                bytes,
            );
        }
    }

    /// Zeroes the next `bytes` bytes, as far as there are any, and moves behind them.
    ///
    /// For bios that read: others are not to be changed.
    pub fn zero(&mut self, bytes: u32) {
        // SAFETY: As in `copy_from`; without a source zeroes are copied.
        unsafe {
            dm_bindings::dmox_bio_copy_in(self.bio.raw(), &mut self.iter, ptr::null(), bytes);
        }
    }

    /// Moves on by `bytes` bytes, to the end at most.
    pub fn skip(&mut self, bytes: u32) {
        // SAFETY: The bio is ours, and the iterator one of its data.
        unsafe { dm_bindings::dmox_bio_skip(self.bio.raw(), &mut self.iter, bytes) };
    }
}
