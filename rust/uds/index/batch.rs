// SPDX-License-Identifier: GPL-2.0

//! Names that are asked about together.

use crate::error::Result;
use crate::format::Chapter;
use crate::format::Metadata;
use crate::format::Name;
use crate::format::NO_CHAPTER;
use crate::volume::ListMemory;
use crate::volume::Wanted;
use crate::volume_index::Request;
use crate::volume_index::VolumeIndex;
use kernel::prelude::*;

/// A name of a batch, after the look-up.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// What the user knows it by.
    pub tag: u32,
    /// The name.
    pub name: Name,
    /// Whether it is asked for by somebody who has nothing to remember yet.
    pub is_query: bool,
    /// What is known of it.
    pub advice: Option<Metadata>,
    /// The volume index spoke of this very name.
    pub(super) is_own: bool,
    /// The chapter on disk that it was looked for in.
    pub(super) chapter: Chapter,
    /// Where its list is among the others.
    order: u64,
}

impl Item {
    fn new(name: Name, tag: u32) -> Self {
        Self {
            tag,
            name,
            is_query: false,
            advice: None,
            is_own: false,
            chapter: NO_CHAPTER,
            order: 0,
        }
    }
}

/// Names that are asked about together; the memory is used again.
pub struct Batch {
    /// In the order of their lists, after the look-up.
    pub(super) items: KVVec<Item>,
    pub(super) requests: KVVec<Request>,
    pub(super) wanted: KVVec<Wanted>,
    pub(super) list: ListMemory,
}

impl Batch {
    /// Allocates a batch of up to so many names.
    pub fn new(names: usize) -> Result<Self> {
        Ok(Self {
            items: KVVec::with_capacity(names, GFP_KERNEL)?,
            requests: KVVec::with_capacity(names, GFP_KERNEL)?,
            wanted: KVVec::with_capacity(names, GFP_KERNEL)?,
            list: ListMemory::new()?,
        })
    }

    /// Returns a batch without memory, which stands for one that is elsewhere.
    pub const fn elsewhere() -> Self {
        Self {
            items: KVVec::new(),
            requests: KVVec::new(),
            wanted: KVVec::new(),
            list: ListMemory::none(),
        }
    }

    /// Returns true if it has no memory.
    pub fn is_elsewhere(&self) -> bool {
        self.items.capacity() == 0
    }

    /// Forgets its names.
    pub fn clear(&mut self) {
        self.items.clear();
        self.requests.clear();
        self.wanted.clear();
    }

    /// Adds a name, which the user knows by `tag`; false if there is no room.
    pub fn push(&mut self, name: Name, tag: u32) -> bool {
        self.items
            .push_within_capacity(Item::new(name, tag))
            .is_ok()
    }

    /// As [`push`](Self::push), by somebody who may have nothing to remember.
    pub fn push_query(&mut self, name: Name, tag: u32) -> bool {
        let item = Item {
            is_query: true,
            ..Item::new(name, tag)
        };
        self.items.push_within_capacity(item).is_ok()
    }

    /// Takes what was found of a name.
    pub(super) fn take(items: &mut [Item], wanted: &Wanted) {
        if let Some(item) = items.get_mut(wanted.tag as usize) {
            item.advice = wanted.found;
            item.is_own = wanted.found.is_some();
            item.chapter = wanted.chapter;
        }
    }

    /// Returns the names, in no order that matters.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Brings the names into the order of their lists.
    pub(super) fn prepare(&mut self, index: &VolumeIndex) {
        self.requests.clear();
        self.wanted.clear();
        for item in self.items.iter_mut() {
            *item = Item {
                is_query: item.is_query,
                order: index.request(item.name).order(),
                ..Item::new(item.name, item.tag)
            };
        }
        runtime::sort::sort_by_key(&mut self.items, |item| item.order);
        for item in &self.items {
            // There is room for as many.
            let request = index.request(item.name);
            let _ = self.requests.push_within_capacity(request);
        }
    }
}
