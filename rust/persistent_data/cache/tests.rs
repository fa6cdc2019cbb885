// SPDX-License-Identifier: GPL-2.0

//! The cache against a plain copy of the device.

use super::*;
use crate::block::Stamp;
use crate::fixture::now;
use pd_testing::disk::MemDisk;
use pd_testing::disk::Op;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const STAMP: Stamp = Stamp {
    salt: 1,
    number_at: 8,
};
static KIND: BlockKind = BlockKind {
    name: "test",
    verify: |block, number| {
        STAMP.number(block, number)?;
        STAMP.checksum(block)
    },
    seal: |block, number| STAMP.seal(block, number),
};
static OTHER: BlockKind = BlockKind {
    name: "other",
    verify: |_, _| Ok(()),
    seal: |_, _| (),
};

const SIZE: CacheSize = CacheSize {
    frames: MIN_FRAMES,
    io_pages: 4,
};
const BLOCKS: u64 = 80;

/// Where the tests keep a value in a block: outside of what the seal changes.
fn value(block: &Block) -> u64 {
    u64::from_le_bytes(block[100..108].try_into().unwrap())
}

fn set(block: &mut Block, value: u64) {
    block[100..108].copy_from_slice(&value.to_le_bytes());
}

/// Returns a disk of sealed blocks, block `n` with value `n`.
fn disk() -> Arc<MemDisk> {
    let mut image = vec![0; BLOCKS as usize * 4096];
    for (number, block) in (0..).zip(image.chunks_exact_mut(4096)) {
        let block = block.first_chunk_mut().unwrap();
        set(block, number);
        STAMP.seal(block, number);
    }
    MemDisk::new(image)
}

fn cache(disk: &Arc<MemDisk>) -> BlockCache<MemDisk> {
    BlockCache::new(disk.clone(), SIZE).unwrap()
}

#[test]
fn a_block_is_read_and_validated_once() {
    let disk = disk();
    let mut cache = cache(&disk);
    for _ in 0..3 {
        assert_eq!(now(cache.read(7, &KIND)).map(value), Ok(7));
    }
    assert_eq!(disk.take_reads(), (1, 8));
}

#[test]
fn a_damaged_block_is_refused_every_time() {
    let disk = disk();
    disk.change(|image| image[7 * 4096 + 50] ^= 1);
    let mut cache = cache(&disk);
    for _ in 0..2 {
        let error = now(cache.read(7, &KIND)).unwrap_err();
        assert_eq!(error.errno().to_errno(), -84);
        assert_eq!(
            std::format!("{error}"),
            "test validator check failed for block 7"
        );
    }
    // To write it anew needs no reading.
    set(now(cache.zeroed(7, &KIND)).unwrap(), 70);
    now(cache.flush()).unwrap();
    cache.forget_all();
    assert_eq!(now(cache.read(7, &KIND)).map(value), Ok(70));
}

#[test]
fn a_block_has_one_kind() {
    let mut cache = cache(&disk());
    now(cache.read(7, &KIND)).unwrap();
    let error = now(cache.read(7, &OTHER)).unwrap_err();
    assert_eq!(error.errno().to_errno(), -22);
    cache.forget(7);
    assert!(now(cache.read(7, &OTHER)).is_ok());
}

#[test]
fn what_is_outside_the_device_is_an_io_error() {
    let mut cache = cache(&disk());
    for block in [BLOCKS, u64::MAX / 8, u64::MAX] {
        assert_eq!(
            now(cache.read(block, &KIND)),
            Err(Error::Io { block, error: EIO })
        );
        assert!(now(cache.zeroed(block, &KIND)).is_err());
        assert!(now(cache.is_zeroed(block)).is_err());
    }
}

#[test]
fn neighbours_are_written_together_and_in_order() {
    let disk = disk();
    let mut cache = cache(&disk);
    for block in [31, 9, 30, 11, 10, 8, 12, 13] {
        set(now(cache.modify(block, &KIND)).unwrap(), 1000);
    }
    now(cache.flush()).unwrap();
    let write = |op: Op| match op {
        Op::Write { sector, data } => Some((sector / 8, data.len() / 4096)),
        Op::Flush => None,
    };
    let log: Vec<_> = disk.take_log().into_iter().map(write).collect();
    assert_eq!(log, [Some((8, 4)), Some((12, 2)), Some((30, 2)), None]);
    now(cache.flush()).unwrap();
    assert_eq!(disk.take_log(), [Op::Flush]);
}

#[test]
fn a_failed_write_is_repeated() {
    let disk = disk();
    let mut cache = cache(&disk);
    set(now(cache.modify(5, &KIND)).unwrap(), 50);
    disk.fail_after(0, false);
    assert!(now(cache.flush()).is_err());
    now(cache.flush()).unwrap();
    cache.forget_all();
    assert_eq!(now(cache.read(5, &KIND)).map(value), Ok(50));
}

#[test]
fn the_recent_stay() {
    let disk = disk();
    let mut cache = cache(&disk);
    for block in 0..BLOCKS {
        now(cache.read(block, &KIND)).unwrap();
        disk.take_reads();
        for recent in block.saturating_sub(RECENT as u64 - 1)..=block {
            now(cache.read(recent, &KIND)).unwrap();
        }
        assert_eq!(disk.take_reads(), (0, 0));
    }
}

#[test]
fn bulk_reads_take_what_is_in_memory_from_there() {
    let disk = disk();
    let mut cache = cache(&disk);
    set(now(cache.modify(20, &KIND)).unwrap(), 2000);
    cache.want_nothing();
    // A run with gaps, a block in memory, one far away; in no order.
    for block in [21, 18, 79, 20, 19, 30, 24] {
        cache.want(block, block + 100).unwrap();
    }
    let mut found = vec![];
    disk.take_reads();
    now(cache.read_wanted(&KIND, |tag, number, block| {
        found.push((tag, number, value(block)));
        Ok(())
    }))
    .unwrap();
    found.sort_unstable();
    let expected = [
        (18, 18),
        (19, 19),
        (20, 2000),
        (21, 21),
        (24, 24),
        (30, 30),
        (79, 79),
    ];
    let expected: Vec<_> = expected
        .map(|(block, value)| (block + 100, block, value))
        .into();
    assert_eq!(found, expected);
    assert_eq!(disk.take_reads(), (4, 16 + 32 + 8 + 8));
    disk.change(|image| image[24 * 4096 + 50] ^= 1);
    assert_eq!(
        now(cache.read_wanted(&KIND, |_, _, _| Ok(())))
            .unwrap_err()
            .errno()
            .to_errno(),
        -84
    );
}

#[test]
fn too_small_a_cache_is_refused() {
    for size in [
        CacheSize {
            frames: 31,
            io_pages: 4,
        },
        CacheSize {
            frames: 32,
            io_pages: 0,
        },
    ] {
        assert!(BlockCache::new(disk(), size).is_err());
    }
}

#[derive(Clone, Debug)]
enum Action {
    Read(u64),
    Modify(u64, u64),
    Zeroed(u64, u64),
    Copy(u64, u64),
    WriteNow(u64, u64),
    Flush,
    ForgetAll,
}

proptest! {
    #[test]
    fn behaves_like_a_list_of_values(actions in prop::collection::vec(prop_oneof![
        8 => (0..BLOCKS).prop_map(Action::Read),
        8 => (0..BLOCKS, any::<u64>()).prop_map(|(block, value)| Action::Modify(block, value)),
        3 => (0..BLOCKS, any::<u64>()).prop_map(|(block, value)| Action::Zeroed(block, value)),
        3 => (0..BLOCKS, 0..BLOCKS).prop_map(|(from, to)| Action::Copy(from, to)),
        1 => (0..BLOCKS, any::<u64>()).prop_map(|(block, value)| Action::WriteNow(block, value)),
        1 => Just(Action::Flush),
        1 => Just(Action::ForgetAll),
    ], 1..300)) {
        let disk = disk();
        let mut cache = cache(&disk);
        let mut model: Vec<u64> = (0..BLOCKS).collect();
        for action in actions {
            match action {
                Action::Read(block) => {
                    let found = now(cache.read(block, &KIND)).map(value);
                    prop_assert_eq!(found, Ok(model[block as usize]));
                }
                Action::Modify(block, value) => {
                    set(now(cache.modify(block, &KIND)).unwrap(), value);
                    model[block as usize] = value;
                }
                Action::Zeroed(block, value) => {
                    let page = now(cache.zeroed(block, &KIND)).unwrap();
                    prop_assert!(page.iter().all(|&byte| byte == 0));
                    set(page, value);
                    model[block as usize] = value;
                }
                Action::Copy(from, to) if from != to => {
                    now(cache.copy(from, to, &KIND)).unwrap();
                    model[to as usize] = model[from as usize];
                }
                Action::WriteNow(block, value) => {
                    now(cache.write_now(block, &KIND, |block| set(block, value))).unwrap();
                    model[block as usize] = value;
                    prop_assert_eq!(disk.take_log().pop(), Some(Op::Flush));
                }
                Action::Flush | Action::ForgetAll => {
                    now(cache.flush()).unwrap();
                    let image = disk.image();
                    for (number, block) in (0..).zip(image.chunks_exact(4096)) {
                        let block = block.first_chunk().unwrap();
                        prop_assert_eq!((KIND.verify)(block, number), Ok(()));
                        prop_assert_eq!(value(block), model[number as usize]);
                    }
                    if matches!(action, Action::ForgetAll) {
                        cache.forget_all();
                    }
                }
                Action::Copy(..) => {}
            }
        }
    }
}
