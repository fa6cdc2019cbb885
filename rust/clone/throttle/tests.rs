// SPDX-License-Identifier: GPL-2.0

use super::*;

/// Returns the share of the time, in percent, that one copy after the other of `copy_ms` takes.
fn share(percent: u32, copy_ms: Millis, copies: u32) -> u64 {
    let mut throttle = Throttle::default();
    let (mut now, mut active) = (5_000, 0);
    let start = now;
    for _ in 0..copies {
        let asked = now;
        while let Err(pause) = throttle.begin(percent, asked, now) {
            now += pause;
        }
        now += copy_ms;
        active += copy_ms;
        throttle.end(now);
    }
    100 * active / (now - start)
}

#[test]
fn copying_gets_its_share() {
    for percent in [5, 10, 50, 90] {
        let share = share(percent, 7, 1000);
        let percent = u64::from(percent);
        assert!(
            (percent - percent / 4..=percent + 4).contains(&share),
            "{percent}: {share}"
        );
    }
}

#[test]
fn there_is_no_limit_from_100_on() {
    assert_eq!(share(100, 7, 100), 100);
    assert_eq!(share(250, 7, 100), 100);
}

#[test]
fn copies_side_by_side_count_once() {
    let mut throttle = Throttle::default();
    throttle.begin(50, 1000, 1000).expect("the first copy");
    throttle.begin(50, 1000, 1000).expect("the second copy");
    throttle.end(1500);
    throttle.end(1600);
    assert_eq!(throttle.debt, 600 * 50);
}

#[test]
fn a_copy_is_put_off_for_a_while_and_not_for_ever() {
    let mut throttle = Throttle::default();
    let _ = throttle.begin(0, 1, 1);
    throttle.end(10);
    let asked = 100_000;
    assert!(throttle.begin(0, asked, asked).is_err());
    assert!(throttle.begin(0, asked, asked + DELAY_MS_MAX - 1).is_err());
    assert_eq!(throttle.begin(0, asked, asked + DELAY_MS_MAX), Ok(()));
}

#[test]
fn what_was_copied_against_the_limit_is_forgiven_soon() {
    let mut throttle = Throttle::default();
    let mut now = 5_000;
    // An hour of copies at 0 %, each forced through after its delay.
    for _ in 0..1800 {
        now += DELAY_MS_MAX;
        throttle.begin(0, now - DELAY_MS_MAX, now).expect("forced");
        now += 1000;
        throttle.end(now);
    }
    // From now on half of the time is allowed: a copy may begin at once before long.
    let changed = now;
    while throttle.begin(50, now, now).is_err() {
        now += 10;
        assert!(now - changed <= 5_000, "debt: {}", throttle.debt);
    }
}
