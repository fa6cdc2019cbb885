// SPDX-License-Identifier: GPL-2.0

use super::*;
use std::format;
use std::string::String;
use std::vec::Vec;

/// Parses a message; returns the lines of the log, too.
fn try_parse(message: &str) -> (Result<Message>, Vec<String>) {
    let words: Vec<&str> = message.split(' ').filter(|word| !word.is_empty()).collect();
    let mut lines = Vec::new();
    let result = parse(words.into_iter(), &mut |_, text| {
        lines.push(format!("{text}"));
    });
    (result, lines)
}

fn accepted(message: &str) -> Message {
    let (result, lines) = try_parse(message);
    assert!(lines.is_empty(), "{message}: {lines:?}");
    result.expect(message)
}

fn refused(message: &str) -> Vec<String> {
    let (result, lines) = try_parse(message);
    assert_eq!(result, Err(EINVAL), "{message}");
    lines
}

#[test]
fn c1_compression() {
    assert_eq!(accepted("compression on"), Message::Compression(true));
    assert_eq!(accepted("COMPRESSION OFF"), Message::Compression(false));
    assert_eq!(
        refused("compression maybe"),
        ["invalid argument 'maybe' to dmsetup compression message"]
    );
    for message in ["compression", "compression on off"] {
        assert_eq!(
            refused(message),
            ["unrecognized dmsetup message 'compression' received"]
        );
    }
}

#[test]
fn acceleration() {
    for (word, number) in [("1", 1), ("4", 4), ("4096", 4096)] {
        let message = format!("compression-acceleration {word}");
        assert_eq!(accepted(&message), Message::Acceleration(number));
    }
    for word in ["0", "4097", "4294967297", "-1", "on", "1x"] {
        assert_eq!(
            refused(&format!("compression-acceleration {word}")),
            [format!(
                "invalid argument '{word}' to dmsetup compression-acceleration message: not a number \
                 from 1 to 4096"
            )]
        );
    }
    for message in ["compression-acceleration", "compression-acceleration 1 2"] {
        assert_eq!(
            refused(message),
            ["unrecognized dmsetup message 'compression-acceleration' received"]
        );
    }
    // What mainline refuses is refused here.
    assert_eq!(
        refused("compression on 4"),
        ["unrecognized dmsetup message 'compression' received"]
    );
}

#[test]
fn c2_names_match_without_case_and_alone() {
    assert_eq!(accepted("STATS"), Message::Stats);
    assert_eq!(accepted("Config"), Message::Config);
    assert_eq!(accepted("dump-on-shutdown"), Message::DumpOnShutdown);
    for message in [
        "bogus",
        "bogus a b c",
        "stats x",
        "config x",
        "index-close x",
        "index-foo",
        "dump-on-shutdown x",
    ] {
        let first = message.split(' ').next().unwrap();
        assert_eq!(
            refused(message),
            [format!("unrecognized dmsetup message '{first}' received")]
        );
    }
}

#[test]
fn c3_index() {
    for (message, order) in [
        ("index-close", IndexOrder::Close),
        ("index-create", IndexOrder::Create),
        ("Index-Disable", IndexOrder::Disable),
        ("index-enable", IndexOrder::Enable),
    ] {
        assert_eq!(accepted(message), Message::Index(order));
    }
}

#[test]
fn c4_dump() {
    for message in [
        "dump",
        "dump all",
        "dump queues",
        "dump threads",
        "dump viopool",
        "dump pools",
        "dump vdo",
        "dump default",
        "dump QUEUESxyz",
        "DUMP vdo",
        "dump queues pools",
    ] {
        assert!(matches!(accepted(message), Message::Dump(_)), "{message}");
    }
    assert_eq!(
        refused("dump bogus queues other"),
        [
            "dump option name 'bogus' unknown",
            "dump option name 'other' unknown"
        ]
    );
}

#[test]
fn c13_no_word() {
    assert_eq!(refused(""), ["unspecified dmsetup message"]);
}
