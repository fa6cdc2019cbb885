// SPDX-License-Identifier: GPL-2.0

use super::*;

fn geometry(length: Sectors) -> Geometry {
    Geometry::new(length, 3).expect("a valid geometry")
}

#[test]
fn limits() {
    assert!(Geometry::new(0, 3).is_none());
    assert_eq!(geometry(1).regions(), 1);
    assert_eq!(geometry(17).regions(), 3);
    assert!(Geometry::new(REGIONS_MAX << 3, 3).is_some());
    assert!(Geometry::new((REGIONS_MAX << 3) + 1, 3).is_none());
    assert!(Geometry::new(u64::MAX, 3).is_none());
}

#[test]
fn touched_regions() {
    let geometry = geometry(64);
    assert_eq!(geometry.touched(&(0..1)), 0..1);
    assert_eq!(geometry.touched(&(7..9)), 0..2);
    assert_eq!(geometry.touched(&(8..16)), 1..2);
}

#[test]
fn covered_regions() {
    let geometry = geometry(64);
    assert_eq!(geometry.covered(&(8..24)), 1..3);
    assert_eq!(geometry.covered(&(7..25)), 1..3);
    assert!(geometry.covered(&(9..15)).is_empty());
    assert!(geometry.covered(&(9..17)).is_empty());
}

#[test]
fn the_short_last_region_counts_as_whole() {
    let geometry = geometry(61);
    assert_eq!(geometry.regions(), 8);
    assert_eq!(geometry.covered(&(56..61)), 7..8);
    assert!(geometry.covered(&(57..61)).is_empty());
    assert!(geometry.covered(&(56..60)).is_empty());
    assert_eq!(geometry.sectors(&(6..8)), 48..61);
}
