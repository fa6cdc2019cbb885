// SPDX-License-Identifier: GPL-2.0

use super::*;
use std::vec::Vec;

const FREE: u32 = 7966;

fn allocator(slabs: u32) -> Allocator {
    let config = SlabConfig::new(1 << 13, 224).unwrap();
    let mut allocator = Allocator::new(&config);
    allocator.grow(&mut Allocator::places(slabs).unwrap());
    for slab in 0..slabs {
        allocator.set_free(slab, FREE);
    }
    allocator
}

fn opened(allocator: &mut Allocator) -> SlabNumber {
    let open = allocator.open().unwrap();
    allocator.close(open.slab);
    open.slab
}

#[test]
fn without_usable_slabs_none_is_opened() {
    let mut allocator = allocator(2);
    assert_eq!(allocator.open(), None);
    assert_eq!(allocator.free(), 2 * u64::from(FREE));
    assert!(!allocator.has_free());
}

#[test]
fn slabs_never_used_are_opened_in_order_and_announced() {
    let mut allocator = allocator(3);
    (0..3).for_each(|slab| allocator.add(slab, true));
    for slab in 0..3 {
        let open = allocator.open().unwrap();
        let next = (slab < 2).then_some(slab + 1);
        assert_eq!((open.slab, open.is_full, open.next), (slab, false, next));
        // The same one, until it is closed.
        assert_eq!(allocator.open().unwrap().slab, slab);
        allocator.adjust(slab, -i64::from(FREE));
        allocator.close(slab);
    }
    assert_eq!((allocator.opened, allocator.reopened), (3, 0));
    assert!(allocator.open().unwrap().is_full);
    assert!(!allocator.has_free());
    assert_eq!((allocator.opened, allocator.reopened), (3, 1));
}

#[test]
fn much_room_comes_first_then_what_was_never_used() {
    let mut allocator = allocator(5);
    let free = [4096, 5000, 4095, 100, FREE];
    for (slab, free) in (0..).zip(free) {
        allocator.set_free(slab, free);
        allocator.add(slab, slab == 4);
    }
    // Priorities 14, 14, 12, 7; never used: 1 + log2(5975) = 13.
    let mut order = Vec::new();
    while !order.contains(&3) {
        let slab = allocator.open().unwrap().slab;
        order.push(slab);
        allocator.adjust(slab, -i64::from(FREE));
        allocator.close(slab);
    }
    assert_eq!(order, [0, 1, 4, 2, 3]);
    assert_eq!((allocator.opened, allocator.reopened), (1, 4));
}

#[test]
fn a_slab_moves_when_its_priority_does() {
    let mut allocator = allocator(3);
    for slab in 0..3 {
        allocator.set_free(slab, 0);
        allocator.add(slab, false);
    }
    assert!(!allocator.has_free());
    allocator.adjust(1, 1);
    assert!(allocator.has_free());
    assert_eq!(opened(&mut allocator), 1);
    allocator.adjust(2, 2);
    assert_eq!(opened(&mut allocator), 2);
    allocator.adjust(2, -1);
    // Now both have one free block; 1 has waited longer.
    assert_eq!(opened(&mut allocator), 1);
    assert_eq!(opened(&mut allocator), 2);
    assert_eq!(allocator.free(), 2);
}

/// Counts change under another lock, so one CPU may tell of a block that it took before another
/// tells that it has freed that block.
#[test]
fn changes_count_in_any_order() {
    let mut allocator = allocator(1);
    allocator.set_free(0, 1);
    allocator.add(0, false);
    allocator.adjust(0, -1);
    allocator.adjust(0, -1);
    assert_eq!(allocator.free(), 0);
    assert!(!allocator.has_free());
    allocator.adjust(0, 1);
    assert_eq!(allocator.free(), 0);
    assert!(!allocator.has_free());
    assert!(allocator.open().unwrap().is_full);
    allocator.adjust(0, 1);
    assert_eq!(allocator.free(), 1);
}

#[test]
fn a_slab_that_is_set_aside_comes_last() {
    let mut allocator = allocator(2);
    allocator.set_free(1, 1);
    (0..2).for_each(|slab| allocator.add(slab, false));
    assert_eq!(allocator.open().unwrap().slab, 0);
    allocator.set_aside(0);
    assert_eq!(allocator.open().unwrap().slab, 1);
    allocator.adjust(1, -1);
    allocator.close(1);
    assert_eq!(allocator.open().unwrap().slab, 0);
}

#[test]
fn more_slabs_keep_what_is_known() {
    let mut allocator = allocator(1);
    allocator.add(0, true);
    assert_eq!(allocator.open().unwrap().slab, 0);
    allocator.adjust(0, -10);
    allocator.grow(&mut Allocator::places(3).unwrap());
    assert_eq!(allocator.free(), u64::from(FREE) - 10);
    allocator.set_free(2, 5);
    allocator.add(2, false);
    assert_eq!(allocator.open().unwrap().slab, 0);
    allocator.adjust(0, -i64::from(FREE) + 10);
    allocator.close(0);
    assert_eq!(allocator.open().unwrap().slab, 2);
}
