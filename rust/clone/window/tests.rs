// SPDX-License-Identifier: GPL-2.0

use super::*;

/// Copies for `intervals` intervals from a device that moves at most `rate_max` sectors a
/// millisecond and answers after `latency_ms`.
fn run(window: &mut Window, now: &mut Millis, intervals: u32, latency_ms: u64, rate_max: u64) {
    for _ in 0..intervals * 40 {
        let took = latency_ms.max(window.sectors() / rate_max);
        *now += took;
        window.completed(window.sectors(), *now);
    }
}

#[test]
fn grows_while_latency_is_what_limits() {
    let (mut window, mut now) = (Window::new(), 0);
    run(&mut window, &mut now, 20, 20, 1 << 20);
    assert_eq!(window.sectors(), SECTORS_MAX);
}

#[test]
fn stays_where_the_device_is_the_limit() {
    let (mut window, mut now) = (Window::new(), 0);
    run(&mut window, &mut now, 20, 0, 100);
    assert!(
        window.sectors() <= SECTORS_START * 2,
        "{}",
        window.sectors()
    );
}

#[test]
fn shrinks_when_throughput_falls_but_not_below_one_copy() {
    let (mut window, mut now) = (Window::new(), 0);
    for step in 0..20 {
        run(&mut window, &mut now, 2, 0, (1 << 12) >> step.min(11));
    }
    assert_eq!(window.sectors(), SECTORS_MIN);
}
