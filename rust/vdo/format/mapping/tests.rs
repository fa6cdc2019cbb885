// SPDX-License-Identifier: GPL-2.0

use super::Mapping;
use super::MappingState;
use proptest::prelude::*;

#[test]
fn bytes_of_a_real_volume() {
    let plain = Mapping::plain(680_485);
    assert_eq!(plain.encode(), [0x01, 0x25, 0x62, 0x0a, 0x00]);
    let fragment = Mapping::fragment(680_041, 2).unwrap();
    assert_eq!(fragment.encode(), [0x04, 0x69, 0x60, 0x0a, 0x00]);
    assert_eq!(Mapping::ZERO.encode(), [1, 0, 0, 0, 0]);
    assert_eq!(Mapping::UNMAPPED.encode(), [0; 5]);
    let last = Mapping::plain((1 << 36) - 1);
    assert_eq!(last.encode(), [0xf1, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn locations() {
    let at = |pbn, bits| Mapping {
        pbn,
        state: MappingState::from_bits(bits).unwrap(),
    };
    assert!(at(0, 0).is_valid_location() && at(0, 1).is_valid_location());
    assert!(!at(0, 2).is_valid_location() && !at(7, 0).is_valid_location());
    assert!(at(7, 1).is_valid_location() && at(7, 15).is_valid_location());
    assert_eq!(MappingState::from_bits(16), None);
    assert_eq!(MappingState::fragment(14), None);
    assert_eq!(at(7, 15).state.slot(), Some(13));
    assert_eq!(at(7, 1).state.slot(), None);
}

proptest! {
    #[test]
    fn bytes_come_back(bytes: [u8; 5]) {
        prop_assert_eq!(Mapping::decode(bytes).encode(), bytes);
    }

    #[test]
    fn mappings_come_back(pbn in 0u64..1 << 36, bits in 0u8..16) {
        let mapping = Mapping { pbn, state: MappingState::from_bits(bits).unwrap() };
        prop_assert_eq!(Mapping::decode(mapping.encode()), mapping);
    }
}
