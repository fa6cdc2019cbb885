// SPDX-License-Identifier: GPL-2.0

//! What the checker says of the index on disk: of one that was saved, of one that crashed, and of one
//! of which a thing is damaged.

use sim::model::Shape;
use std::ops::Range;
use uds::format::save::Places;
use uds::format::save::Save;
use uds::format::super_block::SuperBlock;
use uds::format::Geometry;
use vdo_check::Place;
use vdo_check::Report;
use vdo_sim::inspect;
use vdo_sim::plan::Plan;
use vdo_sim::scene::sectors;
use vdo_sim::scene::Scene;
use vdo_sim::space::Space;
use vdo_sim::toy::block;
use vdo_sim::toy::block_mut;
use vdo_sim::toy::Toy;
use vdo_sim::toy::BLOCK_SECTORS;

/// Where the index begins.
const START: u64 = 1;

fn plan() -> Plan {
    let plan = Plan {
        space: Space::new(&[0..20, 20..40]),
        batch_blocks: 16,
        ..Plan::default()
    };
    plan.with_index()
}

/// Writes so many different blocks, and stops, with a save or without.
fn image(names: Range<u64>, save: bool) -> Vec<u8> {
    let mut scene = Scene::new(&plan());
    scene.play(|user| async move {
        while !user.machine.has_index() {
            user.rest().await;
        }
        for name in names {
            let shape = Shape {
                holes: Vec::new(),
                copies: Some(((1 << 40) + name, BLOCK_SECTORS)),
            };
            let at = name % 40;
            let written = user.write_shaped(sectors(at..at + 1), shape, false).await;
            written.unwrap();
        }
        user.flush().await.unwrap();
        user.rest().await;
        if save {
            user.machine.remove().await;
        }
        user.machine.world.images().swap_remove(0)
    })
}

/// An index that was saved, with what says where its parts are.
struct Sample {
    image: Vec<u8>,
    toy: Toy,
    geometry: Geometry,
    super_block: SuperBlock,
    slot: u16,
    save: Save,
}

impl Sample {
    fn new(names: Range<u64>) -> Self {
        let image = image(names, true);
        let toy = plan().toy;
        let geometry = Geometry::of_shape(toy.index_shape.unwrap()).unwrap();
        let super_block = SuperBlock::decode(block(&image, START), START).unwrap();
        let slot = inspect::report(&toy, &image, toy.index_shape)
            .index
            .unwrap()
            .save
            .unwrap();
        let header = block(&image, super_block.save_block(slot));
        let save = Save::decode(header, &super_block, slot).unwrap().unwrap();
        Self {
            image,
            toy,
            geometry,
            super_block,
            slot,
            save,
        }
    }

    fn report(&self) -> Report {
        inspect::report(&self.toy, &self.image, self.toy.index_shape)
    }

    /// Returns a block of the latest save.
    fn saved(&mut self, place: impl Fn(&Places) -> u64) -> &mut [u8; 4096] {
        let places = Places::new(&self.super_block, self.save.zones);
        let at = self.super_block.save_block(self.slot) + place(&places);
        block_mut(&mut self.image, at)
    }

    /// Returns a page of a chapter.
    fn page(&mut self, chapter: u64, page: u64) -> &mut [u8; 4096] {
        let slot = self.geometry.slot_of(chapter);
        let at = self.super_block.volume_block() + self.geometry.slot_block(slot);
        block_mut(&mut self.image, at + page)
    }
}

fn list(report: &Report) -> String {
    let lines = report.findings.iter().map(ToString::to_string);
    lines.collect::<Vec<_>>().join("\n")
}

/// Five chapters of sixteen names, of which three are left, and a begun one.
const NAMES: Range<u64> = 0..86;

/// Asserts that the damage breaks this invariant at this place, and says so in these words.
fn breaks(invariant: u8, place: Place, words: &str, damage: impl FnOnce(&mut Sample)) {
    let mut sample = Sample::new(NAMES);
    damage(&mut sample);
    let report = sample.report();
    assert_eq!(report.broken(), [invariant], "{}", list(&report));
    let found = report.findings.iter().find(|f| f.invariant == invariant);
    let found = found.unwrap();
    assert_eq!(found.place, place, "{found}");
    assert!(found.text.contains(words), "{found}");
}

#[test]
fn a_saved_index_is_sound() {
    let sample = Sample::new(NAMES);
    let report = sample.report();
    assert_eq!(report.findings, []);
    let index = report.index.unwrap();
    assert_eq!((index.oldest, index.newest), (2, 5));
    // Those of forgotten chapters are swept off, sooner or later.
    assert!((54..=86).contains(&index.names.unwrap()), "{index:?}");
}

#[test]
fn an_index_without_chapters_is_sound() {
    let sample = Sample::new(0..7);
    let report = sample.report();
    assert_eq!(report.findings, []);
    let index = report.index.unwrap();
    assert_eq!((index.oldest, index.newest, index.names), (0, 0, Some(7)));
}

#[test]
fn what_a_crash_leaves_is_no_error() {
    let image = image(NAMES, false);
    let toy = plan().toy;
    let report = inspect::report(&toy, &image, toy.index_shape);
    assert!(report.is_sound(), "{}", list(&report));
    let index = report.index.unwrap();
    assert_eq!((index.oldest, index.newest), (2, 5));
    assert_eq!((index.save, index.names), (None, None));
}

#[test]
fn a_save_that_was_made_void_is_told() {
    let mut sample = Sample::new(NAMES);
    // As far as a crash lets it come.
    sample.saved(|places| places.open_chapter)[..512].fill(0);
    let report = sample.report();
    assert!(report.is_sound());
    assert_eq!(report.findings[0].place, Place::Save(sample.slot));
    assert!(report.findings[0].text.contains("rebuilt"));
    assert_eq!(report.index.unwrap().save, None);
}

#[test]
fn super_block_and_configuration() {
    breaks(37, Place::Index, "no index super block", |sample| {
        block_mut(&mut sample.image, START)[0] ^= 1;
    });
    breaks(37, Place::Index, "nonce", |sample| {
        block_mut(&mut sample.image, START)[192 + 40] ^= 1;
    });
    breaks(38, Place::Index, "number of chapters", |sample| {
        block_mut(&mut sample.image, START + 1)[14] ^= 1;
    });
    breaks(38, Place::Index, "nonce", |sample| {
        block_mut(&mut sample.image, START + 1)[42] ^= 1;
    });
}

#[test]
fn saves() {
    let slot = Sample::new(NAMES).slot;
    breaks(39, Place::Save(1 - slot), "no index save", |sample| {
        let other = sample.super_block.save_block(1 - slot);
        block_mut(&mut sample.image, other).fill(0x55);
    });
    breaks(40, Place::Save(slot), "open chapter: no saved", |sample| {
        sample.saved(|places| places.open_chapter)[0] ^= 1;
    });
    breaks(40, Place::Save(slot), "number of records", |sample| {
        sample.saved(|places| places.open_chapter)[13] = 1;
    });
    breaks(40, Place::Save(slot), "page map: the magic", |sample| {
        sample.saved(|places| places.page_map)[7] ^= 1;
    });
}

#[test]
fn volume_indexes() {
    let slot = Sample::new(NAMES).slot;
    let lists = 256;
    let sizes = 40 + 8 * lists + 40;
    let broken = |words: &'static str, at: usize, byte: u8| {
        breaks(41, Place::Save(slot), words, |sample| {
            let page = (at / 4096) as u64;
            let block = sample.saved(|places| places.volume_index + page);
            block[at % 4096] ^= byte;
        });
    };
    broken("zone 0: the magic", 0, 1);
    broken("zone 0: the nonce", 8, 1);
    broken("the newest chapter is", 24, 1);
    broken("the oldest chapter is", 16, 0x80);
    broken("the first list is 1, not 0", 32, 1);
    broken("there are 257 lists", 36, 1);
    broken("list 3 has nothing older", 40 + 8 * 3, 0x80);
    broken("the magic of delta lists", 40 + 8 * lists, 1);
    broken("the number of zones is 3, not 1", 40 + 8 * lists + 12, 2);
    broken("entries and", 40 + 8 * lists + 24, 1);
    broken("list 5", sizes + 2 * 5 + 1, 0x40);
    // The first list that is not empty.
    broken("it begins with tag 0x6c", sizes + 2 * lists, 1);
}

#[test]
fn chapters() {
    let page = Place::ChapterIndex {
        chapter: 3,
        page: 0,
    };
    breaks(42, Place::Chapter(3), "is not there", |sample| {
        sample.page(3, 0)[0] ^= 1;
    });
    breaks(42, page, "guard", |sample| sample.page(3, 0)[4095] = 0);
    breaks(42, page, "place of a list", |sample| {
        sample.page(3, 0)[20] ^= 1;
    });
    breaks(
        42,
        Place::Chapter(3),
        "chapter 7 is in its place",
        |sample| {
            sample.page(3, 0)[8] = 7;
        },
    );
}

#[test]
fn records() {
    let pages = Sample::new(NAMES).geometry.index_pages;
    let place = Place::ChapterRecords {
        chapter: 4,
        page: 1,
    };
    breaks(44, place, "2 names are not in their order", |sample| {
        let page = sample.page(4, u64::from(pages) + 1);
        // The root of the tree, and its largest.
        for at in 0..32 {
            page.swap(at, 6 * 32 + at);
        }
    });
    // The names of another page.
    let mut sample = Sample::new(NAMES);
    let other = *sample.page(4, u64::from(pages));
    *sample.page(4, u64::from(pages) + 1) = other;
    let report = sample.report();
    assert_eq!(report.broken(), [44, 46], "{}", list(&report));
}
