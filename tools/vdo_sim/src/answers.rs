// SPDX-License-Identifier: GPL-2.0

//! What requests may be answered with.
//!
//! An error needs a reason. "Out of space" needs a full volume: every block is in use, or may be
//! taken by a request that is under way at the same time. Anything else needs a fault that has
//! struck since the request was made, or a volume that is read-only because one has struck before.

use crate::machine::Machine;
use kernel::prelude::*;
use sim::fault::Kind;
use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;

/// All kinds of operations of a disk.
pub const ALL: [Kind; 4] = [Kind::Read, Kind::Write, Kind::Flush, Kind::Discard];

/// Pages of the block map that a request may allocate for each leaf page that it touches.
const PAGES: u64 = 5;

/// What a request asks for, as far as its answer depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// To read.
    Read,
    /// For blocks to be written, of so many leaf pages: takes room.
    Room(u64),
    /// For mappings to be taken away: takes no room, but may give some back.
    Less,
    /// For what was written to be stable.
    Flush,
}

/// A request that has not been answered yet.
#[derive(Debug)]
pub struct Asked {
    asks: Asks,
    /// Blocks that may be taken because of it.
    blocks: u64,
    /// Blocks that may be taken because of all that were under way at the same time.
    beside: Cell<u64>,
    /// Operations that had failed before.
    struck: usize,
}

/// The requests that are not answered yet.
#[derive(Default)]
pub struct Answers(RefCell<Vec<Rc<Asked>>>);

impl Answers {
    /// A request for so many blocks is about to be made.
    pub fn ask(&self, machine: &Machine, asks: Asks, blocks: u64) -> Rc<Asked> {
        let blocks = match asks {
            Asks::Read | Asks::Flush => 0,
            Asks::Less => blocks,
            Asks::Room(leaves) => blocks + PAGES * leaves,
        };
        let mut live = self.0.borrow_mut();
        let mut beside = blocks;
        for other in live.iter() {
            other.beside.set(other.beside.get() + blocks);
            beside += other.blocks;
        }
        let asked = Rc::new(Asked {
            asks,
            blocks,
            beside: Cell::new(beside),
            struck: machine.world.struck(&ALL),
        });
        live.push(asked.clone());
        asked
    }

    /// A request has been answered. Returns what is wrong with that.
    pub fn answer(&self, machine: &Machine, asked: &Rc<Asked>, result: Result) -> Option<String> {
        self.0
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, asked));
        if machine.plan.flaw.is_some() || machine.volume().is_none() {
            return None;
        }
        let error = result.err()?;
        let asks = asked.asks;
        let is_explained = machine.is_read_only() || machine.world.struck(&ALL) > asked.struck;
        match error {
            ENOSPC if matches!(asks, Asks::Room(_)) => {
                let (most, all) = (machine.blocks_used() + asked.beside.get(), machine.blocks());
                // Blocks that could not be written stay taken.
                let is_known = machine.world.struck(&[Kind::Write]) == 0;
                (is_known && most < all).then(|| {
                    format!("{asks:?}: out of space though at most {most} of {all} blocks are used")
                })
            }
            EIO if is_explained => None,
            _ => Some(format!(
                "{asks:?} was answered with {error:?} without a reason"
            )),
        }
    }
}
