// SPDX-License-Identifier: GPL-2.0

//! Arrays of values of a fixed size.
//!
//! An array is a B+tree from 0, 1, 2, ... to blocks full of values; only the last may hold fewer
//! than fit. The array does not store its length, so the user does.
//!
//! Values are plain: they refer to no metadata blocks.

mod block;
mod resize;

pub use block::max_entries;
pub use block::ARRAY;

use crate::btree;
use crate::btree::BlockRef;
use crate::btree::Cursor;
use crate::btree::Value;
use crate::error::Error;
use crate::error::Result;
use crate::transaction::TransactionManager;
use core::marker::PhantomData;
use core::num::NonZeroU64;
use runtime::disk::Disk;

/// An array of `len` values, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array<V> {
    root: u64,
    len: u64,
    values: PhantomData<V>,
}

impl<V: Value> Array<V> {
    /// Values in a full block.
    pub const PER_BLOCK: NonZeroU64 = match NonZeroU64::new(max_entries(V::SIZE) as u64) {
        Some(per_block) => per_block,
        None => panic!("values must fit into a block"),
    };

    /// Returns the array of `len` values at `root`.
    pub fn open(root: u64, len: u64) -> Self {
        Self {
            root,
            len,
            values: PhantomData,
        }
    }

    /// Creates an array of `len` times `value`.
    pub async fn create<D: Disk>(
        tm: &mut TransactionManager<D>,
        len: u64,
        value: V,
    ) -> Result<Self> {
        let mut array = Self::open(btree::create::<BlockRef, D>(tm).await?, 0);
        array.resize(tm, len, value).await?;
        Ok(array)
    }

    /// Returns the root block.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Returns the number of values.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true if there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of array blocks.
    pub fn blocks(&self) -> u64 {
        self.len.div_ceil(Self::PER_BLOCK.get())
    }

    /// Returns value `at`.
    pub async fn get<D: Disk>(&self, tm: &mut TransactionManager<D>, at: u64) -> Result<V> {
        let (index, entry) = self.locate(at)?;
        let place = btree::lookup::<BlockRef, D>(tm.cache(), self.root, index).await?;
        let BlockRef(place) = place.ok_or(Error::NoData)?;
        let block = tm.read(place, &ARRAY).await?;
        block::value(block, place, entry)?.ok_or(Error::NoData)
    }

    /// Sets value `at`.
    pub async fn set<D: Disk>(
        &mut self,
        tm: &mut TransactionManager<D>,
        at: u64,
        value: V,
    ) -> Result {
        let (index, entry) = self.locate(at)?;
        tm.enter();
        let place = self.shadow_block(tm, index).await?;
        if !block::set_value(tm.modify(place, &ARRAY).await?, place, entry, &value)? {
            return Err(Error::NoData);
        }
        tm.leave();
        Ok(())
    }

    /// Replaces all values of array block `index`: value `at` of the array becomes `value(at)`.
    /// What is there is not read.
    pub async fn stage<D: Disk>(
        &mut self,
        tm: &mut TransactionManager<D>,
        index: u64,
        mut value: impl FnMut(u64) -> V,
    ) -> Result {
        let first = index.saturating_mul(Self::PER_BLOCK.get());
        let nr = self.len.saturating_sub(first).min(Self::PER_BLOCK.get());
        if nr == 0 {
            return Err(Error::NoData);
        }
        tm.enter();
        let path = btree::shadow_path::<BlockRef, D>(tm, self.root, index).await?;
        let slot = path.ok_or(Error::NoData)?;
        let BlockRef(old) = slot.value;
        let place = if tm.is_own(old).await? {
            old
        } else {
            let place = tm.allocate().await?;
            tm.dec(old).await?;
            slot.set(tm, BlockRef(place)).await?;
            place
        };
        let block = tm.rewrite(place, &ARRAY).await?;
        block::fill(block, nr as usize, |at| value(first + at as u64));
        self.root = slot.root;
        tm.leave();
        Ok(())
    }

    /// Calls `sink` with every value and its index. Blocks come in any order, read with large
    /// I/Os and not kept; values within a block ascend.
    pub async fn load<D: Disk>(
        &self,
        tm: &mut TransactionManager<D>,
        mut sink: impl FnMut(u64, V),
    ) -> Result {
        let each = |first: u64, bytes: &[u8]| {
            for (at, bytes) in (first..).zip(bytes.chunks_exact(V::SIZE)) {
                if let Some(value) = V::decode(bytes) {
                    sink(at, value);
                }
            }
        };
        self.for_each_block(tm, each).await
    }

    /// Reads and checks every block, as [`Array::load`] does, without looking at the values.
    pub async fn check<D: Disk>(&self, tm: &mut TransactionManager<D>) -> Result {
        self.for_each_block(tm, |_, _| ()).await
    }

    /// Calls `sink` with the index of the first value and the values of each block.
    async fn for_each_block<D: Disk>(
        &self,
        tm: &mut TransactionManager<D>,
        mut sink: impl FnMut(u64, &[u8]),
    ) -> Result {
        let per_block = Self::PER_BLOCK.get();
        let (blocks, len) = (self.blocks(), self.len);
        let mut cursor = Cursor::<BlockRef>::new(self.root);
        let mut next = 0;
        while next < blocks {
            let leaf = cursor.next_leaf(tm.cache()).await?.ok_or(Error::NoData)?;
            // No index may be missing; what follows behind the end is not ours.
            let in_order = |index| {
                if index != next && next < blocks {
                    return Err(Error::NoData);
                }
                let ours = next < blocks;
                next += u64::from(ours);
                Ok(ours)
            };
            btree::want_leaf::<BlockRef, D>(tm.cache(), leaf, in_order).await?;
            tm.cache()
                .read_wanted(&ARRAY, |index, place, block| {
                    let first = index * per_block;
                    let nr = (len - first).min(per_block) as usize;
                    let values = block::used::<V>(block, place)?;
                    let values = values.get(..nr * V::SIZE).ok_or(Error::NoData)?;
                    sink(first, values);
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }

    /// Returns the block of array block `index`, changeable, with its contents.
    async fn shadow_block<D: Disk>(
        &mut self,
        tm: &mut TransactionManager<D>,
        index: u64,
    ) -> Result<u64> {
        let path = btree::shadow_path::<BlockRef, D>(tm, self.root, index).await?;
        let slot = path.ok_or(Error::NoData)?;
        let BlockRef(old) = slot.value;
        let place = tm.shadow(old, &ARRAY).await?.block;
        if place != old {
            slot.set(tm, BlockRef(place)).await?;
        }
        self.root = slot.root;
        Ok(place)
    }

    fn locate(&self, at: u64) -> Result<(u64, usize)> {
        if at >= self.len {
            return Err(Error::NoData);
        }
        Ok((at / Self::PER_BLOCK, (at % Self::PER_BLOCK) as usize))
    }
}

#[cfg(test)]
mod tests;
