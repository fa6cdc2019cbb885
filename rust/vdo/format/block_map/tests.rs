// SPDX-License-Identifier: GPL-2.0

use super::entries;
use super::entry;
use super::format_page;
use super::set_entry;
use super::set_initialized;
use super::validate;
use super::Validity;
use super::ENTRIES;
use crate::format::vectors::vector;
use crate::format::vectors::NONCE;
use crate::format::Mapping;
use proptest::prelude::*;

#[test]
fn a_real_leaf() {
    let page = vector!("clean/bm-leaf-lbn0");
    assert_eq!(validate(page, NONCE, 679_192), Validity::Valid);
    assert_eq!(entry(page, 0), Mapping::plain(679_252));
    assert_eq!(entry(page, 100), Mapping::plain(680_485));
    assert_eq!(entry(page, 200), Mapping::UNMAPPED);
    assert_eq!(entry(page, ENTRIES), Mapping::UNMAPPED);
    let page = vector!("clean/bm-leaf-lbn1624");
    assert_eq!(entry(page, 424), Mapping::fragment(680_041, 2).unwrap());
    assert_eq!(entry(page, 376), Mapping::UNMAPPED);
}

#[test]
fn a_page_is_trusted_only_at_its_place() {
    let page = vector!("clean/bm-leaf-lbn0");
    assert_eq!(
        validate(page, NONCE, 679_193),
        Validity::Bad { pbn: 679_192 }
    );
    assert_eq!(validate(page, NONCE + 1, 679_192), Validity::Invalid);
    let mut page = *page;
    set_initialized(&mut page, false);
    assert_eq!(validate(&page, NONCE, 679_192), Validity::Invalid);
    assert_eq!(validate(&page, NONCE, 679_193), Validity::Invalid);
    page[32] = 7;
    assert_eq!(validate(&page, NONCE, 679_192), Validity::Valid);
    page[4] = 2;
    assert_eq!(validate(&page, NONCE, 679_192), Validity::Invalid);
}

#[test]
fn a_page_built_anew_is_the_same() {
    let real = vector!("clean/bm-leaf-lbn0");
    let mut page = [0xaa; 4096];
    format_page(&mut page, NONCE, 679_192);
    assert_eq!(validate(&page, NONCE, 679_192), Validity::Invalid);
    for (slot, mapping) in entries(real).enumerate() {
        set_entry(&mut page, slot as u16, mapping);
    }
    set_initialized(&mut page, true);
    assert_eq!(&page, real);
}

proptest! {
    #[test]
    fn one_entry_at_a_time(slot in 0..ENTRIES, pbn in 0u64..1 << 36) {
        let mut page = *vector!("clean/bm-leaf-lbn0");
        set_entry(&mut page, slot, Mapping::plain(pbn));
        for (at, mapping) in entries(&page).enumerate() {
            let old = entry(vector!("clean/bm-leaf-lbn0"), at as u16);
            let expected = if at == usize::from(slot) { Mapping::plain(pbn) } else { old };
            prop_assert_eq!(mapping, expected);
        }
    }

    #[test]
    fn nothing_is_outside(slot: u16) {
        let mut page = [0; 4096];
        set_entry(&mut page, slot, Mapping::ZERO);
        prop_assert_eq!(entry(&page, slot).is_mapped(), slot < ENTRIES);
    }
}
