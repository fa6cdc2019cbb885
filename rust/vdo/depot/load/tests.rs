// SPDX-License-Identifier: GPL-2.0

use super::*;

#[test]
fn an_estimate_is_the_least_that_gives_the_hint() {
    for (blocks, journal) in [(32, 4), (1 << 13, 224), (1 << 19, 224)] {
        let slab = SlabConfig::new(blocks, journal).unwrap();
        let step = (slab.data_blocks / 5000).max(1) as usize;
        for free in (0..=slab.data_blocks).step_by(step) {
            let hint = summary::hint(free, &slab);
            let least = estimate(hint, &slab);
            assert!(least <= free);
            assert_eq!(summary::hint(least, &slab), hint);
            assert!(least == 0 || summary::hint(least - 1, &slab) < hint);
        }
    }
}
