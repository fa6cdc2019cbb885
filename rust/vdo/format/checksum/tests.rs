// SPDX-License-Identifier: GPL-2.0

use super::crc32;

#[test]
fn known_values() {
    assert_eq!(crc32(b"123456789"), 0xd202_d277);
    assert_eq!(crc32(&[0; 97]), 0xffff_ffff);
    assert_eq!(crc32(&[]), 0xffff_ffff);
}
