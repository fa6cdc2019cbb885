// SPDX-License-Identifier: GPL-2.0

//! Reads of what today's writes do not make: an image is changed between two lives of a machine.

use sim::disk::Operation as Io;
use sim::Executor;
use sim::Outcome;
use sim::SimDisk;
use sim::World;
use std::future::Future;
use std::rc::Rc;
use vdo::format::block_map;
use vdo::format::compressed;
use vdo::format::Lbn;
use vdo::format::Mapping;
use vdo::format::Page;
use vdo::format::Pbn;
use vdo::format::BLOCK_SIZE;
use vdo::world::Operation;
use vdo_sim::machine::Machine;
use vdo_sim::plan::Plan;
use vdo_sim::toy;
use vdo_sim::toy::BLOCK_SECTORS;
use vdo_sim::witness;

/// Lets a machine live whose storage holds `image`; returns what it leaves there.
fn live<F>(plan: &Plan, image: Vec<u8>, life: impl FnOnce(Rc<Machine>) -> F) -> Vec<u8>
where
    F: Future<Output = ()> + 'static,
{
    let world = World::new(1);
    let mut executor = Executor::new(&world);
    let machine = Machine::new(&world, executor.spawner(), plan, image);
    let life = life(machine.clone());
    executor.spawn("driver", async move {
        machine.start().await.expect("a start");
        life.await;
        machine.remove().await;
    });
    assert_eq!(executor.run(), Outcome::Done);
    world.images().swap_remove(0)
}

/// Returns a volume of which the first eight blocks are written.
fn written(plan: &Plan) -> Vec<u8> {
    live(plan, plan.image(), |machine| async move {
        let data: Vec<u8> = (1..=7).flat_map(|fill| [fill; BLOCK_SIZE]).collect();
        let write = machine.submit(Operation::Write, false, 0, 7 * BLOCK_SECTORS, &data);
        write.await.expect("a write");
    })
}

/// Returns where a block is.
fn place(plan: &Plan, image: &[u8], lbn: Lbn) -> Mapping {
    let found = witness::read(&plan.toy, image).expect("a volume");
    found.map[&lbn]
}

/// Maps the first blocks to other places.
fn remap(plan: &Plan, image: &mut [u8], mappings: &[Mapping]) {
    let first = place(plan, image, 0);
    let layout = plan.toy.layout;
    let mut blocks = layout.depot().first_block..layout.journal();
    let is_leaf = |&pbn: &Pbn| {
        let page = toy::block(image, pbn);
        let validity = block_map::validate(page, layout.nonce, pbn);
        validity == block_map::Validity::Valid && block_map::entry(page, 0) == first
    };
    let leaf = blocks.find(is_leaf).expect("a leaf page");
    for (slot, &mapping) in (0..).zip(mappings) {
        block_map::set_entry(toy::block_mut(image, leaf), slot, mapping);
    }
}

async fn read(machine: &Machine, lbn: Lbn, blocks: u64) -> kernel::error::Result<Vec<u8>> {
    let (data, result) = machine
        .read(lbn * BLOCK_SECTORS, blocks * BLOCK_SECTORS)
        .await;
    result.map(|()| data)
}

/// Returns a block with two compressed ones in it.
fn packed(fills: [u8; 2]) -> Page {
    let [first, second] = fills.map(|fill| lz4_flex::block::compress(&[fill; BLOCK_SIZE]));
    let mut page = [0; BLOCK_SIZE];
    assert!(compressed::pack(&mut page, &[&first, &second]));
    page
}

async fn put(disk: &SimDisk, pbn: Pbn, page: &Page) {
    let write = Io::write(pbn * BLOCK_SECTORS, page.to_vec(), false);
    disk.submit(write).await.1.expect("a write");
}

#[test]
fn a_compressed_block_is_read_anew_for_each_bio() {
    let plan = Plan::default();
    let mut image = written(&plan);
    let pbn = place(&plan, &image, 0).pbn;
    let fragments = [0, 1].map(|slot| Mapping::fragment(pbn, slot).expect("a slot"));
    remap(&plan, &mut image, &fragments);
    *toy::block_mut(&mut image, pbn) = packed([0x11, 0x22]);
    live(&plan, image, |machine| async move {
        let both = read(&machine, 0, 2).await.expect("a read");
        assert_eq!((both[0], both[BLOCK_SIZE]), (0x11, 0x22));
        // As after the block was freed and taken for another pair: nobody holds it between reads.
        put(&machine.disk, pbn, &packed([0x33, 0x44])).await;
        let second = read(&machine, 1, 1).await.expect("a read");
        assert_eq!(second[0], 0x44);
    });
}

#[test]
fn blocks_behind_the_data_of_a_slab_are_not_read() {
    let plan = Plan::default();
    let mut image = written(&plan);
    let depot = plan.toy.layout.depot();
    let last = depot.pbn(0, plan.toy.layout.slab.data_blocks - 1);
    // The reference counts follow.
    assert!(depot.is_data_block(last) && !depot.is_data_block(last + 1));
    remap(
        &plan,
        &mut image,
        &[Mapping::plain(last), Mapping::plain(last + 1)],
    );
    live(&plan, image, |machine| async move {
        assert!(read(&machine, 0, 1).await.is_ok());
        assert!(read(&machine, 1, 1).await.is_err());
        assert!(read(&machine, 0, 2).await.is_err(), "counts, read as data");
        assert!(read(&machine, 0, 3).await.is_err(), "counts, read as data");
    });
}
