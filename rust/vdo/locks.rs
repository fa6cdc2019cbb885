// SPDX-License-Identifier: GPL-2.0

//! Who may touch which logical blocks.
//!
//! Writers of a block exclude each other and its readers, from their arrival until the new mapping
//! is in the page and the journal has its entry; readers hold a block until the storage has
//! delivered it, so that its physical block is not reused under them. Claims that overlap are
//! served in the order in which they came.
//!
//! A writer that has acknowledged its data [shows](crate::shown) where it is, and readers take it
//! from there instead of waiting.
//!
//! A claim lies inside one chunk of [`CHUNK`] blocks, as every bio with data does. Who needs
//! several claims asks for them in ascending order, and for all but the first of them waits for
//! those who hold a block, but not for those who wait: one of these may wait for a block that the
//! claimer holds already. There is room for all such claims.

use crate::format::Lbn;
use core::ops::Range;
use core::pin::pin;
use kernel::prelude::*;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;

/// Blocks in a chunk: device-mapper cuts bios with data at multiples of 1 MiB.
pub const CHUNK: u64 = 256;

/// Claims are spread over this many shards.
const SHARDS: usize = 16;

/// First claims that a shard can hold at once; more wait.
const CLAIMS: usize = 256;

/// What a claim allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Shared,
    /// Changing.
    Exclusive,
}

/// The claims on logical blocks.
pub struct LbnLocks {
    shards: [Monitor<Shard>; SHARDS],
}

#[derive(Clone)]
struct Wish {
    blocks: Range<Lbn>,
    access: Access,
    /// The claimer holds others.
    is_next: bool,
}

impl Wish {
    fn excludes(&self, other: &Self) -> bool {
        let apart = self.blocks.start >= other.blocks.end || other.blocks.start >= self.blocks.end;
        !apart && (self.access == Access::Exclusive || other.access == Access::Exclusive)
    }
}

/// A claim that is held.
struct Held {
    number: u64,
    wish: Wish,
}

struct Shard {
    held: KVVec<Held>,
    last: u64,
}

impl Rules for Shard {
    type Key = Wish;

    // Who leaves has its claim now, and stands in the way of the same others as before.
    fn left(&mut self, _: &Wish, _: &mut Entries<'_, Wish>) {}
}

impl Shard {
    /// Makes the claim if nobody holds, and nobody of those `before` waits for, what excludes it.
    fn take<'k>(&mut self, wish: &Wish, mut before: impl Iterator<Item = &'k Wish>) -> Option<u64> {
        if self.held.iter().any(|held| held.wish.excludes(wish)) {
            return None;
        }
        let mut must_wait = || self.is_full() || before.any(|earlier| earlier.excludes(wish));
        if !wish.is_next && must_wait() {
            return None;
        }
        let number = self.last.wrapping_add(1);
        let held = Held {
            number,
            wish: wish.clone(),
        };
        self.held.push_within_capacity(held).ok()?;
        self.last = number;
        Some(number)
    }

    fn is_full(&self) -> bool {
        self.held.len() >= CLAIMS
    }

    fn give_up(&mut self, number: u64, waiting: &mut Entries<'_, Wish>) {
        let Some(at) = self.held.iter().position(|held| held.number == number) else {
            return;
        };
        let was_full = self.is_full();
        let last = self.held.len().saturating_sub(1);
        self.held.swap(at, last);
        if let Some(held) = self.held.pop() {
            waiting.wake_where(|wish| was_full || wish.excludes(&held.wish));
        }
    }
}

/// A claim that is held; dropping it gives it up.
pub struct Claim<'l> {
    locks: &'l LbnLocks,
    token: Token,
}

/// A claim that is held until [`LbnLocks::release`], for where a reference cannot be kept.
#[must_use]
#[derive(Debug)]
pub struct Token {
    shard: usize,
    number: u64,
}

impl LbnLocks {
    /// Creates the locks, with room for so many claims that are not a claimer's first; nothing is
    /// allocated later.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(next_claims: usize) -> Result<Self> {
        let room = CLAIMS.saturating_add(next_claims);
        let mut memory = KVec::with_capacity(SHARDS, GFP_KERNEL)?;
        for _ in 0..SHARDS {
            memory.push(KVVec::with_capacity(room, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let shards = core::array::from_fn(|_| {
            let held = memory.pop().unwrap_or(KVVec::new());
            Monitor::new(Shard { held, last: 0 })
        });
        Ok(Self { shards })
    }

    /// Claims `blocks` if nobody is in the way.
    pub fn try_claim(&self, blocks: Range<Lbn>, access: Access) -> Option<Claim<'_>> {
        let token = self.try_wish(&Wish {
            blocks,
            access,
            is_next: false,
        })?;
        Some(Claim { locks: self, token })
    }

    /// Waits for everybody who is in the way and came earlier, then claims `blocks`.
    pub async fn claim(&self, blocks: Range<Lbn>, access: Access) -> Claim<'_> {
        let token = self.token(blocks, access).await;
        Claim { locks: self, token }
    }

    /// As [`claim`](Self::claim), to be released by hand.
    pub async fn token(&self, blocks: Range<Lbn>, access: Access) -> Token {
        self.wish(Wish {
            blocks,
            access,
            is_next: false,
        })
        .await
    }

    /// As [`token`](Self::token), for one who holds claims of smaller blocks already.
    pub async fn next_token(&self, blocks: Range<Lbn>, access: Access) -> Token {
        self.wish(Wish {
            blocks,
            access,
            is_next: true,
        })
        .await
    }

    async fn wish(&self, wish: Wish) -> Token {
        if let Some(token) = self.try_wish(&wish) {
            return token;
        }
        let shard = shard_of(&wish.blocks);
        let entry = pin!(self.shards[shard].entry(wish));
        let number = entry
            .as_ref()
            .wait(|turn| turn.state.take(turn.key, turn.others.before()))
            .await;
        Token { shard, number }
    }

    /// Returns true if nobody holds a claim.
    pub fn is_idle(&self) -> bool {
        let idle = |shard: &Monitor<Shard>| shard.with(|state, _| state.held.is_empty());
        self.shards.iter().all(idle)
    }

    /// Gives up a claim.
    pub fn release(&self, token: Token) {
        self.give_up(&token);
    }

    fn give_up(&self, token: &Token) {
        if let Some(shard) = self.shards.get(token.shard) {
            shard.with(|state, waiting| state.give_up(token.number, waiting));
        }
    }

    fn try_wish(&self, wish: &Wish) -> Option<Token> {
        let shard = shard_of(&wish.blocks);
        let number = self.shards[shard].with(|state, waiting| state.take(wish, waiting.iter()))?;
        Some(Token { shard, number })
    }
}

/// Returns the shard of a chunk. Neighbouring chunks are often in use together.
fn shard_of(blocks: &Range<Lbn>) -> usize {
    (blocks.start / CHUNK) as usize % SHARDS
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.locks.give_up(&self.token);
    }
}

#[cfg(test)]
mod tests;
