// SPDX-License-Identifier: GPL-2.0

use super::*;

#[test]
fn a_percentage_is_told_of_once_each_time_it_is_passed() {
    let fullness = Fullness::new();
    let seen = [50, 79, 80, 84, 86, 96, 95, 80, 85, 100, 100, 10, 80];
    let told = seen.map(|percentage| fullness.rises(percentage));
    let expected = [
        false, false, true, false, true, true, false, false, true, true, false, false, true,
    ];
    assert_eq!(told, expected);
}
