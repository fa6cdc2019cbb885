// SPDX-License-Identifier: GPL-2.0

//! Blocks of a batch that share compressed blocks instead of being stored as they are.
//!
//! Only what has been promised a place is compressed: of two such blocks that share one, a place is left
//! over. Zeroes, and what is stored already, never come here.

use crate::compress::encoder::Encoder;
use crate::data_path::batch::Batch;
use crate::data_path::batch::Fate;
use crate::data_path::write::Writer;
use crate::format::Page;
use crate::world::World;
use runtime::disk::Buffer;
use runtime::task::yield_now;

/// So many blocks are compressed before others get their turn.
const AT_ONCE: usize = 32;

impl<W: World> Writer<W> {
    /// Compresses what is to be stored, if that is wanted. Returns false if nothing has changed.
    pub(crate) async fn pack(&self, batch: &mut Batch<W>) -> bool {
        let Some(acceleration) = self.compression.acceleration() else {
            return false;
        };
        let mut encoder = self.encoders.take().await;
        encoder.begin();
        let mut next = 0;
        while next < batch.blocks.len() {
            let end = batch.blocks.len().min(next.saturating_add(AT_ONCE));
            for at in next..end {
                batch.compress(at, &mut encoder, acceleration);
            }
            next = end;
            if next < batch.blocks.len() {
                yield_now().await;
            }
        }
        self.encoders.give(encoder);
        !batch.bins.is_empty()
    }
}

impl<W: World> Batch<W> {
    /// Returns the page of a compressed block, behind those of the data.
    pub(super) fn page_of_bin(&self, bin: usize) -> usize {
        self.max_blocks.saturating_add(bin)
    }

    /// Returns which compressed block a page is, if it is one.
    pub(super) fn bin_of_page(&self, page: usize) -> Option<usize> {
        page.checked_sub(self.max_blocks)
    }

    /// Returns the content of a compressed block.
    pub(super) fn packed_page(&self, bin: usize) -> Option<&Page> {
        self.packed.as_ref()?.page(bin)
    }

    /// Puts a block into a compressed one, if it has a place and is worth it.
    fn compress(&mut self, at: usize, encoder: &mut Encoder<W::Compressor>, acceleration: u32) {
        let Some(Fate::Placed(page, _)) = self.blocks.get(at).map(|block| block.fate) else {
            return;
        };
        let Self {
            blocks,
            buffer: Some(buffer),
            packed: Some(packed),
            bins,
            ..
        } = self
        else {
            return;
        };
        let data = buffer.page(page);
        let fragment = data.and_then(|data| encoder.encode(data, acceleration));
        let bin = fragment.and_then(|fragment| bins.add(fragment, |bin| packed.page_mut(bin)));
        if let (Some((bin, slot)), Some(block)) = (bin, blocks.get_mut(at)) {
            block.fate = Fate::Fragment(page, bin, slot);
        }
    }
}
