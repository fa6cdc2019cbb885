// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::fixture::now;
use crate::fixture::Hand;
use crate::world::Data;
use kernel::prelude::Result;
use runtime::oneshot::Oneshot;
use runtime::task::yield_now;
use std::collections::VecDeque;
use std::pin::pin;
use std::vec::Vec;

/// A bio that is only looked at from outside.
struct Paper(Operation, u32);

struct NoData;

impl Data for NoData {
    fn is_zero(&self, _: usize) -> bool {
        true
    }

    fn copy(&mut self, _: &mut [u8]) {}

    fn skip(&mut self, _: usize) {}
}

impl Bio for Paper {
    fn operation(&self) -> Operation {
        self.0
    }

    fn is_fua(&self) -> bool {
        false
    }

    fn sector(&self) -> u64 {
        0
    }

    fn sectors(&self) -> u32 {
        self.1
    }

    fn data(&self) -> impl Data + '_ {
        NoData
    }

    fn complete(self, _: Result) {}
}

#[derive(Default)]
struct Papers(VecDeque<Paper>);

impl BioList for Papers {
    type Bio = Paper;

    fn push(&mut self, bio: Paper) {
        self.0.push_back(bio);
    }

    fn first(&self) -> Option<&Paper> {
        self.0.front()
    }

    fn pop(&mut self) -> Option<Paper> {
        self.0.pop_front()
    }
}

const BATCH: u32 = 256;

fn inbox() -> Inbox<Papers> {
    Inbox::new(NonZeroU64::new(BATCH.into()).unwrap()).unwrap()
}

fn is_write(work: Option<Work<Paper>>) -> bool {
    matches!(work, Some(Work::Write(_)))
}

#[test]
fn a_burst_of_small_bios_wakes_one_worker() {
    let inbox = inbox();
    let mut workers = [(); 3].map(|()| Hand::waiting(inbox.next(Kind::All)));
    for _ in 0..20 {
        inbox.push(Paper(Operation::Write, 8));
    }
    assert_eq!(inbox.monitor.with(|desk, _| desk.coming), 1);
    assert!(is_write(workers[0].poll()));
    let mut taken = 0;
    while inbox.next_write(|_| true).is_some() {
        taken += 1;
    }
    assert_eq!(taken, 19);
    assert!(workers[1].poll().is_none() && workers[2].poll().is_none());
}

#[test]
fn more_than_a_batch_wakes_more() {
    let inbox = inbox();
    let mut workers = [(); 3].map(|()| Hand::waiting(inbox.next(Kind::All)));
    for _ in 0..2 {
        inbox.push(Paper(Operation::Write, 8 * BATCH));
    }
    assert_eq!(inbox.monitor.with(|desk, _| desk.coming), 2);
    assert!(is_write(workers[0].poll()));
    assert!(is_write(workers[1].poll()));
    assert!(workers[2].poll().is_none());
    assert_eq!(
        inbox.monitor.with(|desk, _| (desk.coming, desk.blocks)),
        (0, 0)
    );
}

/// How many workers were called, and how many run.
fn workers(inbox: &Inbox<Papers>) -> (usize, usize) {
    inbox.monitor.with(|desk, _| (desk.coming, desk.running))
}

#[test]
fn little_is_left_for_a_worker_that_runs() {
    let inbox = inbox();
    let _idle = Hand::waiting(inbox.next(Kind::All));
    let work = pin!(async {
        inbox.push(Paper(Operation::Write, 8 * (BATCH / 8)));
        assert_eq!(workers(&inbox), (0, 1));
        // This is much.
        inbox.push(Paper(Operation::Write, 8 * (BATCH / 2)));
        assert_eq!(workers(&inbox), (1, 1));
        yield_now().await;
        assert_eq!(workers(&inbox), (1, 1));
    });
    let mut work = Hand::waiting(inbox.at_work(work));
    assert_eq!(workers(&inbox), (1, 0));
    assert!(work.poll().is_some());
    assert_eq!(workers(&inbox), (1, 0));
}

#[test]
fn a_worker_that_waits_calls_another() {
    let inbox = inbox();
    let mut idle = Hand::waiting(inbox.next(Kind::All));
    let work = pin!(async {
        inbox.push(Paper(Operation::Write, 8));
        assert_eq!(workers(&inbox), (0, 1));
        yield_now().await;
    });
    let mut work = Hand::waiting(inbox.at_work(work));
    assert_eq!(workers(&inbox), (1, 0));
    assert!(is_write(idle.poll()));
    assert!(work.poll().is_some());
}

#[test]
fn some_workers_leave_discards_alone() {
    let inbox = inbox();
    let mut writer = Hand::waiting(inbox.next(Kind::Writer));
    inbox.push(Paper(Operation::Discard, 1 << 20));
    assert!(writer.poll().is_none());
    assert!(matches!(now(inbox.next(Kind::All)), Work::Discard(_)));
    inbox.push(Paper(Operation::Discard, 8));
    inbox.push(Paper(Operation::Write, 8));
    assert!(is_write(writer.poll()));
}

/// Has a worker come for work `times` times, while a write waits each time. Returns which of those
/// times it got a discard.
fn discards_beside_writes(inbox: &Inbox<Papers>, kind: Kind, times: usize) -> Vec<usize> {
    let takes_discard = |_: &usize| {
        inbox.push(Paper(Operation::Write, 8 * BATCH));
        matches!(now(inbox.next(kind)), Work::Discard(_))
    };
    (0..times).filter(takes_discard).collect()
}

#[test]
fn a_discard_does_not_starve_while_writes_wait() {
    let inbox = inbox();
    inbox.push(Paper(Operation::Discard, 8));
    let after = WRITES_BEFORE_DISCARD as usize;
    assert_eq!(discards_beside_writes(&inbox, Kind::All, 100), [after]);
}

#[test]
fn writes_do_not_starve_while_discards_wait() {
    let inbox = inbox();
    for _ in 0..100 {
        inbox.push(Paper(Operation::Discard, 8));
    }
    let turn = WRITES_BEFORE_DISCARD as usize + 1;
    let expected: Vec<_> = (1..=10).map(|n| n * turn - 1).collect();
    assert_eq!(
        discards_beside_writes(&inbox, Kind::All, 10 * turn),
        expected
    );
    // Some workers are for writes only.
    assert_eq!(discards_beside_writes(&inbox, Kind::Writer, 100), []);
}

#[test]
fn what_went_before_other_discards_does_not_count() {
    let inbox = inbox();
    for _ in 0..100 {
        inbox.push(Paper(Operation::Write, 8 * BATCH));
        assert!(is_write(Some(now(inbox.next(Kind::All)))));
    }
    inbox.push(Paper(Operation::Discard, 8));
    let after = WRITES_BEFORE_DISCARD as usize;
    assert_eq!(discards_beside_writes(&inbox, Kind::All, 100), [after]);
}

#[test]
fn the_end_comes_after_the_work() {
    let inbox = inbox();
    let mut idle = Hand::waiting(inbox.next(Kind::All));
    inbox.push(Paper(Operation::Write, 8));
    inbox.stop();
    assert!(is_write(idle.poll()));
    assert!(matches!(now(inbox.next(Kind::All)), Work::Stop));
}

/// Returns whether a small worker was called and has not come yet.
fn has_called(inbox: &Inbox<Papers>) -> bool {
    inbox
        .monitor
        .with(|_, workers| workers.first_of(CALLED).is_some())
}

/// A small worker is called when no other one is idle, for what it has room for.
#[test]
fn small_workers_come_when_the_others_are_busy() {
    let inbox = inbox();
    let mut small = [(); 2].map(|()| Hand::waiting(inbox.next(Kind::Small(4))));
    let mut large = Hand::waiting(inbox.next(Kind::Writer));
    inbox.push(Paper(Operation::Write, 8));
    assert!(!has_called(&inbox));
    assert!(is_write(large.poll()));
    // Now nobody else is there.
    inbox.push(Paper(Operation::Write, 32));
    inbox.push(Paper(Operation::Write, 16));
    assert!(has_called(&inbox));
    assert!(is_write(small[0].poll()));
    assert!(!has_called(&inbox));
    // A second one is called for what the first leaves.
    inbox.leave();
    assert!(has_called(&inbox));
    assert!(is_write(small[1].poll()));
}

/// Small workers are for a storage that takes its time. While the journal has no room they would only
/// cut what waits into pieces.
#[test]
fn small_workers_do_not_come_while_the_journal_has_no_room() {
    let inbox = inbox();
    let mut small = Hand::waiting(inbox.next(Kind::Small(4)));
    let room = Oneshot::new();
    let mut large = Hand::waiting(inbox.throttled(room.recv()));
    inbox.push(Paper(Operation::Write, 8));
    assert!(!has_called(&inbox));
    room.send(());
    assert!(large.poll().is_some());
    assert!(has_called(&inbox));
    assert!(is_write(small.poll()));
}

/// A write that was held up goes before those that came after it.
#[test]
fn who_was_held_up_is_the_next() {
    let inbox = inbox();
    inbox.push(Paper(Operation::Write, 8));
    inbox.push_claimed(Paper(Operation::Write, 16));
    let claimed = |write: Option<Write<Paper>>| write.map(|write| write.is_claimed);
    assert_eq!(claimed(inbox.next_write(|_| true)), Some(true));
    assert_eq!(claimed(inbox.next_write(|_| true)), Some(false));
    assert!(inbox.is_empty());
}

/// What is too large for a small worker waits for another one, whoever was called for what came
/// before.
#[test]
fn small_workers_leave_what_does_not_fit() {
    let inbox = inbox();
    let mut small = Hand::waiting(inbox.next(Kind::Small(4)));
    inbox.push(Paper(Operation::Write, 40));
    inbox.push(Paper(Operation::Discard, 8));
    assert!(small.poll().is_none());
    assert!(is_write(Some(now(inbox.next(Kind::Writer)))));
    // It is called, and comes when there is something else; a large one has become idle meanwhile.
    inbox.push(Paper(Operation::Write, 8));
    assert!(is_write(Some(now(inbox.next(Kind::Writer)))));
    let mut large = Hand::waiting(inbox.next(Kind::Writer));
    inbox.push(Paper(Operation::Write, 40));
    assert!(small.poll().is_none());
    assert!(is_write(large.poll()));
}
