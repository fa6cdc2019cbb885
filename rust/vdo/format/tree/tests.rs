// SPDX-License-Identifier: GPL-2.0

use super::first_lbn;
use super::leaf;
use super::Forest;
use super::LEVELS;
use super::ROOT_HEIGHT;
use crate::format::block_map;
use crate::format::vectors::vector;
use proptest::prelude::*;

const LARGEST: u64 = 1 << 40;

#[test]
fn the_way_to_a_distant_block() {
    let forest = Forest::new(60, 1 << 28).unwrap();
    let (page, slot) = leaf(200_000_000);
    assert_eq!((page, slot), (246_305, 340));
    let path = forest.path(page);
    assert_eq!((path.tree, path.indices), (5, [4105, 5, 0, 0, 0]));

    // As the pages of a real volume say.
    let pages = [
        (4, vector!("clean/bm-lbn200000000-h4"), 680_542),
        (3, vector!("clean/bm-lbn200000000-h3"), 680_543),
        (2, vector!("clean/bm-lbn200000000-h2"), 680_544),
        (1, vector!("clean/bm-lbn200000000-h1"), 680_545),
    ];
    for (height, page, child) in pages {
        assert_eq!(block_map::entry(page, path.slot(height)).pbn, child);
    }
    let page = vector!("clean/bm-lbn200000000-h0");
    assert_eq!(block_map::entry(page, slot).pbn, 680_546);
}

#[test]
fn pages_of_a_small_map() {
    // 61 leaf pages and a bit.
    let forest = Forest::new(60, 61 * 812 + 5).unwrap();
    assert_eq!(forest.leaf_pages(), 62);
    assert_eq!(forest.pages(0, 0), 2);
    assert_eq!(forest.pages(1, 0), 2);
    assert_eq!(forest.pages(2, 0), 1);
    assert_eq!(forest.pages(2, ROOT_HEIGHT), 1);
    assert_eq!(forest.slots(0), 812);
    assert_eq!(forest.slots(61), 5);
    assert_eq!(forest.slots(62), 0);

    let one = Forest::new(60, 1).unwrap();
    assert_eq!((one.pages(0, 0), one.pages(0, 3)), (1, 1));
    assert_eq!((one.pages(1, 0), one.pages(1, 3)), (0, 0));
    assert_eq!(one.pages(1, ROOT_HEIGHT), 1);
    assert_eq!(Forest::new(0, 1), None);
}

proptest! {
    #[test]
    fn paths_lead_back(roots in 1u32..100, lbn in 0..LARGEST, logical in 1..=LARGEST) {
        let forest = Forest::new(roots, logical).unwrap();
        let (page, slot) = leaf(lbn);
        prop_assert_eq!(first_lbn(page) + u64::from(slot), lbn);
        let path = forest.path(page);
        prop_assert_eq!(forest.page_number(path.tree, path.indices[0]), page);
        for height in 0..LEVELS {
            let inside = path.indices[height] < forest.pages(path.tree, height);
            if lbn < logical {
                prop_assert!(inside || height == ROOT_HEIGHT);
            }
            if height == 0 {
                prop_assert_eq!(inside, page < forest.leaf_pages());
            }
        }
    }

    #[test]
    fn trees_share_all_pages(roots in 1u32..100, logical in 1..1u64 << 24) {
        let forest = Forest::new(roots, logical).unwrap();
        let sum: u64 = (0..roots).map(|tree| forest.pages(tree, 0)).sum();
        prop_assert_eq!(sum, forest.leaf_pages());
    }
}
