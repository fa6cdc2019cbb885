// SPDX-License-Identifier: GPL-2.0

//! The storage as the core gets it: a simulated disk that knows what a write is for, and so can
//! break a rule of order.

use crate::flaw::Flaw;
use crate::toy::Layout;
use runtime::disk::PAGE_SECTORS;
use runtime::disk::PAGE_SIZE;
use sim::flawed::Flaws;
use sim::flawed::Treatment;
use sim::FlawedDisk;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use vdo::format::block_map;
use vdo::format::block_map::Validity;
use vdo::format::Page;
use vdo::format::Pbn;

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The geometry block.
    Geometry,
    /// The index.
    Index,
    /// The super block.
    SuperBlock,
    /// A root of the block map.
    Interior,
    /// Any other page of the block map.
    Leaf,
    /// A page of the block map that is not said to be initialized.
    NewPage,
    /// Data of users.
    Data,
    /// Reference counts.
    Counts,
    /// A slab journal.
    SlabJournal,
    /// The recovery journal.
    Journal,
    /// The slab summary.
    Summary,
}

/// The storage in the hands of the core.
pub type Device = FlawedDisk<Broken>;

/// The rule that is broken, if one is.
#[derive(Clone)]
pub struct Broken {
    layout: Layout,
    flaw: Option<Flaw>,
    started: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
}

impl Broken {
    /// Returns how storage breaks the rule whose volume is laid out like this.
    pub fn new(layout: Layout, flaw: Option<Flaw>) -> Self {
        Self {
            layout,
            flaw,
            started: Arc::default(),
            closing: Arc::default(),
        }
    }

    /// The volume is in use now.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// The volume is about to be closed.
    pub fn set_closing(&self, closing: bool) {
        self.closing.store(closing, Ordering::Relaxed);
    }

    /// Returns true while the volume is being closed.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn applies(&self, flaw: Flaw) -> bool {
        match flaw {
            Flaw::CleanTooEarly => self.is_closing(),
            Flaw::ChangeBeforeDirty | Flaw::GeometryFirst => true,
            _ => self.started.load(Ordering::Relaxed),
        }
    }

    fn kind(&self, pbn: Pbn, page: Option<&Page>) -> Kind {
        let kind = self.layout.kind(pbn);
        let Some(page) = page.filter(|_| kind == Kind::Data) else {
            return kind;
        };
        let mut copy = *page;
        block_map::set_initialized(&mut copy, true);
        match block_map::validate(&copy, self.layout.nonce, pbn) {
            Validity::Valid if block_map::is_initialized(page) => Kind::Leaf,
            Validity::Valid => Kind::NewPage,
            _ => Kind::Data,
        }
    }
}

impl Flaws for Broken {
    fn treat(&self, sector: u64, data: &[u8]) -> Treatment {
        let Some(flaw) = self.flaw.filter(|&flaw| self.applies(flaw)) else {
            return Treatment::Fair;
        };
        let page = data.first_chunk::<PAGE_SIZE>();
        flaw.treat(self.kind(sector / PAGE_SECTORS, page))
    }
}
