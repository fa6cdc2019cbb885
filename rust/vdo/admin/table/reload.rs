// SPDX-License-Identifier: GPL-2.0

//! What a table that is loaded for a running volume may change.

use super::invalid;
use super::Refusal;
use super::Settings;
use crate::error;
use crate::format::Pbn;
use core::ffi::CStr;

/// What changes from one table to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The logical size grows to so many blocks.
    pub logical_blocks: Option<u64>,
    /// The physical size grows to so many blocks.
    pub physical_blocks: Option<Pbn>,
}

impl Settings {
    /// Compares the settings in force with those of a new table.
    ///
    /// What is not mentioned in the result (the largest discard, deduplication, compression) may
    /// change freely; what is for a format only is ignored.
    ///
    /// # Errors
    ///
    /// What may not change.
    pub fn changes_to(&self, new: &Settings) -> Result<Changes, Refusal> {
        let fixed: [(bool, &'static CStr); 2] = [
            (self.start == new.start, c"Starting sector cannot change"),
            (
                self.logical_block_size == new.logical_block_size,
                c"Logical block size cannot change",
            ),
        ];
        refuse_first(&fixed)?;
        if new.logical_blocks < self.logical_blocks {
            return Err(invalid(c"Can't shrink VDO logical size"));
        }
        let fixed: [(bool, &'static CStr); 3] = [
            (
                self.cache_blocks == new.cache_blocks,
                c"Block map cache size cannot change",
            ),
            (
                self.maximum_age == new.maximum_age,
                c"Block map maximum age cannot change",
            ),
            (
                self.threads == new.threads,
                c"Thread configuration cannot change",
            ),
        ];
        refuse_first(&fixed)?;
        if new.physical_blocks < self.physical_blocks {
            let text = c"Removing physical storage from a VDO is not supported";
            return Err(invalid(text));
        }
        let grown = |old, new| (new > old).then_some(new);
        Ok(Changes {
            logical_blocks: grown(self.logical_blocks, new.logical_blocks),
            physical_blocks: grown(self.physical_blocks, new.physical_blocks),
        })
    }
}

/// Returns the refusal of a table whose physical growth was refused because of `error`.
pub fn growth_refused(error: error::Error) -> Refusal {
    Refusal {
        error: error.errno(),
        text: match error {
            error::Error::Status(error::Status::TooManySlabs) => {
                c"Device vdo_prepare_to_grow_physical failed (specified physical size too big \
                  based on formatted slab size)"
            }
            _ => c"Device vdo_prepare_to_grow_physical failed",
        },
    }
}

/// Refuses with the text of the first that is not so.
fn refuse_first(checks: &[(bool, &'static CStr)]) -> Result<(), Refusal> {
    match checks.iter().find(|(holds, _)| !holds) {
        Some((_, text)) => Err(invalid(text)),
        None => Ok(()),
    }
}
