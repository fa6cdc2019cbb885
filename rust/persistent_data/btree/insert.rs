// SPDX-License-Identifier: GPL-2.0

//! Inserting or overwriting a key: one pass downwards that makes room before it is needed.

use super::child;
use super::node;
use super::node::max_entries;
use super::node::NodeMut;
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

/// A sibling with at least so many unused entries takes some over before anything is split.
const SPARE_ENTRIES: usize = 8;

/// What an insertion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted<V> {
    /// The new root.
    pub root: u64,
    /// The value that was overwritten; a reference in it is now the caller's to give up.
    pub old: Option<V>,
}

/// Sets the value of `key` in the tree at `root`. A reference in the value is taken over.
pub async fn insert<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    root: u64,
    key: u64,
    value: &V,
) -> Result<Inserted<V>> {
    tm.enter();
    let root = shadow_node::<V, D>(tm, root).await?;
    let leaf = descend::<V, D>(tm, root, key).await?;
    let node = node::<V, D>(tm, leaf).await?;
    let old = match node.find(key) {
        Some(at) => {
            let old = node.value(at);
            node_mut(tm, leaf).await?.set_value(at, value)?;
            old
        }
        None => {
            let at = node.position(key).map_or(0, |at| at + 1);
            node_mut(tm, leaf).await?.insert(at, key, value)?;
            None
        }
    };
    tm.leave();
    Ok(Inserted { root, old })
}

/// Where the descent stands: the shadowed parent, and which child it goes to.
#[derive(Clone, Copy)]
struct Step {
    parent: u64,
    at: usize,
}

/// Returns the leaf for `key`, shadowed, with room for one more entry if it lacks the key.
async fn descend<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    root: u64,
    key: u64,
) -> Result<u64> {
    let mut block = root;
    let mut step: Option<Step> = None;
    // A root that is split is looked at twice.
    for _ in 0..=MAX_DEPTH {
        let node = node::<V, D>(tm, block).await?;
        let has_key = !node.internal && node.find(key).is_some();
        if node.len() >= max_entries(node.value_size) && !has_key {
            match step {
                None => split_root::<V, D>(tm, block).await?,
                Some(step) => block = make_room::<V, D>(tm, step, block, key).await?,
            }
        }
        let node = super::node::<V, D>(tm, block).await?;
        if !node.internal {
            return Ok(block);
        }
        let at = match node.position(key) {
            Some(at) => at,
            None => {
                node_mut(tm, block).await?.set_key(0, key)?;
                0
            }
        };
        step = Some(Step { parent: block, at });
        block = shadow_child::<V, D>(tm, block, at).await?;
    }
    Err(too_deep(block))
}

/// Moves the entries of the full root into two new nodes below it.
async fn split_root<V: Value, D: Disk>(tm: &mut TransactionManager<D>, root: u64) -> Result {
    let full = node::<V, D>(tm, root).await?;
    let (internal, value_size, total) = (full.internal, full.value_size, full.len());
    let left = new_node(tm, internal, value_size).await?;
    let right = new_node(tm, internal, value_size).await?;
    deal(tm, [root, left, right], [0, total / 2, total - total / 2]).await?;
    let keys = [
        first_key::<V, D>(tm, left).await?,
        first_key::<V, D>(tm, right).await?,
    ];
    let mut root = NodeMut::init(tm.rewrite(root, &NODE).await?, true, u64::SIZE)?;
    for (at, (key, child)) in keys.into_iter().zip([left, right]).enumerate() {
        root.insert(at, key, &child)?;
    }
    Ok(())
}

/// Makes room in the full child that `step` leads to, and returns the node that `key` belongs to
/// then.
async fn make_room<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    step: Step,
    full: u64,
    key: u64,
) -> Result<u64> {
    let Step { parent, at } = step;
    let siblings = node::<V, D>(tm, parent).await?.len();
    let mut shared = false;
    if at > 0 {
        match sibling_room::<V, D>(tm, parent, at - 1).await? {
            None => shared = true,
            Some(room) if room >= SPARE_ENTRIES => {
                let left = shadow_child::<V, D>(tm, parent, at - 1).await?;
                return level::<V, D>(tm, parent, at, [left, full], key).await;
            }
            Some(_) => {}
        }
    }
    if at + 1 < siblings {
        match sibling_room::<V, D>(tm, parent, at + 1).await? {
            None => shared = true,
            Some(room) if room >= SPARE_ENTRIES => {
                let right = shadow_child::<V, D>(tm, parent, at + 1).await?;
                return level::<V, D>(tm, parent, at + 1, [full, right], key).await;
            }
            Some(_) => {}
        }
    }
    if shared || siblings <= 2 || at == 0 || at + 1 == siblings {
        split_one::<V, D>(tm, step, full, key).await
    } else {
        split_two::<V, D>(tm, step, full, key).await
    }
}

/// Returns the unused entries of child `at`; `None` if the child has other parents too.
async fn sibling_room<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    parent: u64,
    at: usize,
) -> Result<Option<usize>> {
    let sibling = child::<V, D>(tm, parent, at).await?;
    if tm.count(sibling).await? > 1 {
        return Ok(None);
    }
    let node = node::<V, D>(tm, sibling).await?;
    Ok(Some(
        max_entries(node.value_size).saturating_sub(node.len()),
    ))
}

/// Levels two neighbours, the right one being child `at`.
async fn level<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    parent: u64,
    at: usize,
    [left, right]: [u64; 2],
    key: u64,
) -> Result<u64> {
    let total = total::<V, D, 2>(tm, [left, right]).await?;
    deal(tm, [left, right], [total / 2, total - total / 2]).await?;
    let border = first_key::<V, D>(tm, right).await?;
    node_mut(tm, parent).await?.set_key(at, border)?;
    Ok(if key < border { left } else { right })
}

/// Splits a full child in two.
async fn split_one<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    Step { parent, at }: Step,
    full: u64,
    key: u64,
) -> Result<u64> {
    let right = new_sibling::<V, D>(tm, full).await?;
    let total = total::<V, D, 1>(tm, [full]).await?;
    deal(tm, [full, right], [total / 2, total - total / 2]).await?;
    let border = first_key::<V, D>(tm, right).await?;
    node_mut(tm, parent).await?.insert(at + 1, border, &right)?;
    Ok(if key < border { full } else { right })
}

/// Splits a full child and its left sibling in three.
async fn split_two<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    Step { parent, at }: Step,
    right: u64,
    key: u64,
) -> Result<u64> {
    let left = shadow_child::<V, D>(tm, parent, at - 1).await?;
    let middle = new_sibling::<V, D>(tm, right).await?;
    let total = total::<V, D, 2>(tm, [left, right]).await?;
    let first = total / 3;
    let second = (total - first) / 2;
    deal(
        tm,
        [left, middle, right],
        [first, second, total - first - second],
    )
    .await?;
    let borders = [
        first_key::<V, D>(tm, middle).await?,
        first_key::<V, D>(tm, right).await?,
    ];
    let mut parent = node_mut(tm, parent).await?;
    parent.set_key(at, borders[1])?;
    parent.insert(at, borders[0], &middle)?;
    Ok(match () {
        () if key < borders[0] => left,
        () if key < borders[1] => middle,
        () => right,
    })
}

/// Returns a new empty node like the one in `block`.
async fn new_sibling<V: Value, D: Disk>(tm: &mut TransactionManager<D>, block: u64) -> Result<u64> {
    let like = node::<V, D>(tm, block).await?;
    let (internal, value_size) = (like.internal, like.value_size);
    new_node(tm, internal, value_size).await
}

async fn new_node<D: Disk>(
    tm: &mut TransactionManager<D>,
    internal: bool,
    value_size: usize,
) -> Result<u64> {
    let block = tm.allocate().await?;
    NodeMut::init(tm.rewrite(block, &NODE).await?, internal, value_size)?;
    Ok(block)
}

async fn total<V: Value, D: Disk, const N: usize>(
    tm: &mut TransactionManager<D>,
    blocks: [u64; N],
) -> Result<usize> {
    let mut total = 0;
    for block in blocks {
        total += node::<V, D>(tm, block).await?.len();
    }
    Ok(total)
}

async fn first_key<V: Value, D: Disk>(tm: &mut TransactionManager<D>, block: u64) -> Result<u64> {
    let key = node::<V, D>(tm, block).await?.key(0);
    key.ok_or_else(|| Error::field(&NODE, block, "nr_entries", 0))
}
