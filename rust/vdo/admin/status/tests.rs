// SPDX-License-Identifier: GPL-2.0

use super::*;
use std::string::String;

#[test]
fn status_lines_as_mainline_writes_them() {
    let line = |status: Status<&str>| {
        let mut line = String::new();
        status.write(&mut line).unwrap();
        line
    };
    let fresh = Status {
        device: "ram0",
        mode: Mode::Normal,
        index: IndexState::Opening,
        compression: false,
        used: 750898,
        total: 2097152,
    };
    assert_eq!(
        line(fresh),
        "/dev/ram0 normal - opening offline 750898 2097152"
    );
    let recovering = Status {
        device: "dm-0",
        mode: Mode::Recovering,
        index: IndexState::Online,
        compression: true,
        used: 895754,
        total: 1572864,
    };
    assert_eq!(
        line(recovering),
        "/dev/dm-0 recovering recovering online online 895754 1572864"
    );
    let read_only = Status {
        device: "dm-0",
        mode: Mode::ReadOnly,
        index: IndexState::Closed,
        compression: false,
        used: 750898,
        total: 2097152,
    };
    assert_eq!(
        line(read_only),
        "/dev/dm-0 read-only - closed offline 750898 2097152"
    );
}

#[test]
fn config_as_mainline_writes_it() {
    let config = Config {
        physical_blocks: 2097152,
        logical_blocks: 262144,
        slab_blocks: 8192,
        index_memory: IndexMemory::QUARTER,
        index_sparse: false,
    };
    let mut text = String::new();
    config.write(&mut text).unwrap();
    assert_eq!(
        text,
        "{ version : 1, physicalSize : 8589934592, logicalSize : 1073741824, slabSize : 8192, \
         index :  { memorySize : 0.25, isSparse : 0, }, }"
    );
    let other = Config {
        index_memory: IndexMemory(5),
        index_sparse: true,
        ..config
    };
    text.clear();
    other.write(&mut text).unwrap();
    assert!(text.ends_with("index :  { memorySize : 5, isSparse : 1, }, }"));
}
