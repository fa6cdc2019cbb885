// SPDX-License-Identifier: GPL-2.0

//! Deleting a whole tree.

use super::node;
use super::reference;
use super::too_deep;
use super::Value;
use super::MAX_DEPTH;
use crate::error::Result;
use crate::transaction::TransactionManager;
use runtime::disk::Disk;

/// A node whose children are being given up, and which comes next.
#[derive(Clone, Copy)]
struct Level {
    block: u64,
    next: usize,
}

/// Gives up the reference to the tree at `root`, and with the last one all that is below.
pub async fn delete<V: Value, D: Disk>(tm: &mut TransactionManager<D>, root: u64) -> Result {
    tm.enter();
    let mut path = [Level {
        block: root,
        next: 0,
    }; MAX_DEPTH];
    let mut depth = 1_usize;
    while let Some(at) = depth.checked_sub(1) {
        let Some(level) = path.get_mut(at) else {
            return Err(too_deep(root));
        };
        // A node that has other parents keeps its children.
        if level.next == 0 && tm.count(level.block).await? > 1 {
            tm.dec(level.block).await?;
            depth -= 1;
            continue;
        }
        let here = node::<V, D>(tm, level.block).await?;
        if level.next >= here.len() {
            tm.dec(level.block).await?;
            depth -= 1;
            continue;
        }
        let (internal, below) = (here.internal, reference::<V>(&here, level.next));
        level.next += 1;
        let Some(below) = below else { continue };
        if internal {
            let parent = level.block;
            let slot = path.get_mut(depth).ok_or_else(|| too_deep(parent))?;
            *slot = Level {
                block: below,
                next: 0,
            };
            depth += 1;
        } else {
            tm.dec(below).await?;
        }
    }
    tm.leave();
    Ok(())
}
