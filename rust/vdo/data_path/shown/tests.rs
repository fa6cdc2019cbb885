// SPDX-License-Identifier: GPL-2.0

use super::*;

#[test]
fn what_a_writer_shows_can_be_taken_by_part() {
    let shown = Shown::new([(1, 4), (1, 3)]).unwrap();
    assert!(shown.find(&(9..10)).is_none());
    shown.show(1, 'x', [(2..4, 1), (8..16, 3), (20..21, 0)].into_iter());
    shown.show(0, 'y', [(16..18, 7)].into_iter());
    assert_eq!(shown.find(&(8..16)), Some(('x', 3)));
    assert_eq!(shown.find(&(10..12)), Some(('x', 5)));
    assert_eq!(shown.find(&(3..4)), Some(('x', 2)));
    assert_eq!(shown.find(&(17..18)), Some(('y', 8)));
    for missing in [0..1, 1..3, 4..5, 7..9, 15..17, 19..20, 21..22] {
        assert!(shown.find(&missing).is_none(), "{missing:?}");
    }
    shown.hide(1);
    assert!(shown.find(&(9..10)).is_none());
    assert_eq!(shown.find(&(16..17)), Some(('y', 7)));
}
