// SPDX-License-Identifier: GPL-2.0

//! Removing a key: one pass downwards that evens nodes out before they can become too empty.

use super::child;
use super::inc_children;
use super::node;
use super::node::max_entries;
use super::node_mut;
use super::rebalance::deal;
use super::shadow_child;
use super::shadow_node;
use super::too_deep;
use super::Value;
use super::MAX_DEPTH;
use super::NODE;
use crate::error::Error;
use crate::error::Result;
use crate::transaction::TransactionManager;
use runtime::disk::Disk;

/// What a removal did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed<V> {
    /// The new root; it may differ also if there was nothing to remove.
    pub root: u64,
    /// The value that was removed; a reference in it is now the caller's to give up.
    pub old: Option<V>,
}

/// Removes `key` from the tree at `root`.
pub async fn remove<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    root: u64,
    key: u64,
) -> Result<Removed<V>> {
    tm.enter();
    let root = shadow_node::<V, D>(tm, root).await?;
    let mut old = None;
    if let Some(leaf) = descend::<V, D>(tm, root, key).await? {
        let leaf_node = node::<V, D>(tm, leaf).await?;
        if let Some(at) = leaf_node.find(key) {
            old = leaf_node.value(at);
            node_mut(tm, leaf).await?.remove(at)?;
        }
    }
    tm.leave();
    Ok(Removed { root, old })
}

/// Returns the leaf for `key`, shadowed, with siblings evened out on the way; `None` if `key` is
/// below all keys.
pub(super) async fn descend<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    root: u64,
    key: u64,
) -> Result<Option<u64>> {
    let mut block = root;
    for _ in 0..MAX_DEPTH {
        let here = node::<V, D>(tm, block).await?;
        if !here.internal {
            return Ok(Some(block));
        }
        let (siblings, at) = (here.len(), here.position(key));
        if siblings == 1 {
            take_over_child::<V, D>(tm, block).await?;
        } else {
            match at {
                None => return Ok(None),
                Some(0) => pair::<V, D>(tm, block, 0).await?,
                Some(at) if at + 1 == siblings => pair::<V, D>(tm, block, at - 1).await?,
                Some(at) => triple::<V, D>(tm, block, at - 1).await?,
            }
        }
        let here = node::<V, D>(tm, block).await?;
        if !here.internal {
            return Ok(Some(block));
        }
        let Some(at) = here.position(key) else {
            return Ok(None);
        };
        block = shadow_child::<V, D>(tm, block, at).await?;
    }
    Err(too_deep(block))
}

/// Makes the node in `block` a copy of its only child: the tree gets one level lower.
async fn take_over_child<V: Value, D: Disk>(tm: &mut TransactionManager<D>, block: u64) -> Result {
    let only = child::<V, D>(tm, block, 0).await?;
    if only == block {
        return Err(too_deep(block));
    }
    let shared = tm.count(only).await? > 1;
    // Read for its kind first; the copy itself takes whatever is in memory.
    node::<V, D>(tm, only).await?;
    tm.cache().copy(only, block, &NODE).await?;
    if shared {
        inc_children::<V, D>(tm, block).await?;
    }
    tm.dec(only).await?;
    Ok(())
}

/// Evens out children `at` and `at + 1`: merges them if they fit well into one, else levels them.
async fn pair<V: Value, D: Disk>(tm: &mut TransactionManager<D>, parent: u64, at: usize) -> Result {
    let [(left, left_len), (right, right_len)] = [
        shadow_counted::<V, D>(tm, parent, at).await?,
        shadow_counted::<V, D>(tm, parent, at + 1).await?,
    ];
    let total = left_len + right_len;
    if total < 2 * (fewest::<V, D>(tm, left).await? + 1) {
        deal(tm, [left, right], [total, 0]).await?;
        drop_child(tm, parent, at + 1, right).await
    } else {
        deal(tm, [left, right], [total / 2, total - total / 2]).await?;
        set_border::<V, D>(tm, parent, at + 1, right).await
    }
}

/// Evens out children `at` to `at + 2`: shares the middle one out if the others can take it, else
/// levels all three.
async fn triple<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    parent: u64,
    at: usize,
) -> Result {
    let (left, left_len) = shadow_counted::<V, D>(tm, parent, at).await?;
    let (middle, middle_len) = shadow_counted::<V, D>(tm, parent, at + 1).await?;
    let (right, right_len) = shadow_counted::<V, D>(tm, parent, at + 2).await?;
    let total = left_len + middle_len + right_len;
    let fewest = fewest::<V, D>(tm, left).await?;
    if total < 4 * fewest + 1 {
        let moved = middle_len.min((3 * fewest).saturating_sub(left_len));
        let kept = left_len + moved;
        deal(tm, [left, middle, right], [kept, 0, total - kept]).await?;
        if total > kept {
            set_border::<V, D>(tm, parent, at + 2, right).await?;
        }
        drop_child(tm, parent, at + 1, middle).await?;
        return pair::<V, D>(tm, parent, at).await;
    }
    let last = total / 3;
    let first = last + usize::from(total % 3 != 0);
    deal(
        tm,
        [left, middle, right],
        [first, total - first - last, last],
    )
    .await?;
    set_border::<V, D>(tm, parent, at + 1, middle).await?;
    set_border::<V, D>(tm, parent, at + 2, right).await
}

/// Returns a third of what the node in `block` holds: nodes are kept above that.
async fn fewest<V: Value, D: Disk>(tm: &mut TransactionManager<D>, block: u64) -> Result<usize> {
    Ok(max_entries(node::<V, D>(tm, block).await?.value_size) / 3)
}

/// Makes child `at` changeable; returns it and its number of entries.
async fn shadow_counted<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    parent: u64,
    at: usize,
) -> Result<(u64, usize)> {
    let block = shadow_child::<V, D>(tm, parent, at).await?;
    Ok((block, node::<V, D>(tm, block).await?.len()))
}

/// Makes the first key of `block` the border of child `at`.
async fn set_border<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    parent: u64,
    at: usize,
    block: u64,
) -> Result {
    let key = node::<V, D>(tm, block).await?.key(0);
    let key = key.ok_or_else(|| Error::field(&NODE, block, "nr_entries", 0))?;
    node_mut(tm, parent).await?.set_key(at, key)
}

/// Removes the empty child `at` from its parent.
async fn drop_child<D: Disk>(
    tm: &mut TransactionManager<D>,
    parent: u64,
    at: usize,
    block: u64,
) -> Result {
    node_mut(tm, parent).await?.remove(at)?;
    tm.dec(block).await?;
    Ok(())
}
