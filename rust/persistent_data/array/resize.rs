// SPDX-License-Identifier: GPL-2.0

//! Growing and shrinking an array.

use super::block;
use super::Array;
use super::ARRAY;
use crate::btree;
use crate::btree::BlockRef;
use crate::btree::Value;
use crate::error::Error;
use crate::error::Result;
use crate::transaction::TransactionManager;
use runtime::disk::Disk;

impl<V: Value> Array<V> {
    /// Makes the array `len` values long; what is added is `value`.
    pub async fn resize<D: Disk>(
        &mut self,
        tm: &mut TransactionManager<D>,
        len: u64,
        value: V,
    ) -> Result {
        tm.enter();
        let old_blocks = self.blocks();
        let kept = len.min(self.len).div_ceil(Self::PER_BLOCK.get());
        for index in kept..old_blocks {
            self.remove_block(tm, index).await?;
        }
        let last_changes =
            kept > 0 && self.values_in(kept - 1, len) != self.values_in(kept - 1, self.len);
        if last_changes {
            let nr = self.values_in(kept - 1, len);
            let place = self.shadow_block(tm, kept - 1).await?;
            block::resize(tm.modify(place, &ARRAY).await?, place, nr, &value)?;
        }
        self.len = len;
        for index in kept..self.blocks() {
            self.add_block(tm, index, value).await?;
        }
        tm.leave();
        Ok(())
    }

    /// Returns how many values block `index` of an array of `len` values holds.
    fn values_in(&self, index: u64, len: u64) -> usize {
        let first = index.saturating_mul(Self::PER_BLOCK.get());
        len.saturating_sub(first).min(Self::PER_BLOCK.get()) as usize
    }

    async fn add_block<D: Disk>(
        &mut self,
        tm: &mut TransactionManager<D>,
        index: u64,
        value: V,
    ) -> Result {
        let nr = self.values_in(index, self.len);
        let place = tm.allocate().await?;
        block::fill(tm.rewrite(place, &ARRAY).await?, nr, |_| value);
        self.root = btree::insert(tm, self.root, index, &BlockRef(place))
            .await?
            .root;
        Ok(())
    }

    async fn remove_block<D: Disk>(
        &mut self,
        tm: &mut TransactionManager<D>,
        index: u64,
    ) -> Result {
        let removed = btree::remove::<BlockRef, D>(tm, self.root, index).await?;
        self.root = removed.root;
        let BlockRef(place) = removed.old.ok_or(Error::NoData)?;
        tm.dec(place).await?;
        Ok(())
    }
}
