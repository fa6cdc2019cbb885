// SPDX-License-Identifier: GPL-2.0

//! Metadata that mainline wrote, and what must come out of it.

use std::fs;
use std::path::PathBuf;

/// The clone images.
pub const CLONE_IMAGES: [&str; 10] = [
    "fresh-r8",
    "partial-r8-odd",
    "complete-r8",
    "discards-r16",
    "partial-r2048",
    "twolevel-r8",
    "twobitmaps-r8",
    "wrapped-r8",
    "torn-r8",
    "crash-r8",
];

fn path(name: &str) -> PathBuf {
    let folder = "../../testing/vectors/persistent-data";
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(name)
}

/// Returns a file, decompressed if its name ends in `.xz`.
///
/// # Panics
///
/// If the file cannot be read.
pub fn file(name: &str) -> Vec<u8> {
    let bytes = fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    if !name.ends_with(".xz") {
        return bytes;
    }
    let mut out = Vec::new();
    lzma_rs::xz_decompress(&mut bytes.as_slice(), &mut out)
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    out
}

/// Returns a text file.
///
/// # Panics
///
/// If the file cannot be read.
pub fn text(name: &str) -> String {
    String::from_utf8(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the image `name`.
pub fn image(name: &str) -> Vec<u8> {
    file(&format!("{name}.img.xz"))
}

/// What a clone image must decode to.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    /// Sectors of a region.
    pub region_size: u64,
    /// Sectors of the target.
    pub target_size: u64,
    /// Blocks in use.
    pub allocated: u64,
    /// Regions.
    pub regions: u64,
    /// Hydrated regions as (first, count).
    pub runs: Vec<(u64, u64)>,
    /// Every live block: number, kind, checksum.
    pub live: Vec<(u64, String, u32)>,
}

/// Returns what the clone image `name` must decode to.
///
/// # Panics
///
/// If the text file lacks something.
pub fn expected(name: &str) -> Expected {
    let text = text(&format!("{name}.txt"));
    let field = |key: &str| -> u64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name}: no {key}"))
    };
    let indented = || text.lines().filter_map(|line| line.strip_prefix("  "));
    let run = |line: &str| {
        let (first, count) = line.split_once('+')?;
        Some((first.parse().ok()?, count.parse().ok()?))
    };
    let live = |line: &str| {
        let mut words = line.split(' ');
        let (block, kind, checksum) = (words.next()?, words.next()?, words.next()?);
        let checksum = u32::from_str_radix(checksum.strip_prefix("0x")?, 16).ok()?;
        Some((block.parse().ok()?, kind.to_owned(), checksum))
    };
    Expected {
        region_size: field("region_size_sectors"),
        target_size: field("target_size_sectors"),
        allocated: field("allocated_blocks"),
        regions: field("nr_regions"),
        runs: indented().filter_map(run).collect(),
        live: indented().filter_map(live).collect(),
    }
}

/// Returns the keys that were inserted to make `thin-a`, and those removed to make `thin-b`.
///
/// # Panics
///
/// If the file is not what it should be.
pub fn thin_keys() -> (Vec<u64>, Vec<u64>) {
    let json: serde_json::Value = serde_json::from_slice(&file("thin-keys.json.xz"))
        .unwrap_or_else(|error| panic!("thin-keys: {error}"));
    let list = |name: &str| -> Vec<u64> {
        let list = json[name]
            .as_array()
            .unwrap_or_else(|| panic!("thin-keys: no {name}"));
        list.iter().filter_map(serde_json::Value::as_u64).collect()
    };
    (list("insert_keys"), list("remove_keys"))
}

/// Returns the (depth, entries) list of device 0 from the text of a thin image.
///
/// # Panics
///
/// If the text file lacks it.
pub fn thin_shape(name: &str) -> Vec<(usize, usize)> {
    let text = text(&format!("{name}.txt"));
    let line = text.lines().find_map(|line| line.strip_prefix("  0 [("));
    let line = line
        .unwrap_or_else(|| panic!("{name}: no shape"))
        .trim_end_matches(")]");
    let pair = |pair: &str| {
        let (depth, entries) = pair.split_once(", ")?;
        Some((depth.parse().ok()?, entries.parse().ok()?))
    };
    line.split("), (").filter_map(pair).collect()
}
