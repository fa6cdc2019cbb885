// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::format::block_map::set_entry;
use crate::format::SlabConfig;
use core::future::ready;
use core::future::Future;
use kernel::prelude::Result;

/// A bio of which only the place matters.
struct Place(u64, u32);

impl ReadBio for Place {
    fn sector(&self) -> u64 {
        self.0
    }

    fn sectors(&self) -> u32 {
        self.1
    }

    fn forward(&mut self, _: u64) -> impl Future<Output = Result> + Send {
        ready(Ok(()))
    }

    fn start_part(&mut self, _: usize, _: u64, _: u32) -> impl Future<Output = Result> + Send {
        ready(Ok(()))
    }

    fn finish_parts(&mut self) -> impl Future<Output = Result> + Send {
        ready(Ok(()))
    }

    fn zero(&mut self, _: usize, _: usize) {}

    fn copy_in(&mut self, _: usize, _: &[u8]) {}

    fn leave_map(&mut self) -> impl Future<Output = ()> + Send {
        ready(())
    }
}

fn page(mappings: &[Mapping]) -> Page {
    let mut page = [0; 4096];
    for (slot, &mapping) in (0..).zip(mappings) {
        set_entry(&mut page, slot, mapping);
    }
    page
}

/// Slabs of which all this is the first one's data.
const DEPOT: DepotLayout = DepotLayout {
    first_block: 1,
    slab_count: 2,
    slab: SlabConfig {
        blocks: 2048,
        data_blocks: 1000,
        reference_blocks: 1,
        journal_blocks: 8,
        flushing: 4,
        blocking: 5,
        scrubbing: 6,
    },
};

fn find(page: &Page, slot: u16, limit: u64) -> Run {
    run_in(page, slot, limit, &DEPOT)
}

fn run(mapping: Mapping, blocks: u64) -> Run {
    Run { mapping, blocks }
}

#[test]
fn neighbours_on_the_storage_are_one_run() {
    let plain = Mapping::plain;
    let page = page(&[plain(7), plain(8), plain(9), plain(11), plain(12)]);
    assert_eq!(find(&page, 0, 5), run(plain(7), 3));
    assert_eq!(find(&page, 1, 5), run(plain(8), 2));
    assert_eq!(find(&page, 0, 2), run(plain(7), 2));
    assert_eq!(find(&page, 3, 2), run(plain(11), 2));
}

#[test]
fn all_that_reads_as_zeroes_is_one_run() {
    let page = page(&[
        Mapping::ZERO,
        Mapping::UNMAPPED,
        Mapping::ZERO,
        Mapping::plain(4),
    ]);
    assert_eq!(find(&page, 0, 4), run(Mapping::ZERO, 3));
    assert_eq!(find(&page, 1, 811), run(Mapping::UNMAPPED, 2));
}

#[test]
fn fragments_and_nonsense_stand_alone() {
    let fragment = |slot| Mapping::fragment(5, slot).unwrap();
    let nonsense = Mapping {
        pbn: 0,
        ..fragment(1)
    };
    let page = page(&[fragment(0), fragment(0), nonsense, nonsense, Mapping::ZERO]);
    assert_eq!(find(&page, 0, 5), run(fragment(0), 1));
    assert_eq!(find(&page, 2, 3), run(nonsense, 1));
    assert_eq!(find(&page, 4, 1), run(Mapping::ZERO, 1));
}

#[test]
fn a_run_ends_with_its_page() {
    let mappings: std::vec::Vec<_> = (0..812).map(|n| Mapping::plain(100 + n)).collect();
    assert_eq!(find(&page(&mappings), 811, 1), run(Mapping::plain(911), 1));
}

#[test]
fn a_run_ends_with_the_data_of_its_slab() {
    // The last data blocks of slab 0, its reference counts, and blocks of slab 1.
    let mappings: std::vec::Vec<_> = [999, 1000, 1001, 1002, 2049, 2050]
        .map(Mapping::plain)
        .into();
    let page = page(&mappings);
    assert_eq!(find(&page, 0, 6), run(Mapping::plain(999), 2));
    assert_eq!(find(&page, 2, 4), run(Mapping::plain(1001), 1));
    assert_eq!(find(&page, 4, 2), run(Mapping::plain(2049), 2));
}

#[test]
fn a_bio_may_begin_and_end_inside_a_block() {
    let wanted = |offset, skip, bytes| Wanted {
        offset,
        skip,
        bytes,
    };
    // Sectors 13 to 30: from the middle of block 1 into block 3.
    let bio = Place(13, 17);
    assert_eq!(bytes_of(&bio, 1, 1), wanted(0, 5 * 512, 3 * 512));
    assert_eq!(bytes_of(&bio, 2, 1), wanted(3 * 512, 0, 8 * 512));
    assert_eq!(bytes_of(&bio, 3, 1), wanted(11 * 512, 0, 6 * 512));
    assert_eq!(bytes_of(&bio, 1, 3), wanted(0, 5 * 512, 17 * 512));
    assert_eq!(bytes_of(&Place(8, 8), 1, 1), wanted(0, 0, 4096));
}
