// SPDX-License-Identifier: GPL-2.0

//! The process that runs this code.

/// As long as the name of a process can get, with its end.
const NAME_SIZE: usize = 16;

/// The name of a process.
pub struct ProcessName {
    bytes: [u8; NAME_SIZE],
    len: usize,
}

/// Returns the name of the process on whose behalf this runs; `None` in an interrupt and in a
/// thread of the kernel.
pub fn name() -> Option<ProcessName> {
    let mut bytes = [0; NAME_SIZE];
    // SAFETY: The function writes at most what it is told.
    let len = unsafe { dm_bindings::dmox_process_name(bytes.as_mut_ptr().cast(), NAME_SIZE) };
    (len > 0).then_some(ProcessName { bytes, len })
}

impl ProcessName {
    /// Returns the name, or a question mark if it is no text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or("?")
    }
}
