// SPDX-License-Identifier: GPL-2.0

//! The simulator itself: it must be deterministic, and cruel in every way that it promises.

use crate::bio::SimBio;
use crate::clock::sleep;
use crate::disk::Operation;
use crate::disk::Survival;
use crate::executor::Executor;
use crate::executor::Outcome;
use crate::fault::CrashPoint;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::fault::Side;
use crate::harness;
use crate::model::End;
use crate::model::Model;
use crate::pattern;
use crate::rng::Rng;
use crate::world::World;
use kernel::error::code::EIO;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::Part;
use std::collections::BTreeSet;

const SECTORS: u64 = 16;

/// Writes one sector with version 1, does `then`, and returns the versions that crashes with any
/// seed may leave of it.
fn left_after(survivals: &[Survival], then: &[Operation]) -> BTreeSet<u64> {
    let mut left = BTreeSet::new();
    for seed in 0..64 {
        let world = World::new(seed);
        let disk = world.add_disk("disk", pattern::run(0, 0, SECTORS));
        let mut executor = Executor::new(&world);
        executor.spawn("writer", async {
            let first = Operation::write(3, pattern::run(1, 3, 1), false);
            for operation in std::iter::once(first).chain(then.iter().cloned()) {
                disk.submit(operation).await.1.unwrap();
            }
        });
        assert_eq!(executor.run(), Outcome::Done);
        let images = world.survivors(survivals, &mut Rng::new(seed));
        let version = images[0][3 * 512..3 * 512 + 8]
            .try_into()
            .map(u64::from_le_bytes)
            .unwrap();
        assert_eq!(pattern::sector(version, 3), images[0][3 * 512..4 * 512]);
        left.insert(version);
    }
    left
}

#[test]
fn an_unflushed_write_survives_or_not() {
    assert_eq!(left_after(&[], &[]), [0, 1].into());
    assert_eq!(left_after(&[Survival::Lost], &[]), [0].into());
    assert_eq!(left_after(&[Survival::Kept], &[]), [1].into());
    assert_eq!(left_after(&[Survival::Torn], &[]), [0, 1].into());
    assert_eq!(left_after(&[Survival::Picked], &[]), [0, 1].into());
}

#[test]
fn a_flush_makes_completed_writes_stable() {
    assert_eq!(left_after(&[], &[Operation::flush()]), [1].into());
}

#[test]
fn fua_makes_its_own_write_stable_only() {
    let over = Operation::write(3, pattern::run(2, 3, 1), true);
    assert_eq!(left_after(&[], &[over]), [2].into());
    let beside = Operation::write(4, pattern::run(2, 4, 1), true);
    assert_eq!(left_after(&[], &[beside]), [0, 1].into());
}

#[test]
fn nothing_makes_a_fickle_write_stable_but_another_one() {
    let fickle = |version| Operation::write(3, pattern::run(version, 3, 1), true).fickle();
    let flush = Operation::flush;
    assert_eq!(
        left_after(&[], &[flush(), fickle(2), flush(), flush()]),
        [1, 2].into()
    );
    let over = Operation::write(3, pattern::run(3, 3, 1), false);
    assert_eq!(left_after(&[], &[fickle(2), over, flush()]), [3].into());
}

#[test]
fn any_unflushed_version_may_survive() {
    let second = Operation::write(3, pattern::run(2, 3, 1), false);
    assert_eq!(
        left_after(&[Survival::Torn], std::slice::from_ref(&second)),
        [0, 1, 2].into()
    );
    assert_eq!(
        left_after(&[], &[Operation::flush(), second]),
        [1, 2].into()
    );
}

#[test]
fn a_flush_does_not_cover_what_completes_after_its_issue() {
    let world = World::new(1);
    let disk = world.add_disk("disk", pattern::run(0, 0, SECTORS));
    disk.hold(&[Kind::Flush, Kind::Write]);
    let mut executor = Executor::new(&world);
    executor.spawn("flush", disk.submit(Operation::flush()));
    assert_ne!(executor.run_until_idle(), Outcome::Crashed);
    executor.spawn(
        "write",
        disk.submit(Operation::write(0, pattern::run(1, 0, 1), false)),
    );
    executor.run_until_idle();
    disk.release();
    assert_eq!(executor.run(), Outcome::Done);
    let lost = world.survivors(&[Survival::Lost], &mut Rng::new(0));
    assert_eq!(lost[0][..512], pattern::sector(0, 0));
}

#[test]
fn torn_sectors_are_independent() {
    let mut shapes = BTreeSet::new();
    for seed in 0..256 {
        let world = World::new(seed);
        let disk = world.add_disk("disk", pattern::run(0, 0, SECTORS));
        let mut executor = Executor::new(&world);
        executor.spawn(
            "write",
            disk.submit(Operation::write(0, pattern::run(1, 0, 3), false)),
        );
        executor.run();
        let image = &world.survivors(&[Survival::Torn], &mut Rng::new(seed))[0];
        let kept = |sector: usize| image[sector * 512] == 1;
        shapes.insert((kept(0), kept(1), kept(2)));
    }
    assert_eq!(shapes.len(), 8);
}

#[test]
fn crash_points_stop_the_machine_there() {
    for (change, side, stable) in [(0, Side::Issued, false), (2, Side::Completed, true)] {
        let world = World::new(7);
        let disk = world.add_disk("disk", pattern::run(0, 0, SECTORS));
        world.crash_at(CrashPoint::Operation(change, side));
        let mut executor = Executor::new(&world);
        let task = executor.spawn("writer", async {
            for sector in 0..2 {
                let data = pattern::run(1, sector, 1);
                disk.submit(Operation::write(sector, data, false))
                    .await
                    .1
                    .unwrap();
            }
            disk.submit(Operation::flush()).await.1.unwrap();
        });
        assert_eq!(executor.run(), Outcome::Crashed);
        executor.power_off();
        assert!(!task.is_done());
        assert_eq!(world.changes(), change + 1);
        let lost = world.survivors(&[Survival::Lost], &mut Rng::new(0));
        assert_eq!(lost[0][..512] == pattern::sector(1, 0), stable);
    }
}

#[test]
fn faults_strike_where_they_are_told_to() {
    let world = World::new(3);
    let disk = world.add_disk("disk", pattern::run(0, 0, SECTORS));
    world.add_fault(Fault::new(0, &[Kind::Read]).numbers(1..2));
    world.add_fault(Fault::new(0, &[Kind::Write]).sectors(8..16));
    let mut executor = Executor::new(&world);
    executor.spawn("user", async {
        let results = [
            disk.submit(Operation::read(0, 1)).await.1,
            disk.submit(Operation::read(0, 1)).await.1,
            disk.submit(Operation::read(0, 1)).await.1,
            disk.submit(Operation::write(6, pattern::run(1, 6, 2), false))
                .await
                .1,
            disk.submit(Operation::write(7, pattern::run(1, 7, 2), false))
                .await
                .1,
            disk.submit(Operation::read(SECTORS, 1)).await.1,
        ];
        assert_eq!(
            results,
            [Ok(()), Err(EIO), Ok(()), Ok(()), Err(EIO), Err(EIO)]
        );
    });
    assert_eq!(executor.run(), Outcome::Done);
}

#[test]
fn buffers_carry_data_there_and_back() {
    let world = World::new(4);
    let disk = world.add_disk("disk", pattern::run(0, 0, SECTORS));
    let mut executor = Executor::new(&world);
    executor.spawn("user", async {
        let (mut buffer, result) = disk.read(0, 16, disk.buffer(2).unwrap()).await;
        assert_eq!(result, Ok(()));
        assert_eq!(buffer.page(1).unwrap()[..512], pattern::sector(0, 8));
        buffer.page_mut(0).unwrap().fill(9);
        let (buffer, result) = disk.write(4, 2, buffer, Durability::Stable).await;
        assert_eq!(result, Ok(()));
        let (_, result) = disk.flush(buffer).await;
        assert_eq!(result, Ok(()));
    });
    assert_eq!(executor.run(), Outcome::Done);
    assert_eq!(world.images()[0][4 * 512..6 * 512], [9; 1024]);
}

/// A buffer has as many parts on their way as it was made for, and each has its own result.
#[test]
fn parts_of_a_buffer_are_on_their_way_together() {
    let world = World::new(1);
    let disk = world.add_disk("disk", pattern::run(0, 0, 8 * 8));
    world.add_fault(Fault::new(0, &[Kind::Write]).sectors(24..32));
    disk.hold(&[Kind::Write]);
    let mut executor = Executor::new(&world);
    let own = disk.clone();
    let writer = executor.spawn("writer", async move {
        let mut buffer = own.buffer_of_parts(5, 3).unwrap();
        let mut parts = [];
        buffer = own.write_parts(buffer, &mut parts).await;
        let mut parts = [0, 1, 2, 3, 4].map(|page| Part::new(8 * page as u64, 8, page));
        for page in 0..5 {
            buffer.page_mut(page).unwrap().fill(page as u8);
        }
        buffer = own.write_parts(buffer, &mut parts).await;
        let written = parts.map(|part| part.result);
        buffer = own.read_parts(buffer, &mut parts).await;
        assert!(parts.iter().all(|part| part.result.is_ok()));
        (written, buffer.page(4).unwrap()[0])
    });
    executor.run_until(|_| disk.held() == 3);
    disk.release_some(2);
    assert!(executor.run_until(|_| disk.held() != 1) != Outcome::Done);
    disk.release_some(1);
    executor.run_until(|_| disk.held() == 2);
    disk.release();
    executor.run_until(|_| writer.is_done());
    let expected = [Ok(()), Ok(()), Ok(()), Err(EIO), Ok(())];
    assert_eq!(writer.take(), Some((expected, 4)));
}

#[test]
fn tasks_that_wait_for_ever_are_named() {
    let world = World::new(5);
    let mut executor = Executor::new(&world);
    executor.spawn("sleeper", sleep(&world, 5_000));
    executor.spawn("lost", std::future::pending::<()>());
    executor.spawn_daemon("daemon", std::future::pending::<()>());
    assert_eq!(executor.run(), Outcome::Stuck(vec!["lost".to_owned()]));
    assert!(world.now() >= 5_000);
}

#[test]
fn one_seed_is_one_history_and_seeds_differ() {
    let history = |seed| {
        let world = World::new(seed);
        let disk = world.add_disk("disk", pattern::run(0, 0, SECTORS));
        let mut executor = Executor::new(&world);
        for sector in 0..8 {
            executor.spawn("user", {
                disk.submit(Operation::write(sector, pattern::run(1, sector, 1), false))
            });
        }
        executor.run();
        let log = world.log().into_iter();
        log.map(|record| (record.sector, record.completed.map(|(at, _)| at)))
            .collect::<Vec<_>>()
    };
    assert_eq!(history(1), history(1));
    assert!((2..10).any(|seed| history(seed) != history(1)));
}

#[test]
fn a_request_is_cut_with_its_data() {
    let mut front = SimBio::write(4, pattern::run(1, 4, 3), true);
    let rest = front.split(1);
    assert_eq!((front.sector, front.sectors, front.fua), (4, 1, true));
    assert_eq!((rest.sector, rest.sectors, rest.fua), (5, 2, true));
    assert_eq!(front.data, pattern::run(1, 4, 1));
    assert_eq!(rest.data, pattern::run(1, 5, 2));
}

#[test]
fn model_wants_the_newest_acknowledged_version() {
    let mut model = Model::new(SECTORS);
    let first = model.begin_write(0..2);
    let early = model.begin_read(0..1);
    model.end_write(first, End::Acknowledged);
    let late = model.begin_read(0..1);
    let old = pattern::run(0, 0, 1);
    let new = model.data(first)[..512].to_vec();
    assert!(model.end_read(&early, &old).is_ok());
    assert!(model.end_read(&early, &new).is_ok());
    assert!(model.end_read(&late, &new).is_ok());
    let text = model.end_read(&late, &old).unwrap_err().to_string();
    assert_eq!(
        text,
        "read: sector 0 holds the initial data, allowed: version 1"
    );
}

#[test]
fn model_allows_either_order_of_concurrent_writes() {
    let mut model = Model::new(SECTORS);
    let first = model.begin_write(0..1);
    let second = model.begin_write(0..1);
    model.end_write(second, End::Acknowledged);
    model.end_write(first, End::Acknowledged);
    let read = model.begin_read(0..1);
    assert!(model.end_read(&read, &model.data(first)).is_ok());
    assert!(model.end_read(&read, &model.data(second)).is_ok());
    assert!(model.end_read(&read, &pattern::run(0, 0, 1)).is_err());
}

#[test]
fn model_knows_what_a_crash_may_take_back() {
    let mut model = Model::new(SECTORS);
    let before = model.begin_write(0..1);
    model.end_write(before, End::Acknowledged);
    let flush = model.begin_flush();
    let during = model.begin_write(1..2);
    model.end_write(during, End::Acknowledged);
    model.end_flush(flush);
    let stable = model.begin_write(2..3);
    model.end_write(stable, End::Durable);
    let open = model.begin_write(3..4);
    model.crash();
    let old = |sector| pattern::run(0, sector, 1);
    assert!(model.clone().settle(0, &old(0), "after").is_err());
    assert!(model.clone().settle(1, &old(1), "after").is_ok());
    assert!(model.clone().settle(2, &old(2), "after").is_err());
    assert!(model.clone().settle(3, &old(3), "after").is_ok());
    assert!(model.clone().settle(3, &model.data(open), "after").is_ok());
    // Once seen, it stays.
    assert!(model.settle(1, &old(1), "after").is_ok());
    assert!(model.settle(1, &model.data(during), "again").is_err());
}

#[test]
fn model_lets_a_discard_leave_anything_until_the_next_write() {
    let mut model = Model::new(SECTORS);
    let discard = model.begin_discard(0..2);
    model.end_write(discard, End::Acknowledged);
    let write = model.begin_write(0..1);
    model.end_write(write, End::Acknowledged);
    let read = model.begin_read(0..2);
    let data = [model.data(write), vec![7; 512]].concat();
    assert!(model.end_read(&read, &data).is_ok());
    assert!(model.end_read(&read, &[7; 1024]).is_err());
    model.crash();
    assert!(model.settle(0, &[8; 1024], "after").is_ok());
    assert!(model.settle(0, &[9; 1024], "again").is_err());
}

#[test]
fn model_of_whole_units_sees_a_torn_one_and_a_stale_zero() {
    let mut model = Model::zeroed(16, 8);
    let first = model.begin_write(0..16);
    model.end_write(first, End::Acknowledged);
    let second = model.begin_write(0..8);
    let (old, new) = (model.data(first), model.data(second));
    let torn = [&old[..512], &new[512..4096]].concat();
    let read = model.begin_read(0..8);
    assert!(model.end_read(&read, &old[..4096]).is_ok());
    assert!(model.end_read(&read, &new).is_ok());
    assert!(model.end_read(&read, &torn).is_err());
    let mixed = [&new[..], &old[4096..]].concat();
    let read = model.begin_read(0..16);
    assert!(model.end_read(&read, &mixed).is_ok());
    let zeroes = model.begin_zeroes(0..8);
    model.end_write(second, End::Acknowledged);
    model.end_write(zeroes, End::Acknowledged);
    let read = model.begin_read(0..8);
    assert!(model.end_read(&read, &[0; 4096]).is_ok());
    let read = model.begin_read(8..16);
    assert!(model.end_read(&read, &[0; 4096]).is_err());
}

#[test]
fn what_a_device_gave_up_may_be_gone_but_not_what_was_durable() {
    let mut model = Model::zeroed(16, 8);
    let kept = model.begin_write(0..8);
    model.end_write(kept, End::Durable);
    let lost = model.begin_write(8..16);
    model.end_write(lost, End::Acknowledged);
    model.give_up();
    let read = model.begin_read(8..16);
    assert!(model.end_read(&read, &[0; 4096]).is_ok());
    assert!(model.end_read(&read, &model.data(lost)).is_ok());
    let read = model.begin_read(0..8);
    assert!(model.end_read(&read, &[0; 4096]).is_err());
}

#[test]
fn failures_name_their_seed() {
    let workload = |seed| {
        if seed == 5 {
            Err("wrong".to_owned())
        } else {
            Ok(())
        }
    };
    let failure = harness::first_failure(0..100, workload).unwrap();
    assert_eq!((failure.seed, failure.text.as_str()), (5, "wrong"));
    assert!(harness::first_failure(6..100, workload).is_none());
    let panicking = harness::run_seed(9, |seed| panic!("at {seed}")).unwrap_err();
    assert_eq!(panicking.text, "panic: at 9");
}

/// A log of two blocks that each commit overwrites in turn; broken, it commits before it flushes.
fn commit_twice(point: Option<CrashPoint>, flush_first: bool) -> Result<u64, String> {
    for survivals in harness::survivals(1) {
        for seed in 0..4 {
            let world = World::new(seed);
            let disk = world.add_disk("disk", pattern::run(0, 0, SECTORS));
            point.iter().for_each(|point| world.crash_at(*point));
            let mut executor = Executor::new(&world);
            executor.spawn("writer", async {
                for version in 1..=2 {
                    let blocks = Operation::write(1, pattern::run(version, 1, 2), false);
                    disk.submit(blocks).await.1.unwrap();
                    if flush_first {
                        disk.submit(Operation::flush()).await.1.unwrap();
                    }
                    let head = Operation::write(0, pattern::run(version, 0, 1), true);
                    disk.submit(head).await.1.unwrap();
                }
            });
            executor.run();
            executor.power_off();
            let image = &world.survivors(&survivals, &mut Rng::new(seed))[0];
            let committed = image[0];
            if image[512] < committed || image[1024] < committed {
                return Err(format!("{committed} was committed without its data"));
            }
            if point.is_none() {
                return Ok(world.changes());
            }
        }
    }
    Ok(0)
}

#[test]
fn enumeration_finds_a_missing_flush_and_only_that() {
    assert_eq!(
        harness::enumerate_crash_points(|point| commit_twice(point, true)),
        Ok(13)
    );
    let text = harness::enumerate_crash_points(|point| commit_twice(point, false)).unwrap_err();
    assert!(text.contains("without its data"), "{text}");
}
