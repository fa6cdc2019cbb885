// SPDX-License-Identifier: GPL-2.0

//! The buffer for the status of a target, or for the reply to a message.

use core::marker::PhantomData;
use kernel::fmt;
use kernel::prelude::*;

/// The type of status that is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusType {
    /// The present state (`dmsetup status`).
    Info,
    /// The arguments that construct this target (`dmsetup table`).
    Table,
    /// The integrity measurement log.
    Ima,
}

/// A buffer of C's that takes text.
///
/// What does not fit is cut off, and the buffer is then full to its last byte, which is how
/// device-mapper learns of it and asks again with a larger buffer. So writing never fails.
///
/// # Invariants
///
/// `start` is valid for writes of `size` bytes for `'a`, and nobody else uses them. `used < size`,
/// and the byte at `used` is NUL, unless `size` is 0, and `used` then, too.
pub struct StatusWriter<'a> {
    start: *mut u8,
    size: usize,
    used: usize,
    _buffer: PhantomData<&'a mut [u8]>,
}

impl StatusWriter<'_> {
    /// Makes a writer; the buffer then holds the empty string.
    ///
    /// # Safety
    ///
    /// `start` is valid for writes of `size` bytes for `'a`, and nobody else uses it.
    pub(crate) unsafe fn from_raw(start: *mut c_char, size: c_uint) -> Self {
        // INVARIANT: By the contract; the NUL follows.
        let mut this = Self {
            start: start.cast(),
            size: size as usize,
            used: 0,
            _buffer: PhantomData,
        };
        this.terminate();
        this
    }

    /// Returns true if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Writes bytes that need not be UTF-8.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        let room = self.size.saturating_sub(self.used).saturating_sub(1);
        let len = bytes.len().min(room);
        // SAFETY: By the type invariant `start` is valid for `size` bytes, and `used + len < size`,
        // or all of these are 0.
        let end = unsafe { self.start.add(self.used) };
        // SAFETY: `bytes` has `len` bytes or more, and `end` is valid for writes of as many. They
        // do not overlap: nobody else uses the buffer.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), end, len) };
        // INVARIANT: Still `used < size`; the NUL follows.
        self.used = self.used.saturating_add(len);
        self.terminate();
    }

    fn terminate(&mut self) {
        if self.size > 0 {
            // SAFETY: By the type invariant `used < size`, and `start` is valid for writes of
            // `size`.
            unsafe { self.start.add(self.used).write(0) };
        }
    }
}

impl fmt::Write for StatusWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_bytes(text.as_bytes());
        Ok(())
    }
}
