// SPDX-License-Identifier: GPL-2.0

//! One node of a B+tree: header, keys, values.

use super::Value;
use crate::block::Block;
use crate::block::BlockKind;
use crate::block::Problem;
use crate::block::Stamp;
use crate::block::BLOCK_SIZE;
use crate::error::Error;
use crate::error::Result;
use core::mem::offset_of;
use core::mem::size_of;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// A node of a B+tree.
pub static NODE: BlockKind = BlockKind {
    name: "btree_node",
    verify,
    seal: |block, number| STAMP.seal(block, number),
};

const STAMP: Stamp = Stamp {
    salt: 121_107,
    number_at: offset_of!(Header, number),
};

/// The flag of a node whose values are child nodes.
const INTERNAL: u32 = 1;

/// The flag of a node whose values are the user's.
const LEAF: u32 = 2;

const KEY_SIZE: usize = size_of::<U64>();

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    checksum: U32,
    flags: U32,
    number: U64,
    nr_entries: U32,
    max_entries: U32,
    value_size: U32,
    padding: U32,
}

const BODY_SIZE: usize = BLOCK_SIZE - size_of::<Header>();

const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(offset_of!(Header, number) == 8 && offset_of!(Header, nr_entries) == 16);
    assert!(max_entries(8) == 252 && max_entries(4) == 336 && max_entries(16) == 168);
};

/// Returns how many entries a node with values of `value_size` bytes holds. It is a multiple of
/// three, so that nodes can be split into thirds.
pub const fn max_entries(value_size: usize) -> usize {
    match value_size.checked_add(KEY_SIZE) {
        Some(entry_size) => match BODY_SIZE.checked_div(entry_size) {
            Some(entries) => entries / 3 * 3,
            None => 0,
        },
        None => 0,
    }
}

/// Tests a node as it was read. Mainline tests less; what is tested here beyond it holds for
/// every node that mainline writes.
fn verify(block: &Block, number: u64) -> Result<(), Problem> {
    STAMP.number(block, number)?;
    STAMP.checksum(block)?;
    let (header, _) = split(block)?;
    let field = |name, field: U32| {
        Err(Problem::Field {
            name,
            found: field.get().into(),
        })
    };
    if !matches!(header.flags.get(), INTERNAL | LEAF) {
        return field("flags", header.flags);
    }
    let max = max_entries(header.value_size.get() as usize) as u32;
    if max == 0 || (header.flags.get() == INTERNAL && header.value_size.get() != 8) {
        return field("value_size", header.value_size);
    }
    if header.max_entries.get() != max {
        return field("max_entries", header.max_entries);
    }
    if header.nr_entries.get() > max {
        return field("nr_entries", header.nr_entries);
    }
    let node = Node::parse(block)?;
    let ascending = node.keys.windows(2).all(|pair| match pair {
        [a, b] => a.get() < b.get(),
        _ => true,
    });
    if !ascending {
        return Err(Problem::Field {
            name: "key order",
            found: number,
        });
    }
    Ok(())
}

fn split(block: &Block) -> Result<(&Header, &[u8]), Problem> {
    Header::ref_from_prefix(block).map_err(|_| Problem::Field {
        name: "header",
        found: 0,
    })
}

/// A node for reading.
pub(crate) struct Node<'b> {
    /// True if the values are child nodes.
    pub(crate) internal: bool,
    /// The keys in use.
    pub(crate) keys: &'b [U64],
    /// The values in use, `value_size` bytes each.
    values: &'b [u8],
    /// The size of a value.
    pub(crate) value_size: usize,
}

impl<'b> Node<'b> {
    /// Reads the header of a validated block.
    pub(crate) fn parse(block: &'b Block) -> Result<Self, Problem> {
        let (header, body) = split(block)?;
        let value_size = header.value_size.get() as usize;
        let nr = header.nr_entries.get() as usize;
        let (keys, values) = areas(value_size, body);
        let keys = keys.and_then(|keys| <[U64]>::ref_from_bytes(keys).ok());
        let keys = keys.and_then(|keys| keys.get(..nr));
        let values = values.and_then(|values| values.get(..nr.checked_mul(value_size)?));
        match (keys, values) {
            (Some(keys), Some(values)) => {
                let internal = header.flags.get() == INTERNAL;
                Ok(Self {
                    internal,
                    keys,
                    values,
                    value_size,
                })
            }
            _ => Err(Problem::Field {
                name: "nr_entries",
                found: nr as u64,
            }),
        }
    }

    /// Returns the number of entries.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the key of entry `at`.
    pub(crate) fn key(&self, at: usize) -> Option<u64> {
        self.keys.get(at).map(|key| key.get())
    }

    /// Returns the value of entry `at`, if values are of this type.
    pub(crate) fn value<V: Value>(&self, at: usize) -> Option<V> {
        if self.value_size != V::SIZE {
            return None;
        }
        let start = at.checked_mul(V::SIZE)?;
        V::decode(self.values.get(start..start.checked_add(V::SIZE)?)?)
    }

    /// Returns the bytes of all values in use.
    pub(crate) fn values(&self) -> &'b [u8] {
        self.values
    }

    /// Returns the last entry whose key is not above `key`.
    pub(crate) fn position(&self, key: u64) -> Option<usize> {
        self.keys
            .partition_point(|other| other.get() <= key)
            .checked_sub(1)
    }

    /// Returns the entry whose key is `key`.
    pub(crate) fn find(&self, key: u64) -> Option<usize> {
        self.position(key).filter(|&at| self.key(at) == Some(key))
    }
}

/// Splits the body of a node into all keys and all values.
fn areas(value_size: usize, body: &[u8]) -> (Option<&[u8]>, Option<&[u8]>) {
    let max = max_entries(value_size);
    let keys = max * KEY_SIZE;
    (body.get(..keys), body.get(keys..keys + max * value_size))
}

/// A node for changing.
pub(crate) struct NodeMut<'b> {
    header: &'b mut Header,
    keys: &'b mut [U64],
    values: &'b mut [u8],
}

impl<'b> NodeMut<'b> {
    /// Reads the header of a validated block.
    pub(crate) fn parse(block: &'b mut Block) -> Result<Self, Problem> {
        let broken = Problem::Field {
            name: "header",
            found: 0,
        };
        let (header, body) = Header::mut_from_prefix(block).map_err(|_| broken)?;
        let max = max_entries(header.value_size.get() as usize);
        let (keys, values) = body.split_at_mut_checked(max * KEY_SIZE).ok_or(broken)?;
        let keys = <[U64]>::mut_from_bytes(keys).map_err(|_| broken)?;
        let values = values
            .get_mut(..max * header.value_size.get() as usize)
            .ok_or(broken)?;
        Ok(Self {
            header,
            keys,
            values,
        })
    }

    /// Makes a zeroed block an empty node.
    pub(crate) fn init(block: &'b mut Block, internal: bool, value_size: usize) -> Result<Self> {
        block.fill(0);
        if let Ok((header, _)) = Header::mut_from_prefix(block) {
            header.flags = if internal { INTERNAL } else { LEAF }.into();
            header.max_entries = (max_entries(value_size) as u32).into();
            header.value_size = (value_size as u32).into();
        }
        Self::parse(block).map_err(|_| NOT_ROOM)
    }

    fn len(&self) -> usize {
        self.header.nr_entries.get() as usize
    }

    fn value_size(&self) -> usize {
        self.header.value_size.get() as usize
    }

    /// Sets the key of entry `at`.
    pub(crate) fn set_key(&mut self, at: usize, key: u64) -> Result {
        let nr = self.len();
        let slot = self
            .keys
            .get_mut(..nr)
            .and_then(|keys| keys.get_mut(at))
            .ok_or(NOT_ROOM)?;
        slot.set(key);
        Ok(())
    }

    /// Sets the value of entry `at`.
    pub(crate) fn set_value<V: Value>(&mut self, at: usize, value: &V) -> Result {
        if at >= self.len() || self.value_size() != V::SIZE {
            return Err(NOT_ROOM);
        }
        let start = at * V::SIZE;
        value.encode(
            self.values
                .get_mut(start..start + V::SIZE)
                .ok_or(NOT_ROOM)?,
        );
        Ok(())
    }

    /// Inserts an entry before entry `at`.
    pub(crate) fn insert<V: Value>(&mut self, at: usize, key: u64, value: &V) -> Result {
        let nr = self.len();
        if at > nr || self.value_size() != V::SIZE {
            return Err(NOT_ROOM);
        }
        self.keys
            .get_mut(at..nr + 1)
            .ok_or(NOT_ROOM)?
            .rotate_right(1);
        let moved = self
            .values
            .get_mut(at * V::SIZE..(nr + 1) * V::SIZE)
            .ok_or(NOT_ROOM)?;
        moved.rotate_right(V::SIZE);
        self.header.nr_entries = (nr as u32 + 1).into();
        self.set_key(at, key)?;
        self.set_value(at, value)
    }

    /// Removes entry `at`.
    pub(crate) fn remove(&mut self, at: usize) -> Result {
        let (nr, size) = (self.len(), self.value_size());
        if at >= nr {
            return Err(NOT_ROOM);
        }
        let keys = self.keys.get_mut(at..nr).ok_or(NOT_ROOM)?;
        keys.rotate_left(1);
        if let Some(last) = keys.last_mut() {
            last.set(0);
        }
        let values = self.values.get_mut(at * size..nr * size).ok_or(NOT_ROOM)?;
        values.rotate_left(size);
        values
            .get_mut((nr - 1 - at) * size..)
            .ok_or(NOT_ROOM)?
            .fill(0);
        self.header.nr_entries = (nr as u32 - 1).into();
        Ok(())
    }

    /// Replaces all entries; the rest of the node is zeroed.
    pub(crate) fn set_entries(&mut self, keys: &[U64], values: &[u8]) -> Result {
        if keys.len() * self.value_size() != values.len() {
            return Err(NOT_ROOM);
        }
        let (used, rest) = self.keys.split_at_mut_checked(keys.len()).ok_or(NOT_ROOM)?;
        used.copy_from_slice(keys);
        rest.fill(U64::ZERO);
        let (used, rest) = self
            .values
            .split_at_mut_checked(values.len())
            .ok_or(NOT_ROOM)?;
        used.copy_from_slice(values);
        rest.fill(0);
        self.header.nr_entries = (keys.len() as u32).into();
        Ok(())
    }
}

/// An entry that does not fit: a bug in the tree code.
const NOT_ROOM: Error = Error::Invalid("no such entry in a node");

#[cfg(test)]
mod tests;
