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

/// Adds differences up to an address.
#[derive(Clone, Copy, Debug)]
pub struct Seeker {
    address: u64,
    name: Name,
    /// The address of the entry before.
    base: u64,
    /// That of the entry at which the walk has stopped, if it has.
    reached: Option<u64>,
}

/// A name that is looked for in a list: for [`walk_all`](super::walk::walk_all).
pub type Query<'a> = Walk<'a, Seeker>;

impl Visitor for Seeker {
    #[inline(always)]
    fn stops_at(&mut self, _: usize, _: u32, delta: u32) -> bool {
        // Where the address is not reached, a collision does not reach it either.
        let reached = self.base + u64::from(delta);
        if reached >= self.address {
            self.reached = Some(reached);
            return true;
        }
        self.base = reached;
        false
    }
}

impl<'a> Query<'a> {
    /// Looks for `name`, whose address is `address`, in `list`.
    pub fn search(list: List<'a>, address: u32, name: Name) -> Self {
        Self::new(
            list,
            Seeker {
                address: address.into(),
                name,
                base: 0,
                reached: None,
            },
        )
    }

    /// The same, from an entry on: `from` bits into the list, behind the address `base`, which is
    /// smaller.
    pub fn search_on(list: List<'a>, from: u32, base: u32, address: u32, name: Name) -> Self {
        let mut query = Self::search(list, address, name);
        query.at += from as usize;
        query.visitor.base = base.into();
        query
    }

    /// Returns what came of it, after the walk.
    pub fn result(&self, code: &Code) -> Result<Search, Damaged> {
        if !self.is_sound {
            return Err(Damaged);
        }
        let seeker = &self.visitor;
        if seeker.reached == Some(seeker.address) {
            return self.among_equals(code);
        }
        Ok(self.search_at(self.at, seeker.base, Found::Nothing))
    }

    /// The address is there: looks at the names of the collisions.
    fn among_equals(&self, code: &Code) -> Result<Search, Damaged> {
        let plain = self.list.step(code, self.at)?;
        let mut at = self.at + plain.bits;
        while at < self.list.end() {
            let step = self.list.step(code, at)?;
            if !step.is_collision {
                break;
            }
            let end = at + step.bits;
            if self.list.name_before(end) == self.visitor.name {
                let found = Found::Collision(step.payload);
                return Ok(self.search_at(at, self.visitor.address, found));
            }
            at = end;
        }
        Ok(self.search_at(self.at, self.visitor.base, Found::Plain(plain.payload)))
    }

    fn search_at(&self, at: usize, base: u64, found: Found) -> Search {
        // Neither is larger than what fits: an address is beyond its base.
        Search {
            found,
            at: (at - self.list.start()) as u32,
            base: base as u32,
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
        let mut query = Query::search(self, address, *name);
        query.run(code);
        query.result(code)
    }
}
