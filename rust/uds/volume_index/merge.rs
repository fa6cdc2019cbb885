// SPDX-License-Identifier: GPL-2.0

//! Many names at once, for a rebuild: each list is gone through once for all that it gets.
//!
//! A name that meets the address of an entry which was there before may be that entry's own name: only the
//! entry's chapter can tell. Such names are given back, to be looked for there.

use super::Answer;
use super::Request;
use super::VolumeIndex;
use crate::format::Chapter;
use crate::format::Name;
use kernel::prelude::*;

/// A name, and a chapter that it is in.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The name.
    pub name: Name,
    /// The chapter.
    pub chapter: Chapter,
    /// The list, and in the highest bit which set it is of.
    pub(super) list: u32,
    pub(super) address: u32,
}

const SET_BIT: u32 = 1 << 31;

impl Known {
    /// Returns what names are to be sorted by.
    pub const fn order(&self) -> (u32, u32, Name, Chapter) {
        (self.list, self.address, self.name, self.chapter)
    }
}

impl VolumeIndex {
    /// Returns a name that is to be merged.
    pub fn known(&self, name: Name, chapter: Chapter) -> Known {
        let request = self.request(name);
        Known {
            name,
            chapter,
            list: request.list | if request.set > 0 { SET_BIT } else { 0 },
            address: request.address,
        }
    }

    /// Adds names, sorted by [`Known::order`], of chapters that are not older than those of names
    /// that were added before. `conflict` gets those that may be known already, with a hint, and
    /// the chapter that is to be said of them. It is called with a lock held.
    pub fn merge(&self, names: &[Known], mut conflict: impl FnMut(Request, Chapter)) {
        for run in names.chunk_by(|a, b| a.list == b.list) {
            let Some(first) = run.first() else { continue };
            let set = u32::from(first.list & SET_BIT > 0);
            let list = first.list & !SET_BIT;
            let Some(set_of_list) = self.sets.get(set as usize) else {
                continue;
            };
            let mut done = 0;
            while done < run.len() {
                let merged = set_of_list.with_memory(list, GFP_KERNEL, |shard| {
                    shard.merge(list, run, &mut done, |known, chapter| {
                        let mut request = self.request(known.name);
                        request.answer = Answer::Hint(chapter);
                        conflict(request, known.chapter);
                    })
                });
                if merged.is_none() {
                    // This one is lost.
                    done += 1;
                    if let Some(shard) = set_of_list.shard(list) {
                        shard.with(|shard| shard.counts.without_memory += 1);
                    }
                }
            }
        }
    }
}
