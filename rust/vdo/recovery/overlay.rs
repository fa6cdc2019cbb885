// SPDX-License-Identifier: GPL-2.0

//! Reading what the journal has and the block map lacks, for a volume that is read-only.

use super::reader::Reader;
use super::replay::block;
use super::Survey;
use super::Volume;
use crate::block_map::Overlay;
use crate::error::Result;
use crate::error::Status;
use crate::format::recovery_journal;
use crate::storage::Storage;
use runtime::disk::Disk;

/// Reads the part of the journal that counts.
///
/// # Errors
///
/// That of a read, `ENOMEM`; or there are more entries than a journal of the format has.
pub(crate) async fn read_overlay<D: Disk>(
    storage: &Storage<D>,
    volume: &Volume,
    survey: &Survey,
) -> Result<Overlay> {
    let Some(extent) = survey.extent.filter(|_| survey.entries > 0) else {
        return Ok(Overlay::default());
    };
    let mut overlay = Overlay::with_capacity(survey.entries)?;
    let mut reader = Reader::new(storage, volume)?;
    let mut next = extent.block_map_head;
    while survey.has(next) {
        let (page, count) = block(&mut reader, survey, volume, next).await?;
        for index in 0..count {
            let entry = recovery_journal::entry(page, volume.shape, index);
            overlay.add(&entry.ok_or(Status::CorruptJournal)?)?;
        }
        next += 1;
    }
    overlay.sort();
    Ok(overlay)
}

#[cfg(test)]
mod tests;
