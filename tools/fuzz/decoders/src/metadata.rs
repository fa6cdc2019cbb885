// SPDX-License-Identifier: GPL-2.0

//! Metadata of the shared formats, with one part of it hostile.

use pd_testing::disk::MemDisk;
use pd_testing::now;
use persistent_data::array::Array;
use persistent_data::array::ARRAY;
use persistent_data::bitset::Bitset;
use persistent_data::btree;
use persistent_data::btree::BlockRef;
use persistent_data::btree::Cursor;
use persistent_data::btree::NODE;
use persistent_data::cache::BlockCache;
use persistent_data::cache::CacheSize;
use persistent_data::space_map::Root;
use persistent_data::space_map::BITMAP;
use persistent_data::space_map::INDEX;
use persistent_data::transaction::TransactionManager;
use persistent_data::Block;
use persistent_data::BlockKind;
use persistent_data::Result;
use persistent_data::Stamp;

/// Blocks of the device.
const BLOCKS: u64 = 32;

/// Bits of the bitset: two array blocks.
const BITS: u64 = 40_000;

/// Where a format puts things.
const INDEX_BLOCK: u64 = 1;
const OVERFLOW_BLOCK: u64 = 2;
const BITMAP_BLOCK: u64 = 3;
const ROOT_BLOCK: u64 = 4;
const ARRAY_BLOCK: u64 = 5;

const SIZE: CacheSize = CacheSize {
    frames: 32,
    io_pages: 8,
};

const STAMP: Stamp = Stamp {
    salt: 257_649_492,
    number_at: 8,
};

/// The superblock: the root of the space map at 44, that of the bitset at 188.
pub static SUPERBLOCK: BlockKind = BlockKind {
    name: "superblock",
    verify: |block, number| {
        STAMP.number(block, number)?;
        STAMP.checksum(block)
    },
    seal: |block, number| STAMP.seal(block, number),
};

type Tm = TransactionManager<MemDisk>;

fn bytes<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(block.iter().skip(at)) {
        *to = *from;
    }
    bytes
}

fn commit(tm: &mut Tm, bitset_root: u64) -> Result {
    now(tm.commit(&SUPERBLOCK, |block, root| {
        block[44..76].copy_from_slice(&root.encode());
        block[188..196].copy_from_slice(&bitset_root.to_le_bytes());
    }))
}

/// Returns metadata with two bits set.
pub fn sound() -> Vec<u8> {
    let disk = MemDisk::blank(BLOCKS);
    let written = (|| {
        let cache = BlockCache::new(disk.clone(), SIZE)?;
        let mut tm = now(TransactionManager::format(cache))?;
        let mut set = now(Bitset::create(&mut tm, BITS))?;
        now(set.set(&mut tm, 7, true))?;
        now(set.set(&mut tm, BITS - 1, true))?;
        commit(&mut tm, set.root())
    })();
    assert_eq!(written, Ok(()));
    disk.image()
}

/// Puts `data` into block `number` of `image`, and seals it.
fn plant(image: &mut [u8], number: u64, kind: &BlockKind, data: &[u8]) {
    let start = number as usize * 4096;
    let Some(target) = image.get_mut(start..start + 4096) else {
        return;
    };
    let mut block: Block = bytes(data, 0);
    (kind.seal)(&mut block, number);
    target.copy_from_slice(&block);
}

/// Opens `image` and does everything with it that a user does.
pub fn use_image(image: Vec<u8>) -> Result {
    let disk = MemDisk::new(image);
    let mut cache = BlockCache::new(disk, SIZE)?;
    let superblock = now(cache.read(0, &SUPERBLOCK))?;
    let root = Root::decode(&bytes(superblock, 44));
    let bitset = u64::from_le_bytes(bytes(superblock, 188));
    let limit = cache.blocks();
    let mut tm = now(TransactionManager::open(cache, root, limit))?;
    // Reading leaves nothing behind, so what fails does not stop the rest.
    let loaded = load(&mut tm, bitset);
    let walked = walk(&mut tm, bitset);
    let counted = (0..BLOCKS).try_for_each(|block| now(tm.count(block)).map(|_| ()));
    change(&mut tm, bitset)?;
    loaded.and(walked).and(counted)
}

fn load(tm: &mut Tm, root: u64) -> Result {
    let set = now(Bitset::open(tm, root, BITS))?;
    let mut ones = 0;
    now(set.load(tm, |_, word| ones += u64::from(word.count_ones())))?;
    assert!(ones <= BITS);
    // Values of another size: refused, whatever the blocks say.
    assert!(now(Array::<u32>::open(root, 1500).load(tm, |_, _| ())).is_err());
    Ok(())
}

fn walk(tm: &mut Tm, root: u64) -> Result {
    let mut last = None;
    let mut seen = 0;
    let mut cursor = Cursor::<BlockRef>::new(root);
    let walked = now(cursor.for_each(tm.cache(), |key, _| {
        assert!(last.is_none_or(|last| last < key));
        last = Some(key);
        seen += 1;
        Ok(())
    }));
    assert!(seen <= BLOCKS * 252);
    walked
}

fn change(tm: &mut Tm, root: u64) -> Result {
    let mut set = now(Bitset::open(tm, root, BITS))?;
    now(set.stage(tm, 1, |at| at))?;
    now(set.set(tm, 3, true))?;
    commit(tm, set.root())?;
    // Trees beside the bitset, from the same root.
    let mut root = set.root();
    for key in [0, 2, 5, 300, u64::MAX] {
        let block = now(tm.allocate())?;
        root = now(btree::insert(tm, root, key, &BlockRef(block)))?.root;
        root = now(btree::remove::<BlockRef, _>(tm, root, key / 2))?.root;
    }
    now(btree::delete::<BlockRef, _>(tm, root))?;
    commit(tm, 0)
}

/// The root of the bitset's tree is `data`.
pub fn node(data: &[u8]) -> Result {
    let mut image = sound();
    plant(&mut image, ROOT_BLOCK, &NODE, data);
    use_image(image)
}

/// Each 4096 bytes of `data` are a tree node: the root, then where its children may be.
pub fn tree(data: &[u8]) -> Result {
    let mut image = sound();
    let places = [ROOT_BLOCK].into_iter().chain(ARRAY_BLOCK..BLOCKS);
    for (number, data) in places.zip(data.chunks(4096)) {
        plant(&mut image, number, &NODE, data);
    }
    use_image(image)
}

/// The first array block is `data`.
pub fn array(data: &[u8]) -> Result {
    let mut image = sound();
    plant(&mut image, ARRAY_BLOCK, &ARRAY, data);
    use_image(image)
}

/// The index block is `data`.
pub fn index(data: &[u8]) -> Result {
    let mut image = sound();
    plant(&mut image, INDEX_BLOCK, &INDEX, data);
    use_image(image)
}

/// Puts `data` in the place of the bitmap, and makes the index agree with it.
fn plant_bitmap(image: &mut [u8], data: &[u8]) {
    plant(image, BITMAP_BLOCK, &BITMAP, data);
    let counts = bytes::<4080>(data, 16).into_iter();
    let free: u32 = counts
        .map(|byte| 4 - ((byte | (byte >> 1)) & 0x55).count_ones())
        .sum();
    let mut index: Block = bytes(image, INDEX_BLOCK as usize * 4096);
    index[24..28].copy_from_slice(&free.to_le_bytes());
    plant(image, INDEX_BLOCK, &INDEX, &index);
}

/// The bitmap is `data`, and the index agrees with it as far as it is tested.
pub fn bitmap(data: &[u8]) -> Result {
    let mut image = sound();
    plant_bitmap(&mut image, data);
    use_image(image)
}

/// The first half of `data` is the bitmap, the second the overflow tree.
pub fn overflow(data: &[u8]) -> Result {
    let (counts, tree) = data.split_at(data.len() / 2);
    let mut image = sound();
    plant(&mut image, OVERFLOW_BLOCK, &NODE, tree);
    plant_bitmap(&mut image, counts);
    use_image(image)
}

/// The superblock is `data`.
pub fn superblock(data: &[u8]) -> Result {
    let mut image = sound();
    plant(&mut image, 0, &SUPERBLOCK, data);
    use_image(image)
}

/// The whole device is `data`, with a good superblock seal; other seals are repaired where the
/// block was one of a known kind.
pub fn image(data: &[u8]) -> Result {
    let mut image = sound();
    let mut data = data.chunks(4096);
    for number in 0..BLOCKS {
        let Some(data) = data.next() else { break };
        let kind = match number {
            0 => &SUPERBLOCK,
            INDEX_BLOCK => &INDEX,
            OVERFLOW_BLOCK | ROOT_BLOCK => &NODE,
            BITMAP_BLOCK => &BITMAP,
            _ => &ARRAY,
        };
        plant(&mut image, number, kind, data);
    }
    use_image(image)
}
