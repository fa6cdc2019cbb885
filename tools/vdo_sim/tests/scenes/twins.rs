// SPDX-License-Identifier: GPL-2.0

//! Blocks with the same name and other data. Anybody can make them.

use crate::duplicates::plan;
use crate::duplicates::scene;
use kernel::prelude::Result;
use vdo::dedupe::name::name;
use vdo::format::Lbn;
use vdo::format::Page;
use vdo::format::BLOCK_SIZE;
use vdo::world::Operation;
use vdo_sim::device::Kind as Region;
use vdo_sim::toy::BLOCK_SECTORS;
use vdo_sim::user::User;

const SEED: u64 = 0x62ea_60be;
const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;
const ADDED: (u64, u64) = (0x52dc_e729, 0x3849_5ab5);

type Pair = (u64, u64);

/// Returns the number that undoes a multiplication by an odd one.
fn inverse(odd: u64) -> u64 {
    let step = |known: u64| known.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(known)));
    (0..6).fold(odd, |known, _| step(known))
}

/// The state of the hash behind 16 bytes more.
fn behind((mut h1, mut h2): Pair, (k1, k2): Pair) -> Pair {
    h1 ^= k1.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    h1 = h1.rotate_left(27).wrapping_add(h2);
    h1 = h1.wrapping_mul(5).wrapping_add(ADDED.0);
    h2 ^= k2.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    h2 = h2.rotate_left(31).wrapping_add(h1);
    h2 = h2.wrapping_mul(5).wrapping_add(ADDED.1);
    (h1, h2)
}

/// The 16 bytes that lead from one state to another.
fn between((h1, h2): Pair, (to1, to2): Pair) -> Pair {
    let five = inverse(5);
    let mixed1 = to1.wrapping_sub(ADDED.0).wrapping_mul(five);
    let mixed1 = mixed1.wrapping_sub(h2).rotate_right(27) ^ h1;
    let mixed2 = to2.wrapping_sub(ADDED.1).wrapping_mul(five);
    let mixed2 = mixed2.wrapping_sub(to1).rotate_right(31) ^ h2;
    let k1 = mixed1.wrapping_mul(inverse(C2)).rotate_right(31);
    let k2 = mixed2.wrapping_mul(inverse(C1)).rotate_right(33);
    (k1.wrapping_mul(inverse(C1)), k2.wrapping_mul(inverse(C2)))
}

/// Two blocks with one name.
fn twins() -> [Page; 2] {
    let put = |page: &mut Page, at: usize, (k1, k2): Pair| {
        page[at..at + 8].copy_from_slice(&k1.to_le_bytes());
        page[at + 8..at + 16].copy_from_slice(&k2.to_le_bytes());
    };
    let first = [0xa5; BLOCK_SIZE];
    let own = u64::from_le_bytes([0xa5; 8]);
    let goal = behind(behind((SEED, SEED), (own, own)), (own, own));
    let mut second = first;
    put(&mut second, 0, (1, 2));
    put(&mut second, 16, between(behind((SEED, SEED), (1, 2)), goal));
    assert_eq!(name(&first), name(&second));
    assert_ne!(first, second);
    [first, second]
}

async fn write(user: &User, lbn: Lbn, blocks: &[Page]) -> Result {
    let (sector, sectors) = (lbn * BLOCK_SECTORS, blocks.len() as u64 * BLOCK_SECTORS);
    let machine = &user.machine;
    let data = blocks.concat();
    let written = machine.submit(Operation::Write, true, sector, sectors, &data);
    written.await
}

async fn must_hold(user: &User, lbn: Lbn, blocks: &[Page]) {
    let sectors = blocks.len() as u64 * BLOCK_SECTORS;
    let (data, result) = user.machine.read(lbn * BLOCK_SECTORS, sectors).await;
    result.unwrap();
    assert!(data == blocks.concat(), "not what was written");
}

fn collisions(user: &User) -> u64 {
    let counts = user.machine.statistics().hash_lock;
    counts.concurrent_hash_collisions
}

#[test]
fn in_one_request() {
    scene(&plan()).play(|user| async move {
        let [a, b] = twins();
        let blocks = [a, b, a, a, b];
        write(&user, 0, &blocks).await.unwrap();
        assert!(collisions(&user) > 0);
        must_hold(&user, 0, &blocks).await;
        user.rest().await;
        must_hold(&user, 0, &blocks).await;
        user.machine.remove().await;
    });
}

#[test]
fn in_two_batches_at_once() {
    scene(&plan()).play(|user| async move {
        let [a, b] = twins();
        user.hold(Region::Data);
        let first = user.beside(move |user| async move { write(&user, 0, &[a]).await });
        user.waits(&first).await;
        let second = user.beside(move |user| async move { write(&user, 1, &[b]).await });
        user.waits(&second).await;
        assert_eq!(collisions(&user), 1);
        user.release(Region::Data);
        first.await.unwrap();
        second.await.unwrap();
        must_hold(&user, 0, &[a, b]).await;
        user.rest().await;
        assert_ne!(user.pbn(0), user.pbn(1));
        user.machine.remove().await;
    });
}

#[test]
fn one_after_the_other() {
    scene(&plan()).play(|user| async move {
        let [a, b] = twins();
        write(&user, 0, &[a]).await.unwrap();
        write(&user, 1, &[b]).await.unwrap();
        let counts = user.machine.statistics().hash_lock;
        assert_eq!(
            (counts.dedupe_advice_stale, counts.dedupe_advice_valid),
            (1, 0)
        );
        must_hold(&user, 0, &[a, b]).await;
        user.machine.remove().await;
    });
}
