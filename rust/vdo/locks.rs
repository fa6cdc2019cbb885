// SPDX-License-Identifier: GPL-2.0

//! Who may touch which logical blocks.
//!
//! Writers of a block exclude each other and its readers, from their arrival until the new mapping
//! is in the page and the journal has its entry; readers hold a block until the storage has
//! delivered it, so that its physical block is not reused under them. Claims that overlap are
//! served in the order in which they came.
//!
//! A claim lies inside one chunk of [`CHUNK`] blocks, as every bio with data does. Who needs
//! several claims asks for them in ascending order.

use crate::format::Lbn;
use core::ops::Range;
use core::pin::pin;
use kernel::prelude::*;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;

/// Blocks in a chunk: device-mapper cuts bios with data at multiples of 1 MiB.
pub const CHUNK: u64 = 256;

/// Claims are spread over this many shards, a power of two.
const SHARDS: usize = 16;

/// Claims that a shard can hold at once; more wait.
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
}

impl Wish {
    fn excludes(&self, other: &Self) -> bool {
        let apart = self.blocks.start >= other.blocks.end || other.blocks.start >= self.blocks.end;
        !apart && (self.access == Access::Exclusive || other.access == Access::Exclusive)
    }
}

struct Shard {
    held: KVec<(u64, Wish)>,
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
        if self.held.iter().any(|(_, held)| held.excludes(wish))
            || before.any(|earlier| earlier.excludes(wish))
        {
            return None;
        }
        let number = self.last.wrapping_add(1);
        self.held
            .push_within_capacity((number, wish.clone()))
            .ok()?;
        self.last = number;
        Some(number)
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
    /// Creates the locks; nothing is allocated later.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let mut memory = KVec::with_capacity(SHARDS, GFP_KERNEL)?;
        for _ in 0..SHARDS {
            memory.push(KVec::with_capacity(CLAIMS, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let shards = core::array::from_fn(|_| {
            let held = memory.pop().unwrap_or(KVec::new());
            Monitor::new(Shard { held, last: 0 })
        });
        Ok(Self { shards })
    }

    /// Claims `blocks` if nobody is in the way.
    pub fn try_claim(&self, blocks: Range<Lbn>, access: Access) -> Option<Claim<'_>> {
        let token = self.try_token(blocks, access)?;
        Some(Claim { locks: self, token })
    }

    /// Waits for everybody who is in the way and came earlier, then claims `blocks`.
    pub async fn claim(&self, blocks: Range<Lbn>, access: Access) -> Claim<'_> {
        let token = self.token(blocks, access).await;
        Claim { locks: self, token }
    }

    /// As [`claim`](Self::claim), to be released by hand.
    pub async fn token(&self, blocks: Range<Lbn>, access: Access) -> Token {
        if let Some(token) = self.try_token(blocks.clone(), access) {
            return token;
        }
        let shard = shard_of(&blocks);
        let entry = pin!(self.shards[shard].entry(Wish { blocks, access }));
        let number = entry
            .as_ref()
            .wait(|turn| turn.state.take(turn.key, turn.others.before()))
            .await;
        Token { shard, number }
    }

    /// Gives up a claim.
    pub fn release(&self, token: Token) {
        self.give_up(&token);
    }

    fn try_token(&self, blocks: Range<Lbn>, access: Access) -> Option<Token> {
        let shard = shard_of(&blocks);
        let wish = Wish { blocks, access };
        let number = self.shards[shard].with(|state, waiting| state.take(&wish, waiting.iter()))?;
        Some(Token { shard, number })
    }

    fn give_up(&self, token: &Token) {
        let Some(shard) = self.shards.get(token.shard) else {
            return;
        };
        shard.with(|state, waiting| {
            let Some(at) = state
                .held
                .iter()
                .position(|(number, _)| *number == token.number)
            else {
                return;
            };
            let was_full = state.held.len() == state.held.capacity();
            let last = state.held.len().saturating_sub(1);
            state.held.swap(at, last);
            if let Some((_, given_up)) = state.held.pop() {
                waiting.wake_where(|wish| was_full || wish.excludes(&given_up));
            }
        });
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
