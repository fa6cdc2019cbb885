// SPDX-License-Identifier: GPL-2.0

//! Redistributing the entries of neighbouring nodes.

use super::node::Node;
use super::node::NodeMut;
use super::node_mut;
use super::NODE;
use crate::block::BLOCK_SIZE;
use crate::error::Error;
use crate::error::Result;
use crate::transaction::TransactionManager;
use kernel::prelude::KVVec;
use kernel::prelude::GFP_KERNEL;
use runtime::disk::Disk;
use zerocopy::little_endian::U64;

/// The most nodes that exchange entries.
const MAX_NODES: usize = 3;

/// Memory for the entries of nodes that are being redistributed.
pub(crate) struct Scratch {
    keys: KVVec<U64>,
    values: KVVec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            keys: KVVec::with_capacity(MAX_NODES * BLOCK_SIZE / 8, GFP_KERNEL)?,
            values: KVVec::with_capacity(MAX_NODES * BLOCK_SIZE, GFP_KERNEL)?,
        })
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
    }

    fn append(&mut self, node: &Node<'_>) -> Result {
        self.keys.extend_from_slice(node.keys, GFP_KERNEL)?;
        self.values.extend_from_slice(node.values(), GFP_KERNEL)?;
        Ok(())
    }

    /// Gives `count` entries from `from` on to `node`.
    fn fill(&self, node: &mut NodeMut<'_>, from: usize, count: usize, size: usize) -> Result {
        let keys = self.keys.get(from..from + count);
        let values = self.values.get(from * size..(from + count) * size);
        match (keys, values) {
            (Some(keys), Some(values)) => node.set_entries(keys, values),
            _ => Err(Error::Invalid("entries lost in a redistribution")),
        }
    }
}

/// Deals the entries of neighbouring shadowed nodes out anew: `sizes[n]` of them to `blocks[n]`,
/// in order.
pub(super) async fn deal<const N: usize, D: Disk>(
    tm: &mut TransactionManager<D>,
    blocks: [u64; N],
    sizes: [usize; N],
) -> Result {
    tm.scratch().0.clear();
    let mut first: Option<(bool, usize)> = None;
    for block in blocks {
        let (scratch, cache) = tm.scratch();
        let node = Node::parse(cache.read(block, &NODE).await?)
            .map_err(|problem| Error::corrupt(&NODE, block, problem))?;
        let shape = (node.internal, node.value_size);
        if *first.get_or_insert(shape) != shape {
            return Err(Error::field(&NODE, block, "shape", node.value_size as u64));
        }
        scratch.append(&node)?;
    }
    let size = first.map_or(0, |(_, size)| size);
    let mut from = 0;
    for (block, count) in blocks.into_iter().zip(sizes) {
        // Only to learn that the block may be changed, and to mark it.
        node_mut(tm, block).await?;
        let (scratch, cache) = tm.scratch();
        let mut node = NodeMut::parse(cache.modify(block, &NODE).await?)
            .map_err(|problem| Error::corrupt(&NODE, block, problem))?;
        scratch.fill(&mut node, from, count, size)?;
        from += count;
    }
    Ok(())
}
