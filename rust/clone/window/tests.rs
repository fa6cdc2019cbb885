// SPDX-License-Identifier: GPL-2.0

use super::*;

/// Copies for `seconds` from a device that answers after `latency_ms` and moves at most `rate_max`
/// sectors a millisecond.
fn run(window: &mut Window, now: &mut Millis, seconds: u64, latency_ms: u64, rate_max: u64) {
    let end = *now + seconds * 1000;
    while *now < end || matches!(window.trial, Trial::Of { .. }) {
        let sectors = window.sectors();
        *now += latency_ms.max(sectors / rate_max).max(1);
        window.completed(sectors, *now);
    }
}

#[test]
fn grows_while_latency_is_what_limits() {
    let (mut window, mut now) = (Window::new(), 0);
    run(&mut window, &mut now, 4, 20, 1 << 20);
    assert_eq!(window.sectors(), SECTORS_MAX);
    run(&mut window, &mut now, 60, 20, 1 << 20);
    assert_eq!(window.sectors(), SECTORS_MAX);
}

#[test]
fn does_not_queue_up_before_a_saturated_device() {
    let (mut window, mut now) = (Window::new(), 0);
    run(&mut window, &mut now, 60, 0, 64);
    assert_eq!(window.sectors(), SECTORS_MIN);
}

#[test]
fn follows_a_device_that_changes() {
    let (mut window, mut now) = (Window::new(), 0);
    run(&mut window, &mut now, 10, 20, 1 << 20);
    run(&mut window, &mut now, 120, 0, 64);
    assert_eq!(window.sectors(), SECTORS_MIN);
    run(&mut window, &mut now, 60, 20, 1 << 20);
    assert_eq!(window.sectors(), SECTORS_MAX);
}

#[test]
fn a_restart_ends_a_trial() {
    let (mut window, mut now) = (Window::new(), 0);
    while matches!(window.trial, Trial::None) {
        now += 20;
        window.completed(window.sectors(), now);
    }
    window.restart();
    assert_eq!(window.sectors(), SECTORS_START);
}
