// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::fixture::now;
use crate::fixture::Hand;
use std::vec::Vec;
use Access::Exclusive;
use Access::Shared;

fn locks() -> LbnLocks {
    LbnLocks::new().unwrap()
}

#[test]
fn readers_share_and_writers_do_not() {
    let locks = locks();
    let one = locks.try_claim(0..8, Shared);
    let two = locks.try_claim(4..12, Shared);
    assert!(one.is_some() && two.is_some());
    assert!(locks.try_claim(7..8, Exclusive).is_none());
    assert!(locks.try_claim(12..20, Exclusive).is_some());
    drop(one);
    assert!(locks.try_claim(0..4, Exclusive).is_some());
    assert!(locks.try_claim(0..5, Exclusive).is_none());
}

#[test]
fn claims_that_overlap_are_served_in_order() {
    let locks = locks();
    let first = now(locks.claim(0..4, Exclusive));
    let mut second = Hand::waiting(locks.claim(2..8, Exclusive));
    // This one would be free, but for the second, which came earlier.
    let mut third = Hand::waiting(locks.claim(6..7, Shared));
    assert!(locks.try_claim(5..6, Shared).is_none());
    assert!(locks.try_claim(8..9, Shared).is_some());
    drop(first);
    let second = second.poll().unwrap();
    assert!(third.poll().is_none());
    drop(second);
    assert!(third.poll().is_some());
}

#[test]
fn other_chunks_are_not_in_the_way() {
    let locks = locks();
    let _held = now(locks.claim(0..256, Exclusive));
    for chunk in 1..100 {
        let start = chunk * CHUNK;
        assert!(locks.try_claim(start..start + CHUNK, Exclusive).is_some());
    }
}

#[test]
fn a_full_shard_makes_claims_wait() {
    let locks = locks();
    let same_shard = |n: u64| n * CHUNK * SHARDS as u64;
    let mut held: Vec<_> = (0..)
        .map_while(|n| locks.try_claim(same_shard(n)..same_shard(n) + 1, Exclusive))
        .take(CLAIMS + 1)
        .collect();
    assert_eq!(held.len(), CLAIMS);
    let free = same_shard(CLAIMS as u64);
    let mut waits = Hand::waiting(locks.claim(free..free + 1, Shared));
    held.pop();
    assert!(waits.poll().is_some());
}

#[test]
fn a_claim_is_found_by_its_blocks() {
    let locks = locks();
    let _kept = now(locks.token(4..6, Exclusive));
    let _reader = now(locks.claim(0..4, Shared));
    assert!(locks.token_of(&(0..4)).is_none());
    assert!(locks.token_of(&(4..5)).is_none());
    locks.release(locks.token_of(&(4..6)).expect("a claim"));
    assert!(locks.token_of(&(4..6)).is_none());
    assert!(locks.try_claim(4..6, Exclusive).is_some());
}

/// Claims of so many readers of block 0, all of which wait.
fn crowd(locks: &LbnLocks, count: usize) -> Vec<Hand<'_, Claim<'_>>> {
    let claims = (0..count).map(|_| Hand::waiting(locks.claim(0..1, Shared)));
    claims.collect()
}

#[test]
fn a_crowd_is_served_in_order_of_arrival() {
    let locks = locks();
    let writer = now(locks.claim(0..1, Exclusive));
    let mut readers = crowd(&locks, 3 * WINDOW);
    let mut late_writer = Hand::waiting(locks.claim(0..1, Exclusive));
    drop(writer);
    // Not before those in the window have let it in.
    assert!(readers[WINDOW].poll().is_none());
    let held: Vec<_> = readers
        .iter_mut()
        .map(|reader| reader.poll().expect("its turn"))
        .collect();
    assert!(late_writer.poll().is_none());
    drop(held);
    assert!(late_writer.poll().is_some());
}

#[test]
fn behind_a_crowd_there_is_a_line_for_all() {
    let locks = locks();
    let writer = now(locks.claim(0..1, Exclusive));
    let readers = crowd(&locks, WINDOW);
    // Nobody wants this one.
    drop(now(locks.claim(100..101, Exclusive)));
    let mut one_more = crowd(&locks, 1);
    assert!(locks.try_claim(100..101, Shared).is_none());
    let mut other = Hand::waiting(locks.claim(100..101, Shared));
    drop(writer);
    for mut reader in readers {
        assert!(reader.poll().is_some());
    }
    assert!(one_more[0].poll().is_some());
    assert!(other.poll().is_some());
    assert!(locks.try_claim(100..101, Shared).is_some());
}

#[test]
fn a_claim_wakes_nobody_whom_it_did_not_keep_out() {
    let locks = locks();
    let _writer = now(locks.claim(0..1, Exclusive));
    let other = |n: u64| n * CHUNK * SHARDS as u64;
    let held = (1..=100).map(|n| now(locks.token(other(n)..other(n) + 1, Exclusive)));
    let held: Vec<_> = held.collect();
    let _readers = crowd(&locks, 10_000);
    runtime::steps::take();
    for token in held {
        locks.release(token);
    }
    let steps = runtime::steps::take().all;
    assert!(steps < 100 * 4 * WINDOW as u64, "{steps} steps");
}

#[test]
fn a_block_of_a_claim_can_be_kept() {
    let locks = locks();
    let all = locks.try_token(0..8, Exclusive).unwrap();
    let kept = locks.keep(5).unwrap();
    let mut waiting = Hand::waiting(locks.claim(4..6, Shared));
    assert!(locks.keep(4).is_none(), "somebody waits for it");
    locks.release(all);
    assert!(locks.try_claim(0..4, Exclusive).is_some());
    assert!(waiting.poll().is_none());
    locks.release(kept);
    assert!(waiting.poll().is_some());
    // Others always find room.
    let tokens: Vec<_> = std::iter::from_fn(|| locks.keep(7)).collect();
    assert!(tokens.len() < CLAIMS);
    assert!(locks.try_claim(20..21, Exclusive).is_some());
}
