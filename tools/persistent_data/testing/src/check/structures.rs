// SPDX-License-Identifier: GPL-2.0

//! The shared structures: trees, arrays, space maps.

use super::number;
use crate::BLOCK;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// How a kind of block is recognised.
struct Kind {
    name: &'static str,
    salt: u32,
    number_at: usize,
}

const NODE: Kind = Kind {
    name: "btree_node",
    salt: 121_107,
    number_at: 8,
};
const ARRAY: Kind = Kind {
    name: "array",
    salt: 595_846_735,
    number_at: 16,
};
const INDEX: Kind = Kind {
    name: "index",
    salt: 160_478,
    number_at: 8,
};
const BITMAP: Kind = Kind {
    name: "sm_bitmap",
    salt: 240_779,
    number_at: 8,
};

/// Walks an image and collects what is wrong with it.
pub struct Checker<'i> {
    image: &'i [u8],
    /// What is wrong.
    pub errors: Vec<String>,
    /// Every live block: its kind and its checksum.
    pub live: BTreeMap<u64, (&'static str, u32)>,
    /// References found to each block.
    references: HashMap<u64, u32>,
    /// (depth, entries) of the nodes of the last tree, in pre-order.
    pub shape: Vec<(usize, usize)>,
}

/// Reference counts: those in the bitmaps, and the exact ones of the overflow tree.
#[derive(Default)]
pub struct Counts {
    bitmaps: Vec<u8>,
    /// The counts above two.
    pub overflow: BTreeMap<u64, u32>,
}

impl Counts {
    /// Returns the count of `block`.
    pub fn get(&self, block: u64) -> u32 {
        match self.bitmaps.get(block as usize) {
            Some(3) => self.overflow.get(&block).copied().unwrap_or(3),
            Some(&count) => count.into(),
            None => 0,
        }
    }
}

/// A space map that was read.
pub struct SpaceMap {
    /// Blocks managed.
    pub nr_blocks: u64,
    /// Blocks in use, as the root says.
    pub nr_allocated: u64,
    /// Counts of all blocks.
    pub counts: Counts,
}

impl<'i> Checker<'i> {
    /// Creates a checker that has seen nothing of `image`.
    pub fn new(image: &'i [u8]) -> Self {
        Self {
            image,
            errors: Vec::new(),
            live: BTreeMap::new(),
            references: HashMap::new(),
            shape: Vec::new(),
        }
    }

    /// Notes something that is wrong.
    pub fn error(&mut self, what: String) {
        self.errors.push(what);
    }

    /// Returns the superblock, counted as in use.
    pub fn superblock(&mut self, salt: u32) -> &'i [u8] {
        *self.references.entry(0).or_default() += 1;
        self.block(
            0,
            &Kind {
                name: "superblock",
                salt,
                number_at: 8,
            },
        )
    }

    fn block(&mut self, number_wanted: u64, kind: &Kind) -> &'i [u8] {
        let start = (number_wanted as usize).saturating_mul(BLOCK);
        let Some(block) = self.image.get(start..start.saturating_add(BLOCK)) else {
            self.error(format!(
                "{} {number_wanted} is outside the image",
                kind.name
            ));
            return &[0; BLOCK];
        };
        let computed = !crc32c::crc32c(&block[4..]) ^ kind.salt;
        let stored = number::<4>(block, 0) as u32;
        if stored != computed {
            self.error(format!("{} {number_wanted}: checksum", kind.name));
        }
        if number::<8>(block, kind.number_at) != number_wanted {
            self.error(format!("{} {number_wanted}: number", kind.name));
        }
        if self
            .live
            .insert(number_wanted, (kind.name, stored))
            .is_some_and(|(k, _)| k != kind.name)
        {
            self.error(format!("{} {number_wanted}: used twice", kind.name));
        }
        block
    }

    /// Walks the tree at `root`; calls `leaf` with every key and value. Shared nodes are walked
    /// once.
    pub fn tree(
        &mut self,
        root: u64,
        value_size: usize,
        leaf: &mut dyn FnMut(&mut Self, u64, &[u8]),
    ) {
        self.shape.clear();
        self.node(root, value_size, 0, leaf);
    }

    fn node(
        &mut self,
        root: u64,
        value_size: usize,
        depth: usize,
        leaf: &mut dyn FnMut(&mut Self, u64, &[u8]),
    ) {
        let references = self.references.entry(root).or_default();
        *references += 1;
        if *references > 1 || depth > 20 {
            return;
        }
        let block = self.block(root, &NODE);
        let (flags, nr) = (number::<4>(block, 4), number::<4>(block, 16) as usize);
        let size = if flags == 1 { 8 } else { value_size };
        let max = (BLOCK - 32) / (8 + size) / 3 * 3;
        let header = (
            number::<4>(block, 20) as usize,
            number::<4>(block, 24) as usize,
        );
        if !(flags == 1 || flags == 2) || header != (max, size) || nr > max {
            self.error(format!("btree_node {root}: header"));
            return;
        }
        self.shape.push((depth, nr));
        let key = |at: usize| number::<8>(block, 32 + 8 * at);
        if (1..nr).any(|at| key(at - 1) >= key(at)) {
            self.error(format!("btree_node {root}: key order"));
        }
        for at in 0..nr {
            let start = 32 + 8 * max + size * at;
            let value = &block[start..start + size];
            if flags == 1 {
                self.node(number::<8>(value, 0), value_size, depth + 1, leaf);
            } else {
                leaf(self, key(at), value);
            }
        }
    }

    /// Walks the array at `root` and returns its values.
    pub fn array(&mut self, root: u64, value_size: usize) -> BTreeMap<u64, Vec<u8>> {
        let max = (BLOCK - 24) / value_size;
        let mut values = BTreeMap::new();
        self.tree(root, 8, &mut |checker, index, value| {
            let place = number::<8>(value, 0);
            *checker.references.entry(place).or_default() += 1;
            let block = checker.block(place, &ARRAY);
            let nr = number::<4>(block, 8) as usize;
            if (
                number::<4>(block, 4) as usize,
                number::<4>(block, 12) as usize,
            ) != (max, value_size)
                || nr > max
            {
                checker.error(format!("array {place}: header"));
                return;
            }
            for at in 0..nr {
                let start = 24 + value_size * at;
                let value = block[start..start + value_size].to_vec();
                let place = index.saturating_mul(max as u64).saturating_add(at as u64);
                values.insert(place, value);
            }
        });
        values
    }

    /// Walks the bitset at `root` and returns its `bits` bits.
    pub fn bitset(&mut self, root: u64, bits: u64) -> Vec<bool> {
        let words = self.array(root, 8);
        if words.len() as u64 != bits.div_ceil(64) {
            self.error(format!("bitset {root}: {} words", words.len()));
        }
        let bits = bits.min(words.len() as u64 * 64);
        let word = |at| words.get(&at).map_or(0, |word| number::<8>(word, 0));
        let each = (0..bits.div_ceil(64)).flat_map(|at| {
            let word = word(at);
            (0..64).map(move |bit| (word >> bit) & 1 == 1)
        });
        each.take(bits as usize).collect()
    }

    fn bitmaps(&mut self, entries: &[(u64, u64, u64)]) -> Vec<u8> {
        let mut counts = Vec::new();
        for (at, &(place, free, hint)) in entries.iter().enumerate() {
            *self.references.entry(place).or_default() += 1;
            let block = self.block(place, &BITMAP);
            let own: Vec<u8> = block[16..]
                .iter()
                .flat_map(|byte| [0, 2, 4, 6].map(|shift| (byte >> shift) & 3))
                .map(|two| ((two & 1) << 1) | (two >> 1))
                .collect();
            let zeros = own.iter().filter(|&&count| count == 0).count() as u64;
            let first = own
                .iter()
                .position(|&count| count == 0)
                .unwrap_or(own.len()) as u64;
            if zeros != free || hint > first {
                self.error(format!(
                    "index entry {at}: {free}/{hint}, found {zeros}/{first}"
                ));
            }
            counts.extend(own);
        }
        counts
    }

    /// Reads the metadata space map with this root.
    pub fn metadata_space_map(&mut self, root: &[u8]) -> SpaceMap {
        let index = number::<8>(root, 16);
        *self.references.entry(index).or_default() += 1;
        let block = self.block(index, &INDEX);
        let used = number::<8>(root, 0).div_ceil(16_320) as usize;
        if used > 255
            || block[(16 + 16 * used).min(BLOCK)..]
                .iter()
                .any(|&byte| byte != 0)
        {
            self.error("index entries beyond the end".to_owned());
        }
        let entries: Vec<_> = (0..used.min(255))
            .map(|at| entry(&block[16 + 16 * at..]))
            .collect();
        self.space_map(root, &entries)
    }

    /// Reads the space map of another device with this root.
    pub fn disk_space_map(&mut self, root: &[u8]) -> SpaceMap {
        let mut entries = Vec::new();
        self.tree(number::<8>(root, 16), 16, &mut |_, _, value| {
            entries.push(entry(value))
        });
        self.space_map(root, &entries)
    }

    fn space_map(&mut self, root: &[u8], entries: &[(u64, u64, u64)]) -> SpaceMap {
        let mut counts = Counts {
            bitmaps: self.bitmaps(entries),
            ..Counts::default()
        };
        self.tree(number::<8>(root, 24), 4, &mut |_, key, value| {
            counts.overflow.insert(key, number::<4>(value, 0) as u32);
        });
        let many = (0_u64..)
            .zip(&counts.bitmaps)
            .filter(|(_, &count)| count == 3);
        if !many
            .map(|(block, _)| block)
            .eq(counts.overflow.keys().copied())
        {
            self.error("overflow tree and bitmaps disagree".to_owned());
        }
        let (nr_blocks, nr_allocated) = (number::<8>(root, 0), number::<8>(root, 8));
        if counts.bitmaps.iter().filter(|&&count| count != 0).count() as u64 != nr_allocated {
            self.error("nr_allocated".to_owned());
        }
        if counts
            .bitmaps
            .iter()
            .skip(nr_blocks as usize)
            .any(|&count| count != 0)
        {
            self.error("counts beyond the end".to_owned());
        }
        SpaceMap {
            nr_blocks,
            nr_allocated,
            counts,
        }
    }

    /// Compares the counts of `map` with the references that were found.
    pub fn verify_counts(&mut self, map: &SpaceMap) {
        for block in 0..map.counts.bitmaps.len() as u64 {
            let found = self.references.get(&block).copied().unwrap_or(0);
            let count = map.counts.get(block);
            if count != found {
                self.errors
                    .push(format!("block {block}: count {count}, references {found}"));
            }
        }
        if let Some(beyond) = self
            .references
            .keys()
            .find(|&&block| block >= map.nr_blocks)
        {
            self.errors
                .push(format!("block {beyond} is beyond the end"));
        }
    }
}

fn entry(bytes: &[u8]) -> (u64, u64, u64) {
    (
        number::<8>(bytes, 0),
        number::<4>(bytes, 8),
        number::<4>(bytes, 12),
    )
}
