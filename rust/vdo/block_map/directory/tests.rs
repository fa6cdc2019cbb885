// SPDX-License-Identifier: GPL-2.0

use super::*;

#[test]
fn a_page_is_found_until_another_takes_its_place() {
    let directory = Directory::new(1000).unwrap();
    assert_eq!(directory.get(0), None);
    // The largest logical size has 1,354,113,084 leaf pages.
    for number in [0, 1, 1023, 1024, 1_354_113_083] {
        let pbn = (1 << PBN_BITS) - 1 - number;
        directory.put(number, pbn);
        assert_eq!(directory.get(number), Some(pbn));
    }
    assert_eq!(directory.get(0), None, "1024 took the place");
    assert_eq!(directory.get(1), Some((1 << PBN_BITS) - 2));
    assert_eq!(directory.get(2), None);
}

#[test]
fn what_does_not_fit_is_not_remembered() {
    let directory = Directory::new(1).unwrap();
    for (number, pbn) in [(1 << 40, 7), (3, 1 << PBN_BITS)] {
        directory.put(number, pbn);
        assert_eq!(directory.get(number), None);
    }
    directory.put((1 << 32) - 1, 7);
    assert_eq!(directory.get((1 << 32) - 1), Some(7));
}
