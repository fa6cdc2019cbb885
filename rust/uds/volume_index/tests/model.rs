// SPDX-License-Identifier: GPL-2.0

//! What a volume index should know: plain maps.

use super::super::Answer;
use super::super::Request;
use crate::format::geometry::SubIndexes;
use crate::format::Chapter;
use crate::format::Geometry;
use crate::format::Name;
use std::collections::BTreeMap;
use std::vec::Vec;

/// Names with one address, the first one plain.
type Equals = Vec<(Name, Chapter)>;

pub(in super::super) struct Model {
    names: BTreeMap<(u32, u32, u32), Equals>,
    chapters: Vec<u64>,
    low: Vec<Chapter>,
}

impl Model {
    pub(super) fn new(geometry: &Geometry) -> Self {
        let chapters = match geometry.volume_index {
            SubIndexes::Dense(all) => [all.chapters].to_vec(),
            SubIndexes::Sparse(others, samples) => [others.chapters, samples.chapters].to_vec(),
        };
        Self {
            names: BTreeMap::new(),
            low: [0].repeat(chapters.len()),
            chapters,
        }
    }

    /// A chapter begins; by set, these are the oldest that are remembered now.
    pub(super) fn open_chapter(&mut self, newest: Chapter, low: &[Chapter]) {
        for ((old, low), chapters) in self.low.iter_mut().zip(low).zip(&self.chapters) {
            assert!(*low >= newest.saturating_sub(chapters - 1) && low >= old);
            *old = *low;
        }
        self.names.retain(|(set, _, _), equals| {
            equals.retain(|(_, chapter)| *chapter >= self.low[*set as usize]);
            !equals.is_empty()
        });
    }

    fn key(request: &Request) -> (u32, u32, u32) {
        (request.set, request.list, request.address)
    }

    fn position(equals: &Equals, name: Name) -> usize {
        let at = equals.iter().skip(1).position(|(other, _)| *other == name);
        at.map_or(0, |at| at + 1)
    }

    pub(super) fn look_up(&self, request: &Request) -> Answer {
        match self.names.get(&Self::key(request)) {
            None => Answer::Absent,
            Some(equals) => match Self::position(equals, request.name) {
                0 => Answer::Hint(equals[0].1),
                at => Answer::Exact(equals[at].1),
            },
        }
    }

    /// Whether what a look-up finds is the name's own.
    pub(super) fn is_own(&self, request: &Request) -> bool {
        self.names
            .get(&Self::key(request))
            .is_some_and(|equals| equals[Self::position(equals, request.name)].0 == request.name)
    }

    pub(super) fn newest(&self, request: &Request) -> Option<Chapter> {
        let equals = self.names.get(&Self::key(request))?;
        let own = equals.iter().find(|(name, _)| *name == request.name)?;
        Some(own.1)
    }

    pub(super) fn set(&mut self, request: &Request, chapter: Chapter) {
        if chapter < self.low[request.set as usize] {
            return;
        }
        let equals = self.names.entry(Self::key(request)).or_default();
        if let Some(own) = equals.iter_mut().find(|(name, _)| *name == request.name) {
            own.1 = own.1.max(chapter);
        } else {
            equals.insert(equals.len().min(1), (request.name, chapter));
        }
    }

    pub(super) fn remove(&mut self, request: &Request) {
        if let Some(equals) = self.names.get_mut(&Self::key(request)) {
            equals.retain(|(other, _)| *other != request.name);
        }
        self.names.retain(|_, equals| !equals.is_empty());
    }

    /// Entries, and how many of them are collisions.
    pub(super) fn counts(&self) -> (u64, u64) {
        let entries: usize = self.names.values().map(Vec::len).sum();
        (entries as u64, (entries - self.names.len()) as u64)
    }
}
