// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::error;
use std::format;
use std::string::String;
use std::vec::Vec;

const P: &str = "/dev/ram0 2097152 4096 32768";
const V0: &str = "/dev/ram0 4096 disabled 0 32768 16380 on auto vdopool .";
const LENGTH: u64 = 2097152;

/// Parses a line; returns the lines of the log, too.
fn try_parse(length: u64, line: &str) -> (Result<Table<'_>, Refusal>, Vec<String>) {
    let mut lines = Vec::new();
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let result = parse(0, length, words.into_iter(), &mut |_, text| {
        lines.push(format!("{text}"));
    });
    (result, lines)
}

fn accepted(line: &str) -> (Table<'_>, Vec<String>) {
    let (result, lines) = try_parse(LENGTH, line);
    (result.expect(line), lines)
}

fn settings(line: &str) -> Settings {
    accepted(line).0.settings
}

/// Returns the text of the refusal and the lines of the log.
fn refused(line: &str) -> (String, Vec<String>) {
    let (result, lines) = try_parse(LENGTH, line);
    let refusal = result.expect_err(line);
    assert_eq!(refusal.error, EINVAL);
    (String::from(refusal.text.to_str().unwrap()), lines)
}

fn v4(options: &str) -> String {
    format!("V4 {P} 16380 {options}")
}

const CNT: &str = "Incorrect number of arguments for version";
const VER: &str = "Unknown version number detected";
const OPT: &str = "Invalid optional argument configuration";

#[test]
fn a1_to_a11_old_versions_work_and_say_so() {
    let cases = [
        (0, String::from(V0)),
        (
            1,
            format!(
                "V1 /dev/ram0 2097152 {}",
                V0.strip_prefix("/dev/ram0 ").unwrap()
            ),
        ),
        (
            2,
            format!("V2 {P} 16380 on auto vdopool maxDiscard 2 ack 1"),
        ),
        (3, format!("V3 {P} 16380 auto maxDiscard 2")),
    ];
    for (version, line) in &cases {
        let (table, lines) = accepted(line);
        assert_eq!(table.version, *version);
        assert_eq!(table.device, "/dev/ram0");
        let settings = table.settings;
        assert_eq!(settings.logical_blocks, 262144);
        let physical = if *version == 0 { 0 } else { 2097152 };
        assert_eq!(settings.physical_blocks, physical);
        assert_eq!(settings.logical_block_size, 4096);
        assert_eq!(settings.cache_blocks, 32768);
        assert_eq!(settings.maximum_age, 16380);
        assert_eq!(settings.threads, Threads::default());
        let discard = if *version < 2 { 1 } else { 2 };
        assert_eq!(settings.max_discard_blocks, discard);
        assert_eq!(
            lines,
            [
                format!(
                    "Detected version mismatch between kernel module and tools kernel: 4, tool: \
                     {version}"
                ),
                String::from("Please consider upgrading management tools to match kernel."),
            ]
        );
    }
}

#[test]
fn a2_to_a4_list_of_threads() {
    let line = |list: &str| V0.replace(" .", &format!(" {list}"));
    let threads = settings(&line("ack=1,bio=2,cpu=1,hash=1,logical=1,physical=1")).threads;
    assert_eq!((threads.bio, threads.total()), (2, 10));
    for (list, expected) in [
        (
            "ack=1,bio",
            "thread config string error: expected thread parameter assignment, saw \"bio\"",
        ),
        (
            "ack=1=2",
            "thread config string error: expected thread parameter assignment, saw \"ack=1=2\"",
        ),
        (
            "ack=x",
            "thread config string error: integer value needed, found \"x\"",
        ),
    ] {
        let (text, lines) = refused(&line(list));
        assert_eq!(text, "Invalid thread-count configuration");
        assert_eq!(lines.last().unwrap(), expected);
    }
}

#[test]
fn a5_to_a19_counts_and_versions() {
    let v1 = format!(
        "V1 /dev/ram0 2097152 {}",
        V0.strip_prefix("/dev/ram0 ").unwrap()
    );
    for (line, text) in [
        (V0.replace(" .", ""), CNT),
        (format!("V0 {V0}"), VER),
        (format!("{v1} extra"), CNT),
        (format!("V2 {P} 16380 on auto"), CNT),
        (format!("V3 {P} 16380"), CNT),
        (format!("v4 {P} 16380"), CNT),
        (format!("V {P} 16380"), CNT),
        (format!("V5 {P} 16380"), VER),
        (String::from("V4 /dev/ram0"), CNT),
        (String::from("V4"), CNT),
        (String::new(), "Incorrect number of arguments"),
    ] {
        assert_eq!(refused(&line).0, text, "{line}");
    }
    for version in ["V4", "V4x", "V04", "V4294967300"] {
        let line = format!("{version} {P} 16380");
        let (table, lines) = accepted(&line);
        assert_eq!(table.version, 4);
        assert!(lines.is_empty());
    }
}

#[test]
fn a21_to_a23_length() {
    let line = v4("");
    for (length, expected) in [
        (8796093022208, None),
        (8796093022216, Some(c"Logical size exceeds the maximum")),
        (2097156, Some(c"Logical size must be a multiple of 4096")),
    ] {
        let (result, _) = try_parse(length, &line);
        assert_eq!(result.err().map(|refusal| refusal.text), expected);
    }
}

#[test]
fn a24_to_a32_sizes() {
    let line = |physical: &str, size: &str, cache: &str| {
        format!("V4 /dev/ram0 {physical} {size} {cache} 16380")
    };
    let physical = "Invalid physical block count";
    let block_size = "Invalid logical block size";
    let cache = "Invalid block map page cache size";
    for (line, text) in [
        (line("-5", "4096", "32768"), physical),
        (line("0x200000", "4096", "32768"), physical),
        (line("xx", "4096", "32768"), physical),
        (line("2097152", "04096", "32768"), block_size),
        (line("2097152", "1024", "32768"), block_size),
        (line("2097152", "4096", "4294967296"), cache),
        (line("2097152", "4096", "abc"), cache),
    ] {
        assert_eq!(refused(&line).0, text, "{line}");
    }
    assert_eq!(
        settings(&line("+2097152", "4096", "1")).physical_blocks,
        2097152
    );
    assert_eq!(
        settings(&line("2097152", "512", "128")).logical_block_size,
        512
    );
    for count in [0, 1, 128] {
        let line = line("2097152", "4096", &format!("{count}"));
        assert_eq!(settings(&line).cache_blocks, count);
    }
    assert_eq!(
        refused(&format!("V4 {P} abc")).0,
        "Invalid block map maximum age"
    );
    assert_eq!(
        settings(&format!("V4 {P} 4294967295")).maximum_age,
        u32::MAX
    );
}

#[test]
fn a37_a45_unknown_keys() {
    for key in ["bogus", "MaxDiscard"] {
        let line = v4(&format!("{key} 7"));
        let (table, lines) = accepted(&line);
        assert_eq!(table.settings, settings(&v4("")));
        assert_eq!(lines, [format!("unknown thread parameter type \"{key}\"")]);
    }
}

#[test]
fn a38_to_a94_refused_options() {
    const INTEGER: &str = "optional config string error: integer value needed, found";
    const THREADS: &str = "thread config string error:";
    const OPTIONAL: &str = "optional parameter error:";
    for (options, expected) in [
        ("bogus seven", format!("{INTEGER} \"seven\"")),
        (
            "bogus 101",
            format!("{THREADS} at most 100 'bogus' threads are allowed"),
        ),
        (
            "ack 101",
            format!("{THREADS} at most 100 'ack' threads are allowed"),
        ),
        ("ack x", format!("{INTEGER} \"x\"")),
        (
            "cpu 0",
            format!("{THREADS} at least one 'cpu' thread required"),
        ),
        (
            "bio 0",
            format!("{THREADS} at least one 'bio' thread required"),
        ),
        (
            "bioRotationInterval 0",
            format!("{THREADS}  'bioRotationInterval' of at least 1 is required"),
        ),
        (
            "bioRotationInterval 1025",
            format!("{THREADS} 'bioRotationInterval' cannot be higher than 1024"),
        ),
        (
            "hash 1 physical 1 logical 61",
            format!("{THREADS} at most 60 'logical' threads are allowed"),
        ),
        (
            "hash 1 logical 1 physical 17",
            format!("{THREADS} at most 16 'physical' threads are allowed"),
        ),
        (
            "logical 1 physical 1 hash 101",
            format!("{THREADS} at most 100 'hash' threads are allowed"),
        ),
        (
            "maxDiscard 0",
            format!("{OPTIONAL} at least one max discard block required"),
        ),
        (
            "maxDiscard 1048576",
            format!("{OPTIONAL} at most 1048575 max discard blocks are allowed"),
        ),
        (
            "indexMemory 1025",
            format!("{OPTIONAL} invalid memory size, must not be greater than 1024"),
        ),
        (
            "indexMemory 0.3",
            format!("{OPTIONAL} invalid memory size, must be a positive integer"),
        ),
        (
            "slabSize x",
            format!("{OPTIONAL} invalid slab size, must be a postive integer"),
        ),
    ] {
        let (text, lines) = refused(&v4(options));
        assert_eq!(text, OPT, "{options}");
        assert_eq!(lines, [expected]);
    }
    for size in ["4096", "12288", "16777216"] {
        let (text, lines) = refused(&v4(&format!("slabSize {size}")));
        assert_eq!(text, OPT);
        let expected = "optional parameter error: invalid slab size, must be a power of two \
                        between 8192 and 8388608";
        assert_eq!(lines, [expected]);
    }
    for options in ["deduplication yes", "compression ON", "indexSparse maybe"] {
        let (text, lines) = refused(&v4(options));
        assert_eq!((text.as_str(), lines.len()), (OPT, 0), "{options}");
    }
    assert_eq!(
        refused(&v4("foo")).0,
        "Odd number of optional arguments given but they should be <key> <value> pairs"
    );
}

#[test]
fn a40_to_a48_accepted_options() {
    for (options, total) in [
        ("", 8),
        ("ack 0", 7),
        ("ack 100", 8),
        ("hash 1 logical 8 physical 1", 19),
    ] {
        assert_eq!(settings(&v4(options)).threads.total(), total, "{options}");
    }
    let line = "V4 /dev/ram0 2097152 4096 36864 16380 hash 1 logical 9 physical 1";
    assert_eq!(settings(line).threads.total(), 20);
    assert_eq!(
        settings(&v4("maxDiscard 1048575")).max_discard_blocks,
        1048575
    );
    assert_eq!(
        settings(&v4("maxDiscard 2 maxDiscard 3")).max_discard_blocks,
        3
    );
    let both = settings(&v4("deduplication off compression on"));
    assert!(!both.deduplication && both.compression);
    let format = settings(&v4("slabSize 8192 indexMemory 5 indexSparse on"));
    assert_eq!(format.slab_blocks, 8192);
    assert_eq!(format.index_memory, IndexMemory(5));
    assert!(format.index_sparse);
    for (word, memory) in [
        ("0", IndexMemory(0)),
        ("0.25", IndexMemory::QUARTER),
        ("0.5", IndexMemory::HALF),
        ("0.50", IndexMemory::HALF),
        ("0.75", IndexMemory::THREE_QUARTERS),
        ("1024", IndexMemory(1024)),
    ] {
        assert_eq!(
            settings(&v4(&format!("indexMemory {word}"))).index_memory,
            memory
        );
    }
}

#[test]
fn a70_a71_zones() {
    assert_eq!(
        refused(&v4("hash 1")).0,
        "Logical, physical, and hash zones counts must all be zero or all non-zero"
    );
    assert_eq!(
        refused(&v4("hash 1 logical 9 physical 1")).0,
        "Insufficient block map cache for logical zones"
    );
}

#[test]
fn defaults() {
    let line = v4("");
    let settings = settings(&line);
    assert_eq!(settings.max_discard_blocks, 1);
    assert!(settings.deduplication && !settings.compression && !settings.index_sparse);
    assert_eq!(settings.index_memory, IndexMemory::QUARTER);
    assert_eq!(settings.slab_blocks, 524288);
    assert_eq!(accepted(&line).0.device, "/dev/ram0");
}

/// Applies `change` to a volume's settings and returns the outcome of that reload.
fn reload(change: impl FnOnce(&mut Settings)) -> Result<Changes, Refusal> {
    let old = settings(&v4(""));
    let mut new = old;
    change(&mut new);
    old.changes_to(&new)
}

#[test]
fn f6_what_may_not_change() {
    type Change = fn(&mut Settings);
    let cases: [(Change, &CStr); 13] = [
        (|new| new.start = 8, c"Starting sector cannot change"),
        (
            |new| new.logical_block_size = 512,
            c"Logical block size cannot change",
        ),
        (
            |new| new.logical_blocks -= 1,
            c"Can't shrink VDO logical size",
        ),
        (
            |new| new.cache_blocks = 40000,
            c"Block map cache size cannot change",
        ),
        (
            |new| new.maximum_age = 100,
            c"Block map maximum age cannot change",
        ),
        (
            |new| new.threads.cpu = 2,
            c"Thread configuration cannot change",
        ),
        (
            |new| new.threads.ack = 2,
            c"Thread configuration cannot change",
        ),
        (
            |new| new.threads.bio = 2,
            c"Thread configuration cannot change",
        ),
        (
            |new| new.threads.hash = 1,
            c"Thread configuration cannot change",
        ),
        (
            |new| new.threads.logical = 1,
            c"Thread configuration cannot change",
        ),
        (
            |new| new.threads.physical = 1,
            c"Thread configuration cannot change",
        ),
        (
            |new| new.threads.bio_rotation_interval = 32,
            c"Thread configuration cannot change",
        ),
        (
            |new| new.physical_blocks -= 1,
            c"Removing physical storage from a VDO is not supported",
        ),
    ];
    for (change, text) in cases {
        assert_eq!(
            reload(change),
            Err(Refusal {
                error: EINVAL,
                text
            })
        );
    }
}

#[test]
fn f1_f3_f7_f14_what_may_change() {
    assert_eq!(reload(|_| ()), Ok(Changes::default()));
    let free = reload(|new| {
        new.max_discard_blocks = 4;
        new.compression = true;
        new.deduplication = false;
        new.slab_blocks = 16384;
        new.index_memory = IndexMemory::HALF;
        new.index_sparse = true;
    });
    assert_eq!(free, Ok(Changes::default()));
    let grown = reload(|new| {
        new.logical_blocks = 524288;
        new.physical_blocks = 3000000;
    });
    let expected = Changes {
        logical_blocks: Some(524288),
        physical_blocks: Some(3000000),
    };
    assert_eq!(grown, Ok(expected));
}

#[test]
fn f4_f20_refused_growth() {
    let small = growth_refused(error::Status::IncrementTooSmall.into());
    assert_eq!(small.error, EIO);
    assert_eq!(small.text, c"Device vdo_prepare_to_grow_physical failed");
    let large = growth_refused(error::Status::TooManySlabs.into());
    assert_eq!(
        large.text,
        c"Device vdo_prepare_to_grow_physical failed (specified physical size too big based on \
          formatted slab size)"
    );
}
