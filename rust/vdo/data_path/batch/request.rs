// SPDX-License-Identifier: GPL-2.0

//! The requests of a batch: bios, or parts of them.

use crate::data_path::counters::Counters;
use crate::data_path::locks::Token;
use crate::data_path::write::Zeroes;
use crate::error::Error;
use crate::error::Result;
use crate::format::Lbn;
use crate::storage::BLOCK_SECTORS;
use crate::world::Bio;
use crate::world::Data;
use core::ops::Range;

/// A bio, or a part of one.
pub(crate) struct Request<B> {
    /// Gone when it is acknowledged; none for a part of a discard.
    pub(crate) bio: Option<B>,
    pub(crate) lbns: Range<Lbn>,
    /// Its blocks in the batch.
    pub(crate) blocks: Range<usize>,
    pub(crate) claim: Option<Token>,
    pub(crate) fua: bool,
    /// Whether it brings data, or zeroes.
    pub(super) brings_data: bool,
    pub(crate) acknowledged: bool,
    pub(crate) error: Option<Error>,
}

impl<B: Bio> Request<B> {
    /// Returns the data of the request.
    pub(crate) fn data(&self) -> impl Data + '_ {
        match &self.bio {
            Some(bio) if self.brings_data => Source::Bio(bio.data()),
            _ => Source::Zeroes(Zeroes),
        }
    }

    /// Completes the bio, if it still is to be completed.
    pub(super) fn complete(&mut self, result: Result, counters: &Counters) {
        if let Some(bio) = self.bio.take() {
            counters.done(&bio);
            bio.complete(result.map_err(Error::errno));
        }
    }
}

/// Where the data of a request comes from.
enum Source<D> {
    Bio(D),
    Zeroes(Zeroes),
}

impl<D: Data> Data for Source<D> {
    fn is_zero(&self, bytes: usize) -> bool {
        match self {
            Self::Bio(data) => data.is_zero(bytes),
            Self::Zeroes(data) => data.is_zero(bytes),
        }
    }

    fn copy(&mut self, to: &mut [u8]) {
        match self {
            Self::Bio(data) => data.copy(to),
            Self::Zeroes(data) => data.copy(to),
        }
    }

    fn skip(&mut self, bytes: usize) {
        match self {
            Self::Bio(data) => data.skip(bytes),
            Self::Zeroes(data) => data.skip(bytes),
        }
    }
}

/// Returns the blocks that a bio touches.
pub(crate) fn lbns_of(bio: &impl Bio) -> Range<Lbn> {
    let start = bio.sector();
    let end = start.saturating_add(bio.sectors().into());
    start / BLOCK_SECTORS..end.div_ceil(BLOCK_SECTORS)
}

/// Returns how many they are.
pub(super) fn blocks_of(bio: &impl Bio) -> usize {
    let lbns = lbns_of(bio);
    lbns.end.saturating_sub(lbns.start) as usize
}
