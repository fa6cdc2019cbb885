// SPDX-License-Identifier: GPL-2.0

//! B+trees from 64-bit keys to values of a fixed size.
//!
//! A tree is named by its root block; the user stores that. Every change takes the root and
//! returns the new one. Nodes are split, levelled and merged by mainline's rules, on the way down,
//! so that one pass is enough and the shapes are the same.
//!
//! Depth is bounded by [`MAX_DEPTH`]; nothing here recurses.

mod cursor;
mod delete;
mod insert;
mod lookup;
mod node;
mod rebalance;
mod remove;

pub use cursor::Cursor;
pub use delete::delete;
pub use insert::insert;
pub use insert::Inserted;
pub use lookup::height;
pub use lookup::lookup;
pub use node::max_entries;
pub use node::NODE;
pub use remove::remove;
pub use remove::Removed;

pub(crate) use cursor::want_leaf;
pub(crate) use lookup::shadow_path;
pub(crate) use rebalance::Scratch;

use crate::block::Block;
use crate::error::Error;
use crate::error::Result;
use crate::transaction::TransactionManager;
use node::Node;
use node::NodeMut;
use runtime::disk::Disk;

/// The most nodes on a path from a root to a leaf. With 84 entries in the emptiest node that the
/// rules allow, ten would reach every key.
pub const MAX_DEPTH: usize = 16;

/// A value of a tree or array.
pub trait Value: Copy + Send + Sync + 'static {
    /// The size of a value on disk.
    const SIZE: usize;

    /// Reads a value from `SIZE` bytes.
    fn decode(bytes: &[u8]) -> Option<Self>;

    /// Writes the value to `SIZE` bytes.
    fn encode(&self, bytes: &mut [u8]);

    /// Returns the metadata block that this value refers to: who copies the value adds a
    /// reference.
    fn reference(&self) -> Option<u64> {
        None
    }
}

macro_rules! integer_value {
    ($int:ty) => {
        impl Value for $int {
            const SIZE: usize = core::mem::size_of::<$int>();

            #[inline]
            fn decode(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$int>::from_le_bytes)
            }

            #[inline]
            fn encode(&self, bytes: &mut [u8]) {
                for (to, from) in bytes.iter_mut().zip(self.to_le_bytes()) {
                    *to = from;
                }
            }
        }
    };
}

integer_value!(u32);
integer_value!(u64);

/// A value that is the number of a metadata block, and a reference to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef(pub u64);

impl Value for BlockRef {
    const SIZE: usize = u64::SIZE;

    fn decode(bytes: &[u8]) -> Option<Self> {
        u64::decode(bytes).map(Self)
    }

    fn encode(&self, bytes: &mut [u8]) {
        self.0.encode(bytes);
    }

    fn reference(&self) -> Option<u64> {
        Some(self.0)
    }
}

/// Creates an empty tree and returns its root.
pub async fn create<V: Value, D: Disk>(tm: &mut TransactionManager<D>) -> Result<u64> {
    tm.enter();
    let root = tm.allocate().await?;
    init_empty::<V, D>(tm, root).await?;
    tm.leave();
    Ok(root)
}

/// Makes `root`, a new block, an empty tree.
pub(crate) async fn init_empty<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    root: u64,
) -> Result {
    NodeMut::init(tm.rewrite(root, &NODE).await?, false, V::SIZE)?;
    Ok(())
}

/// Reads a validated block as a node of a tree with values `V`.
fn parse<V: Value>(block: &Block, number: u64) -> Result<Node<'_>> {
    let node = Node::parse(block).map_err(|problem| Error::corrupt(&NODE, number, problem))?;
    if !node.internal && node.value_size != V::SIZE {
        return Err(Error::field(
            &NODE,
            number,
            "value_size",
            node.value_size as u64,
        ));
    }
    if node.internal && node.len() == 0 {
        return Err(Error::field(&NODE, number, "nr_entries", 0));
    }
    Ok(node)
}

/// Returns the node in `block` for reading.
async fn node<V: Value, D: Disk>(tm: &mut TransactionManager<D>, block: u64) -> Result<Node<'_>> {
    parse::<V>(tm.read(block, &NODE).await?, block)
}

/// Returns the node in `block`, a shadowed one, for changing.
async fn node_mut<D: Disk>(tm: &mut TransactionManager<D>, block: u64) -> Result<NodeMut<'_>> {
    let contents = tm.modify(block, &NODE).await?;
    NodeMut::parse(contents).map_err(|problem| Error::corrupt(&NODE, block, problem))
}

/// Returns child `at` of the internal node in `block`.
async fn child<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    block: u64,
    at: usize,
) -> Result<u64> {
    let value = node::<V, D>(tm, block).await?.value::<u64>(at);
    value.ok_or_else(|| Error::field(&NODE, block, "entry", at as u64))
}

/// Returns a node with the contents of `block` that may be changed.
async fn shadow_node<V: Value, D: Disk>(tm: &mut TransactionManager<D>, block: u64) -> Result<u64> {
    let shadow = tm.shadow(block, &NODE).await?;
    if shadow.shared {
        inc_children::<V, D>(tm, shadow.block).await?;
    }
    Ok(shadow.block)
}

/// Adds a reference to whatever the node in `block` refers to.
async fn inc_children<V: Value, D: Disk>(tm: &mut TransactionManager<D>, block: u64) -> Result {
    let mut at = 0;
    loop {
        let node = node::<V, D>(tm, block).await?;
        if at >= node.len() {
            return Ok(());
        }
        if let Some(child) = reference::<V>(&node, at) {
            tm.inc(child).await?;
        }
        at += 1;
    }
}

/// Returns the block that entry `at` refers to.
fn reference<V: Value>(node: &Node<'_>, at: usize) -> Option<u64> {
    if node.internal {
        node.value::<u64>(at)
    } else {
        node.value::<V>(at).and_then(|value| value.reference())
    }
}

/// Makes child `at` of the internal node in `parent`, a shadowed one, changeable, and returns it.
async fn shadow_child<V: Value, D: Disk>(
    tm: &mut TransactionManager<D>,
    parent: u64,
    at: usize,
) -> Result<u64> {
    let old = child::<V, D>(tm, parent, at).await?;
    let new = shadow_node::<V, D>(tm, old).await?;
    if new != old {
        node_mut(tm, parent).await?.set_value(at, &new)?;
    }
    Ok(new)
}

/// Returns the error for a path that does not end.
fn too_deep(block: u64) -> Error {
    Error::field(&NODE, block, "depth", MAX_DEPTH as u64)
}

#[cfg(test)]
mod tests;
