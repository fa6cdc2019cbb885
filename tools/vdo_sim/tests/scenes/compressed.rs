// SPDX-License-Identifier: GPL-2.0

//! Blocks that share compressed blocks.

use sim::clock::sleep;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::model::Shape;
use std::collections::BTreeSet;
use std::ops::Range;
use vdo_sim::codec;
use vdo_sim::device::Kind as Region;
use vdo_sim::plan::Plan;
use vdo_sim::scene::block;
use vdo_sim::scene::sectors;
use vdo_sim::scene::Scene;
use vdo_sim::space::Space;
use vdo_sim::toy::BLOCK_SECTORS;
use vdo_sim::user::User;

/// Two slabs, without an index.
fn plan() -> Plan {
    let mut plan = Plan {
        space: Space::new(&[0..20, 20..40]),
        batch_blocks: 16,
        compression: true,
        ..Plan::default()
    };
    plan.toy.layout.slabs = 2;
    plan
}

/// Blocks of the data below.
const FOUR: u64 = 4;

/// Returns the name of data of which four blocks share one, the `number`-th of them.
fn small(number: usize) -> u64 {
    let size = |name: u64, block: u64| {
        let data = sim::pattern::run(name, block * BLOCK_SECTORS, BLOCK_SECTORS);
        codec::compress(&data).map_or(usize::MAX, |fragment| fragment.len())
    };
    let mut names = (1 << 40..).filter(|&name| (0..FOUR).all(|block| size(name, block) < 900));
    names.nth(number).expect("a name")
}

/// Writes four blocks that can share one; they begin at a multiple of four.
async fn write(user: &User, first: u64, number: usize, fua: bool) {
    let shape = Shape {
        holes: Vec::new(),
        copies: Some((small(number), FOUR * BLOCK_SECTORS)),
    };
    let blocks = sectors(first..first + FOUR);
    user.write_shaped(blocks, shape, fua).await.unwrap();
}

/// Returns how many blocks of data were written since `since`.
fn stored(user: &User, since: usize) -> u64 {
    let writes = user.writes(since, Region::Data);
    let sectors = writes.iter().map(|write| write.sectors);
    sectors.sum::<u64>() / BLOCK_SECTORS
}

/// Returns on which blocks these are.
fn places(user: &User, blocks: Range<u64>) -> BTreeSet<u64> {
    blocks.map(|lbn| user.pbn(lbn)).collect()
}

fn packed(user: &User) -> (u64, u64) {
    let packer = user.machine.statistics().packer;
    (
        packer.compressed_fragments_written,
        packer.compressed_blocks_written,
    )
}

#[test]
fn blocks_that_compress_share_one() {
    Scene::new(&plan()).play(|user| async move {
        let (start, free) = (user.log_len(), user.machine.free());
        write(&user, 0, 0, true).await;
        assert_eq!(stored(&user, start), 1);
        assert_eq!(packed(&user), (4, 1));
        user.rest().await;
        assert_eq!(places(&user, 0..4).len(), 1);
        user.read_all().await.unwrap();
        // The last fragment that goes frees the block.
        user.discard(sectors(0..3), true).await.unwrap();
        user.rest().await;
        user.read_all().await.unwrap();
        user.discard(sectors(3..4), true).await.unwrap();
        user.rest().await;
        // But for leaf pages.
        assert!(free - user.machine.free() <= 4);
        assert_eq!(user.machine.statistics().data_blocks_used, 0);
        user.machine.remove().await;
    });
}

#[test]
fn a_block_that_is_alone_is_stored_as_it_is() {
    Scene::new(&plan()).play(|user| async move {
        // Alone in a batch a block shares with nobody.
        let start = user.log_len();
        for lbn in 0..4 {
            user.write(sectors(lbn..lbn + 1), true).await.unwrap();
        }
        assert_eq!(stored(&user, start), 4);
        assert_eq!(packed(&user), (0, 0));
        user.machine.remove().await;
    });
}

#[test]
fn a_compressed_block_that_cannot_be_written_is_none() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(20..21), true).await.unwrap();
        user.rest().await;
        let next = user.pbn(20) + 1;
        let fault = Fault::new(0, &[Kind::Write]).sectors(block(next));
        user.machine.world.add_fault(fault);
        write(&user, 0, 0, true).await;
        user.machine.world.clear_faults();
        user.rest().await;
        let places = places(&user, 0..4);
        assert_eq!(places.len(), 4, "each is stored on its own");
        assert!(!places.contains(&next));
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn duplicates_of_fragments_refer_to_them() {
    let plan = plan().with_index();
    let mut scene = Scene::new(&plan);
    scene.play(|user| async move {
        while !user.machine.has_index() {
            user.rest().await;
        }
        // In one batch, and later.
        let start = user.log_len();
        let shape = Shape {
            holes: Vec::new(),
            copies: Some((small(0), FOUR * BLOCK_SECTORS)),
        };
        let written = user.write_shaped(sectors(0..16), shape, true).await;
        written.unwrap();
        assert_eq!(stored(&user, start), 1);
        user.rest().await;
        assert_eq!(places(&user, 0..16).len(), 1);
        let start = user.log_len();
        write(&user, 20, 0, true).await;
        assert_eq!(stored(&user, start), 0);
        user.rest().await;
        assert_eq!(places(&user, 0..16), places(&user, 20..24));
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_fragment_can_be_written_in_part() {
    let mut plan = plan();
    plan.small_sectors = true;
    Scene::new(&plan).play(|user| async move {
        write(&user, 0, 0, true).await;
        user.write(9..12, true).await.unwrap();
        user.rest().await;
        user.read_all().await.unwrap();
        assert_eq!(places(&user, 0..4).len(), 2);
        user.machine.remove().await;
    });
}

/// Writes one of the four blocks that can share one, without waiting for stable storage.
async fn write_one(user: &User, lbn: u64, number: usize) {
    let shape = Shape {
        holes: Vec::new(),
        copies: Some((small(number), FOUR * BLOCK_SECTORS)),
    };
    let blocks = sectors(lbn..lbn + 1);
    user.write_shaped(blocks, shape, false).await.unwrap();
}

fn parked(user: &User) -> u64 {
    let packer = user.machine.statistics().packer;
    packer.compressed_fragments_in_packer
}

#[test]
fn a_fragment_waits_for_others() {
    Scene::new(&plan()).play(|user| async move {
        let start = user.log_len();
        write_one(&user, 0, 0).await;
        assert_eq!((parked(&user), stored(&user, start)), (1, 0));
        // Meanwhile it can be read.
        user.read(sectors(0..1)).await.unwrap();
        user.read(3..5).await.unwrap();
        assert_eq!((parked(&user), stored(&user, start)), (1, 0));
        write_one(&user, 5, 0).await;
        write_one(&user, 2, 0).await;
        user.flush().await.unwrap();
        assert_eq!((parked(&user), stored(&user, start)), (0, 1));
        assert_eq!(packed(&user), (3, 1));
        user.rest().await;
        assert_eq!(user.pbn(0), user.pbn(5));
        assert_eq!(user.machine.statistics().data_blocks_used, 1);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_fragment_waits_five_milliseconds() {
    Scene::new(&plan()).play(|user| async move {
        let start = user.log_len();
        write_one(&user, 0, 0).await;
        sleep(&user.machine.world, 3_000).await;
        assert_eq!((parked(&user), stored(&user, start)), (1, 0));
        sleep(&user.machine.world, 4_000).await;
        // Alone it is stored as it is.
        assert_eq!((parked(&user), stored(&user, start)), (0, 1));
        assert_eq!(packed(&user), (0, 0));
        user.rest().await;
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn who_wants_a_parked_block_does_not_wait_for_the_timer() {
    Scene::new(&plan()).play(|user| async move {
        write_one(&user, 0, 0).await;
        write_one(&user, 0, 1).await;
        user.read(sectors(0..1)).await.unwrap();
        write_one(&user, 2, 0).await;
        user.discard(sectors(2..3), false).await.unwrap();
        user.read(sectors(2..3)).await.unwrap();
        write_one(&user, 6, 0).await;
        // A read of more than that waits for its write.
        user.read(sectors(5..8)).await.unwrap();
        user.flush().await.unwrap();
        user.rest().await;
        assert_eq!(user.machine.statistics().data_blocks_used, 2);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn a_suspend_writes_what_is_parked() {
    Scene::new(&plan()).play(|user| async move {
        for lbn in 0..4 {
            write_one(&user, lbn, 0).await;
        }
        assert_eq!(parked(&user), 4);
        user.machine.suspend_and_resume(true).await.unwrap();
        assert_eq!((parked(&user), packed(&user)), (0, (4, 1)));
        assert_eq!(places(&user, 0..4).len(), 1);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn parked_fragments_whose_block_cannot_be_written_are_stored_alone() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(20..21), true).await.unwrap();
        user.rest().await;
        let next = user.pbn(20) + 1;
        let fault = Fault::new(0, &[Kind::Write]).sectors(block(next));
        user.machine.world.add_fault(fault);
        for lbn in 0..4 {
            write_one(&user, lbn, 0).await;
        }
        user.flush().await.unwrap();
        user.machine.world.clear_faults();
        user.rest().await;
        assert_eq!(places(&user, 0..4).len(), 4);
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}

#[test]
fn duplicates_of_parked_fragments_are_found_once_they_are_recorded() {
    let plan = plan().with_index();
    Scene::new(&plan).play(|user| async move {
        while !user.machine.has_index() {
            user.rest().await;
        }
        for lbn in 0..4 {
            write_one(&user, lbn, 0).await;
        }
        user.flush().await.unwrap();
        let start = user.log_len();
        write(&user, 20, 0, true).await;
        assert_eq!(stored(&user, start), 0);
        user.rest().await;
        assert_eq!(places(&user, 0..4), places(&user, 20..24));
        user.read_all().await.unwrap();
        user.machine.remove().await;
    });
}
