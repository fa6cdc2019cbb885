// SPDX-License-Identifier: GPL-2.0

//! The data of writes that were acknowledged and are still on their way, for readers.
//!
//! A worker shows it from before it acknowledges a batch until it gives up its claims: as long as
//! it is shown, nobody has newer data of these blocks.

use crate::error::Result;
use crate::format::Lbn;
use crate::world::World;
use core::ops::Range;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::sync::Lock;

/// The data of a write, for readers.
pub(crate) type ViewOf<W> = <<<W as World>::Disk as Disk>::Buffer as Buffer>::View;

/// What the workers show; `V` lets others read a buffer.
pub(crate) struct Shown<V> {
    workers: KVec<Lock<Data<V>>>,
}

/// What a worker shows.
struct Data<V> {
    view: Option<V>,
    /// By ascending LBN.
    pieces: KVec<Piece>,
}

/// Blocks whose data is in pages that follow each other.
struct Piece {
    lbns: Range<Lbn>,
    /// That of the first block.
    page: usize,
}

impl<V: Clone> Shown<V> {
    /// For so many workers with so many pieces each, of every kind.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(kinds: [(usize, usize); 2]) -> Result<Self> {
        let workers = kinds.iter().map(|(workers, _)| workers).sum();
        let mut all = KVec::with_capacity(workers, GFP_KERNEL)?;
        for (workers, pieces) in kinds {
            for _ in 0..workers {
                let data = Data {
                    view: None,
                    pieces: KVec::with_capacity(pieces, GFP_KERNEL)?,
                };
                all.push(Lock::new(data), GFP_KERNEL)?;
            }
        }
        Ok(Self { workers: all })
    }

    /// Lets readers have what `view` shows: blocks, by ascending LBN, and the page of the first.
    pub(crate) fn show(
        &self,
        worker: usize,
        view: V,
        pieces: impl Iterator<Item = (Range<Lbn>, usize)>,
    ) {
        let Some(own) = self.workers.get(worker) else {
            return;
        };
        own.with(|own| {
            own.view = Some(view);
            for (lbns, page) in pieces {
                let _ = own.pieces.push_within_capacity(Piece { lbns, page });
            }
        });
    }

    /// Shows nothing any more.
    pub(crate) fn hide(&self, worker: usize) {
        let view = self.workers.get(worker).and_then(|own| {
            own.with(|own| {
                own.pieces.clear();
                own.view.take()
            })
        });
        // Dropped outside of the lock.
        drop(view);
    }

    /// Returns true if nothing is shown.
    pub(crate) fn is_empty(&self) -> bool {
        let is_empty = |own: &Data<V>| own.view.is_none() && own.pieces.is_empty();
        self.workers.iter().all(|own| own.with(|own| is_empty(own)))
    }

    /// Returns where the data of `lbns` is, if one piece has all of it: a view, and the page of
    /// the first block.
    pub(crate) fn find(&self, lbns: &Range<Lbn>) -> Option<(V, usize)> {
        let mut workers = self.workers.iter();
        workers.find_map(|worker| worker.with(|data| data.find(lbns)))
    }
}

impl<V: Clone> Data<V> {
    fn find(&self, lbns: &Range<Lbn>) -> Option<(V, usize)> {
        let behind = self
            .pieces
            .partition_point(|piece| piece.lbns.start <= lbns.start);
        let piece = self.pieces.get(behind.checked_sub(1)?)?;
        if piece.lbns.end < lbns.end {
            return None;
        }
        let skip = lbns.start.saturating_sub(piece.lbns.start) as usize;
        Some((self.view.clone()?, piece.page.saturating_add(skip)))
    }
}

#[cfg(test)]
mod tests;
