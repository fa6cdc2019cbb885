// SPDX-License-Identifier: GPL-2.0

//! Finding a key.

use super::node_mut;
use super::parse;
use super::shadow_child;
use super::shadow_node;
use super::too_deep;
use super::Value;
use super::MAX_DEPTH;
use super::NODE;
use crate::cache::BlockCache;
use crate::error::Error;
use crate::error::Result;
use crate::transaction::TransactionManager;
use runtime::disk::Disk;

/// Returns the value of `key`, if the tree at `root` has it.
pub async fn lookup<V: Value, D: Disk>(
    cache: &mut BlockCache<D>,
    root: u64,
    key: u64,
) -> Result<Option<V>> {
    let mut block = root;
    for _ in 0..MAX_DEPTH {
        let node = parse::<V>(cache.read(block, &NODE).await?, block)?;
        if !node.internal {
            return Ok(node.find(key).and_then(|at| node.value(at)));
        }
        match node.position(key).and_then(|at| node.value::<u64>(at)) {
            Some(child) => block = child,
            None => return Ok(None),
        }
    }
    Err(too_deep(block))
}

/// Returns the number of nodes on a path from `root` to a leaf.
pub async fn height<V: Value, D: Disk>(cache: &mut BlockCache<D>, root: u64) -> Result<u32> {
    let mut block = root;
    for height in 1..=MAX_DEPTH as u32 {
        let node = parse::<V>(cache.read(block, &NODE).await?, block)?;
        if !node.internal {
            return Ok(height);
        }
        block = node
            .value::<u64>(0)
            .ok_or_else(|| Error::field(&NODE, block, "entry", 0))?;
    }
    Err(too_deep(block))
}

/// An entry of a leaf that may be overwritten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<V> {
    /// The new root of the tree.
    pub(crate) root: u64,
    /// The value of the entry.
    pub(crate) value: V,
    leaf: u64,
    at: usize,
}

impl<V: Value> Slot<V> {
    /// Overwrites the value. References of old and new are the caller's business.
    pub(crate) async fn set<D: Disk>(&self, tm: &mut TransactionManager<D>, value: V) -> Result {
        node_mut(tm, self.leaf).await?.set_value(self.at, &value)
    }
}

/// Makes the path to `key` changeable; `None` if the tree at `root` does not have the key.
///
/// When the old value is a reference, it is counted correctly only after this: a shared leaf has
/// been copied by then.
pub(crate) async fn shadow_path<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    root: u64,
    key: u64,
) -> Result<Option<Slot<V>>> {
    if lookup::<V, D>(tm.cache(), root, key).await?.is_none() {
        return Ok(None);
    }
    let root = shadow_node::<V, D>(tm, root).await?;
    let mut block = root;
    for _ in 0..MAX_DEPTH {
        let node = super::node::<V, D>(tm, block).await?;
        if !node.internal {
            let entry = node.find(key).and_then(|at| Some((at, node.value(at)?)));
            return Ok(entry.map(|(at, value)| Slot {
                root,
                value,
                leaf: block,
                at,
            }));
        }
        let Some(at) = node.position(key) else {
            return Ok(None);
        };
        block = shadow_child::<V, D>(tm, block, at).await?;
    }
    Err(too_deep(block))
}
