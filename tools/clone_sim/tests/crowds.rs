// SPDX-License-Identifier: GPL-2.0

//! What a request costs does not depend on how many others wait, and nobody goes on without end.
//! Counted, not timed: polls, and steps under locks.

use clone::copier::LARGE_PAGES;
use clone::engine::Settings;
use clone::geometry::Geometry;
use clone::hydration::Tuning;
use clone::message::Message;
use clone::route::Operation;
use clone_sim::crowd::Crowd;
use clone_sim::crowd::Work;
use std::ops::Range;

const WRITE: Operation = Operation::Write { fua: false };

fn settings() -> Settings {
    Settings {
        hydration: false,
        discard_passdown: true,
        large_pages: LARGE_PAGES,
        tuning: Tuning {
            threshold: None,
            batch_size: None,
        },
        read_only: false,
    }
}

/// Returns the crowd's machine: a clone of 2^17 regions of 2^`shift` sectors.
fn machine(shift: u32) -> Crowd {
    let geometry = Geometry::new(1 << (17 + shift), shift).expect("a clone");
    Crowd::new(geometry, 40, settings())
}

/// A kind of crowd: the sectors of a region, and the request with number `index` of `count`.
type Kind = (&'static str, u32, fn(u64, u64) -> (Operation, Range<u64>));

const KINDS: &[Kind] = &[
    ("writes to a part of a region each", 3, |index, _| {
        (WRITE, 8 * index + 1..8 * index + 2)
    }),
    ("writes to a part of a large region each", 11, |index, _| {
        (WRITE, (index << 11) + 1..(index << 11) + 2)
    }),
    ("writes to parts of one region", 11, |index, _| {
        (WRITE, index % 2000..index % 2000 + 1)
    }),
    ("writes to parts of a hundred regions", 4, |index, _| {
        (WRITE, 16 * (index % 100) + 1..16 * (index % 100) + 2)
    }),
    ("writes of a region each", 3, |index, _| {
        (WRITE, 8 * index..8 * index + 8)
    }),
    ("writes of the same regions", 3, |_, _| (WRITE, 800..1600)),
    ("writes of regions that overlap", 3, |index, _| {
        (WRITE, 8 * index..8 * index + 80)
    }),
    ("discards of a region each", 3, |index, _| {
        (Operation::Discard, 8 * index..8 * index + 8)
    }),
    ("discards of everything", 3, |_, _| {
        (Operation::Discard, 0..8 << 17)
    }),
    ("writes to parts of what is discarded", 3, |index, _| {
        if index == 0 {
            (Operation::Discard, 0..8 << 17)
        } else {
            (WRITE, 8 * index + 1..8 * index + 2)
        }
    }),
    ("a discard behind writes", 3, |index, count| {
        if index + 1 == count {
            (Operation::Discard, 0..8 << 17)
        } else {
            (WRITE, 8 * index..8 * index + 8)
        }
    }),
    ("all sorts", 4, |index, _| match index % 5 {
        0 => (WRITE, 16 * index + 1..16 * index + 2),
        1 => (WRITE, 16 * index..16 * index + 64),
        2 => (Operation::Discard, 16 * index..16 * index + 160),
        3 => (WRITE, 16 * (index % 50) + 3..16 * (index % 50) + 5),
        _ => (Operation::Read, 16 * (index - 4)..16 * index),
    }),
];

/// Has `count` requests wait all at once, then lets the devices go; returns what was done.
fn work_for(kind: &Kind, count: u64) -> Work {
    let (name, shift, request) = kind;
    let mut crowd = machine(*shift);
    crowd.run();
    crowd.source.hold(true);
    crowd.destination.hold(true);
    for index in 0..count {
        let (operation, sectors) = request(index, count);
        crowd.send(operation, sectors);
    }
    let sent = crowd.waiting();
    assert!(sent >= count * 4 / 5, "{name}: {sent} of {count} wait");
    let gather = crowd.run();
    assert_eq!(crowd.waiting(), sent, "{name}");
    crowd.source.hold(false);
    crowd.destination.hold(false);
    let dissolve = crowd.run();
    assert_eq!(crowd.waiting(), 0, "{name}: somebody waits for ever");
    Work {
        polls: gather.polls + dissolve.polls,
        steps: gather.steps + dissolve.steps,
        longest: gather.longest.max(dissolve.longest),
        longest_poll: gather.longest_poll.max(dissolve.longest_poll),
    }
}

#[test]
fn the_cost_of_a_request_does_not_grow_with_the_crowd() {
    for kind in KINDS {
        let [_, thousand, many] = [10, 1_000, 50_000].map(|count| {
            let work = work_for(kind, count);
            let each = [work.polls, work.steps].map(|sum| sum as f64 / count as f64);
            println!("{}, {count}: {each:.1?} {work:?}", kind.0);
            assert!(work.longest <= 150, "{}, {count}: {work:?}", kind.0);
            each
        });
        for (few, many) in thousand.into_iter().zip(many) {
            assert!(many <= 1.5 * few, "{}: {many} instead of {few}", kind.0);
        }
        assert!(many[0] <= 10.0 && many[1] <= 400.0, "{}: {many:?}", kind.0);
    }
}

#[test]
fn reads_of_what_is_copied_wait_for_nobody() {
    let mut crowd = machine(3);
    crowd.source.hold(true);
    for index in 0..1000 {
        crowd.send(WRITE, 8 * index + 1..8 * index + 2);
    }
    crowd.run();
    runtime::steps::take();
    for index in 0..1000 {
        crowd.send(Operation::Read, 8 * index..8 * index + 8);
    }
    assert_eq!(crowd.waiting(), 1000);
    assert_eq!(runtime::steps::take().all, 0);
}

/// Returns what it takes to hydrate a clone whose devices complete at once.
fn work_to_hydrate(geometry: Geometry, prepare: impl FnOnce(&Crowd)) -> Work {
    let mut crowd = Crowd::new(geometry, 8400, settings());
    prepare(&crowd);
    crowd.engine.resume();
    crowd.engine.message(Message::EnableHydration);
    let work = crowd.run();
    assert!(crowd.engine.volume().map().is_complete());
    work
}

#[test]
fn a_worker_lets_others_run_though_nothing_makes_it_wait() {
    // 1 GiB each, in small regions and in one: read and written, 2 MiB and a copy at most at once.
    for shift in [3, 21] {
        let geometry = Geometry::new(1 << 21, shift).expect("a clone");
        let work = work_to_hydrate(geometry, |_| ());
        assert!(work.longest_poll <= 2 * (2048 + 1024), "{shift}: {work:?}");
    }
}

#[test]
fn a_sweep_over_what_is_hydrated_lets_others_run() {
    let geometry = Geometry::new(8 << 27, 3).expect("a clone");
    let work = work_to_hydrate(geometry, |crowd| {
        let map = crowd.engine.volume().map();
        map.set_hydrated(&(0..map.regions() - 1));
    });
    // 512 looks, of which a poll may make some.
    assert!(work.polls >= 64 + 8, "{work:?}");
}
