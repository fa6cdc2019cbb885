// SPDX-License-Identifier: GPL-2.0

use super::*;
use std::format;
use std::string::String;
use std::vec::Vec;

#[test]
fn parts() {
    let parse = |words: &[&'static str]| parse(words.iter().copied(), &mut |_, _| ());
    assert_eq!(parse(&[]), Ok(Parts::DEFAULT));
    assert_eq!(parse(&["all"]), Ok(Parts::ALL));
    assert_eq!(parse(&["DEFAULT"]), Ok(Parts::DEFAULT));
    assert_eq!(parse(&["queuesxyz", "vdo"]), Ok(Parts::DEFAULT));
    assert_eq!(parse(&["threads", "pools", "vdo"]), Ok(Parts::ALL));
    assert_eq!(parse(&["queue"]), Err(EINVAL));
    assert_eq!(parse(&["all", "x"]), Err(EINVAL));
}

#[test]
fn frame() {
    let frame = Frame {
        reason: "dmsetup message",
        device: &"254:0",
        requests: Gauge { now: 1, most: 9 },
        bios: 2,
        blocks: Gauge { now: 3, most: 8 },
        discards: Gauge { now: 4, most: 7 },
        waiting: true,
        index: IndexState::Online,
        hash_zones: 2,
        compression: true,
        acceleration: 4,
        memory: Gauge { now: 5, most: 6 },
    };
    let mut lines: Vec<String> = Vec::new();
    frame.write(&mut |_, text| lines.push(format!("{text}")), |log| {
        log(Level::Info, format_args!("body"));
    });
    assert_eq!(
        lines,
        [
            "device-mapper: vdo dump triggered via dmsetup message",
            "1 device requests outstanding (max 9), 2 bio requests outstanding, device '254:0'",
            "body",
            "UDS index: state: online",
            "struct hash_zone 0: mapSize=0",
            "struct hash_zone 1: mapSize=0",
            "compression: on, acceleration 4",
            "data_vios: 3 of 2048 busy (max 8), has waiters",
            "discard permits: 4 of 1536 busy (max 7), no waiters",
            "memory: 5 bytes now, 6 at most",
            "end of device-mapper: vdo dump",
        ]
    );
}
