// SPDX-License-Identifier: GPL-2.0

use super::*;
use core::future::Future;
use core::task::Context;
use core::task::Poll;
use core::task::Waker;
use std::boxed::Box;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::task::Wake;
use std::vec::Vec;

const LARGE: Sectors = 1024;

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A worker or a copy, which is polled by hand.
struct Hand<'d> {
    place: Pin<Box<Seated<'d>>>,
    bell: Arc<Bell>,
}

impl<'d> Hand<'d> {
    fn new(place: Seated<'d>) -> Self {
        Self {
            place: Box::pin(place),
            bell: Arc::default(),
        }
    }

    /// Returns an idle worker.
    fn idle(desk: &'d Desk, capacity: Sectors) -> Self {
        let worker = Self::new(desk.worker(capacity));
        assert!(worker.work().is_none());
        worker
    }

    /// Returns a copy that a user waits for.
    fn copy(desk: &'d Desk, sectors: SectorRange) -> Self {
        let copy = Self::new(desk.urgent_copy(sectors));
        enlist(copy.place.as_ref());
        assert!(copy.done().is_none());
        copy
    }

    fn poll<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let waker = Waker::from(self.bell.clone());
        match pin!(future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn work(&self) -> Option<Work> {
        self.poll(work(self.place.as_ref()))
    }

    /// Has a worker look for a chunk.
    fn chunk(&self) -> Option<Chunk> {
        match self.work() {
            Some(Work::Chunk(chunk)) => Some(chunk),
            Some(_) => panic!("something else"),
            None => None,
        }
    }

    fn done(&self) -> Option<Result> {
        self.poll(done(self.place.as_ref()))
    }

    fn was_woken(&self) -> bool {
        self.bell.0.swap(false, Ordering::SeqCst)
    }
}

fn desk() -> Desk {
    let hydration = Hydration::new(8, true, Default::default());
    Desk::new(hydration, LARGE).expect("memory")
}

fn is_stop(work: Option<Work>) -> bool {
    matches!(work, Some(Work::Stop))
}

#[test]
fn copies_are_taken_in_order_of_arrival() {
    let desk = desk();
    let ranges = [0..8, 100..200, 8..16, 300..2000, 16..24];
    let _copies = ranges.clone().map(|range| Hand::copy(&desk, range));
    let (large, small) = (desk.worker(LARGE), desk.worker(8));
    let (large, small) = (Hand::new(large), Hand::new(small));
    let take = |worker: &Hand<'_>| worker.chunk().map(|chunk| chunk.sectors);
    assert_eq!(take(&large), Some(0..8));
    // A small buffer holds small ones only.
    assert_eq!(take(&small), Some(8..16));
    assert_eq!(take(&large), Some(100..200));
    assert_eq!(take(&large), Some(300..1324));
    assert_eq!(take(&large), Some(1324..2000));
    assert_eq!(take(&large), Some(16..24));
    assert_eq!((take(&large), take(&small)), (None, None));
}

#[test]
fn a_copy_is_done_when_its_last_chunk_is() {
    let desk = desk();
    let copy = Hand::copy(&desk, 0..3000);
    let workers = [(); 3].map(|()| Hand::new(desk.worker(LARGE)));
    let chunks: Vec<_> = workers.iter().filter_map(Hand::chunk).collect();
    assert_eq!(chunks.len(), 3);
    desk.report(&chunks[1], Ok(()));
    desk.report(&chunks[2], Ok(()));
    assert!(!copy.was_woken() && copy.done().is_none());
    desk.report(&chunks[0], Ok(()));
    assert!(copy.was_woken());
    assert_eq!(copy.done(), Some(Ok(())));
}

#[test]
fn after_an_error_no_more_is_copied() {
    let desk = desk();
    let copy = Hand::copy(&desk, 0..3000);
    let (one, other) = (desk.worker(LARGE), desk.worker(LARGE));
    let (one, other) = (Hand::new(one), Hand::new(other));
    let chunks = [one.chunk(), other.chunk()].map(|chunk| chunk.expect("a chunk"));
    desk.report(&chunks[0], Err(ENOSPC));
    assert!(one.chunk().is_none());
    // What is under way is waited for.
    assert!(copy.done().is_none());
    desk.report(&chunks[1], Ok(()));
    assert_eq!(copy.done(), Some(Err(EIO)));
}

#[test]
fn a_copy_wakes_one_idle_worker_and_a_large_one_as_many_as_it_needs() {
    let desk = desk();
    let small = [(); 2].map(|()| Hand::idle(&desk, 8));
    let large = [(); 3].map(|()| Hand::idle(&desk, LARGE));
    let _first = Hand::copy(&desk, 0..8);
    let woken = |workers: &[Hand<'_>]| workers.iter().map(Hand::was_woken).collect::<Vec<_>>();
    assert_eq!(woken(&small), [true, false]);
    assert_eq!(woken(&large), [false; 3]);
    let _second = Hand::copy(&desk, 1000..1000 + 2 * LARGE);
    assert_eq!(woken(&large), [true, false, false]);
    // Who takes a chunk wakes the next, as long as there are chunks.
    assert_eq!(large[0].chunk().map(|chunk| chunk.len()), Some(8));
    assert_eq!(woken(&large), [false, true, false]);
    assert_eq!(large[1].chunk().map(|chunk| chunk.len()), Some(LARGE));
    assert_eq!(woken(&large), [false, false, true]);
    assert_eq!(large[2].chunk().map(|chunk| chunk.len()), Some(LARGE));
    assert!(small[0].chunk().is_none());
}

#[test]
fn more_copies_than_seats_take_turns() {
    let desk = desk();
    let copies: Vec<_> = (0..200)
        .map(|index| Hand::copy(&desk, 8 * index..8 * index + 8))
        .collect();
    let worker = Hand::new(desk.worker(8));
    let mut chunks: Vec<_> = core::iter::from_fn(|| worker.chunk()).collect();
    assert_eq!(chunks.len(), SEAT_COUNT as usize);
    let mut taken = chunks.len();
    while let Some(chunk) = chunks.pop() {
        desk.report(&chunk, Ok(()));
        if let Some(chunk) = worker.chunk() {
            taken += 1;
            chunks.push(chunk);
        }
    }
    assert_eq!(taken, 200);
    assert!(copies.iter().all(|copy| copy.done() == Some(Ok(()))));
}

#[test]
fn a_copy_that_goes_away_gives_its_seat_up() {
    let desk = desk();
    let worker = Hand::new(desk.worker(8));
    let copy = Hand::copy(&desk, 0..8);
    let old = worker.chunk().expect("a chunk");
    drop(copy);
    let copy = Hand::copy(&desk, 8..16);
    let new = worker.chunk().expect("a chunk");
    assert_eq!(old.seat, new.seat);
    // What comes back for the old one is not the new one's.
    desk.report(&old, Err(EIO));
    assert!(copy.done().is_none());
    desk.report(&new, Ok(()));
    assert_eq!(copy.done(), Some(Ok(())));
}

#[test]
fn hydration_wakes_the_workers_that_it_needs_one_by_one() {
    let desk = desk();
    let small = Hand::idle(&desk, 8);
    let large = [(); 3].map(|()| Hand::idle(&desk, LARGE));
    desk.tune(Hydration::run);
    // The window has room for two copies.
    assert!(large[0].was_woken() && !large[1].was_woken());
    assert!(matches!(large[0].work(), Some(Work::Hydrate(_))));
    assert!(large[1].was_woken());
    assert!(matches!(large[1].work(), Some(Work::Hydrate(_))));
    assert!(!large[2].was_woken() && !small.was_woken());
    // A small copy is for a small buffer.
    desk.end_permit(128, |hydration| hydration.tuning.batch_size = Some(1));
    assert!(small.was_woken() && !large[2].was_woken());
}

#[test]
fn whoever_ends_has_the_next_one_end() {
    let desk = desk();
    let workers = [8, LARGE, 8, LARGE].map(|capacity| Hand::idle(&desk, capacity));
    let copy = Hand::copy(&desk, 0..8);
    desk.stop();
    let mut ended = 0;
    while let Some(worker) = workers.iter().find(|worker| worker.was_woken()) {
        match worker.work() {
            // A copy that is left is made before.
            Some(Work::Chunk(chunk)) => {
                desk.report(&chunk, Ok(()));
                assert!(is_stop(worker.work()));
            }
            work => assert!(is_stop(work)),
        }
        ended += 1;
    }
    assert_eq!(ended, 4);
    assert_eq!(copy.done(), Some(Ok(())));
}
