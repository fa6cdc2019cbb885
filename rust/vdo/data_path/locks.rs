// SPDX-License-Identifier: GPL-2.0

//! Who may touch which logical blocks.
//!
//! Writers of a block exclude each other and its readers, from their arrival until the new mapping
//! is in the page and the journal has its entry; readers hold a block until the storage has
//! delivered it, so that its physical block is not reused under them. Claims that overlap are
//! served in the order in which they came.
//!
//! A writer that has acknowledged its data [shows](crate::data_path::shown) where it is, and readers take it
//! from there instead of waiting.
//!
//! A claim lies inside one chunk of [`CHUNK`] blocks, as every bio with data does. Who waits for a
//! claim holds no other one, so there is no circle; who takes several takes what it gets at once.
//!
//! However many wait, a claim costs the same: only the [`WINDOW`] claims that came first are looked
//! at when one is given up. The others, and who comes behind them, wait in line for that, also if
//! nobody holds what they want.

use crate::format::Lbn;
use core::ops::Range;
use core::pin::pin;
use kernel::prelude::*;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::monitor::Turn;

/// Blocks in a chunk: device-mapper cuts bios with data at multiples of 1 MiB.
pub const CHUNK: u64 = 256;

/// Claims are spread over this many shards.
const SHARDS: usize = 64;

/// Claims that a shard can hold at once, with those in its window; more wait.
const CLAIMS: usize = 256;

/// Claims of a shard that wait and are looked at.
const WINDOW: usize = 32;

/// The list of those who wait for a place in the window.
const CROWD: usize = 1;

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
    shards: KVec<Monitor<Shard>>,
}

#[derive(Clone)]
struct Wish {
    blocks: Range<Lbn>,
    access: Access,
}

/// Who waits for a claim.
struct Waiter {
    wish: Wish,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It has just come.
    New,
    /// Among those that are looked at.
    Window,
    /// In the [`CROWD`].
    Crowd,
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

/// # Invariants
///
/// `held.len() + window <= CLAIMS`: who is in the window finds room. While there is a crowd, the window
/// is full or there is no room for one more.
struct Shard {
    held: KVVec<Held>,
    /// How many wishes are in the window.
    window: usize,
    /// How many are in the crowd.
    crowd: usize,
    last: u64,
}

impl Rules for Shard {
    type Key = Waiter;

    // Who has its claim has left its queue before.
    fn left(&mut self, _: &Waiter, _: &mut Entries<'_, Waiter>) {}
}

impl Shard {
    fn new(held: KVVec<Held>) -> Self {
        Self {
            held,
            window: 0,
            crowd: 0,
            last: 0,
        }
    }

    fn has_room(&self) -> bool {
        self.held.len() + self.window < CLAIMS
    }

    /// Makes the claim if nobody holds, and nobody of those `before` waits for, what excludes it.
    fn take<'k>(
        &mut self,
        wish: &Wish,
        mut before: impl Iterator<Item = &'k Waiter>,
    ) -> Option<u64> {
        let is_held = self.held.iter().any(|held| held.wish.excludes(wish));
        if is_held || before.any(|earlier| earlier.wish.excludes(wish)) {
            return None;
        }
        self.hold(wish.clone())
    }

    fn hold(&mut self, wish: Wish) -> Option<u64> {
        let number = self.last.wrapping_add(1);
        let held = Held { number, wish };
        self.held.push_within_capacity(held).ok()?;
        self.last = number;
        Some(number)
    }

    /// Makes a claim inside one that its owner has, if that leaves room for others.
    fn keep(&mut self, wish: Wish) -> Option<u64> {
        let has_room = self.crowd == 0 && self.held.len() + self.window < CLAIMS / 2;
        if has_room {
            self.hold(wish)
        } else {
            None
        }
    }

    /// As [`take`](Self::take), for a wish that has just come.
    fn take_new<'k>(
        &mut self,
        wish: &Wish,
        before: impl Iterator<Item = &'k Waiter>,
    ) -> Option<u64> {
        if self.crowd > 0 || !self.has_room() {
            return None;
        }
        self.take(wish, before)
    }

    fn give_up(&mut self, number: u64, waiting: &mut Entries<'_, Waiter>) {
        let Some(at) = self.held.iter().position(|held| held.number == number) else {
            return;
        };
        let last = self.held.len().saturating_sub(1);
        self.held.swap(at, last);
        if let Some(held) = self.held.pop() {
            waiting.wake_where(|waiter| waiter.wish.excludes(&held.wish));
        }
        self.fill_window(waiting);
    }

    /// Lets in who has waited for longest in the crowd.
    fn fill_window(&mut self, waiting: &mut Entries<'_, Waiter>) {
        while self.crowd > 0 && self.window < WINDOW && self.has_room() {
            if let Some(waiter) = waiting.first_of(CROWD) {
                waiter.place = Place::Window;
            }
            if !waiting.wake_first_of(CROWD, 0) {
                return;
            }
            self.crowd -= 1;
            self.window += 1;
        }
    }
}

/// Gives a waiter its claim, or lets it wait.
fn serve(turn: &mut Turn<'_, Shard>) -> Option<u64> {
    let (shard, waiter) = (&mut *turn.state, &mut *turn.key);
    let number = match waiter.place {
        Place::Crowd => return None,
        Place::New => shard.take_new(&waiter.wish, turn.others.before()),
        Place::Window => shard.take(&waiter.wish, turn.others.before()),
    };
    match (number, waiter.place) {
        (None, Place::New) => {
            if shard.crowd == 0 && shard.window < WINDOW && shard.has_room() {
                waiter.place = Place::Window;
                shard.window += 1;
            } else {
                waiter.place = Place::Crowd;
                shard.crowd += 1;
                turn.move_to(CROWD);
            }
        }
        (Some(_), Place::Window) => {
            shard.window -= 1;
            turn.leave();
            turn.state.fill_window(&mut turn.others);
        }
        (Some(_), _) => turn.leave(),
        (None, _) => {}
    }
    number
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
        let mut shards = KVec::with_capacity(SHARDS, GFP_KERNEL)?;
        for _ in 0..SHARDS {
            let held = KVVec::with_capacity(CLAIMS, GFP_KERNEL)?;
            shards.push(
                Monitor::with_lists(Shard::new(held), CROWD + 1)?,
                GFP_KERNEL,
            )?;
        }
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

    /// As [`try_claim`](Self::try_claim), to be released by hand.
    pub fn try_token(&self, blocks: Range<Lbn>, access: Access) -> Option<Token> {
        self.try_wish(&Wish { blocks, access })
    }

    /// As [`claim`](Self::claim), to be released by hand.
    pub async fn token(&self, blocks: Range<Lbn>, access: Access) -> Token {
        let wish = Wish { blocks, access };
        if let Some(token) = self.try_wish(&wish) {
            return token;
        }
        let shard = shard_of(&wish.blocks);
        let place = Place::New;
        let entry = pin!(self.shards[shard].entry(Waiter { wish, place }));
        let number = entry.as_ref().wait(serve).await;
        Token { shard, number }
    }

    /// Returns the claim for changing exactly `blocks`, whose token was not kept.
    pub fn token_of(&self, blocks: &Range<Lbn>) -> Option<Token> {
        let shard = shard_of(blocks);
        let number = self.shards.get(shard)?.with(|state, _| {
            let is_it = |wish: &Wish| wish.access == Access::Exclusive && wish.blocks == *blocks;
            let held = state.held.iter().find(|held| is_it(&held.wish))?;
            Some(held.number)
        })?;
        Some(Token { shard, number })
    }

    /// Makes another claim on a block that the caller has claimed for changing, to be kept when that is
    /// given up. Returns none if there is no room, or somebody waits for the block.
    pub fn keep(&self, lbn: Lbn) -> Option<Token> {
        let wish = Wish {
            blocks: lbn..lbn.saturating_add(1),
            access: Access::Exclusive,
        };
        let shard = shard_of(&wish.blocks);
        let number = self.shards.get(shard)?.with(|state, waiting| {
            let mut waiting = waiting.iter();
            let is_wanted = waiting.any(|waiter| waiter.wish.excludes(&wish));
            (!is_wanted).then(|| state.keep(wish)).flatten()
        })?;
        Some(Token { shard, number })
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
        let shards = &self.shards[shard];
        let number = shards.with(|state, waiting| state.take_new(wish, waiting.iter()))?;
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
