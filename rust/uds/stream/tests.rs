// SPDX-License-Identifier: GPL-2.0

use super::*;
use sim::fault::Fault as DiskFault;
use sim::fault::Kind;
use sim::Executor;
use sim::SimDisk;
use sim::World;
use std::vec;
use std::vec::Vec;

/// Runs something with a disk of 64 blocks.
fn with_disk<T>(image: Vec<u8>, run: impl AsyncFnOnce(SimDisk) -> T) -> (T, Vec<u8>) {
    let world = World::new(0);
    let disk = world.add_disk("disk", image);
    let result = {
        let mut executor = Executor::new(&world);
        let task = executor.spawn("task", run(disk));
        executor.run_task(&task).unwrap()
    };
    (result, world.images().remove(0))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 * 11) as u8 | 1).collect()
}

#[test]
fn what_is_put_is_taken() {
    for len in [1, 4095, 4096, 4097, 8 * 4096, 20 * 4096 - 3] {
        let expected = pattern(len);
        let ((), image) = with_disk(vec![0xff; 64 * 4096], async |disk| {
            let mut sink = Sink::new(&disk, 3, 20, disk.buffer(8).unwrap());
            for bytes in expected.chunks(1000) {
                sink.put(bytes).await.unwrap();
            }
            sink.finish().await.unwrap();
            let buffer = sink.into_buffer().unwrap();
            let mut source = Source::new(&disk, 3, 20, buffer);
            let mut out = vec![0; len];
            for bytes in out.chunks_mut(777) {
                source.take(bytes).await.unwrap();
            }
            assert!(out == expected);
        });
        let (start, end) = (3 * 4096, (3 * 4096 + len).next_multiple_of(4096));
        assert!(image[..start].iter().all(|&byte| byte == 0xff));
        assert!(image[start + len..end].iter().all(|&byte| byte == 0));
        assert!(image[end..].iter().all(|&byte| byte == 0xff));
    }
}

#[test]
fn regions_end() {
    let ((), image) = with_disk(vec![0; 64 * 4096], async |disk| {
        let mut sink = Sink::new(&disk, 3, 4, disk.buffer(8).unwrap());
        let put = sink.put(&pattern(4 * 4096 + 1)).await;
        assert!(put.is_err() || sink.finish().await.is_err());
        let mut source = Source::new(&disk, 3, 4, disk.buffer(8).unwrap());
        assert!(source.take(&mut vec![0; 4 * 4096 + 1]).await.is_err());
        assert!(source.into_buffer().is_some());
        let mut source = Source::new(&disk, u64::MAX / 4, 4, disk.buffer(8).unwrap());
        assert!(source.take(&mut [0]).await.is_err());
    });
    assert!(image[7 * 4096..].iter().all(|&byte| byte == 0));
}

#[test]
fn failures_are_told() {
    with_disk(vec![0; 64 * 4096], async |disk| {
        disk.world()
            .add_fault(DiskFault::new(0, &[Kind::Read, Kind::Write]));
        let mut sink = Sink::new(&disk, 3, 20, disk.buffer(8).unwrap());
        sink.put(&pattern(4096)).await.unwrap();
        assert_eq!(sink.finish().await, Err(Error::Errno(EIO)));
        assert!(sink.into_buffer().is_some());
        let mut source = Source::new(&disk, 3, 20, disk.buffer(8).unwrap());
        assert_eq!(source.take(&mut [0]).await, Err(Error::Errno(EIO)));
    });
}
