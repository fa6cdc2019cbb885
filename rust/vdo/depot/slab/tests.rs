// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::format::Mapping;
use crate::format::RecoveryEntry;
use std::vec::Vec;

#[test]
fn an_entry_is_an_increment_and_then_a_decrement() {
    let entry = |operation, new, old| RecoveryEntry {
        operation,
        page: 1,
        slot: 2,
        new: Mapping {
            pbn: new,
            ..Mapping::ZERO
        },
        old: Mapping {
            pbn: old,
            ..Mapping::ZERO
        },
    };
    let entries = [
        (JournalPoint::new(9, 216), entry(Operation::Data, 50, 60)),
        (JournalPoint::new(10, 0), entry(Operation::Data, 0, 0)),
        (JournalPoint::new(10, 1), entry(Operation::BlockMap, 70, 0)),
        (JournalPoint::new(10, 2), entry(Operation::Data, 0, 50)),
    ];
    let mut changes = Changes::new(&entries);
    let mut found = Vec::new();
    while let Some(next) = changes.next() {
        found.push((next.pbn, next.change, next.point.sequence, next.point.entry));
        changes.advance();
    }
    let wanted = [
        (50, Change::Increment, 9, 432),
        (60, Change::Decrement, 9, 433),
        (70, Change::BlockMapIncrement, 10, 2),
        (50, Change::Decrement, 10, 5),
    ];
    assert_eq!(found, wanted);
}
