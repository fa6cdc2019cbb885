// SPDX-License-Identifier: GPL-2.0

//! Looking names up: in the volume index, which says the chapter, and there.
//!
//! What is in memory answers at once. For the rest chapters are read, which may take its time: that is a
//! step of its own, so that the caller can choose who waits for it.

use super::Batch;
use super::Index;
use crate::volume::Trouble;
use crate::volume::Wanted;
use crate::volume_index::Answer;
use crate::world::Level;
use crate::world::World;

impl<W: World> Index<W> {
    /// Answers what is asked in a batch. A name of which nothing is found may be known nevertheless.
    pub async fn look_up(&self, batch: &mut Batch) {
        if !self.look_up_at_once(batch) {
            self.look_up_on_disk(batch).await;
        }
    }

    /// Answers what can be answered from memory. Returns false if
    /// [`look_up_on_disk`](Self::look_up_on_disk) is to answer the rest.
    pub fn look_up_at_once(&self, batch: &mut Batch) -> bool {
        batch.prepare(&self.volume_index);
        let Some(_user) = self.enter() else {
            return true;
        };
        self.volume_index.look_up(&mut batch.requests);
        self.search_memory(batch);
        self.search_cached(batch);
        let is_all = batch.wanted.is_empty() && !self.has_sparse_members();
        if is_all {
            self.count(batch);
        }
        is_all
    }

    /// Answers what chapters on the storage have to be read for.
    pub async fn look_up_on_disk(&self, batch: &mut Batch) {
        let Some(_user) = self.enter() else {
            return;
        };
        self.search_volume(batch).await;
        if self.geometry.shape.sparse_chapters > 0 {
            self.search_sparse(batch).await;
        }
        self.count(batch);
    }

    fn count(&self, batch: &Batch) {
        let counts = |is_query| {
            let own = batch.items.iter().filter(|item| item.is_query == is_query);
            let found = own.clone().filter(|item| item.advice.is_some());
            let found = found.count() as u64;
            (found, (own.count() as u64).saturating_sub(found))
        };
        let (posts, queries) = (counts(false), counts(true));
        let own = &self.counters;
        for (counter, count) in [
            (&own.found, posts.0),
            (&own.not_found, posts.1),
            (&own.queried, queries.0),
            (&own.not_queried, queries.1),
        ] {
            if count > 0 {
                counter.fetch_add(count);
            }
        }
    }

    /// Looks for names in chapters in memory, and notes which have to be looked for on disk.
    fn search_memory(&self, batch: &mut Batch) {
        let Batch {
            requests,
            items,
            wanted,
            ..
        } = batch;
        let (oldest, newest) = (self.oldest(), self.newest());
        for (tag, (request, item)) in (0..).zip(requests.iter().zip(items.iter_mut())) {
            let (Answer::Hint(chapter) | Answer::Exact(chapter)) = request.answer else {
                continue;
            };
            if !(oldest..=newest).contains(&chapter) {
                continue;
            }
            match self.chapters.look_up(chapter, &request.name) {
                Some(found) => {
                    item.advice = found;
                    item.is_own = found.is_some();
                }
                None => {
                    let name = Wanted::new(request.name, chapter, tag);
                    // There is room for all names.
                    let _ = wanted.push_within_capacity(name);
                }
            }
        }
    }

    /// Looks for names in chapters on disk, as far as these are in memory.
    fn search_cached(&self, batch: &mut Batch) {
        let Batch {
            items,
            wanted,
            list,
            ..
        } = batch;
        let mut trouble = None;
        let mut left = 0;
        for at in 0..wanted.len() {
            let Some(own) = wanted.get_mut(at) else {
                break;
            };
            if self.volume.find_in_memory(own, list, &mut trouble) {
                Batch::take(items, own);
            } else {
                wanted.swap(left, at);
                left += 1;
            }
        }
        wanted.truncate(left);
        self.tell_of(trouble);
    }

    async fn search_volume(&self, batch: &mut Batch) {
        self.find(&mut batch.wanted).await;
        for wanted in &batch.wanted {
            Batch::take(&mut batch.items, wanted);
        }
    }

    /// Looks for names in chapters on disk, and tells of one that is bad.
    pub(super) async fn find(&self, wanted: &mut [Wanted]) {
        let trouble = self.volume.find(wanted).await;
        self.tell_of(trouble);
    }

    fn tell_of(&self, trouble: Option<Trouble>) {
        if let Some((chapter, error)) = trouble {
            // One that was forgotten meanwhile has another in its place.
            if chapter >= self.oldest() {
                self.world.log(
                    Level::Warning,
                    format_args!("chapter {chapter} of the index is not used any more: {error}"),
                );
            }
        }
    }
}
