// SPDX-License-Identifier: GPL-2.0

//! The words of a table line or a message.

use kernel::prelude::*;

/// The words of a table line or a message, consumed from the front.
///
/// # Invariants
///
/// Each word points to a NUL-terminated string that is valid and does not change for `'a`.
#[derive(Clone)]
pub struct Args<'a> {
    words: &'a [*mut c_char],
}

impl<'a> Args<'a> {
    /// Makes the words from C's arguments.
    ///
    /// # Safety
    ///
    /// `argv` is valid for reads of `argc` pointers to NUL-terminated strings, none of which
    /// changes for `'a`; it may be null if `argc` is 0.
    pub(crate) unsafe fn from_raw(argc: c_uint, argv: *mut *mut c_char) -> Self {
        let words = if argc == 0 || argv.is_null() {
            &[]
        } else {
            // SAFETY: By the contract `argv` is valid for reads of `argc` pointers, which nobody
            // changes for `'a`; it came from C, which has no array of more than `isize::MAX` bytes.
            unsafe { core::slice::from_raw_parts(argv, argc as usize) }
        };
        // INVARIANT: By the contract.
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

    /// Returns the words that are left, with blanks between them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn join(self) -> Result<KVec<u8>> {
        let mut line = KVec::new();
        for word in self {
            if !line.is_empty() {
                line.push(b' ', GFP_KERNEL)?;
            }
            line.extend_from_slice(word.to_bytes(), GFP_KERNEL)?;
        }
        Ok(line)
    }
}

/// Returns a word as text. What is no text is no word that a target knows, so it becomes an empty
/// one.
pub fn word(word: &CStr) -> &str {
    word.to_str().unwrap_or("")
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a CStr;

    fn next(&mut self) -> Option<&'a CStr> {
        let (word, rest) = self.words.split_first()?;
        self.words = rest;
        // SAFETY: By the type invariant it is a string that does not change for `'a`.
        Some(unsafe { CStr::from_char_ptr(*word) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.words.len(), Some(self.words.len()))
    }
}

impl ExactSizeIterator for Args<'_> {}

/// A copy of words.
///
/// # Invariants
///
/// `words` point to NUL-terminated strings in `text`, which does not change.
pub(crate) struct Words {
    words: KVec<*mut c_char>,
    _text: KVVec<u8>,
}

impl Words {
    /// Copies `args`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn copy(args: Args<'_>) -> Result<Self> {
        let mut text = KVVec::new();
        let mut starts: KVec<usize> = KVec::with_capacity(args.len(), GFP_KERNEL)?;
        for word in args {
            starts.push(text.len(), GFP_KERNEL)?;
            text.extend_from_slice(word.to_bytes_with_nul(), GFP_KERNEL)?;
        }
        let mut words = KVec::with_capacity(starts.len(), GFP_KERNEL)?;
        for start in starts {
            let word = text.get_mut(start..).ok_or(EINVAL)?;
            words.push(word.as_mut_ptr().cast(), GFP_KERNEL)?;
        }
        // INVARIANT: Each start is the end of a string, or 0, so that a string follows. Nobody
        // changes the text, and moving the vector does not move it.
        Ok(Self { words, _text: text })
    }

    /// Returns the words.
    pub(crate) fn args(&self) -> Args<'_> {
        // INVARIANT: By that of `self`, which is borrowed for as long.
        Args { words: &self.words }
    }
}
