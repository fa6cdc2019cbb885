// SPDX-License-Identifier: GPL-2.0

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

proptest! {
    #[test]
    fn the_table_is_a_map(steps in prop::collection::vec((0_u32..40, any::<bool>()), 0..400)) {
        let mut table = Claims::default();
        let mut model: BTreeMap<u32, u8> = BTreeMap::new();
        for (sbn, adds) in steps {
            // Some that are neighbours, and some that are far.
            let sbn = if sbn % 3 == 0 { sbn << 18 } else { sbn };
            if adds {
                if model.get(&sbn).is_none_or(|claims| *claims < 254) {
                    table.add(sbn, 1).unwrap();
                    *model.entry(sbn).or_default() += 1;
                }
            } else {
                let taken = model.get_mut(&sbn).is_some_and(|claims| {
                    *claims -= 1;
                    true
                });
                model.retain(|_, claims| *claims > 0);
                prop_assert_eq!(table.take(sbn), taken);
            }
            prop_assert_eq!(table.is_empty(), model.is_empty());
            let found: Vec<u8> = model.keys().map(|sbn| table.get(*sbn)).collect();
            prop_assert_eq!(found, model.values().copied().collect::<Vec<_>>());
            prop_assert_eq!(table.get(1000), 0);
        }
    }
}

#[test]
fn many_claims_are_all_given_back() {
    let mut table = Claims::default();
    for sbn in 0..5000 {
        table.add(sbn, 1 + (sbn % 3) as u8).unwrap();
    }
    for sbn in (0..5000).rev() {
        assert_eq!(table.get(sbn), 1 + (sbn % 3) as u8);
        for _ in 0..=sbn % 3 {
            assert!(table.take(sbn));
        }
        assert!(!table.take(sbn));
    }
    assert!(table.is_empty());
}
