// SPDX-License-Identifier: GPL-2.0

//! The words of a table line or a message.

use kernel::prelude::*;

/// The words of a table line or a message, consumed from the front.
#[derive(Clone)]
pub struct Args<'a> {
    words: &'a [*mut c_char],
}

impl<'a> Args<'a> {
    /// Makes the words from C's arguments.
    ///
    /// # Safety
    ///
    /// `argv` points to `argc` strings that stay as they are for `'a`; it may be null if `argc`
    /// is 0.
    pub(crate) unsafe fn from_raw(argc: c_uint, argv: *mut *mut c_char) -> Self {
        let words = if argc == 0 || argv.is_null() {
            &[]
        } else {
            // SAFETY: By the contract.
            unsafe { core::slice::from_raw_parts(argv, argc as usize) }
        };
        Self { words }
    }

    /// Returns the number of words left.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Returns true if no word is left.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a CStr;

    fn next(&mut self) -> Option<&'a CStr> {
        let (word, rest) = self.words.split_first()?;
        self.words = rest;
        // SAFETY: By the contract of `from_raw` each word is a string for `'a`.
        Some(unsafe { CStr::from_char_ptr(*word) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.words.len(), Some(self.words.len()))
    }
}

impl ExactSizeIterator for Args<'_> {}
