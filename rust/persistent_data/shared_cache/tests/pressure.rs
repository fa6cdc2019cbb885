// SPDX-License-Identifier: GPL-2.0

//! Little room, no memory, devices that fail, and nothing that may be written any more.

use super::*;
use core::future::poll_fn;
use core::pin::pin;
use core::pin::Pin;
use core::task::Context;
use core::task::Poll;
use core::task::Waker;
use kernel::alloc::fail_after;
use kernel::alloc::set_short;
use kernel::alloc::without_waiting;
use runtime::steps;
use runtime::task::yield_now;
use sim::executor::Executor;
use sim::executor::Outcome;
use sim::fault::Fault;
use sim::fault::Kind;
use std::boxed::Box;

/// Runs `task` alone, with a writer.
fn run<'m, T: 'm>(machine: &'m Machine, task: impl Future<Output = T> + 'm) -> T {
    let mut executor = Executor::new(&machine.world);
    executor.spawn_daemon("writer", machine.writer(8));
    let task = executor.spawn("task", task);
    match executor.run_task(&task) {
        Ok(result) => result,
        Err(outcome) => panic!("{outcome:?}"),
    }
}

/// Changes a counter of each of `blocks`.
async fn change(machine: &Machine, blocks: impl IntoIterator<Item = u64>) {
    for block in blocks {
        let pinned = machine.cache.pin(block, residence(block)).await.unwrap();
        let change = machine.journal.add(block, 0);
        pinned.update(change, |page| put(page, slot_at(0), change.newest));
    }
}

async fn save(machine: &Machine) -> Result<(), Error> {
    let mut writer = machine.cache.writer(8).unwrap();
    machine.cache.write_all(&mut writer, &machine.journal).await
}

fn counters(machine: &Machine) -> Counters {
    machine.cache.counters(Residence::Evictable)
}

#[test]
fn a_pinned_block_stays() {
    let machine = &machine(1, 2, Flaw::None);
    run(machine, async {
        let pinned = machine.cache.pin(0, Residence::Evictable).await.unwrap();
        for block in 1..KEPT {
            drop(machine.cache.pin(block, Residence::Evictable).await);
        }
        assert!(machine.cache.try_read(0, |_| ()).is_some());
        assert!(machine.cache.try_read(1, |_| ()).is_none());
        drop(pinned);
    });
    let counters = counters(machine);
    assert_eq!(
        (counters.fetch_required, counters.discard_required),
        (2, 18)
    );
}

#[test]
fn kept_blocks_are_not_counted() {
    let machine = &machine(1, 1, Flaw::None);
    run(machine, async {
        change(machine, 0..BLOCKS).await;
        for block in KEPT..BLOCKS {
            assert!(machine.cache.try_read(block, |_| ()).is_some());
        }
    });
    let kept = machine.cache.counters(Residence::Kept);
    assert_eq!(kept.clean_pages + kept.dirty_pages, BLOCKS - KEPT);
    assert!(counters(machine).dirty_pages <= 1);
}

#[test]
fn one_block_is_read_once() {
    let machine = &machine(3, 4, Flaw::None);
    let mut executor = Executor::new(&machine.world);
    for _ in 0..10 {
        executor.spawn("reader", async {
            let pinned = machine.cache.pin(5, Residence::Evictable).await.unwrap();
            pinned.read(|page| assert!(is_valid(page, 5)));
        });
    }
    assert_eq!(executor.run(), Outcome::Done);
    assert_eq!(machine.cache.store().loads.load(SeqCst), 1);
    assert_eq!(counters(machine).wait_for_page, 9);
}

#[test]
fn neighbours_are_written_together() {
    let machine = &machine(4, 300, Flaw::None);
    run(machine, async {
        // Valid from the start: one version each. Interior blocks are a run of their own.
        for block in (0..BLOCKS).filter(|block| block % 3 != 0) {
            drop(machine.cache.pin(block, residence(block)).await.unwrap());
        }
        change(machine, 0..BLOCKS).await;
        save(machine).await.unwrap();
    });
    let log = machine.world.log();
    let writes = log.iter().filter(|record| record.kind == Kind::Write);
    let sizes: Vec<_> = writes.map(|record| record.sectors / PAGE_SECTORS).collect();
    assert!(sizes.iter().max() > Some(&2), "{sizes:?}");
    // Of 24 blocks 16 are new and written twice.
    assert_eq!(sizes.iter().sum::<u64>(), 40);
    assert!(sizes.len() < 30, "{sizes:?}");
    let flushes = log
        .iter()
        .filter(|record| record.kind == Kind::Flush)
        .count();
    assert_eq!(flushes as u64, machine.cache.flushes());
    assert!(flushes <= 6);
}

#[test]
fn only_what_is_old_is_written() {
    let machine = &machine(5, 300, Flaw::None);
    let mut executor = Executor::new(&machine.world);
    executor.spawn_daemon("writer", machine.writer(8));
    let task = executor.spawn("task", async {
        for _ in 0..4 {
            // Nine changes are older than the tenth.
            change(machine, 0..10).await;
            change(machine, 10..20).await;
        }
    });
    executor.run_task(&task).unwrap();
    assert_eq!(machine.cache.oldest_change(), Some(0));
    machine.cache.write_before(1);
    assert_eq!(executor.run_until_idle(), Outcome::Done);
    assert_eq!(machine.cache.oldest_change(), Some(1));
    assert_eq!(counters(machine).pages_saved, 9);
    machine.cache.write_before(1);
    assert_eq!(executor.run_until_idle(), Outcome::Done);
    assert_eq!(counters(machine).pages_saved, 9);
}

#[test]
fn without_memory_frames_are_shared() {
    let machine = &machine(6, 10, Flaw::None);
    let mut executor = Executor::new(&machine.world);
    let (cache, journal) = (&machine.cache, &machine.journal);
    let writer = cache.writer(4).unwrap();
    executor.spawn_daemon("writer", cache.run_writer(writer, journal));
    for seed in 0..5 {
        executor.spawn("user", machine.user(Rng::new(seed), 40));
    }
    let mut writer = cache.writer(8).unwrap();
    let last = async move { cache.write_all(&mut writer, journal).await };
    let task = executor.spawn("last", last);
    fail_after(Some(4));
    let outcome = executor.run();
    fail_after(None);
    assert_eq!(outcome, Outcome::Done);
    task.take();
    let frames = counters(machine);
    assert!(frames.clean_pages + frames.dirty_pages < 10, "{frames:?}");
    assert!(frames.discard_required > 0);
}

/// A task that must not wait for memory.
async fn at_once<F: Future>(task: F) -> F::Output {
    let mut task = pin!(task);
    poll_fn(|context| without_waiting(|| task.as_mut().poll(context))).await
}

#[test]
fn memory_that_would_have_to_be_waited_for_is_done_without() {
    let machine = &machine(6, 10, Flaw::None);
    let mut executor = Executor::new(&machine.world);
    executor.spawn_daemon("writer", machine.writer(4));
    for seed in 0..5 {
        executor.spawn("user", at_once(machine.user(Rng::new(seed), 40)));
    }
    set_short(true);
    let outcome = executor.run();
    set_short(false);
    assert_eq!(outcome, Outcome::Done);
    let frames = counters(machine);
    let own = HOLDERS as u64 + 1;
    assert_eq!(frames.clean_pages + frames.dirty_pages, own, "{frames:?}");
    // Once there is memory the cache grows.
    for seed in 0..5 {
        executor.spawn("user", at_once(machine.user(Rng::new(seed), 40)));
    }
    let outcome = executor.run();
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(counters(machine).free_pages, 0);
}

#[test]
fn without_memory_each_holder_of_a_vacancy_gets_another_frame() {
    let machine = &machine(13, 10, Flaw::None);
    let mut executor = Executor::new(&machine.world);
    for number in 0..HOLDERS as u64 {
        let holder = async move {
            let vacancy = machine.cache.create(number, Residence::Evictable).await;
            yield_now().await;
            let other = machine.cache.pin(number + 8, Residence::Kept).await;
            drop((vacancy.unwrap().unwrap(), other.unwrap()));
        };
        executor.spawn("holder", at_once(holder));
    }
    // Those who hold nothing do not get in the way for good.
    for number in 0..4 {
        let pin = machine.cache.pin(number + 16, Residence::Evictable);
        executor.spawn("reader", at_once(async { drop(pin.await.unwrap()) }));
    }
    set_short(true);
    let outcome = executor.run();
    set_short(false);
    assert_eq!(outcome, Outcome::Done);
}

#[test]
fn a_failed_read_is_tried_again() {
    let machine = &machine(7, 4, Flaw::None);
    machine
        .world
        .add_fault(Fault::new(0, &[Kind::Read]).numbers(0..2));
    let mut executor = Executor::new(&machine.world);
    let readers: Vec<_> = (0..5)
        .map(|_| {
            executor.spawn("reader", async {
                let pinned = machine.cache.pin(0, Residence::Evictable).await;
                pinned.map(|pinned| pinned.read(|page| assert!(is_valid(page, 0))))
            })
        })
        .collect();
    assert_eq!(executor.run(), Outcome::Done);
    let failed = readers
        .iter()
        .filter(|reader| reader.take() == Some(Err(EIO)));
    assert_eq!(failed.count(), 2);
    let counters = counters(machine);
    assert_eq!((counters.failed_reads, counters.pages_loaded), (2, 1));
    assert_eq!((counters.clean_pages, counters.free_pages), (1, 3));
}

#[test]
fn after_a_failed_write_nothing_is_written_and_all_is_read() {
    for (pages, memory) in [(1, true), (4, true), (4, false)] {
        let machine = &machine(8, pages, Flaw::None);
        let mut executor = Executor::new(&machine.world);
        executor.spawn_daemon("writer", machine.writer(4));
        let changes = executor.spawn("changes", change(machine, 0..pages as u64));
        machine.world.add_fault(Fault::new(0, &[Kind::Write]));
        executor.run_task(&changes).unwrap();
        let saved = executor.spawn("save", save(machine));
        assert_eq!(executor.run_task(&saved), Ok(Err(EIO)));
        assert_eq!(executor.run_until_idle(), Outcome::Done);
        machine.world.clear_faults();
        let dirty = counters(machine).dirty_pages;
        assert!(dirty > 0);
        let before = machine.world.changes();
        // What is left in memory, and what has to be read.
        let readers: Vec<_> = (0..BLOCKS)
            .map(|block| {
                executor.spawn("reader", async move {
                    let pinned = machine.cache.pin(block, residence(block)).await?;
                    Ok::<_, Error>(pinned.read(|page| machine.judge(page, block)))
                })
            })
            .collect();
        fail_after((!memory).then_some(0));
        let outcome = executor.run();
        fail_after(None);
        assert_eq!(outcome, Outcome::Done);
        for (block, reader) in readers.iter().enumerate() {
            let result = reader.take().unwrap();
            assert!(
                result == Ok(Ok(())) || (!memory && block >= pages && result.is_err()),
                "{block}: {result:?}"
            );
        }
        assert_eq!(counters(machine).dirty_pages, dirty);
        assert_eq!(machine.world.changes(), before, "something was written");
        let saved = executor.spawn("save again", save(machine));
        assert_eq!(executor.run_task(&saved), Ok(Err(EIO)));
    }
}

#[test]
fn who_waits_for_a_frame_is_told_of_the_end() {
    let machine = &machine(9, 1, Flaw::None);
    let mut executor = Executor::new(&machine.world);
    let changes = executor.spawn("changes", change(machine, 0..1));
    executor.run_task(&changes).unwrap();
    // Nobody writes, so the frame stays.
    let reader = executor.spawn("reader", async {
        machine.cache.pin(1, Residence::Evictable).await.map(drop)
    });
    assert_eq!(executor.run_until_idle(), Outcome::Done);
    assert!(!reader.is_done());
    assert_eq!(counters(machine).cache_pressure, 1);
    machine.cache.store().failed(EIO);
    machine.cache.wake_all();
    assert_eq!(executor.run_task(&reader), Ok(Ok(())));
}

#[test]
fn a_new_block_is_not_read() {
    let machine = &machine(10, 4, Flaw::None);
    run(machine, async {
        let vacancy = machine.cache.create(7, Residence::Evictable).await;
        drop(vacancy.unwrap().unwrap());
        assert!(machine.cache.try_read(7, |_| ()).is_none());
        let vacancy = machine.cache.create(7, Residence::Evictable).await;
        let change = machine.journal.add(7, 3);
        let pinned = vacancy.unwrap().unwrap().fill(change, |page| {
            make_block(page, 7);
            put(page, slot_at(3), change.newest);
        });
        pinned.unwrap().read(|page| machine.judge(page, 7)).unwrap();
        let again = machine.cache.create(7, Residence::Evictable).await;
        assert!(again.unwrap().is_none(), "the block is there");
        save(machine).await.unwrap();
    });
    assert_eq!(machine.cache.store().loads.load(SeqCst), 0);
    let counters = counters(machine);
    assert_eq!((counters.pages_saved, machine.cache.flushes()), (1, 1));
    assert_eq!((counters.clean_pages, counters.free_pages), (1, 3));
    machine.judge_disk(&machine.world.images()[0]).unwrap();
}

#[test]
fn writers_end() {
    let machine = &machine(11, 4, Flaw::None);
    let mut executor = Executor::new(&machine.world);
    executor.spawn("writer", machine.writer(1));
    executor.spawn("writer", machine.writer(2));
    let changes = executor.spawn("changes", change(machine, 0..20));
    executor.run_task(&changes).unwrap();
    machine.cache.stop();
    assert_eq!(executor.run(), Outcome::Done);
}

#[test]
fn nothing_is_written_during_a_pause() {
    let machine = &machine(12, 4, Flaw::None);
    let mut executor = Executor::new(&machine.world);
    executor.spawn_daemon("writer", machine.writer(1));
    executor.spawn_daemon("writer", machine.writer(2));
    let changes = executor.spawn("changes", change(machine, 0..20));
    let mut rng = Rng::new(12);
    for _ in 0..20 {
        executor.run_for(rng.below(300));
        let pause = executor.spawn("pause", machine.cache.pause());
        executor.run_task(&pause).unwrap();
        let before = machine.world.changes();
        let log = machine.world.log();
        let writes = log.iter().filter(|record| record.kind == Kind::Write);
        assert!(writes.clone().all(|record| record.completed.is_some()));
        executor.run_for(5000);
        assert_eq!(machine.world.changes(), before);
        machine.cache.unpause();
    }
    executor.run_task(&changes).unwrap();
    let saved = executor.spawn("save", save(machine));
    assert_eq!(executor.run_task(&saved), Ok(Ok(())));
}

fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    future.as_mut().poll(&mut context)
}

#[test]
fn a_crowd_that_waits_for_a_load_costs_others_nothing() {
    const CROWD: u64 = 10_000;
    let machine = &machine(14, 4, Flaw::None);
    run(machine, async {
        drop(machine.cache.pin(1, Residence::Evictable).await.unwrap());
    });
    let pin = |_| Box::pin(machine.cache.pin(0, Residence::Evictable));
    let mut pins: Vec<_> = (0..CROWD).map(pin).collect();
    assert!(pins.iter_mut().all(|pin| poll(pin).is_pending()));
    steps::take();
    for _ in 0..100 {
        drop(machine.cache.try_pin(1).unwrap());
    }
    assert!(steps::take().all < 1000, "others pay for who waits");
    // The first of them has the block read.
    let mut executor = Executor::new(&machine.world);
    assert_eq!(executor.run_until_idle(), Outcome::Done);
    for pin in &mut pins {
        assert!(matches!(poll(pin), Poll::Ready(Ok(_))));
    }
    let steps = steps::take();
    assert!(steps.all < 20 * CROWD && steps.longest < 20, "{steps:?}");
}

/// Blocks that are read before they are needed: at once, each once, and no frame is waited for.
#[test]
fn blocks_are_prefetched_at_once_and_as_far_as_there_are_frames() {
    let machine = &machine(9, 3, Flaw::None);
    run(machine, async {
        let mut prefetch = Prefetch::new(8).unwrap();
        let mut buffer = machine.disk.buffer_of_parts(8, 8).unwrap();
        let blocks = [0, 3, 3, 6, 9, 12];
        machine.disk.hold(&[Kind::Read]);
        {
            let blocks = blocks.into_iter();
            let mut reading = pin!(machine.cache.prefetch(blocks, &mut prefetch, buffer));
            poll_fn(|context| {
                assert!(reading.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(machine.disk.held(), 3, "there are three frames");
            assert!(machine.cache.has(6) && !machine.cache.has(9));
            assert!(machine.cache.try_read(0, |_| ()).is_none());
            machine.disk.release();
            buffer = reading.await;
        }
        assert!(machine.cache.is_idle());
        for block in [0, 3, 6] {
            assert!(machine
                .cache
                .try_read(block, |page| is_valid(page, block))
                .unwrap());
        }
        // What nobody holds makes room.
        buffer = machine
            .cache
            .prefetch(blocks.into_iter().skip(4), &mut prefetch, buffer)
            .await;
        assert!(machine.cache.has(9) && machine.cache.has(12));
        // A block that cannot be read leaves no frame behind.
        let bad = Fault::new(0, &[Kind::Read]);
        machine.world.add_fault(bad);
        let free = counters(machine).clean_pages;
        drop(
            machine
                .cache
                .prefetch([15].into_iter(), &mut prefetch, buffer)
                .await,
        );
        assert!(!machine.cache.has(15));
        assert_eq!(counters(machine).clean_pages, free - 1);
        machine.world.clear_faults();
        machine
            .cache
            .pin(15, Residence::Evictable)
            .await
            .map(drop)
            .unwrap();
    });
}
