// SPDX-License-Identifier: GPL-2.0

//! Pages that are not what they should be, space that runs out, volumes that are read-only.

use super::*;
use core::future::Future;
use sim::executor::Executor;
use sim::executor::Outcome;
use sim::fault::Fault;
use sim::fault::Kind as IoKind;

/// Runs `task` alone, with a writer.
fn run<'m, T: 'm>(machine: &'m Machine, task: impl Future<Output = T> + 'm) -> T {
    let mut executor = Executor::new(&machine.sim);
    executor.spawn_daemon("writer", machine.writer());
    let task = executor.spawn("task", task);
    match executor.run_task(&task) {
        Ok(result) => result,
        Err(outcome) => panic!("{outcome:?}"),
    }
}

/// Returns an image with LBN 5 of leaf pages 0 and 7 mapped, and where the pages of the first are,
/// by height.
fn sample() -> (Vec<u8>, [Pbn; 5]) {
    let machine = &Machine::new(1, 40, Flaw::None);
    run(machine, async {
        for page_number in [0, 7] {
            let new = Mapping::plain(50 + page_number);
            machine.write(page_number, &[5], new).await.unwrap();
        }
        machine.map.write_all(&machine.ledger).await.unwrap();
    });
    let image = machine.sim.images().swap_remove(0);
    let mut pages = [ROOT_ORIGIN; 5];
    for height in (0..4).rev() {
        let parent: &Page = page_of(&image, pages[height + 1]);
        pages[height] = block_map::entry(parent, 0).pbn;
    }
    (image, pages)
}

fn page_of(image: &[u8], pbn: Pbn) -> &Page {
    image[pbn as usize * BLOCK_SIZE..].first_chunk().unwrap()
}

fn page_of_mut(image: &mut [u8], pbn: Pbn) -> &mut Page {
    image[pbn as usize * BLOCK_SIZE..]
        .first_chunk_mut()
        .unwrap()
}

fn lbn(page_number: u64) -> Lbn {
    tree::first_lbn(page_number) + 5
}

#[test]
fn what_was_written_is_read() {
    let (image, _) = sample();
    let machine = &Machine::with_image(2, image, 1, Flaw::None, true);
    run(machine, async {
        for page_number in [0, 7] {
            let expected = Mapping::plain(50 + page_number);
            assert_eq!(machine.read(lbn(page_number)).await, Ok(expected));
        }
        assert_eq!(machine.read(lbn(1)).await, Ok(Mapping::UNMAPPED));
        assert_eq!(machine.read(lbn(3)).await, Ok(Mapping::UNMAPPED));
    });
    let statistics = machine.map.statistics();
    assert_eq!(statistics.pages_loaded, 2);
    assert_eq!((statistics.clean_pages, statistics.free_pages), (1, 0));
    assert_eq!(
        (statistics.fetch_required, statistics.discard_required),
        (1, 1)
    );
}

#[test]
fn a_resident_page_is_found_without_waiting() {
    let (image, pages) = sample();
    let machine = &Machine::with_image(2, image, 4, Flaw::None, true);
    assert_eq!(machine.map.try_leaf(0), None);
    run(machine, machine.read(lbn(0))).unwrap();
    assert_eq!(machine.map.try_leaf(0), Some(Ok(Some(pages[0]))));
    assert!(machine.map.try_pin(pages[0]).is_some());
    // Page 3 is in the same tree; everything above it is in memory.
    assert_eq!(machine.map.try_leaf(3), Some(Ok(None)));
    assert_eq!(machine.map.try_leaf(7), None);
}

#[test]
fn pages_behind_the_end_are_refused_until_the_volume_grows() {
    let machine = &Machine::new(3, 4, Flaw::None);
    run(machine, async {
        let refused = Err(Status::OutOfRange.into());
        assert_eq!(machine.map.leaf(LEAVES).await, refused);
        assert_eq!(machine.map.try_leaf(LEAVES), Some(refused));
        machine.map.grow(LOGICAL_BLOCKS + ENTRIES);
        assert_eq!(machine.map.leaf(LEAVES).await, Ok(None));
        machine.write(LEAVES, &[0], Mapping::ZERO).await.unwrap();
    });
}

#[test]
fn a_page_of_another_place() {
    let (sound, pages) = sample();
    for (height, page) in pages.into_iter().enumerate() {
        let mut image = sound.clone();
        page_of_mut(&mut image, page)[16] ^= 0x80;
        let machine = &Machine::with_image(4, image, 4, Flaw::None, false);
        let found = run(machine, machine.read(lbn(0)));
        let (expected, got) = (page, page ^ 0x80);
        assert_eq!(
            machine.world.lines(),
            [format!(
                "Expected page {expected} but got page {got} instead: \
                 VDO Status: Corrupt or incorrect page (1470)"
            )]
        );
        // An interior page counts as empty.
        match height {
            0 => assert_eq!(found, Err(Status::BadPage.into())),
            _ => assert_eq!(found, Ok(Mapping::UNMAPPED)),
        }
    }
}

#[test]
fn a_page_that_is_not_valid_is_empty() {
    let (sound, pages) = sample();
    // Of another volume, of another version of another volume, and not initialized.
    let nonce: Vec<usize> = (8..16).collect();
    let version_too = [&[0][..], &nonce[..]].concat();
    for wrong in [nonce, version_too, vec![32]] {
        for page in pages {
            let mut image = sound.clone();
            for &at in &wrong {
                page_of_mut(&mut image, page)[at] ^= match at {
                    32 => 1,
                    _ => 0xff,
                };
            }
            let machine = &Machine::with_image(5, image, 4, Flaw::None, false);
            let found = run(machine, machine.read(lbn(0)));
            assert_eq!(found, Ok(Mapping::UNMAPPED));
            assert!(machine.world.lines().is_empty());
            assert!(!machine.health.is_read_only());
        }
    }
}

#[test]
fn a_damaged_page_is_not_empty() {
    let (sound, pages) = sample();
    // Bits of the version, and of the nonce.
    for at in [0, 4, 8, 15] {
        for page in pages {
            let mut image = sound.clone();
            page_of_mut(&mut image, page)[at] ^= 0x40;
            let machine = &Machine::with_image(5, image, 4, Flaw::None, false);
            let found = run(machine, machine.read(lbn(0)));
            assert_eq!(found, Err(Status::BadPage.into()));
            let line = "is damaged: VDO Status: Corrupt or incorrect page (1470)";
            assert_eq!(
                machine.world.lines(),
                [format!("Block map page {page} {line}")]
            );
        }
    }
}

#[test]
fn an_interior_entry_that_makes_no_sense() {
    let (sound, pages) = sample();
    let slab = depot().slab;
    let wrong = [
        Mapping::ZERO,
        Mapping::plain(ROOT_ORIGIN),
        Mapping::plain(FIRST_BLOCK + u64::from(slab.data_blocks)),
        Mapping::plain(depot().last_block()),
        Mapping::fragment(pages[0], 0).unwrap(),
    ];
    for page in pages.into_iter().skip(1) {
        for mapping in wrong {
            let mut image = sound.clone();
            block_map::set_entry(page_of_mut(&mut image, page), 0, mapping);
            let machine = &Machine::with_image(6, image, 4, Flaw::None, false);
            let found = run(machine, machine.read(lbn(0)));
            assert_eq!(found, Err(Status::BadMapping.into()), "{mapping:?}");
            assert_eq!(machine.world.lines().len(), 1);
        }
    }
}

#[test]
fn a_page_is_allocated_once() {
    let machine = &Machine::new(7, 4, Flaw::None);
    let mut executor = Executor::new(&machine.sim);
    let tasks: Vec<_> = (0..12)
        .map(|task| {
            let map = &machine.map;
            let leaf = map.leaf_or_allocate(task % 4 * 3, &machine.ledger, &machine.free);
            executor.spawn("allocate", leaf)
        })
        .collect();
    executor.spawn_daemon("writer", machine.writer());
    assert_eq!(executor.run(), Outcome::Done);
    let pages: Vec<_> = tasks
        .iter()
        .map(|task| task.take().unwrap().unwrap())
        .collect();
    for (task, page) in pages.iter().enumerate() {
        assert_eq!(*page, pages[task % 4]);
    }
    // Four leaf pages of one tree, and three above them.
    assert_eq!(machine.ledger.count(Operation::BlockMap), 7);
    assert_eq!(machine.map.statistics().pages_loaded, 0);
}

#[test]
fn without_space_nothing_is_left_behind() {
    for blocks in 0..5 {
        let mut machine = Machine::new(8, 4, Flaw::None);
        machine.free = FreeBlocks::new(&machine.sim, blocks);
        let machine = &machine;
        let written = run(machine, machine.write(0, &[0], Mapping::ZERO));
        let pages = machine.ledger.count(Operation::BlockMap);
        assert_eq!(pages + machine.free.len(), blocks as u64);
        match blocks {
            4 => assert_eq!(written, Ok(())),
            _ => assert_eq!(written, Err(Status::NoSpace.into())),
        }
        assert!(!machine.health.is_read_only());
    }
}

#[test]
fn a_journal_that_is_closed_costs_no_block() {
    let machine = &Machine::new(9, 4, Flaw::None);
    let before = machine.free.len();
    machine.ledger.closed.store(true, SeqCst);
    let written = run(machine, machine.write(0, &[0], Mapping::ZERO));
    assert_eq!(written, Err(Error::READ_ONLY));
    assert_eq!(machine.free.len(), before);
    // The place is free again for the next.
    machine.ledger.closed.store(false, SeqCst);
    run(machine, machine.write(0, &[0], Mapping::ZERO)).unwrap();
}

#[test]
fn a_free_block_that_is_a_page_is_an_error() {
    let (image, pages) = sample();
    let machine = &Machine::with_image(10, image, 4, Flaw::None, false);
    run(machine, machine.read(lbn(0))).unwrap();
    *machine.free.blocks.lock().unwrap() = vec![pages[1]];
    let written = run(machine, machine.write(3, &[0], Mapping::ZERO));
    assert_eq!(written, Err(Status::BadMapping.into()));
    assert_eq!(machine.free.len(), 0, "it is not free");
}

#[test]
fn a_write_that_fails_makes_the_volume_read_only() {
    let machine = &Machine::new(11, 4, Flaw::None);
    machine.sim.add_fault(Fault::new(0, &[IoKind::Write]));
    run(machine, machine.write(0, &[3], Mapping::ZERO)).unwrap();
    let saved = run(machine, machine.map.write_all(&machine.ledger));
    assert_eq!(saved, Err(Error::READ_ONLY));
    assert!(machine.health.is_read_only());
    assert_eq!(run(machine, machine.read(3)), Ok(Mapping::ZERO));
    assert_eq!(machine.map.oldest_change(), Some(1));
    let refused = run(machine, machine.write(1, &[3], Mapping::ZERO));
    assert_eq!(refused, Err(Error::READ_ONLY));
}

#[test]
fn a_read_that_fails_is_logged() {
    let (image, pages) = sample();
    for (height, number) in [(0, 3), (3, 4), (4, 4)] {
        let machine = &Machine::with_image(13, image.clone(), 4, Flaw::None, false);
        let sector = pages[height] * 8;
        let fault = Fault::new(0, &[IoKind::Read]).sectors(sector..sector + 8);
        machine.sim.add_fault(fault);
        let found = run(machine, machine.read(lbn(0)));
        assert_eq!(found, Err(Error::Errno(kernel::error::code::EIO)));
        let page = pages[height];
        assert_eq!(
            machine.world.lines(),
            [format!(
                "Completing read vio of type {number} for physical block {page} with error: \
                 Input/output error (-5)"
            )]
        );
        machine.sim.clear_faults();
        let found = run(machine, machine.read(lbn(0)));
        assert_eq!(found, Ok(Mapping::plain(50)));
    }
}

#[test]
fn changes_in_memory_only() {
    let (image, _) = sample();
    let machine = &Machine::with_image(12, image.clone(), 1, Flaw::None, true);
    let mut model = BTreeMap::from([(lbn(0), Mapping::plain(50)), (lbn(7), Mapping::plain(57))]);
    run(machine, async {
        for page_number in [0, 7] {
            let pbn = machine.map.leaf(page_number).await.unwrap().unwrap();
            let page = machine.map.pin(pbn, Kind::Leaf).await.unwrap();
            let change = Change {
                oldest: 0,
                newest: 0,
            };
            page.update(change, |page| block_map::set_entry(page, 6, Mapping::ZERO));
            model.insert(tree::first_lbn(page_number) + 6, Mapping::ZERO);
        }
        machine.compare(&model).await.unwrap();
        let saved = machine.map.write_all(&machine.ledger).await;
        assert_eq!(saved, Err(Error::READ_ONLY));
    });
    assert_eq!(machine.sim.changes(), 0);
    assert_eq!(machine.sim.images(), [image]);
}
