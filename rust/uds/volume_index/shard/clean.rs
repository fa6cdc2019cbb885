// SPDX-License-Identifier: GPL-2.0

//! Entries of chapters that are not remembered any more are taken out of lists.

use super::super::guide::Guide;
use super::super::guide::PARTS;
use super::Shard;
use super::GROUP;
use crate::delta::edit::retain;
use crate::delta::walk::walk_all;
use crate::delta::walk::Visitor;
use crate::delta::walk::Walk;
use crate::delta::Damaged;
use crate::delta::List;
use core::array;

/// How many old entries of a part of a list are noted when it is looked through for them. If there are more
/// the list is written anew.
const NOTED: usize = 6;

/// Lists whose bound is so far below the oldest chapter are written anew.
const MAX_DISTANCE: u32 = 1 << 15;

/// Lists, and parts of them.
type Parts = [Option<(u32, usize)>; GROUP];

/// Looks for entries that are of no remembered chapter.
#[derive(Clone, Copy, Default)]
pub(super) struct Scanner {
    /// Subtracted from a payload, it gives an age: chapters since the bound.
    bound: u32,
    mask: u32,
    /// Ages from this one on are alive, up to `last`.
    first: u32,
    last: u32,
    /// The smallest age that is alive, if there is one.
    oldest: u32,
    dead: [u16; NOTED],
    dead_count: u32,
}

impl Scanner {
    pub(super) fn age(&self, payload: u32) -> u32 {
        payload.wrapping_sub(self.bound) & self.mask
    }

    fn is_alive(&self, age: u32) -> bool {
        age >= self.first && age <= self.last
    }
}

impl Visitor for Scanner {
    #[inline(always)]
    fn stops_at(&mut self, at: usize, payload: u32, _: u64) -> bool {
        let age = self.age(payload);
        if !self.is_alive(age) {
            if let Some(place) = self.dead.get_mut(self.dead_count as usize) {
                *place = at as u16;
            }
            self.dead_count += 1;
        } else {
            self.oldest = self.oldest.min(age);
        }
        false
    }
}

impl Shard {
    /// Cleans those of up to [`GROUP`] lists that are stale.
    pub(super) fn clean(&mut self, lists: &[Option<u32>; GROUP]) {
        if !lists.iter().flatten().any(|list| self.is_stale(*list)) {
            return;
        }
        loop {
            let parts = self.stale_parts(lists);
            if parts.iter().all(Option::is_none) {
                break;
            }
            self.clean_parts(&parts);
        }
        for list in lists.iter().flatten() {
            if self.is_stale(*list) {
                self.raise(*list);
            }
        }
    }

    /// Returns parts of lists that are to be looked through, those of a list in their order.
    fn stale_parts(&self, lists: &[Option<u32>; GROUP]) -> Parts {
        let mut parts: Parts = [None; GROUP];
        let mut used = 0;
        for list in lists.iter().flatten() {
            let Some(header) = self.header(*list).filter(|header| header.bits > 0) else {
                continue;
            };
            // The same list may have come twice.
            if parts.iter().flatten().any(|(other, _)| other == list) {
                continue;
            }
            let age = self.low.saturating_sub(self.bound_of(header));
            for part in (0..PARTS).filter(|part| header.guide.is_stale(*part, age)) {
                if let Some(place) = parts.get_mut(used) {
                    *place = Some((*list, part));
                    used += 1;
                }
            }
        }
        parts
    }

    #[inline(never)]
    fn clean_parts(&mut self, parts: &Parts) {
        let mut scans = [None; GROUP];
        {
            let mut walks: [_; GROUP] = array::from_fn(|number| match parts.get(number) {
                Some(Some((list, part))) => {
                    let bits = self.list(*list).bits();
                    let header = self.header(*list);
                    let (start, end) =
                        header.map_or((0, 0), |header| header.guide.part(*part, bits));
                    let list_to = List::new(self.bytes(*list), 0, end).unwrap_or_default();
                    Walk::new(number, list_to, self.scanner(*list)).starting_at(start)
                }
                _ => Walk::new(number, List::default(), Scanner::default()),
            });
            walk_all(&self.code, &mut walks);
            for walk in &walks {
                if let Some(scan) = scans.get_mut(walk.number) {
                    *scan = walk.is_sound.then_some(walk.visitor);
                }
            }
        }
        // From the end, so that places stay what they are.
        let mut rewritten = None;
        for (part, scan) in parts.iter().zip(scans).rev() {
            let Some((list, part)) = *part else { continue };
            if rewritten == Some(list) {
                continue;
            }
            let is_small = match scan {
                Some(scan) => self.remove_dead(list, part, &scan),
                None => false,
            };
            if scan.is_none() {
                self.forget(list);
            }
            if !is_small {
                rewritten = Some(list);
            }
            self.fit(list);
        }
    }

    pub(super) fn scanner(&self, list: u32) -> Scanner {
        let bound = self.bound(list);
        let all = self.mask + 1;
        Scanner {
            bound: self.payload(bound),
            mask: self.mask as u32,
            first: self.low.saturating_sub(bound).min(all) as u32,
            last: self.high.saturating_sub(bound).min(self.mask) as u32,
            oldest: u32::MAX,
            dead: [0; NOTED],
            dead_count: 0,
        }
    }

    /// Removes what a scan of a part of a list found. Returns false if the list is another one now.
    fn remove_dead(&mut self, list: u32, part: usize, scan: &Scanner) -> bool {
        let dead = scan.dead.get(..scan.dead_count as usize);
        // A guide cannot tell ages that are far above the bound.
        let Some(dead) = dead.filter(|_| scan.first < MAX_DISTANCE) else {
            self.rewrite(list, scan);
            return false;
        };
        for at in dead.iter().rev() {
            if !self.remove_at(list, (*at).into()) {
                return false;
            }
        }
        let oldest = (scan.oldest != u32::MAX).then_some(scan.oldest);
        if let Some(header) = self.header_mut(list) {
            header.guide.set_age(part, oldest);
        }
        true
    }

    /// Removes more entries than a scan could note.
    #[cold]
    fn rewrite(&mut self, list: u32, scan: &Scanner) {
        let Some(header) = self.header(list).copied() else {
            return;
        };
        let code = self.code;
        let data = self.store.bytes_mut(header.slot);
        let keeps = |payload| scan.is_alive(scan.age(payload));
        match retain(&code, data, header.bits.into(), keeps) {
            Ok(retained) => {
                let collisions = u64::from(retained.fewer_collisions);
                let removed = u64::from(retained.removed);
                self.counts.collisions = self.counts.collisions.wrapping_sub(collisions);
                self.counts.entries = self.counts.entries.wrapping_sub(removed);
                self.counts.discarded += removed;
                self.set_bits(list, retained.bits);
                // What is left is of remembered chapters.
                let low = self.low;
                self.set_bound(list, low);
                let scanner = self.scanner(list);
                let guide = Guide::of(&code, self.list(list), |payload| scanner.age(payload));
                if let Some((header, guide)) = self.header_mut(list).zip(guide.ok()) {
                    header.guide = guide;
                }
            }
            Err(Damaged) => self.forget(list),
        }
    }

    /// Cleans stale lists from `list` on; returns the first that was not looked at.
    pub(in super::super) fn sweep(&mut self, list: u32, lists: u32) -> u32 {
        let end = (self.first + self.lists()).min(list.saturating_add(lists));
        let mut next = list.max(self.first);
        let mut stale = [None; GROUP];
        let mut places = stale.iter_mut();
        while next < end {
            if self.is_stale(next) {
                match places.next() {
                    Some(place) => *place = Some(next),
                    None => break,
                }
            }
            next += 1;
        }
        self.clean(&stale);
        next
    }
}
