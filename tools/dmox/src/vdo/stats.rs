// SPDX-License-Identifier: GPL-2.0

//! `dmox vdo stats`.
//!
//! The device is asked through `dmsetup`, which every system with such a device has. (The crate for
//! the ioctls needs libclang wherever it is built.)

use super::size;
use crate::failure::Failure;
use crate::failure::Result;
use crate::output;
use serde_json::json;
use serde_json::Map;
use serde_json::Value;
use std::process::Command;
use std::process::ExitCode;

/// Asks running devices; without a name, all of them.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Names of devices, as in /dev/mapper
    devices: Vec<String>,
    /// Show every counter
    #[arg(long)]
    all: bool,
    /// Print one JSON object, with every counter
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let devices = if self.devices.is_empty() {
            running()?
        } else {
            self.devices
        };
        let mut answers = Map::new();
        for device in devices {
            let name = device.strip_prefix("/dev/mapper/").unwrap_or(&device);
            let answer = dmsetup(&["message", name, "0", "stats"])?;
            let stats = parse(&answer)
                .ok_or_else(|| Failure::new(format!("{name}: not a running vdo device")))?;
            answers.insert(name.into(), stats);
        }
        if self.json || self.all {
            output::print(&Value::Object(answers), self.json)?;
        } else {
            print_table(&answers);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the names of all vdo devices.
fn running() -> Result<Vec<String>> {
    let table = dmsetup(&["table", "--target", "vdo"])?;
    let names = table.lines().filter_map(|line| line.split_once(": "));
    Ok(names.map(|(name, _)| name.to_owned()).collect())
}

fn dmsetup(arguments: &[&str]) -> Result<String> {
    let output = Command::new("dmsetup").args(arguments).output();
    let output = output.map_err(|error| Failure::new(format!("dmsetup: {error}")))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("dmsetup: {}", words.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Parses `{ name : value, name : { ... }, }`.
fn parse(text: &str) -> Option<Value> {
    let mut words = text.split_whitespace();
    if words.next()? != "{" {
        return None;
    }
    // Groups that are open, each with its name.
    let mut open: Vec<(String, Map<String, Value>)> = vec![(String::new(), Map::new())];
    loop {
        let word = words.next()?;
        if matches!(word, "}" | "},") {
            let (name, fields) = open.pop()?;
            match open.last_mut() {
                Some((_, outer)) => outer.insert(name, Value::Object(fields)),
                None => return Some(Value::Object(fields)),
            };
            continue;
        }
        if words.next()? != ":" {
            return None;
        }
        match words.next()? {
            "{" => open.push((word.into(), Map::new())),
            value => {
                let value = value.trim_end_matches(',');
                let value = match value.parse::<u64>() {
                    Ok(number) => json!(number),
                    Err(_) => json!(value),
                };
                open.last_mut()?.1.insert(word.into(), value);
            }
        }
    }
}

/// What most people want to know, a line per device.
fn print_table(answers: &Map<String, Value>) {
    println!(
        "{:<24} {:>10} {:>10} {:>10} {:>5} {:>7} {:>10} {:>10}  mode",
        "device", "size", "used", "free", "use", "saving", "shared", "packed"
    );
    for (name, stats) in answers {
        let line = Line::new(stats);
        let bytes = |blocks: u64| size::text(blocks.saturating_mul(number(stats, "blockSize")));
        println!(
            "{name:<24} {:>10} {:>10} {:>10} {:>4}% {:>6}% {:>10} {:>10}  {}",
            bytes(line.size),
            bytes(line.used),
            bytes(line.size - line.used),
            line.used_percent(),
            line.saving_percent,
            bytes(line.shared),
            bytes(line.packed),
            stats["mode"].as_str().unwrap_or("-"),
        );
    }
}

fn number(group: &Value, field: &str) -> u64 {
    group[field].as_u64().unwrap_or(0)
}

/// A line of the table, in blocks.
struct Line {
    size: u64,
    used: u64,
    /// Of the logical blocks that hold something, those that take no block of their own.
    saving_percent: u64,
    /// What deduplication has saved since the start: what was written and was there already.
    shared: u64,
    /// What compression has saved since the start: blocks that went into others' blocks.
    packed: u64,
}

impl Line {
    fn new(stats: &Value) -> Self {
        let (locks, packer) = (&stats["hashLock"], &stats["packer"]);
        let size = number(stats, "physicalBlocks");
        let data = number(stats, "dataBlocksUsed");
        let logical = number(stats, "logicalBlocksUsed");
        let saved = u128::from(logical.saturating_sub(data));
        Self {
            size,
            // Of a volume that started read-only, mainline reports nonsense.
            used: number(stats, "overheadBlocksUsed")
                .saturating_add(data)
                .min(size),
            saving_percent: (saved * 100).checked_div(logical.into()).unwrap_or(0) as u64,
            shared: number(locks, "dedupeAdviceValid")
                .saturating_add(number(locks, "concurrentDataMatches")),
            packed: number(packer, "compressedFragmentsWritten")
                .saturating_sub(number(packer, "compressedBlocksWritten")),
        }
    }

    fn used_percent(&self) -> u128 {
        (u128::from(self.used) * 100).div_ceil(u128::from(self.size.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use super::Line;
    use serde_json::json;

    #[test]
    fn answers() {
        let text = "{ version : 36, mode : normal, journal : { diskFull : 0, entries : { started \
                    : 5, }, }, instance : 7, }";
        let expected = json!({
            "version": 36,
            "mode": "normal",
            "journal": { "diskFull": 0, "entries": { "started": 5 } },
            "instance": 7,
        });
        assert_eq!(parse(text), Some(expected));
        for wrong in ["", "{", "{ a", "{ a : 5,", "{ a 5, }", "a : 5, }"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lines() {
        let line = Line::new(&json!({
            "physicalBlocks": 2_097_152,
            "dataBlocksUsed": 9,
            "overheadBlocksUsed": 750_902,
            "logicalBlocksUsed": 34,
            "hashLock": { "dedupeAdviceValid": 10, "concurrentDataMatches": 2 },
            "packer": { "compressedFragmentsWritten": 15, "compressedBlocksWritten": 2 },
        }));
        assert_eq!((line.used, line.used_percent()), (750_911, 36));
        assert_eq!(line.saving_percent, 73);
        assert_eq!((line.shared, line.packed), (12, 13));
    }

    #[test]
    fn nonsense() {
        let most = u64::MAX;
        let line = Line::new(&json!({ "dataBlocksUsed": most, "overheadBlocksUsed": 5 }));
        assert_eq!((line.used, line.used_percent()), (0, 0));
        assert_eq!((line.saving_percent, line.shared, line.packed), (0, 0, 0));
        let line = Line::new(&json!({
            "physicalBlocks": most,
            "overheadBlocksUsed": most,
            "logicalBlocksUsed": most,
            "hashLock": { "dedupeAdviceValid": most, "concurrentDataMatches": most },
            "packer": { "compressedBlocksWritten": most },
        }));
        assert_eq!((line.used_percent(), line.saving_percent), (100, 100));
        assert_eq!((line.shared, line.packed), (most, 0));
    }
}
