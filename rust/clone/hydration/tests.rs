// SPDX-License-Identifier: GPL-2.0

use super::*;

const FULL: Sectors = 1024;

fn hydration(region_size: Sectors, threshold: Option<u32>, batch_size: Option<u32>) -> Hydration {
    let mut hydration = Hydration::new(
        region_size,
        true,
        Tuning {
            threshold,
            batch_size,
        },
    );
    hydration.run();
    hydration
}

/// The sizes of the permits that are given until no more are.
fn permits(hydration: &mut Hydration) -> std::vec::Vec<Regions> {
    core::iter::from_fn(|| hydration.permit(FULL, FULL).map(|permit| permit.regions)).collect()
}

#[test]
fn a_stated_threshold_is_an_exact_cap() {
    for (threshold, batch) in [(1, 1), (2, 1), (8, 1), (8, 3), (8, 100), (1, 64)] {
        let permits = permits(&mut hydration(8, Some(threshold), Some(batch)));
        assert_eq!(
            permits.iter().sum::<u64>(),
            u64::from(threshold),
            "{threshold} {batch}"
        );
        assert!(
            permits.iter().all(|size| *size <= u64::from(batch)),
            "{threshold} {batch}"
        );
    }
    assert_eq!(permits(&mut hydration(8, Some(0), Some(1))), []);
    assert_eq!(permits(&mut hydration(8, Some(2), Some(0))), [1, 1]);
}

#[test]
fn without_tuning_the_window_is_filled_with_full_copies() {
    assert_eq!(permits(&mut hydration(8, None, None)), [128, 128]);
    assert_eq!(permits(&mut hydration(1024, None, None)), [1, 1]);
    // One large region at a time; it is copied in parts.
    assert_eq!(permits(&mut hydration(1 << 21, None, None)), [1]);
}

#[test]
fn beside_users_copies_are_small() {
    let mut hydration = hydration(8, None, None);
    let mut now = 0;
    // A device of 32 MiB/s.
    while now < 2000 {
        let regions = permits(&mut hydration);
        for count in regions {
            now += count * 8 / 64;
            hydration.completed(count, count, true, now);
        }
    }
    assert_eq!(permits(&mut hydration), [16, 16]);
}

#[test]
fn nothing_runs_while_halted_disabled_or_resting() {
    let mut hydration = hydration(8, Some(1), Some(1));
    hydration.halt();
    assert_eq!(hydration.permit(FULL, FULL), None);
    hydration.run();
    hydration.enabled = false;
    assert_eq!(hydration.permit(FULL, FULL), None);
    hydration.enabled = true;
    hydration.rest();
    assert_eq!(hydration.permit(FULL, FULL), None);
    hydration.kick();
    assert_eq!(hydration.permit(FULL, FULL), Some(Permit { regions: 1 }));
    assert!(!hydration.is_drained());
    hydration.completed(1, 1, false, 0);
    assert!(hydration.is_drained());
}

#[test]
fn small_buffers_take_small_copies_only() {
    assert_eq!(hydration(8, None, None).permit(8, FULL), None);
    assert_eq!(hydration(8, Some(64), Some(2)).permit(8, FULL), None);
    assert_eq!(
        hydration(8, Some(64), Some(1)).permit(8, FULL),
        Some(Permit { regions: 1 })
    );
}

#[test]
fn pauses_when_everything_fails() {
    let mut hydration = hydration(8, Some(1), Some(1));
    for _ in 0..FAILURES_MAX {
        assert_eq!(hydration.permit(FULL, FULL), Some(Permit { regions: 1 }));
        hydration.completed(1, 0, false, 0);
    }
    assert_eq!(hydration.permit(FULL, FULL), None);
    hydration.kick();
    for _ in 0..2 * FAILURES_MAX {
        assert_eq!(hydration.permit(FULL, FULL), Some(Permit { regions: 1 }));
        hydration.completed(1, 0, false, 0);
        assert_eq!(hydration.permit(FULL, FULL), Some(Permit { regions: 1 }));
        hydration.completed(1, 1, false, 0);
    }
}
