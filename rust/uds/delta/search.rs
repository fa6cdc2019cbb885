// SPDX-License-Identifier: GPL-2.0

//! Where a name is in a list, or would be.

use super::walk::Visitor;
use super::walk::Walk;
use super::Code;
use super::Damaged;
use super::List;
use crate::format::name::Name;

/// What a list says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It has nothing with the address of the name.
    Nothing,
    /// It has the address with this payload: the name's own, or that of another name.
    Plain(u32),
    /// It has this very name, as a collision, with this payload.
    Collision(u32),
}

/// Where a name is in a list, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// What was found.
    pub found: Found,
    /// The entry that was found, or the one before which the name would be: bits from the start of
    /// the list.
    pub at: u32,
    /// The address of the entry before that one; 0 if it is the first.
    pub base: u32,
}

/// Adds differences up to an address. Addresses are scaled as the differences are.
#[derive(Clone, Copy, Debug)]
pub struct Seeker {
    address: u64,
    /// The address of the entry before.
    base: u64,
    /// Whether the walk has stopped at an entry of the address.
    is_there: bool,
}

/// A name that is looked for in a list: for [`walk_all`](super::walk::walk_all).
pub type Query<'a> = Walk<'a, Seeker>;

impl Visitor for Seeker {
    #[inline(always)]
    fn stops_at(&mut self, _: usize, _: u32, delta: u64) -> bool {
        // Where the address is not reached, a collision does not reach it either.
        let reached = self.base + delta;
        if reached >= self.address {
            self.is_there = reached == self.address;
            return true;
        }
        self.base = reached;
        false
    }
}

impl<'a> Query<'a> {
    /// Looks for names with this address in `list`.
    pub fn search(code: &Code, number: usize, list: List<'a>, address: u32) -> Self {
        Self::new(
            number,
            list,
            Seeker {
                address: u64::from(address) << code.payload_bits(),
                base: 0,
                is_there: false,
            },
        )
    }

    /// Has the search begin with an entry, `from` bits into the list, behind the address `base`,
    /// which is smaller than what is looked for.
    pub fn starting_behind(mut self, code: &Code, from: u32, base: u32) -> Self {
        self.at += from as usize;
        self.visitor.base = u64::from(base) << code.payload_bits();
        self
    }

    /// Returns what came of it for a name, after the walk.
    pub fn result(&self, code: &Code, name: &Name) -> Result<Search, Damaged> {
        if !self.is_sound {
            return Err(Damaged);
        }
        let seeker = &self.visitor;
        if seeker.is_there {
            return self.among_equals(code, name);
        }
        Ok(self.search_at(code, self.at, seeker.base, Found::Nothing))
    }

    /// The address is there: looks at the names of the collisions.
    fn among_equals(&self, code: &Code, name: &Name) -> Result<Search, Damaged> {
        let plain = self.list.step(code, self.at)?;
        let mut at = self.at + plain.bits;
        while at < self.list.end() {
            let step = self.list.step(code, at)?;
            if !step.is_collision {
                break;
            }
            let end = at + step.bits;
            if self.list.name_before(end) == *name {
                let found = Found::Collision(step.payload);
                return Ok(self.search_at(code, at, self.visitor.address, found));
            }
            at = end;
        }
        let found = Found::Plain(plain.payload);
        Ok(self.search_at(code, self.at, self.visitor.base, found))
    }

    fn search_at(&self, code: &Code, at: usize, base: u64, found: Found) -> Search {
        // Both fit: what is looked for is beyond its base.
        Search {
            found,
            at: (at - self.list.start()) as u32,
            base: (base >> code.payload_bits()) as u32,
        }
    }
}

impl List<'_> {
    /// Looks for a name, whose address is `address`.
    ///
    /// # Errors
    ///
    /// If the list is damaged before the place of the name.
    pub fn search(self, code: &Code, address: u32, name: &Name) -> Result<Search, Damaged> {
        let mut query = Query::search(code, 0, self, address);
        query.run(code);
        query.result(code, name)
    }
}
