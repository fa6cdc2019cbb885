// SPDX-License-Identifier: GPL-2.0

//! The region map of a clone against setters, readers and the committer.

#![cfg(loom)]

use clone::commit::CommitQueue;
use clone::commit::Committer;
use clone::region_map::RegionMap;
use interleavings::block_on;
use interleavings::explore;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use runtime::sync::AtomicU64;

/// A clone of two regions, as far as its bitmap goes.
struct Volume {
    map: RegionMap,
    queue: CommitQueue,
    committer: Committer,
    /// The data of region 0 on the destination.
    data: UnsafeCell<u64>,
    /// The bitmap on disk; without any order of its own.
    disk: AtomicU64,
}

impl Volume {
    fn new() -> Arc<Self> {
        let queue = CommitQueue::new();
        let committer = queue.committer();
        queue.appoint(&committer);
        Arc::new(Self {
            map: RegionMap::new(2).unwrap(),
            queue,
            committer,
            data: UnsafeCell::new(0),
            disk: AtomicU64::new(0),
        })
    }

    /// Hydrates region 0.
    fn hydrate(&self) {
        // SAFETY: That nobody reads it before the bit is set is what is being tested.
        self.data.with_mut(|data| unsafe { *data = 7 });
        self.map.set_hydrated(&(0..1));
    }

    /// Reads region 0 from where `map()` sends it to.
    fn read(&self) {
        if self.map.is_hydrated(0) {
            // SAFETY: As above.
            assert_eq!(self.data.with(|data| unsafe { *data }), 7);
        }
    }

    fn commit(&self) {
        if self.map.take_changed() {
            while self.map.take_dirty_block(0).is_some() {
                let mut words = [0];
                self.map.copy_words(0, &mut words);
                self.disk.store_relaxed(words[0]);
            }
        }
    }
}

#[test]
fn who_sees_a_bit_sees_the_data() {
    explore(3, || {
        let volume = Volume::new();
        let other = volume.clone();
        let other = thread::spawn(move || other.hydrate());
        volume.read();
        other.join().unwrap();
        volume.read();
    });
}

#[test]
fn a_run_has_a_region_at_least() {
    explore(3, || {
        let volume = Volume::new();
        let other = volume.clone();
        let other = thread::spawn(move || other.hydrate());
        let run = volume.map.run(&(0..2));
        assert!(run.end > 0, "nobody could go on behind {run:?}");
        other.join().unwrap();
    });
}

#[test]
fn a_bit_is_on_disk_or_announced() {
    explore(3, || {
        let volume = Volume::new();
        let setters = [0..1, 1..2].map(|regions| {
            let volume = volume.clone();
            thread::spawn(move || volume.map.set_hydrated(&regions))
        });
        volume.commit();
        setters
            .into_iter()
            .for_each(|setter| setter.join().unwrap());
        if volume.map.is_changed() {
            volume.commit();
        }
        assert_eq!(volume.disk.load_relaxed(), 3);
        assert_eq!(volume.map.hydrated(), 2);
    });
}

#[test]
fn a_flush_ends_when_what_it_covers_is_on_disk() {
    explore(2, || {
        let volume = Volume::new();
        let committer = volume.clone();
        let committer = thread::spawn(move || {
            while block_on(committer.queue.next(&committer.committer)) {
                committer.commit();
                committer.queue.end(Ok(()));
            }
        });
        let other = volume.clone();
        let other = thread::spawn(move || {
            other.map.set_hydrated(&(1..2));
            other.queue.request(&other.map, &other.committer);
        });
        volume.map.set_hydrated(&(0..1));
        if !volume.queue.is_idle(&volume.map) {
            block_on(volume.queue.cover(&volume.map, &volume.committer)).unwrap();
        }
        assert_eq!(volume.disk.load_relaxed() & 1, 1, "a flush came too early");
        other.join().unwrap();
        volume.committer.stop();
        committer.join().unwrap();
        assert!(volume.queue.is_idle(&volume.map));
        assert_eq!(volume.disk.load_relaxed(), 3);
    });
}

#[test]
fn a_flush_does_not_pass_a_commit_that_fails() {
    explore(3, || {
        let volume = Volume::new();
        volume.map.set_hydrated(&(0..1));
        volume.queue.request(&volume.map, &volume.committer);
        let committer = volume.clone();
        let committer = thread::spawn(move || {
            assert!(block_on(committer.queue.next(&committer.committer)));
            assert!(committer.map.take_changed());
            committer.map.set_all_dirty();
            committer.queue.end(Err(kernel::error::code::EIO));
        });
        assert!(!volume.queue.is_idle(&volume.map), "nothing is on disk");
        committer.join().unwrap();
    });
}

#[test]
fn a_write_to_a_region_whose_bit_was_seen_is_not_flushed_before_the_bit() {
    explore(3, || {
        let volume = Volume::new();
        let [setter, committer] = [volume.clone(), volume.clone()];
        let setter = thread::spawn(move || setter.map.set_hydrated(&(0..1)));
        let committer = thread::spawn(move || committer.commit());
        // The write goes straight to the destination; so does the flush that follows, if nothing
        // awaits a commit.
        let flushed = volume.map.is_hydrated(0) && volume.queue.is_idle(&volume.map);
        committer.join().unwrap();
        if flushed {
            assert_eq!(volume.disk.load_relaxed(), 1, "the flush came too early");
        }
        setter.join().unwrap();
    });
}

#[test]
fn what_is_complete_and_unchanged_is_on_disk() {
    explore(3, || {
        let volume = Volume::new();
        let setters = [0..1, 1..2].map(|regions| {
            let volume = volume.clone();
            thread::spawn(move || volume.map.set_hydrated(&regions))
        });
        volume.commit();
        // What the committer looks at before it says that all is done.
        if volume.map.is_complete() && !volume.map.is_changed() {
            assert_eq!(volume.disk.load_relaxed(), 3, "complete, and not committed");
        }
        setters
            .into_iter()
            .for_each(|setter| setter.join().unwrap());
    });
}
