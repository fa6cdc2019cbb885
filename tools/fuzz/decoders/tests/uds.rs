// SPDX-License-Identifier: GPL-2.0

//! The fuzz targets for the deduplication index, with random input and with damaged sound input.

use fuzz_decoders::uds;
use proptest::prelude::*;
use proptest::sample::Index;

#[test]
fn sound_input_is_sound() {
    assert!(uds::volume_index(uds::saved_volume_index()));
    // Two entries: a plain one, and a collision.
    let list = [&[0, 10, 0, 4][..], &[0; 22]].concat();
    assert!(uds::list(&list));
    assert!(!uds::list(&list[..20]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn lists(
        head in any::<[u8; 4]>(),
        data in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff)], 0..600),
    ) {
        let _ = uds::list(&[&head[..], &data].concat());
    }

    #[test]
    fn damaged_volume_indexes(
        damage in prop::collection::vec((any::<Index>(), 0usize..3, any::<u8>()), 1..8),
    ) {
        let mut data = uds::saved_volume_index().to_vec();
        for (at, place, value) in damage {
            let size = [100, 5400, data.len()][place];
            data[at.index(size)] = value;
        }
        let _ = uds::volume_index(&data);
    }

    #[test]
    fn noise(data in prop::collection::vec(any::<u8>(), 0..9000)) {
        for target in [
            uds::list as fn(&[u8]) -> bool, uds::index_page, uds::headers, uds::volume_index,
        ] {
            let _ = target(&data);
        }
    }
}
