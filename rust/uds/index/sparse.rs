// SPDX-License-Identifier: GPL-2.0

//! Old chapters of a sparse index that were of use lately.
//!
//! Of sparse chapters the volume index knows samples only. But names that came together are asked for
//! together: where a sample is found, the names around it are, too. So the last few chapters in which a
//! sample was found are looked into for every name that is not known otherwise.

use super::Batch;
use super::Index;
use crate::format::Chapter;
use crate::format::NO_CHAPTER;
use crate::volume::Wanted;
use crate::volume_index::Answer;
use crate::world::World;
use runtime::sync::Lock;

/// So many chapters are kept in mind.
const MEMBERS: usize = 7;

/// A chapter in which so many names in a row were not found is not looked into.
const PATIENCE: u32 = 20_000;

#[derive(Clone, Copy)]
struct Member {
    chapter: Chapter,
    misses: u32,
}

const NOBODY: Member = Member {
    chapter: NO_CHAPTER,
    misses: 0,
};

/// The chapters that were of use; the last one first.
pub(super) struct Sparse(Lock<[Member; MEMBERS]>);

impl Sparse {
    pub(super) fn new() -> Self {
        Self(Lock::new([NOBODY; MEMBERS]))
    }

    /// A sample was found in a chapter.
    fn join(&self, chapter: Chapter) {
        self.0.with(|members| {
            let known = members.iter().position(|member| member.chapter == chapter);
            let end = known.unwrap_or(MEMBERS - 1);
            if let Some(upto) = members.get_mut(..=end) {
                upto.rotate_right(1);
            }
            members[0] = Member { chapter, misses: 0 };
        });
    }

    /// Returns member `number`, if it is worth a look.
    fn member(&self, number: usize, oldest: Chapter) -> Option<Chapter> {
        let member = self.0.with(|members| members.get(number).copied())?;
        let is_known = member.chapter != NO_CHAPTER && member.chapter >= oldest;
        (is_known && member.misses <= PATIENCE).then_some(member.chapter)
    }

    /// Names were looked for in a chapter.
    fn note(&self, chapter: Chapter, found: usize, missed: usize) {
        self.0.with(|members| {
            if let Some(member) = members.iter_mut().find(|m| m.chapter == chapter) {
                let before = if found > 0 { 0 } else { member.misses };
                member.misses = before.saturating_add(missed as u32);
            }
        });
    }
}

impl<W: World> Index<W> {
    /// Returns true if there are chapters that are of use.
    pub(super) fn has_sparse_members(&self) -> bool {
        let oldest = self.oldest();
        let mut numbers = 0..MEMBERS;
        self.geometry.shape.sparse_chapters > 0
            && numbers.any(|number| self.sparse.member(number, oldest).is_some())
    }

    /// Looks for names that are not known otherwise in chapters that were of use.
    pub(super) async fn search_sparse(&self, batch: &mut Batch) {
        let (oldest, newest) = (self.oldest(), self.newest());
        for item in batch.items.iter() {
            let is_sample = self.geometry.is_sample(item.name.sample_key());
            let chapter = item.chapter;
            let is_found = item.advice.is_some() && chapter != NO_CHAPTER;
            if is_sample && is_found && self.geometry.is_sparse(chapter, oldest, newest) {
                self.sparse.join(chapter);
            }
        }
        for number in 0..MEMBERS {
            let Some(chapter) = self.sparse.member(number, oldest) else {
                continue;
            };
            batch.wanted.clear();
            let all = (0..).zip(batch.requests.iter().zip(batch.items.iter()));
            for (tag, (request, item)) in all {
                let is_exact = matches!(request.answer, Answer::Exact(_));
                let is_sample = self.geometry.is_sample(item.name.sample_key());
                if item.advice.is_none() && !is_exact && !is_sample {
                    let name = Wanted::new(item.name, chapter, tag);
                    // There is room for all names.
                    let _ = batch.wanted.push_within_capacity(name);
                }
            }
            self.find(&mut batch.wanted).await;
            let mut found = 0;
            for wanted in &batch.wanted {
                if let Some(item) = batch.items.get_mut(wanted.tag as usize) {
                    item.advice = wanted.found;
                    found += usize::from(wanted.found.is_some());
                }
            }
            self.sparse.note(chapter, found, batch.wanted.len() - found);
        }
    }
}
