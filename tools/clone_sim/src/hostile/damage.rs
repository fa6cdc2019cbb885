// SPDX-License-Identifier: GPL-2.0

//! Changes fields of metadata, under right checksums.

use pd_testing::check;
use persistent_data::Block;
use persistent_data::Stamp;
use sim::choices::Choices;

/// Bytes in a block.
const BLOCK: usize = 4096;

/// A number in a block: its name, where it is, and its size.
type Field = (&'static str, usize, usize);

/// Metadata that is being changed.
struct Victim<'a> {
    image: &'a mut [u8],
    choices: &'a mut Choices,
    /// The blocks in use, and their kinds.
    live: Vec<(u64, &'static str)>,
}

/// Changes something; returns what.
pub(super) fn make(image: &mut [u8], choices: &mut Choices) -> String {
    let live = match check::clone(image) {
        Some(found) => found.checker.live,
        None => return "nothing is there".to_owned(),
    };
    let mut victim = Victim {
        image,
        choices,
        live: live
            .into_iter()
            .map(|(block, (kind, _))| (block, kind))
            .collect(),
    };
    match victim.choices.below(16) {
        0..=2 => victim.field_of("superblock"),
        3..=4 => victim.field_of("btree_node"),
        5..=6 => victim.field_of("array"),
        7..=8 => victim.field_of("index"),
        9 => victim.field_of("sm_bitmap"),
        10..=12 => victim.count(),
        13 => victim.copy(),
        14 => victim.swap(),
        _ => victim.any_byte(),
    }
}

/// Returns how a kind of block is sealed.
fn stamp(kind: &str) -> Stamp {
    let (salt, number_at) = match kind {
        "superblock" => (257_649_492, 8),
        "btree_node" => (121_107, 8),
        "array" => (595_846_735, 16),
        "index" => (160_478, 8),
        _ => (240_779, 8),
    };
    Stamp { salt, number_at }
}

impl Victim<'_> {
    /// Returns a number that may be worth trying where `old` is.
    fn number(&mut self, old: u64) -> u64 {
        let choices = &mut *self.choices;
        match choices.below(12) {
            0..=1 => old.wrapping_add(1 + choices.below(3)),
            2..=3 => old.wrapping_sub(1 + choices.below(3)),
            4 => choices.below(300),
            5 => 1 << choices.below(64),
            6 => (1 << choices.below(64)) - 1,
            7 => u64::MAX - choices.below(8),
            8 => old ^ (1 << choices.below(64)),
            9 => choices.number(),
            _ => self.block(),
        }
    }

    /// Returns a block of the device, one in use as a rule, or one behind its end.
    fn block(&mut self) -> u64 {
        match self.choices.chance(2, 3) {
            true => self.choices.pick(&self.live).0,
            false => {
                let blocks = (self.image.len() / BLOCK) as u64;
                self.choices.below(blocks + 4)
            }
        }
    }

    /// Returns a block of this kind, if there is one.
    fn one_of(&mut self, kind: &str) -> Option<u64> {
        let all: Vec<u64> = self
            .live
            .iter()
            .filter(|live| live.1 == kind)
            .map(|live| live.0)
            .collect();
        (!all.is_empty()).then(|| *self.choices.pick(&all))
    }

    fn bytes(&mut self, block: u64) -> &mut Block {
        let start = block as usize * BLOCK;
        let bytes = self.image[start..].first_chunk_mut();
        bytes.expect("a block of the device")
    }

    /// Returns the number at `at`.
    fn get(&mut self, block: u64, at: usize, size: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&self.bytes(block)[at..at + size]);
        u64::from_le_bytes(bytes)
    }

    fn put(&mut self, block: u64, kind: &str, (_, at, size): Field, value: u64) {
        let bytes = self.bytes(block);
        bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        stamp(kind).seal(bytes, block);
    }

    fn field_of(&mut self, kind: &'static str) -> String {
        let Some(block) = self.one_of(kind) else {
            return format!("no {kind}");
        };
        let field = self.pick_field(kind);
        let (name, at, size) = field;
        let old = self.get(block, at, size);
        let new = self.number(old);
        self.put(block, kind, field, new);
        format!("{kind} {block}: {name} at {at} is {new:#x}, was {old:#x}")
    }

    fn pick_field(&mut self, kind: &str) -> Field {
        let choices = &mut *self.choices;
        let (fields, values): (&[Field], Field) = match kind {
            "superblock" => (
                &[
                    ("nr_blocks", 44, 8),
                    ("nr_allocated", 52, 8),
                    ("index", 60, 8),
                    ("overflow", 68, 8),
                    ("region_size", 172, 8),
                    ("length", 180, 8),
                    ("bitset", 188, 8),
                    ("flags", 4, 4),
                    ("magic", 32, 8),
                    ("version", 40, 4),
                ],
                ("any", 0, 8),
            ),
            "btree_node" => (
                &[
                    ("flags", 4, 4),
                    ("nr_entries", 16, 4),
                    ("max_entries", 20, 4),
                    ("value_size", 24, 4),
                ],
                ("key", 32, 8),
            ),
            "array" => (
                &[
                    ("max_entries", 4, 4),
                    ("nr_entries", 8, 4),
                    ("value_size", 12, 4),
                ],
                ("word", 24, 8),
            ),
            "index" => (
                &[
                    ("bitmap", 16, 8),
                    ("nr_free", 24, 4),
                    ("none_free_before", 28, 4),
                ],
                ("entry", 16, 4),
            ),
            _ => (&[], ("counts", 16, 8)),
        };
        if !fields.is_empty() && choices.chance(3, 4) {
            return *choices.pick(fields);
        }
        let (name, at, size) = values;
        // The first few; in nodes of the bitset also the first values, which are behind 252 keys.
        let places = ((BLOCK - at) / size) as u64;
        let index = match choices.below(4) {
            0..=1 => choices.below(4.min(places)),
            2 if kind == "btree_node" => 252 + choices.below(4),
            _ => choices.below(places),
        };
        (name, at + index as usize * size, size)
    }

    /// Changes the count of a block, and all that has to agree with it, or not.
    fn count(&mut self) -> String {
        let (Some(bitmap), Some(index)) = (self.one_of("sm_bitmap"), self.one_of("index")) else {
            return "no bitmap".to_owned();
        };
        let block = self.block();
        let new = self.choices.below(4) as u8;
        let (byte, shift) = (16 + block as usize / 4, block % 4 * 2);
        if byte >= BLOCK {
            return "no count".to_owned();
        }
        let bytes = self.bytes(bitmap);
        let old = (bytes[byte] >> shift) & 3;
        bytes[byte] = bytes[byte] & !(3 << shift) | (new << shift);
        stamp("sm_bitmap").seal(bytes, bitmap);
        let more_free = i64::from(new == 0) - i64::from(old == 0);
        let agrees = self.choices.chance(3, 4);
        if agrees {
            let free = self.get(index, 24, 4).wrapping_add_signed(more_free);
            self.put(index, "index", ("nr_free", 24, 4), free);
            let hint = self.get(index, 28, 4).min(block);
            self.put(index, "index", ("none_free_before", 28, 4), hint);
            let allocated = self.get(0, 52, 8).wrapping_add_signed(-more_free);
            self.put(0, "superblock", ("nr_allocated", 52, 8), allocated);
        }
        format!("the count of {block} is {new}, was {old}; the rest agrees: {agrees}")
    }

    /// Puts what a block holds into the place of another, sealed as either.
    fn copy(&mut self) -> String {
        let (from, as_is) = *self.choices.pick(&self.live);
        let (to, was) = *self.choices.pick(&self.live);
        let kind = match self.choices.chance(1, 2) {
            true => as_is,
            false => was,
        };
        let bytes = *self.bytes(from);
        *self.bytes(to) = bytes;
        stamp(kind).seal(self.bytes(to), to);
        format!("{was} {to} is a copy of {as_is} {from}, as {kind}")
    }

    /// Has a block of the tree name another one, often itself or one above.
    fn swap(&mut self) -> String {
        let Some(node) = self.one_of("btree_node") else {
            return "no node".to_owned();
        };
        let entries = self.get(node, 16, 4).clamp(1, 252);
        let at = 32 + 8 * 252 + 8 * self.choices.below(entries) as usize;
        let other = self.block();
        self.put(node, "btree_node", ("value", at, 8), other);
        format!("node {node}: the value at {at} is {other}")
    }

    fn any_byte(&mut self) -> String {
        let blocks = (self.image.len() / BLOCK) as u64;
        let (block, at) = (
            self.choices.below(blocks),
            self.choices.below(4096) as usize,
        );
        let byte = self.choices.below(256) as u8;
        let sealed = self
            .live
            .iter()
            .find(|live| live.0 == block)
            .map(|live| live.1);
        self.bytes(block)[at] = byte;
        if let Some(kind) = sealed.filter(|_| self.choices.chance(3, 4)) {
            stamp(kind).seal(self.bytes(block), block);
        }
        format!("block {block}: byte {at} is {byte}")
    }
}
