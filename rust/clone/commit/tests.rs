// SPDX-License-Identifier: GPL-2.0

use super::*;
use core::future::Future;
use core::pin::Pin;
use core::task::Context;
use core::task::Poll;
use std::boxed::Box;
use std::sync;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Wake;
use std::vec::Vec;

fn changed_map() -> RegionMap {
    let map = RegionMap::new(64).expect("memory");
    map.set_hydrated(&(0..1));
    map
}

/// A queue, and a committer that is in charge of it.
fn queue() -> (CommitQueue, Committer) {
    let queue = CommitQueue::new();
    let committer = queue.committer();
    queue.appoint(&committer);
    (queue, committer)
}

/// Whether a task was woken since it was last polled.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: sync::Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A task, polled by hand.
struct Task<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    woken: sync::Arc<Woken>,
    result: Option<T>,
    polls: u64,
}

impl<'a, T> Task<'a, T> {
    fn new(future: impl Future<Output = T> + 'a) -> Self {
        Self {
            future: Box::pin(future),
            woken: sync::Arc::new(Woken(AtomicBool::new(true))),
            result: None,
            polls: 0,
        }
    }

    /// Polls it if it was woken; returns its result once.
    fn run(&mut self) -> Option<T> {
        if !self.woken.0.swap(false, Ordering::Relaxed) || self.result.is_some() {
            return None;
        }
        self.polls += 1;
        let waker = self.woken.clone().into();
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }
}

/// Has `count` flushes wait for one commit; returns how often they were polled in all.
fn polls_of(count: usize) -> u64 {
    let map = changed_map();
    let (queue, committer) = queue();
    let mut flushes: Vec<_> = (0..count)
        .map(|_| Task::new(queue.cover(&map, &committer)))
        .collect();
    for flush in &mut flushes {
        assert!(flush.run().is_none());
    }
    // None has been woken by those that came after it, nor by a tick.
    queue.request(&map, &committer);
    assert!(flushes.iter_mut().all(|flush| flush.run().is_none()));
    assert_eq!(Task::new(queue.next(&committer)).run(), Some(true));
    assert!(map.take_changed());
    queue.end(Ok(()));
    for flush in &mut flushes {
        assert_eq!(flush.run(), Some(Ok(Covered::ByCommit)));
    }
    flushes.iter().map(|flush| flush.polls).sum()
}

#[test]
fn who_waits_is_polled_once_when_it_comes_and_once_when_it_may_go() {
    for count in [10, 1_000, 50_000] {
        assert_eq!(polls_of(count), 2 * count as u64, "{count} flushes");
    }
}

#[test]
fn who_comes_during_a_commit_waits_for_the_next_if_something_changed() {
    let map = changed_map();
    let (queue, committer) = queue();
    let mut first = Task::new(queue.cover(&map, &committer));
    assert!(first.run().is_none());
    let mut next = Task::new(queue.next(&committer));
    assert_eq!(next.run(), Some(true));
    assert!(map.take_changed());
    let mut same = Task::new(queue.cover(&map, &committer));
    assert!(same.run().is_none());
    map.set_hydrated(&(1..2));
    let mut later = Task::new(queue.cover(&map, &committer));
    assert!(later.run().is_none());
    queue.end(Ok(()));
    assert_eq!(first.run(), Some(Ok(Covered::ByCommit)));
    // Its data was there before the commit; whether that flushed it, nobody knows.
    assert_eq!(same.run(), Some(Ok(Covered::Already)));
    drop((first, same));
    assert!(later.run().is_none());
    assert_eq!(Task::new(queue.next(&committer)).run(), Some(true));
    assert!(map.take_changed());
    queue.end(Err(EIO));
    assert_eq!(later.run(), Some(Err(EIO)));
}

#[test]
fn a_table_that_is_not_active_neither_asks_nor_commits() {
    let map = changed_map();
    let (queue, committer) = queue();
    let other = queue.committer();
    assert_eq!(Task::new(queue.cover(&map, &other)).run(), Some(Err(EIO)));
    queue.request(&map, &other);
    assert!(Task::new(queue.next(&committer)).run().is_none());
    let mut flush = Task::new(queue.cover(&map, &committer));
    assert!(flush.run().is_none());
    assert!(Task::new(queue.next(&other)).run().is_none());
    assert_eq!(Task::new(queue.next(&committer)).run(), Some(true));
    // The end of the other is not ours.
    other.stop();
    assert_eq!(Task::new(queue.next(&other)).run(), Some(false));
    assert!(map.take_changed());
    queue.end(Ok(()));
    assert_eq!(flush.run(), Some(Ok(Covered::ByCommit)));
}

#[test]
fn who_is_relieved_has_made_all_that_was_wanted() {
    let map = changed_map();
    let (queue, committer) = queue();
    let other = queue.committer();
    let mut flush = Task::new(queue.cover(&map, &committer));
    let mut relief = Task::new(queue.relieve(&committer));
    assert!(flush.run().is_none());
    assert!(relief.run().is_none());
    assert_eq!(Task::new(queue.next(&committer)).run(), Some(true));
    assert!(map.take_changed());
    // A status is asked for meanwhile.
    map.set_hydrated(&(1..2));
    let mut status = Task::new(queue.cover(&map, &committer));
    assert!(status.run().is_none());
    queue.end(Ok(()));
    assert_eq!(flush.run(), Some(Ok(Covered::ByCommit)));
    drop(flush);
    assert!(relief.run().is_none());
    assert_eq!(Task::new(queue.next(&committer)).run(), Some(true));
    assert!(map.take_changed());
    queue.end(Err(EIO));
    assert_eq!(status.run(), Some(Err(EIO)));
    drop(status);
    assert_eq!(relief.run(), Some(()));
    assert_eq!(
        Task::new(queue.cover(&map, &committer)).run(),
        Some(Err(EIO))
    );
    // What failed under one may go well under the next.
    queue.appoint(&other);
    map.set_hydrated(&(2..3));
    let mut flush = Task::new(queue.cover(&map, &other));
    assert!(flush.run().is_none());
    assert_eq!(Task::new(queue.next(&other)).run(), Some(true));
    queue.end(Ok(()));
    assert_eq!(flush.run(), Some(Ok(Covered::ByCommit)));
}
