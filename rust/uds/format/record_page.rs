// SPDX-License-Identifier: GPL-2.0

//! A page of records: a search tree without pointers.
//!
//! Records only, without header or checksum. Read in the order of their names they are the nodes
//! of a binary tree from left to right; on the page they lie by depth: those below node `n` are
//! nodes `2n + 1`, whose names are smaller, and `2n + 2`, whose names are larger. So a search looks at
//! few blocks of the page, and always at the first.

use super::Block;
use super::Metadata;
use super::Name;
use super::Record;
use super::BLOCK_SIZE;
use super::RECORD_SIZE;

/// What a search says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This is what is known of the name.
    Found(Metadata),
    /// Look at this record next.
    At(u32),
    /// The name is not there.
    Absent,
}

/// Records in a block of a page.
pub const BLOCK_RECORDS: u32 = (BLOCK_SIZE / RECORD_SIZE) as u32;

/// Looks for a name on a page of `records`, from record number `at` on as far as `block` goes, which is
/// the block of the page that this record is in; begins at 0. A record that is to be looked at next is in
/// another block behind this one.
pub fn walk(name: &Name, records: u32, at: u32, block: &Block) -> Step {
    let first = at - at % BLOCK_RECORDS;
    let mut at = at;
    loop {
        let start = (at - first) as usize * RECORD_SIZE;
        let record = block.get(start..).and_then(|rest| rest.first_chunk());
        let Some(record) = record else {
            return Step::At(at);
        };
        match step(name, records, at, record) {
            Step::At(next) => at = next,
            end => return end,
        }
    }
}

/// Compares a name with record number `at`.
fn step(name: &Name, records: u32, at: u32, record: &[u8; RECORD_SIZE]) -> Step {
    let record = Record::decode(record);
    let below = match name.cmp(&record.name) {
        core::cmp::Ordering::Equal => return Step::Found(record.metadata),
        core::cmp::Ordering::Less => 2 * u64::from(at) + 1,
        core::cmp::Ordering::Greater => 2 * u64::from(at) + 2,
    };
    match u32::try_from(below) {
        Ok(below) if below < records => Step::At(below),
        _ => Step::Absent,
    }
}

/// Returns the numbers of the records of a page in the order of their names.
pub fn in_order(records: u32) -> impl Iterator<Item = u32> {
    let leftmost = move |mut at: u32| {
        while 2 * at + 1 < records {
            at = 2 * at + 1;
        }
        at
    };
    let next = move |at: &u32| {
        let mut at = *at;
        let right = 2 * at + 2;
        if right < records {
            return Some(leftmost(right));
        }
        // Up from the right as often as it goes, and once from the left.
        while at > 0 && at % 2 == 0 {
            at = (at - 1) / 2;
        }
        (at > 0).then(|| (at - 1) / 2)
    };
    let first = (records > 0).then(|| leftmost(0));
    core::iter::successors(first, next)
}

#[cfg(test)]
mod tests;
