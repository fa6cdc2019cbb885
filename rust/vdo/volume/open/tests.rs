// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::admin::table;
use crate::fixture::now;
use crate::fixture::sparse::SparseDisk;
use crate::fixture::world::arc;
use core::cell::RefCell;
use std::format;
use std::string::String;
use std::vec::Vec;

const IDENTITY: Identity = Identity {
    nonce: 0x1234_5678_9abc,
    uuid: [7; 16],
};

/// Blocks of 8 GiB.
const DEVICE: u64 = 2097152;

/// A device that is all zeroes.
fn blank() -> Arc<SparseDisk> {
    arc(SparseDisk::new(DEVICE))
}

/// The settings of `physical` blocks with `options`.
fn settings(physical: u64, options: &str) -> Settings {
    settings_of(262144, &format!("{physical} 4096 32768 16380 {options}"))
}

fn settings_of(logical: u64, rest: &str) -> Settings {
    let line = format!("V4 /dev/ram0 {rest}");
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let table = table::parse(0, logical * 8, words.into_iter(), &mut |_, _| ());
    table.expect("a table line").settings
}

/// Opens a volume; returns the lines of the log, too.
fn try_open(disk: &Arc<SparseDisk>, settings: &Settings) -> (Result<Opened, Failure>, Vec<String>) {
    let lines = RefCell::new(Vec::new());
    let log = |_: Level, text: Arguments<'_>| lines.borrow_mut().push(format!("{text}"));
    let result = now(open(disk, settings, Some(IDENTITY), log));
    (result, lines.into_inner())
}

/// Expects a failure; returns errno, text and the lines before the last, which tells of both.
fn refused(disk: &Arc<SparseDisk>, settings: &Settings) -> (Error, String, Vec<String>) {
    let (result, mut lines) = try_open(disk, settings);
    let failure = result.expect_err("a failure");
    let text = String::from(failure.text.to_str().unwrap());
    assert_eq!(
        lines.pop().unwrap(),
        format!(
            "Could not {} VDO device. (VDO error {}, message {text})",
            failure.step,
            failure.error.number()
        )
    );
    (failure.error, text, lines)
}

const LOAD: &str = "Cannot load metadata from device";

#[test]
fn a_blank_device_becomes_a_volume() {
    let disk = blank();
    let settings = settings(DEVICE, "slabSize 8192");
    let (opened, lines) = try_open(&disk, &settings);
    let opened = opened.expect("a volume");
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(opened.geometry.data_start, 679128);
    assert_eq!(opened.geometry.nonce, IDENTITY.nonce);
    assert_eq!(opened.super_block.depot.slab_count, 169);
    assert_eq!(opened.super_block.depot.first_block, 679189);
    assert_eq!(opened.super_block.partitions.journal.start, 2064320);
    assert_eq!(opened.maximum_age, 11738);
    // In this order: index, roots, journal, super block, geometry block; nothing else.
    let mut written = disk.writes();
    let (first, last) = (written.remove(0), written.pop().unwrap());
    assert_eq!((first, last), (1..2, 0..1));
    assert_eq!(written.remove(0), 679129..679189);
    assert_eq!(written.pop().unwrap(), 679128..679129);
    let journal: u64 = written.iter().map(|blocks| blocks.end - blocks.start).sum();
    assert_eq!((written[0].start, journal), (2064320, 32768));
    // Opened again it is the same.
    assert_eq!(try_open(&disk, &settings).0, Ok(opened));
}

#[test]
fn b1_b2_too_small_to_format() {
    let text = "Could not allocate enough space for VDO during format";
    for (physical, options, minimum, lines) in [
        (100000, "", 5063921664_u64, 2),
        (100000, "slabSize 8192", 2949992448, 2),
        (100000, "slabSize 8388608", 37276176384, 2),
        (10, "", 5063921664, 2),
        (100000, "slabSize 8192 indexMemory 0.5", 5765058560, 2),
        (100000, "slabSize 8192 indexMemory 1024", 12176004419584, 2),
        (100000, "slabSize 8192 indexSparse on", 24016228352, 2),
        (720211, "slabSize 8192", 2949992448, 2),
        (720212, "slabSize 8192", 2949992448, 1),
    ] {
        let disk = blank();
        let (error, found, log) = refused(&disk, &settings(physical, options));
        assert_eq!((error.errno(), found.as_str()), (ENOSPC, text), "{options}");
        let size = format!("Minimum required size for VDO volume: {minimum} bytes");
        assert_eq!(log.last(), Some(&size));
        assert_eq!(log.len(), lines, "{physical}");
        assert!(disk.writes().is_empty());
    }
    let disk = blank();
    let (opened, _) = try_open(&disk, &settings(720213, "slabSize 8192"));
    assert_eq!(opened.unwrap().super_block.depot.slab_count, 1);
}

#[test]
fn a84_b16_no_such_index_and_too_many_slabs() {
    let disk = blank();
    let (error, text, log) = refused(&disk, &settings(DEVICE, "indexMemory 0"));
    assert_eq!(error.number(), -22);
    assert_eq!(text, "Could not initialize volume geometry during format");
    assert_eq!(
        log,
        [
            "received invalid memory size",
            "cannot compute index size: Invalid argument (-22)",
            "error computing index size: Invalid argument (-22)",
        ]
    );
    let (error, text, _) = refused(&disk, &settings(68693600, "slabSize 8192"));
    assert_eq!(error.number(), 1482);
    assert_eq!(text, "Could not initialize data layout during format");
    assert!(disk.writes().is_empty());
}

#[test]
fn b11_a_device_that_is_too_small_stays_as_it_was() {
    let disk = blank();
    let (error, text, _) = refused(&disk, &settings(2359296, "slabSize 8192"));
    assert_eq!((error.number(), text.as_str()), (-5, LOAD));
    assert!(disk.writes().is_empty());
}

#[test]
fn a88_to_a93_settings_that_do_not_fit_the_volume() {
    let disk = blank();
    let line = |era: u32, more: &str| {
        settings_of(
            262144,
            &format!("{DEVICE} 4096 32768 {era} slabSize 524288 {more}"),
        )
    };
    // It is formatted all the same.
    let (error, text, log) = refused(&disk, &line(0, ""));
    assert_eq!((error.errno(), text.as_str()), (EINVAL, LOAD));
    assert_eq!(
        log,
        ["maximum age must be greater than 0: VDO Status: Bad configuration option (1468)"]
    );
    assert!(try_open(&disk, &line(22855, "")).0.is_ok());
    for (era, age) in [(22856, 16379_u64), (u32::MAX, 3077730021)] {
        let (error, _, log) = refused(&disk, &line(era, ""));
        assert_eq!(error.number(), 1468);
        let expected = format!(
            "maximum age: {age} exceeds limit 16378: VDO Status: Bad configuration option (1468)"
        );
        assert_eq!(log, [expected]);
    }
    let (error, _, log) = refused(&disk, &line(16380, "hash 1 logical 1 physical 4"));
    assert_eq!(error.number(), 1468);
    assert_eq!(
        log,
        ["4 physical zones exceeds slab count 2: VDO Status: Bad configuration option (1468)"]
    );
    let (error, _, _) = refused(
        &disk,
        &settings_of(262144, &format!("{DEVICE} 4096 0 16380")),
    );
    assert_eq!(error.errno(), EINVAL);

    let (opened, log) = try_open(&disk, &settings_of(262145, &format!("{DEVICE} 4096 9 9")));
    assert!(opened.is_ok());
    assert_eq!(
        log,
        ["Growing logical size: a logical size of 262145 blocks was specified, but that differs \
          from the 262144 blocks configured in the vdo super block"]
    );
    let (error, _, log) = refused(&disk, &settings_of(262143, &format!("{DEVICE} 4096 9 9")));
    assert_eq!(error.number(), 1473);
    assert_eq!(
        log,
        ["A logical size of 262143 blocks was specified, but that differs from the 262144 blocks \
          configured in the vdo super block"]
    );
    for physical in [DEVICE - 1, DEVICE + 1] {
        let (error, _, log) = refused(&disk, &settings(physical, ""));
        assert_eq!(error.number(), 1473);
        let expected = format!(
            "A physical size of {physical} blocks was specified, not the {DEVICE} blocks \
             configured in the vdo super block"
        );
        assert_eq!(log, [expected]);
    }
}

#[test]
fn b5_to_b10_damage() {
    let volume = || {
        let disk = blank();
        let settings = settings(DEVICE, "slabSize 8192");
        assert!(try_open(&disk, &settings).0.is_ok());
        (disk, settings)
    };
    let parse = "Could not parse geometry block";

    let disk = blank();
    disk.change(0, |page| page[4095] = 1);
    let (error, text, _) = refused(&disk, &settings(DEVICE, ""));
    assert_eq!((error.number(), text.as_str()), (1487, parse));
    assert!(disk.writes().is_empty());

    let (disk, settings) = volume();
    disk.change(0, |page| page[40] ^= 1);
    let (error, text, _) = refused(&disk, &settings);
    assert_eq!((error.number(), text.as_str()), (1477, parse));

    let (disk, settings) = volume();
    disk.change(679128, |page| page[100] ^= 1);
    let (error, text, _) = refused(&disk, &settings);
    assert_eq!((error.number(), text.as_str()), (1477, LOAD));

    let (disk, settings) = volume();
    disk.change(679128, |page| page.fill(0));
    let (error, text, log) = refused(&disk, &settings);
    assert_eq!((error.number(), text.as_str()), (1471, LOAD));
    assert_eq!(
        log,
        [
            "vdo_decode_super_block version mismatch, expected 12.0, got 0.0: VDO Status: \
          Unsupported component version (1471)"
        ]
    );
}

#[test]
fn a_device_that_cannot_be_read() {
    let disk = blank();
    disk.set_bad(0, true);
    let (error, text, _) = refused(&disk, &settings(DEVICE, ""));
    assert_eq!(error.number(), -5);
    assert_eq!(text, "Could not load geometry block");
}

#[test]
fn without_an_identity_nothing_is_formatted() {
    let disk = blank();
    let settings = settings(DEVICE, "");
    let result = now(open(&disk, &settings, None, |_, _| ()));
    assert_eq!(result.map_err(|failure| failure.error.errno()), Err(EROFS));
    assert!(disk.writes().is_empty());
}
