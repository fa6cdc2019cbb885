// SPDX-License-Identifier: GPL-2.0

//! Looks at the metadata on disk with a reader that shares no code with the core.

use pd_testing::check;

/// Checks a metadata image; returns which regions it says are hydrated, or `None` if the device
/// is blank.
///
/// # Errors
///
/// What is wrong with it.
pub fn metadata(image: &[u8]) -> Result<Option<Vec<bool>>, String> {
    let Some(clone) = check::clone(image) else {
        return Ok(None);
    };
    match clone.checker.errors.first() {
        Some(error) => Err(format!("metadata on disk: {error}")),
        None => Ok(Some(clone.bits)),
    }
}
