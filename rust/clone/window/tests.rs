// SPDX-License-Identifier: GPL-2.0

use super::*;

/// A device that answers after `latency_ms` and moves at most `rate_max` sectors a millisecond.
struct Source {
    latency_ms: u64,
    /// What a window costs beside its data.
    overhead_ms: u64,
    rate_max: u64,
    users: bool,
}

const FAR: Source = Source {
    latency_ms: 20,
    overhead_ms: 0,
    rate_max: 1 << 20,
    users: false,
};

const SATURATED: Source = Source {
    latency_ms: 0,
    overhead_ms: 0,
    rate_max: 64,
    users: false,
};

const fn used(source: Source) -> Source {
    Source {
        users: true,
        ..source
    }
}

/// Copies for `seconds`.
fn run(window: &mut Window, now: &mut Millis, seconds: u64, source: &Source) {
    let end = *now + seconds * 1000;
    while *now < end || matches!(window.trial, Trial::Of { .. }) {
        let sectors = window.sectors();
        let data_ms = sectors / source.rate_max + source.overhead_ms;
        *now += source.latency_ms.max(data_ms).max(1);
        window.completed(sectors, source.users, *now);
    }
}

#[test]
fn grows_while_latency_is_what_limits() {
    let (mut window, mut now) = (Window::new(), 0);
    run(&mut window, &mut now, 4, &FAR);
    assert_eq!(window.sectors(), SECTORS_MAX);
    run(&mut window, &mut now, 60, &FAR);
    assert_eq!(window.sectors(), SECTORS_MAX);
}

#[test]
fn does_not_queue_up_before_a_saturated_device() {
    let (mut window, mut now) = (Window::new(), 0);
    run(&mut window, &mut now, 60, &SATURATED);
    assert_eq!(window.sectors(), SECTORS_MIN);
}

#[test]
fn follows_a_device_that_changes() {
    let (mut window, mut now) = (Window::new(), 0);
    run(&mut window, &mut now, 10, &FAR);
    run(&mut window, &mut now, 120, &SATURATED);
    assert_eq!(window.sectors(), SECTORS_MIN);
    run(&mut window, &mut now, 60, &FAR);
    assert_eq!(window.sectors(), SECTORS_MAX);
}

#[test]
fn a_restart_ends_a_trial() {
    let (mut window, mut now) = (Window::new(), 0);
    while matches!(window.trial, Trial::None) {
        now += 20;
        window.completed(window.sectors(), false, now);
    }
    window.restart();
    assert_eq!(window.sectors(), SECTORS_START);
}

#[test]
fn makes_way_for_users() {
    for before in [&FAR, &SATURATED] {
        let (mut window, mut now) = (Window::new(), 0);
        run(&mut window, &mut now, 10, before);
        run(&mut window, &mut now, 8, &used(SATURATED));
        assert_eq!(window.sectors(), SECTORS_MIN_SHARED);
        // And comes back when they are gone.
        run(&mut window, &mut now, 2, &SATURATED);
        assert!(window.sectors() >= SECTORS_MIN);
    }
    let (mut window, mut now) = (Window::new(), 0);
    run(&mut window, &mut now, 1, &used(SATURATED));
    assert_eq!(window.sectors(), SECTORS_MIN_SHARED);
}

#[test]
fn a_little_throughput_is_given_up_for_users() {
    let (mut window, mut now) = (Window::new(), 0);
    let source = Source {
        overhead_ms: 2,
        ..used(SATURATED)
    };
    run(&mut window, &mut now, 4, &source);
    assert_eq!(window.sectors(), SECTORS_MIN_SHARED);
}

#[test]
fn users_of_a_source_with_room_take_nothing_away() {
    let (mut window, mut now) = (Window::new(), 0);
    run(&mut window, &mut now, 4, &used(FAR));
    assert_eq!(window.sectors(), SECTORS_MAX);
    run(&mut window, &mut now, 60, &used(FAR));
    assert_eq!(window.sectors(), SECTORS_MAX);
}
