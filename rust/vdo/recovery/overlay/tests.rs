// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::format::block_map;
use crate::format::Mapping;
use crate::format::Pbn;
use crate::recovery::fixture::child;
use crate::recovery::fixture::data;
use crate::recovery::fixture::volume;
use crate::recovery::fixture::Image;
use crate::recovery::fixture::FIRST_DATA;
use crate::recovery::fixture::NONCE;
use std::vec::Vec;

#[test]
fn the_last_change_of_each_slot_is_shown() {
    const LEAF: Pbn = FIRST_DATA + 90;
    const NEW: Pbn = FIRST_DATA + 91;
    let root = volume().roots.start;
    let mut image = Image::new((1, 1));
    let entries = [
        data(LEAF, 5, FIRST_DATA),
        data(LEAF, 811, FIRST_DATA + 1),
        data(LEAF, 5, FIRST_DATA + 2),
        child(root, 3, NEW),
        data(NEW, 0, FIRST_DATA + 3),
        data(LEAF, 6, 0),
        data(LEAF, 0, FIRST_DATA + 4),
    ];
    image
        .put(1, &entries)
        .put(2, &[data(LEAF, 5, FIRST_DATA + 7)]);
    let rig = image.rig();
    let volume = volume();
    let overlay = rig.run(async {
        let survey = Survey::new(&*rig.log, &rig.storage, &volume).await.unwrap();
        read_overlay(&rig.storage, &volume, &survey).await.unwrap()
    });
    assert_eq!(rig.world.changes(), 0);
    let shown = |pbn| -> Vec<(u16, Mapping)> {
        let mut page = [0; 4096];
        block_map::format_page(&mut page, NONCE, pbn);
        block_map::set_entry(&mut page, 6, Mapping::ZERO);
        overlay.apply(pbn, &mut page);
        let slots = (0..block_map::ENTRIES).map(|slot| (slot, block_map::entry(&page, slot)));
        slots
            .filter(|(_, entry)| *entry != Mapping::UNMAPPED)
            .collect()
    };
    let plain = |block| Mapping::plain(FIRST_DATA + block);
    assert_eq!(shown(LEAF), [(0, plain(4)), (5, plain(7)), (811, plain(1))]);
    assert_eq!(shown(NEW), [(0, plain(3)), (6, Mapping::ZERO)]);
    assert_eq!(shown(root), [(3, plain(91)), (6, Mapping::ZERO)]);
    assert_eq!(shown(FIRST_DATA), [(6, Mapping::ZERO)]);
    assert_eq!((overlay.creates(NEW), overlay.creates(LEAF)), (true, false));
}

#[test]
fn a_journal_without_entries_changes_nothing() {
    let rig = Image::new((1, 1)).rig();
    let volume = volume();
    let overlay = rig.run(async {
        let survey = Survey::new(&*rig.log, &rig.storage, &volume).await.unwrap();
        read_overlay(&rig.storage, &volume, &survey).await.unwrap()
    });
    assert_eq!(overlay.pages().count(), 0);
}
