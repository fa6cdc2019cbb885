// SPDX-License-Identifier: GPL-2.0

//! One block of an array: header, values.

use crate::block::Block;
use crate::block::BlockKind;
use crate::block::Problem;
use crate::block::Stamp;
use crate::block::BLOCK_SIZE;
use crate::btree::Value;
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

/// A block of an array.
pub static ARRAY: BlockKind = BlockKind {
    name: "array",
    verify,
    seal: |block, number| STAMP.seal(block, number),
};

const STAMP: Stamp = Stamp {
    salt: 595_846_735,
    number_at: offset_of!(Header, number),
};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    checksum: U32,
    max_entries: U32,
    nr_entries: U32,
    value_size: U32,
    number: U64,
}

const BODY_SIZE: usize = BLOCK_SIZE - size_of::<Header>();

const _: () = {
    assert!(size_of::<Header>() == 24 && offset_of!(Header, number) == 16);
    assert!(max_entries(8) == 509 && max_entries(4) == 1018);
};

/// Returns how many values of `value_size` bytes a block holds.
pub const fn max_entries(value_size: usize) -> usize {
    match BODY_SIZE.checked_div(value_size) {
        Some(entries) => entries,
        None => 0,
    }
}

fn verify(block: &Block, number: u64) -> Result<(), Problem> {
    STAMP.number(block, number)?;
    STAMP.checksum(block)?;
    let field = |name, field: U32| {
        Err(Problem::Field {
            name,
            found: field.get().into(),
        })
    };
    let Ok((header, _)) = Header::ref_from_prefix(block) else {
        return Err(Problem::Field {
            name: "header",
            found: 0,
        });
    };
    let max = max_entries(header.value_size.get() as usize) as u32;
    if max == 0 {
        return field("value_size", header.value_size);
    }
    if header.max_entries.get() != max {
        return field("max_entries", header.max_entries);
    }
    if header.nr_entries.get() > max {
        return field("nr_entries", header.nr_entries);
    }
    Ok(())
}

/// Returns the bytes of the values of a validated array block.
pub(crate) fn used<V: Value>(block: &Block, number: u64) -> Result<&[u8]> {
    let (header, body) = split::<V>(block, number)?;
    let used = header.nr_entries.get() as usize * V::SIZE;
    body.get(..used)
        .ok_or_else(|| Error::field(&ARRAY, number, "nr_entries", 0))
}

/// Returns the values of a validated array block.
pub(crate) fn values<V: Value>(
    block: &Block,
    number: u64,
) -> Result<impl ExactSizeIterator<Item = &[u8]>> {
    Ok(used::<V>(block, number)?.chunks_exact(V::SIZE))
}

/// Returns value `at` of a validated array block, if it is there.
pub(crate) fn value<V: Value>(block: &Block, number: u64, at: usize) -> Result<Option<V>> {
    Ok(values::<V>(block, number)?.nth(at).and_then(V::decode))
}

/// Sets value `at` of a validated array block; false if it is not there.
pub(crate) fn set_value<V: Value>(
    block: &mut Block,
    number: u64,
    at: usize,
    value: &V,
) -> Result<bool> {
    let nr = values::<V>(block, number)?.len();
    let Ok((_, body)) = Header::mut_from_prefix(block) else {
        return Ok(false);
    };
    match body.chunks_exact_mut(V::SIZE).take(nr).nth(at) {
        Some(slot) => {
            value.encode(slot);
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Makes a zeroed block an array block of `nr` values, value `at` being `value(at)`.
pub(crate) fn fill<V: Value>(block: &mut Block, nr: usize, mut value: impl FnMut(usize) -> V) {
    let Ok((header, body)) = Header::mut_from_prefix(block) else {
        return;
    };
    let nr = nr.min(max_entries(V::SIZE));
    header.max_entries = (max_entries(V::SIZE) as u32).into();
    header.nr_entries = (nr as u32).into();
    header.value_size = (V::SIZE as u32).into();
    for (at, slot) in body.chunks_exact_mut(V::SIZE).take(nr).enumerate() {
        value(at).encode(slot);
    }
}

/// Makes a validated array block `nr` values long; what is added is `value`, what is cut is zero.
pub(crate) fn resize<V: Value>(block: &mut Block, number: u64, nr: usize, value: &V) -> Result {
    let old = values::<V>(block, number)?.len();
    let Ok((header, body)) = Header::mut_from_prefix(block) else {
        return Ok(());
    };
    let nr = nr.min(max_entries(V::SIZE));
    header.nr_entries = (nr as u32).into();
    for slot in body.chunks_exact_mut(V::SIZE).take(nr).skip(old) {
        value.encode(slot);
    }
    for slot in body.chunks_exact_mut(V::SIZE).skip(nr) {
        slot.fill(0);
    }
    Ok(())
}

fn split<V: Value>(block: &Block, number: u64) -> Result<(&Header, &[u8])> {
    match Header::ref_from_prefix(block) {
        Ok((header, body)) if header.value_size.get() as usize == V::SIZE => Ok((header, body)),
        Ok((header, _)) => Err(Error::field(
            &ARRAY,
            number,
            "value_size",
            header.value_size.get().into(),
        )),
        Err(_) => Err(Error::field(&ARRAY, number, "header", 0)),
    }
}

#[cfg(test)]
mod tests;
