// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::data_path::locks::Access;
use crate::data_path::locks::LbnLocks;
use crate::fixture::now;
use crate::fixture::Hand;
use std::vec;
use std::vec::Vec;

struct Lot {
    packer: Packer,
    locks: LbnLocks,
}

impl Lot {
    fn new(tasks: usize) -> Self {
        Self {
            packer: Packer::new(tasks).unwrap(),
            locks: LbnLocks::new().unwrap(),
        }
    }

    /// Parks a fragment of so many bytes; returns false if there is no room.
    fn park(&self, lbn: Lbn, size: usize, now_ms: u64) -> bool {
        let claim = self.locks.try_token(lbn..lbn + 1, Access::Exclusive);
        let parked = Parked {
            lbn,
            claim: claim.unwrap(),
            place: 1000 + lbn,
            name: None,
        };
        let refused = self.packer.park(&vec![lbn as u8; size], parked, now_ms);
        refused
            .map_err(|parked| self.locks.release(parked.claim))
            .is_ok()
    }

    /// Writes bins that are due, and returns the blocks that were in each.
    fn write(&self) -> Vec<Vec<Lbn>> {
        let bins = now(self.packer.next()).unwrap();
        let lbns = |bin: &Bin| bin.parked.iter().map(|parked| parked.lbn).collect();
        let found = bins.iter().flatten().map(|bin| lbns(bin)).collect();
        self.packer.written(bins);
        found
    }
}

#[test]
fn a_bin_is_due_when_it_is_full() {
    let lot = Lot::new(1);
    let mut task = Hand::waiting(lot.packer.next());
    for lbn in 0..13 {
        assert!(lot.park(lbn, 100, 0));
        assert!(task.poll().is_none());
    }
    assert!(lot.park(13, 100, 0));
    let bins = task.poll().unwrap().unwrap();
    assert!(bins[1].is_none());
    let bin = bins[0].as_ref().unwrap();
    assert_eq!((bin.fragments(), bin.parked.len()), (14, 14));
    assert_eq!(
        compressed::fragment(bin.page().unwrap(), 7).unwrap(),
        [7; 100]
    );
    assert!(!lot.packer.is_empty());
    lot.packer.written(bins);
    assert!(lot.packer.is_empty());
    // So is one with hardly any room.
    assert!(lot.park(20, 4040, 0));
    assert_eq!(lot.write(), [[20]]);
}

#[test]
fn a_fragment_goes_where_it_leaves_the_least_room() {
    let lot = Lot::new(1);
    assert!(lot.park(0, 3000, 0) && lot.park(1, 3500, 0) && lot.park(2, 500, 0));
    assert!(lot.park(3, 1000, 0));
    lot.packer.hurry_all();
    let mut written = lot.write();
    written.sort();
    assert_eq!(written, [[0, 3], [1, 2]]);
}

#[test]
fn what_is_parked_can_be_read() {
    let lot = Lot::new(1);
    assert!(lot.park(7, 300, 0) && lot.park(9, 500, 0));
    let mut into = [0; BLOCK_SIZE];
    assert_eq!(lot.packer.fragment(9, &mut into), Some(500));
    assert_eq!(into[..500], [9; 500]);
    assert_eq!(lot.packer.fragment(8, &mut into), None);
    lot.packer.hurry_all();
    assert_eq!(lot.packer.fragment(7, &mut into), Some(300));
    lot.write();
    assert_eq!(lot.packer.fragment(7, &mut into), None);
}

#[test]
fn who_waits_for_a_block_has_its_bin_written_and_no_other() {
    let lot = Lot::new(1);
    assert!(lot.park(0, 3000, 0) && lot.park(1, 3000, 0));
    lot.packer.hurry(&(5..9));
    let mut task = Hand::waiting(lot.packer.next());
    assert!(task.poll().is_none());
    drop(task);
    lot.packer.hurry(&(1..9));
    assert_eq!(lot.write(), [[1]]);
    assert_eq!(lot.packer.fragments(), 1);
}

#[test]
fn a_flush_waits_for_what_was_parked_before_it() {
    let lot = Lot::new(2);
    now(lot.packer.write_all());
    assert!(lot.park(0, 3000, 0) && lot.park(1, 3000, 0) && lot.park(2, 3000, 0));
    let mut flush = Hand::waiting(lot.packer.write_all());
    assert!(flush.poll().is_none());
    let (first, second) = (now(lot.packer.next()), now(lot.packer.next()));
    // Of what comes later it knows nothing.
    assert!(lot.park(3, 3000, 0));
    lot.packer.written(second.unwrap());
    assert!(flush.poll().is_none());
    lot.packer.written(first.unwrap());
    assert!(flush.poll().is_some());
    assert_eq!(lot.packer.fragments(), 1);
}

#[test]
fn the_timer_has_the_oldest_written() {
    let lot = Lot::new(1);
    let mut timer = Hand::waiting(lot.packer.deadline_ms());
    assert!(timer.poll().is_none());
    assert!(lot.park(0, 3000, 100));
    assert_eq!(timer.poll(), Some(Some(105)));
    assert!(lot.park(1, 3000, 102) && lot.park(2, 100, 103));
    lot.packer.tick(104);
    assert!(Hand::waiting(lot.packer.next()).poll().is_none());
    lot.packer.tick(105);
    assert_eq!(lot.write().len(), 1);
    assert_eq!(now(lot.packer.deadline_ms()), Some(107));
}

#[test]
fn there_are_so_many_bins_and_no_more() {
    let lot = Lot::new(1);
    let most = OPEN + 2 * TOGETHER;
    for lbn in 0..most as u64 {
        assert!(lot.park(lbn, 3000, 0));
    }
    assert!(!lot.park(900, 3000, 0));
    assert!(lot.park(901, 1000, 0), "one that is open has room for it");
    let parked = lot.write().concat().len();
    assert!(lot.park(900, 3000, 0));
    assert_eq!(lot.packer.fragments(), most + 2 - parked);
}

#[test]
fn tasks_end_when_all_is_written() {
    let lot = Lot::new(1);
    let mut timer = Hand::waiting(lot.packer.deadline_ms());
    assert!(lot.park(0, 3000, 0));
    lot.packer.stop();
    assert_eq!(timer.poll(), Some(None));
    assert_eq!(lot.write(), [[0]]);
    assert!(now(lot.packer.next()).is_none());
}
