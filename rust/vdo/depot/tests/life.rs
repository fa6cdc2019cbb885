// SPDX-License-Identifier: GPL-2.0

//! The life of a depot without crashes.

use super::*;
use crate::depot::slab::Changes;
use crate::depot::slab::Effects;
use crate::depot::slab::Progress;
use crate::depot::slab::Rules;
use crate::format::JournalPoint;
use crate::format::Mapping;
use crate::format::Operation;
use crate::format::RecoveryEntry;
use crate::format::MAX_SEQUENCE;
use kernel::alloc::fail_after;
use kernel::prelude::GFP_KERNEL;
use sim::world::World as Machine;

struct Rig {
    toy: Toy,
    disk: SimDisk,
    machine: Machine,
    executor: Executor<'static>,
    depot: Arc<Depot<TestWorld>>,
    sequence: Sequence,
}

impl Rig {
    fn boot(toy: Toy, image: Vec<u8>) -> Self {
        let machine = Machine::new(1);
        let disk = machine.add_disk("disk", image);
        let executor = Executor::new(&machine);
        let depot = arc(toy.depot(&disk));
        spawn(&executor, &depot);
        Self {
            toy,
            disk,
            machine,
            executor,
            depot,
            sequence: 1,
        }
    }

    /// Returns whether a recovery had to follow.
    fn load(&mut self, load: Load) -> bool {
        let depot = self.depot.clone();
        run(&mut self.executor, async move {
            depot.load(load).await?;
            depot.start().await
        })
        .unwrap()
    }

    fn new(toy: Toy) -> Self {
        let mut rig = Self::boot(toy, toy.image());
        rig.load(Load::New);
        rig
    }

    fn save(&mut self) {
        let depot = self.depot.clone();
        run(&mut self.executor, async move { depot.save().await }).unwrap();
        self.depot.check();
    }

    /// Another boot from what is on disk.
    fn reboot(self, load: Load) -> Self {
        let image = self.machine.images().remove(0);
        let mut rig = Self::boot(self.toy, image);
        rig.sequence = self.sequence + 1;
        rig.load(load);
        rig
    }

    fn allocate(&mut self, wanted: u32) -> Option<Run> {
        let depot = self.depot.clone();
        let run = run(
            &mut self.executor,
            async move { depot.allocate(wanted).await },
        );
        run.unwrap()
    }

    fn apply(&mut self, entries: &[RecoveryEntry]) -> Result {
        let depot = self.depot.clone();
        let sequence = self.sequence;
        self.sequence += 1;
        let entries: Vec<_> = (0..)
            .zip(entries)
            .map(|(index, entry)| (JournalPoint::new(sequence, index), *entry))
            .collect();
        run(
            &mut self.executor,
            async move { depot.apply(&entries).await },
        )
    }

    /// Allocates a block and refers to it.
    fn write(&mut self) -> Pbn {
        let pbn = self.allocate(1).unwrap().start;
        self.apply(&[data(pbn, 0)]).unwrap();
        pbn
    }
}

fn data(new: Pbn, old: Pbn) -> RecoveryEntry {
    let mapping = |pbn| match pbn {
        0 => Mapping::UNMAPPED,
        _ => Mapping::plain(pbn),
    };
    RecoveryEntry {
        operation: Operation::Data,
        page: 7,
        slot: 3,
        new: mapping(new),
        old: mapping(old),
    }
}

fn page(new: Pbn) -> RecoveryEntry {
    RecoveryEntry {
        operation: Operation::BlockMap,
        ..data(new, 0)
    }
}

#[test]
fn a_new_volume_says_so_in_all_copies_of_the_summary() {
    let rig = Rig::new(Toy::tiny());
    let image = rig.machine.images().remove(0);
    let unused = summary::SummaryEntry::unused(&rig.toy.slab).encode();
    let summary = &image[..summary::BLOCKS as usize * 4096];
    assert!(summary.chunks(2).all(|entry| entry == unused));
    let statistics = rig.depot.statistics();
    assert_eq!(statistics.used_blocks(), 0);
    assert_eq!(statistics.slabs_opened, 0);
}

#[test]
fn slabs_fill_in_order_and_then_there_is_no_space() {
    let mut rig = Rig::new(Toy::tiny());
    let per_slab = rig.toy.slab.data_blocks;
    let mut next = Vec::new();
    while let Some(run) = rig.allocate(10) {
        next.extend(run.start..run.start + u64::from(run.blocks));
    }
    let expected: Vec<Pbn> = (0..rig.toy.slabs)
        .flat_map(|slab| (0..per_slab).map(move |sbn| (slab, sbn)))
        .map(|(slab, sbn)| rig.toy.layout().pbn(slab, sbn))
        .collect();
    assert_eq!(next, expected);
    let statistics = rig.depot.statistics();
    assert_eq!(statistics.free_blocks, 0);
    assert_eq!(statistics.slabs_opened, 4);
    let depot = rig.depot.clone();
    let more = run(
        &mut rig.executor,
        async move { depot.wait_for_scrubbed().await },
    );
    assert_eq!(more, Ok(false));
    // One block free is one that can be had.
    rig.depot.release(Run {
        start: expected[40],
        blocks: 1,
    });
    assert_eq!(rig.depot.statistics().free_blocks, 1);
    let found = rig.allocate(10);
    let wanted = Run {
        start: expected[40],
        blocks: 1,
    };
    assert_eq!(found, Some(wanted));
    assert_eq!(rig.allocate(1), None);
}

#[test]
fn a_freed_block_is_not_reused_before_its_slab_is_opened_again() {
    let mut rig = Rig::new(Toy::tiny());
    let first = rig.write();
    rig.apply(&[data(0, first)]).unwrap();
    assert_eq!(rig.depot.count(first), Some(0));
    assert_eq!(rig.allocate(1).unwrap().start, first + 1);
}

#[test]
fn counts_go_up_and_down() {
    let mut rig = Rig::new(Toy::tiny());
    let one = rig.write();
    let two = rig.write();
    assert_eq!(rig.depot.statistics().used_blocks(), 2);
    rig.apply(&[data(one, two), data(one, 0)]).unwrap();
    assert_eq!(rig.depot.count(one), Some(3));
    assert_eq!(rig.depot.count(two), Some(0));
    assert_eq!(rig.depot.statistics().used_blocks(), 1);
    let three = rig.allocate(1).unwrap().start;
    assert_eq!(rig.depot.count(three), Some(255));
    rig.apply(&[page(three)]).unwrap();
    assert_eq!(rig.depot.count(three), Some(254));
    rig.depot.check();
}

#[test]
fn an_impossible_change_makes_the_volume_read_only() {
    let free = |rig: &Rig| rig.toy.layout().pbn(0, 20);
    let cases: [fn(Pbn, Pbn) -> RecoveryEntry; 4] = [
        |_, free| data(0, free),
        |used, _| page(used),
        |_, _| data(5, 0),
        |_, _| data(FIRST + 31, 0),
    ];
    for case in cases {
        let mut rig = Rig::new(Toy::tiny());
        let used = rig.write();
        let free = free(&rig);
        assert!(rig.apply(&[case(used, free)]).is_err());
        assert!(rig.depot.health.is_read_only());
        let depot = rig.depot.clone();
        let again = run(&mut rig.executor, async move { depot.allocate(1).await });
        assert_eq!(again, Err(Error::READ_ONLY));
        let depot = rig.depot.clone();
        let save = run(&mut rig.executor, async move { depot.save().await });
        assert_eq!(save, Err(Error::READ_ONLY));
    }
}

#[test]
fn no_block_takes_more_than_254_references() {
    let mut rig = Rig::new(Toy::small());
    let pbn = rig.write();
    for _ in 1..254 {
        rig.apply(&[data(pbn, 0)]).unwrap();
    }
    assert_eq!(rig.depot.count(pbn), Some(254));
    assert_eq!(
        rig.apply(&[data(pbn, 0)]),
        Err(Error::Status(Status::RefCountInvalid))
    );
}

#[test]
fn a_saved_volume_is_clean_and_comes_back_as_it_was() {
    for zone_count in [1, 3] {
        let mut rig = Rig::new(Toy::tiny());
        let pbns: Vec<Pbn> = (0..70).map(|_| rig.write()).collect();
        rig.apply(&[data(pbns[3], pbns[33])]).unwrap();
        let used = rig.depot.statistics().used_blocks();
        assert_eq!(used, 69);
        rig.save();
        assert_eq!(rig.depot.oldest_hold(), None);
        for slab in 0..3 {
            let entry = rig.depot.summary.get(slab).unwrap();
            assert!(
                entry.load_ref_counts && !entry.is_dirty,
                "{slab}: {entry:?}"
            );
        }
        // A volume that was used with more zones looks the same where all copies were written.
        rig.toy.zone_count = zone_count;
        if zone_count > 1 {
            rig = rig.reboot_copied();
        } else {
            rig = rig.reboot(Load::Clean);
        }
        assert_eq!(rig.depot.statistics().used_blocks(), used);
        assert_eq!(rig.depot.statistics().slabs_unscrubbed, 0);
        assert_eq!(rig.depot.count(pbns[3]), Some(2));
        assert_eq!(rig.depot.count(pbns[33]), Some(0));
        rig.write();
        rig.depot.check();
    }
}

/// There are 48 bits for a sequence; from the last one on there is no other.
#[test]
fn a_slab_journal_ends_with_its_sequences() {
    let toy = Toy::tiny();
    let saved_at = |sequence: Sequence| {
        let mut rig = Rig::new(toy);
        rig.write();
        rig.save();
        let mut image = rig.machine.images().remove(0);
        let size = u64::from(toy.slab.journal_blocks);
        let at = |sequence| toy.layout().journal_block(0, (sequence % size) as u32) as usize * 4096;
        let mut block = image[at(1)..at(1) + 4096].to_vec();
        block[..8].copy_from_slice(&sequence.to_le_bytes());
        block[8..16].copy_from_slice(&sequence.to_le_bytes());
        image[at(sequence)..at(sequence) + 4096].copy_from_slice(&block);
        // The place of the next block, in slab 0.
        image[0] = ((sequence % size + 1) % size) as u8;
        Rig::boot(toy, image)
    };
    for sequence in [MAX_SEQUENCE - 1, MAX_SEQUENCE, u64::MAX - 1, u64::MAX] {
        let mut rig = saved_at(sequence);
        let depot = rig.depot.clone();
        let loaded = run(
            &mut rig.executor,
            async move { depot.load(Load::Clean).await },
        );
        let error = Error::Status(Status::CorruptJournal);
        assert_eq!(loaded, Err(error), "{sequence}");
    }
    let mut rig = saved_at(MAX_SEQUENCE - 2);
    rig.sequence = 2;
    rig.load(Load::Clean);
    let results: Vec<_> = (0..8)
        .map(|_| {
            let pbn = rig.allocate(1).unwrap().start;
            rig.apply(&[data(pbn, 0)])
        })
        .collect();
    // There is one block left, for seven entries.
    assert_eq!(results[..7], [Ok(()); 7]);
    assert_eq!(results[7], Err(Error::Status(Status::JournalOverflow)));
}

impl Rig {
    /// As if each zone had written its own copy only.
    fn reboot_copied(self) -> Self {
        let mut image = self.machine.images().remove(0);
        let size = 4 * 4096;
        let first: Vec<u8> = image[..size].to_vec();
        for copy in 0..3 {
            for slab in 0..4 {
                let at = slab * 2;
                let entry = match slab % 3 == copy {
                    true => [first[at], first[at + 1]],
                    false => [0xFF, 0xFF],
                };
                image[copy * size + at..][..2].copy_from_slice(&entry);
            }
        }
        let mut rig = Self::boot(self.toy, image);
        rig.sequence = self.sequence + 1;
        rig.load(Load::Clean);
        rig
    }
}

#[test]
fn after_a_save_used_slabs_that_are_emptier_are_filled_first() {
    let mut rig = Rig::new(Toy::tiny());
    let pbns: Vec<Pbn> = (0..30).map(|_| rig.write()).collect();
    let layout = rig.toy.layout();
    assert_eq!(layout.slab_of(pbns[29]).unwrap().0, 1);
    rig.save();
    let mut rig = rig.reboot(Load::Clean);
    // Slab 1 has more free blocks than three quarters.
    let next = rig.write();
    assert_eq!(layout.slab_of(next), Some((1, 3)));
    assert_eq!(rig.depot.statistics().slabs_opened, 2);
    assert_eq!(rig.depot.statistics().slabs_reopened, 1);
}

#[test]
fn statistics_count_what_is_written() {
    let mut rig = Rig::new(Toy::small());
    let pbn = rig.write();
    for _ in 0..100 {
        rig.apply(&[data(pbn, 0)]).unwrap();
        rig.apply(&[data(0, pbn)]).unwrap();
    }
    rig.save();
    let statistics = rig.depot.statistics();
    // 201 changes, 7 in a block; the last block is not full.
    assert_eq!(statistics.journal_blocks_written, 201_u64.div_ceil(7));
    assert!(statistics.journal_flushed > 0);
    assert!(statistics.reference_blocks_written > 0);
    assert!(statistics.summary_blocks_written > 0);
    assert_eq!(rig.depot.count(pbn), Some(1));
}

#[test]
fn holds_are_released_when_somebody_is_in_a_hurry() {
    let mut rig = Rig::new(Toy::small());
    rig.write();
    rig.write();
    assert_eq!(rig.depot.oldest_hold(), Some(1));
    rig.executor.run_until_idle();
    assert_eq!(rig.depot.oldest_hold(), Some(1));
    rig.depot.write_before(2);
    rig.executor.run_until_idle();
    assert_eq!(rig.depot.oldest_hold(), None);
    rig.write();
    assert_eq!(rig.depot.oldest_hold(), Some(3));
}

#[test]
fn a_volume_that_was_never_used_again_can_be_grown() {
    let mut rig = Rig::new(Toy::tiny());
    rig.toy.slabs = 21;
    let image = rig.machine.images().remove(0);
    let mut larger = rig.toy.image();
    larger[..image.len()].copy_from_slice(&image);
    let mut rig = Rig::boot(Toy::tiny(), larger);
    rig.load(Load::New);
    while rig.allocate(32).is_some() {}
    rig.save();
    let free = rig.depot.statistics().free_blocks;
    assert_eq!(free, 0);
    let room = rig.depot.room_to_grow(21).unwrap();
    rig.depot.grow(room, SUMMARY).unwrap();
    assert_eq!(rig.depot.layout().slab_count, 21);
    assert_eq!(rig.depot.statistics().free_blocks, 17 * 27);
    let run = rig.allocate(3).unwrap();
    assert_eq!(rig.depot.layout().slab_of(run.start), Some((4, 0)));
    rig.apply(&[data(run.start, 0)]).unwrap();
    rig.save();
}

#[test]
fn a_rebuild_counts_anew() {
    let mut rig = Rig::new(Toy::tiny());
    for _ in 0..40 {
        rig.write();
    }
    let image = rig.machine.images().remove(0);
    let mut rig = Rig::boot(rig.toy, image);
    let depot = rig.depot.clone();
    let layout = rig.toy.layout();
    let (tree, shared) = (layout.pbn(2, 3), layout.pbn(2, 4));
    run(&mut rig.executor, async move {
        depot.load(Load::Rebuild).await?;
        assert!(depot.refer_to_page(tree)?);
        assert!(!depot.refer_to_page(tree)?);
        assert!(!depot.refer_to_data(tree)?);
        assert!(!depot.refer_to_data(5)?);
        for _ in 0..254 {
            assert!(depot.refer_to_data(shared)?);
        }
        assert!(!depot.refer_to_data(shared)?);
        depot.finish_rebuild().await?;
        depot.start().await
    })
    .unwrap();
    assert_eq!(rig.depot.statistics().used_blocks(), 2);
    let image = rig.machine.images().remove(0);
    assert_eq!(image[4..6], [0, 0x40 | summary::hint(25, &rig.toy.slab)]);
    let journal = layout.journal_block(0, 0) as usize * 4096;
    assert!(image[journal..journal + 4 * 4096]
        .iter()
        .all(|byte| *byte == 0));
    let mut rig = rig.reboot(Load::Clean);
    assert_eq!(rig.depot.statistics().used_blocks(), 2);
    assert_eq!(rig.depot.count(tree), Some(254));
    assert_eq!(rig.depot.count(shared), Some(254));
    rig.apply(&[data(0, shared)]).unwrap();
    rig.save();
    let rig = rig.reboot(Load::Clean);
    assert_eq!(rig.depot.count(shared), Some(253));
}

#[test]
fn a_read_only_start_reads_nothing_and_shows_sane_numbers() {
    let mut rig = Rig::boot(Toy::tiny(), Toy::tiny().image());
    rig.load(Load::ReadOnly);
    assert!(rig.machine.log().is_empty());
    assert_eq!(rig.depot.used_blocks(), 0);
    assert_eq!(rig.disk.held(), 0);
}

#[test]
fn a_failed_write_of_metadata_ends_in_read_only_mode() {
    use sim::fault::Fault;
    use sim::fault::Kind;
    let mut rig = Rig::new(Toy::tiny());
    rig.write();
    rig.machine.add_fault(Fault::new(0, &[Kind::Write]));
    let depot = rig.depot.clone();
    let result = run(&mut rig.executor, async move { depot.save().await });
    assert_eq!(result, Err(Error::READ_ONLY));
    assert!(rig.depot.health.is_read_only());
}

#[test]
fn another_place_is_far_away() {
    let mut rig = Rig::new(Toy::wide());
    let bad = rig.allocate(8).unwrap();
    let depot = rig.depot.clone();
    let away = run(&mut rig.executor, async move {
        depot.allocate_away(8, bad.start).await
    });
    assert_eq!(away.unwrap().unwrap().start, bad.start + 1024);
    let mut rig = Rig::new(Toy::tiny());
    let bad = rig.allocate(8).unwrap();
    let depot = rig.depot.clone();
    let away = run(&mut rig.executor, async move {
        depot.allocate_away(8, bad.start).await
    });
    let (slab, _) = rig
        .toy
        .layout()
        .slab_of(away.unwrap().unwrap().start)
        .unwrap();
    assert_eq!(slab, 1);
}

#[test]
fn without_memory_a_new_slab_has_to_wait() {
    let mut rig = Rig::new(Toy::tiny());
    fail_after(Some(0));
    let depot = rig.depot.clone();
    let found = rig
        .executor
        .spawn("one", async move { depot.allocate(1).await });
    let depot = rig.depot.clone();
    let other = rig
        .executor
        .spawn("other", async move { depot.allocate(1).await });
    rig.executor.run_for(1_000_000);
    assert!(!found.is_done() && !other.is_done());
    assert_eq!(rig.depot.statistics().slabs_opened, 0);
    // Who waits for memory waits, and does not ask for it all the time.
    assert!(rig.executor.steps() < 1000);
    fail_after(None);
    let found = rig.executor.run_task(&found).unwrap().unwrap().unwrap();
    let other = rig.executor.run_task(&other).unwrap().unwrap().unwrap();
    assert_eq!(found.start.abs_diff(other.start), 1);
    assert_eq!(rig.depot.statistics().slabs_opened, 1);
    assert!(!rig.depot.health.is_read_only());
}

#[test]
fn without_memory_free_blocks_of_other_slabs_are_used() {
    let mut rig = Rig::new(Toy::tiny());
    let first = rig.allocate(1).unwrap().start;
    // The next slab has its memory already, the two behind it get none.
    rig.executor.run_until_idle();
    fail_after(Some(0));
    let mut left = 2 * rig.toy.slab.data_blocks - 1;
    while left > 0 {
        left -= rig.allocate(left).unwrap().blocks;
    }
    let freed = Run {
        start: first,
        blocks: 5,
    };
    rig.depot.release(freed);
    assert_eq!(rig.allocate(9), Some(freed));
    let depot = rig.depot.clone();
    let more = rig
        .executor
        .spawn("more", async move { depot.allocate(9).await });
    rig.executor.run_for(1_000_000);
    assert!(!more.is_done());
    // The scrubber goes on trying to get some for the next.
    fail_after(None);
    let run = rig.executor.run_task(&more).unwrap().unwrap().unwrap();
    let (slab, sbn) = rig.toy.layout().slab_of(run.start).unwrap();
    assert!(slab >= 2 && sbn == 0, "{slab} {sbn}");
}

#[test]
fn a_slab_that_is_awaited_is_scrubbed_when_there_is_memory_again() {
    let mut rig = Rig::new(Toy::tiny());
    let pbn = rig.write();
    rig.save();
    let mut rig = {
        let image = rig.machine.images().remove(0);
        Rig::boot(rig.toy, image)
    };
    let depot = rig.depot.clone();
    run(
        &mut rig.executor,
        async move { depot.load(Load::Clean).await },
    )
    .unwrap();
    fail_after(Some(10));
    let depot = rig.depot.clone();
    let started = rig
        .executor
        .spawn("start", async move { depot.start().await });
    rig.executor
        .run_until(|_| rig.depot.desk.with(|work| work.scrubbing.left) == 1);
    fail_after(Some(0));
    rig.executor.run_for(1_000_000);
    assert!(!started.is_done());
    // Nothing else happens that the scrubber could see.
    fail_after(None);
    assert_eq!(rig.executor.run_task(&started), Ok(Ok(false)));
    assert_eq!(rig.depot.count(pbn), Some(1));
}

#[test]
fn without_memory_a_slab_is_scrubbed_later() {
    let mut rig = Rig::new(Toy::tiny());
    let pbn = rig.write();
    rig.save();
    let image = rig.machine.images().remove(0);
    let mut rig = Rig::boot(rig.toy, image);
    let depot = rig.depot.clone();
    run(&mut rig.executor, async move {
        depot.load(Load::Recovering).await
    })
    .unwrap();
    let depot = rig.depot.clone();
    run(&mut rig.executor, async move { depot.start().await }).unwrap();
    fail_after(Some(0));
    rig.executor.run_for(1_000_000);
    fail_after(None);
    assert_eq!(rig.depot.statistics().slabs_unscrubbed, 1);
    assert!(rig.depot.is_recovering());
    assert_eq!(rig.depot.recovery_percentage(), 75);
    // What is known of it meanwhile is what the summary says.
    assert_eq!(rig.depot.used_blocks(), 1);
    assert_eq!(rig.depot.count(pbn), None);
    // It is tried again and again.
    let depot = rig.depot.clone();
    run(&mut rig.executor, async move { depot.scrubbed().await }).unwrap();
    assert!(!rig.depot.is_recovering());
    assert_eq!(rig.depot.count(pbn), Some(1));
    assert!(!rig.depot.health.is_read_only());
}

#[test]
fn a_recovery_is_told_of_however_soon_it_ends() {
    let mut rig = Rig::new(Toy::tiny());
    rig.write();
    rig.save();
    let image = rig.machine.images().remove(0);
    let mut rig = Rig::boot(rig.toy, image.clone());
    assert!(rig.load(Load::Recovering));
    rig.executor.run_until_idle();
    assert!(!rig.depot.is_recovering());
    assert!(!Rig::boot(rig.toy, image).load(Load::Clean));
}

/// As soon as a slab is ready, another CPU changes its counts: that must not be forgotten.
#[test]
fn what_changes_as_soon_as_a_slab_is_ready_counts() {
    let mut rig = Rig::new(Toy::tiny());
    let pbn = rig.write();
    rig.save();
    let image = rig.machine.images().remove(0);
    let mut rig = Rig::boot(rig.toy, image);
    rig.sequence = 10;
    let depot = rig.depot.clone();
    run(
        &mut rig.executor,
        async move { depot.load(Load::Crashed).await },
    )
    .unwrap();
    let per_slab = rig.toy.slab.data_blocks;
    // What the scrubber has found.
    let mut counts = counts::Counts::new(&rig.toy.slab, GFP_KERNEL).unwrap();
    counts.set(0, 1);
    let depot = rig.depot.clone();
    depot
        .slab(0, |slab| slab.state = slab::State::Scrubbing)
        .unwrap();
    let freed = || rig.apply(&[data(0, pbn)]).unwrap();
    depot.publish(0, counts, Some(0), freed).unwrap();
    assert_eq!(depot.count(pbn), Some(0));
    let all = u64::from(per_slab * rig.toy.slabs);
    assert_eq!(depot.statistics().free_blocks, all);
    assert_eq!(depot.used_blocks(), 0);
}

/// During a pause the storage is left alone, whatever there is to do; after it, that is done.
#[test]
fn nothing_is_written_during_a_pause() {
    let mut rig = Rig::new(Toy::tiny());
    rig.disk.set_latency(50..200);
    for _ in 0..12 {
        rig.write();
    }
    // Some of it is on its way.
    rig.depot.write_before(rig.sequence);
    let depot = rig.depot.clone();
    run(&mut rig.executor, async move { depot.pause().await });
    let seen = (rig.machine.changes(), rig.machine.moments());
    for number in 0..rig.toy.slabs {
        rig.depot.slab(number, |slab| slab.write_all()).unwrap();
        rig.depot.desk.tell(|work| {
            work.write.insert(number);
            work.seal.insert(number);
        });
    }
    rig.executor.run_until_idle();
    assert_eq!((rig.machine.changes(), rig.machine.moments()), seen);
    assert!(rig.depot.oldest_hold().is_some());
    // That ends the pause.
    rig.save();
    assert_eq!(rig.depot.oldest_hold(), None);
    assert!(rig.machine.changes() > seen.0);
}

#[test]
fn a_block_that_was_begun_is_not_sealed_before_its_hold_is_known() {
    let mut rig = Rig::new(Toy::small());
    let pbn = rig.allocate(1).unwrap().start;
    let depot = rig.depot.clone();
    let entries = [(JournalPoint::new(1, 0), data(pbn, 0))];
    let mut changes = Changes::new(&entries);
    let mut effects = Effects::new();
    let rules = Rules {
        layout: depot.layout(),
        shape: depot.shape,
        is_replay: false,
        is_ring_kept: true,
    };
    let made = depot.slab(0, |slab| {
        slab.apply(&rules, 0, &mut changes, &mut None, &mut effects)
    });
    assert_eq!(made, Ok(Ok(Progress::Made)));
    // The applier is preempted here, and the committer, which is to seal the slab, goes on.
    depot.desk.tell(|work| work.seal.insert(0));
    rig.executor.run_until_idle();
    // It does not look again and again: there is nothing for it to do until the applier says so.
    assert!(!depot.desk.with(|work| work.has_commits()));
    depot.spread(0, effects).unwrap();
    rig.executor.run_until_idle();
    assert_eq!(depot.oldest_hold(), None);
    rig.save();
    assert!(depot.slab(0, |slab| slab.journal.entries() == 0).unwrap());
}
