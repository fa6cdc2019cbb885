// SPDX-License-Identifier: GPL-2.0

//! A request costs the same, whatever number waits with it.

use super::*;
use crate::fixture::crowd::Crowd;
use crate::fixture::crowd::CROWDS;
use sim::world::World as Machine;

#[test]
fn who_waits_for_slabs_to_be_scrubbed_waits_alone() {
    for count in CROWDS {
        let machine = Machine::new(1);
        let toy = Toy::tiny();
        let depot = toy.depot(&machine.add_disk("disk", toy.image()));
        // One slab is not ready, and no other has a free block.
        depot.desk.with(|work| work.scrubbing.left = 1);
        let mut crowd = Crowd::new(count, |_| async {
            assert_eq!(depot.wait_for_scrubbed().await, Ok(true));
        });
        for _ in 0..1000 {
            depot.desk.tell(|_| ());
            crowd.run();
        }
        assert_eq!(crowd.left(), count);
        assert!(crowd.polls <= count as u64 + 1000);
        crowd.polls = 0;
        let steps = runtime::steps::take();
        assert!(steps.all <= 10 * count as u64 + 10_000, "{steps:?}");
        depot.allocator.with(|allocator| allocator.add(0, true));
        depot.desk.tell(|_| ());
        crowd.run();
        assert_eq!(crowd.left(), 0);
        crowd.check(2, 10);
    }
}

#[test]
fn who_waits_for_slabs_that_are_not_to_be_had_is_told_so() {
    for is_read_only in [false, true] {
        let machine = Machine::new(1);
        let toy = Toy::tiny();
        let depot = toy.depot(&machine.add_disk("disk", toy.image()));
        depot.desk.with(|work| work.scrubbing.left = 1);
        let expected = match is_read_only {
            false => Ok(false),
            true => Err(Error::READ_ONLY),
        };
        let mut crowd = Crowd::new(100, |_| async {
            assert_eq!(depot.wait_for_scrubbed().await, expected);
        });
        if is_read_only {
            depot.health.enter_read_only(IMPOSSIBLE);
            depot.wake_all();
        } else {
            depot.desk.tell(|work| work.scrubbing.left = 0);
        }
        crowd.run();
        assert_eq!(crowd.left(), 0);
    }
}
