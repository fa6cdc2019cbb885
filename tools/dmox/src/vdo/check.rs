// SPDX-License-Identifier: GPL-2.0

//! `dmox vdo check`.

use crate::device::Device;
use crate::failure::Result;
use crate::output;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use serde_json::json;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use vdo_check::Check;
use vdo_check::FileImage;
use vdo_check::Index;
use vdo_check::Report;
use vdo_check::Severity;
use vdo_check::Stage;

/// Exits with 0 if the volume is sound, with 1 if not. Of a volume that crashed, the recovery
/// journal is replayed in memory first.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The device or file
    device: PathBuf,
    /// Also check what the next start does not need: old journal blocks, each record of the index
    #[arg(long)]
    deep: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(long, conflicts_with = "json")]
    quiet: bool,
    /// Check a device although it is in use; it may change meanwhile
    #[arg(long)]
    force: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let device = if self.force {
            Device::open_shared(&self.device)?
        } else {
            Device::open(&self.device, false)?
        };
        let image = FileImage::new(device.into_file())?;
        let mut check = Check::new(&image);
        if self.deep {
            check = check.deep();
        }
        let bar = if self.json || self.quiet {
            ProgressBar::hidden()
        } else {
            progress_bar()
        };
        let report = check
            .progress(|stage, done, total| show(&bar, stage, done, total))
            .run();
        bar.finish_and_clear();
        if self.json {
            output::print(&as_json(&report), true)?;
        } else {
            print(&report, self.quiet);
        }
        let code = if report.is_sound() { 0 } else { 1 };
        Ok(ExitCode::from(code))
    }
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:20} {wide_bar} {percent:>3} % {eta:>4}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, stage: Stage, done: u64, total: u64) {
    let name = match stage {
        Stage::Journal => "recovery journal",
        Stage::BlockMap => "block map",
        Stage::Slabs => "reference counts",
        Stage::Compressed => "compressed blocks",
        Stage::Owners => "owners of findings",
        Stage::Index => "index",
    };
    if bar.message() != name {
        bar.set_message(name);
        bar.reset();
    }
    bar.set_length(total);
    bar.set_position(done);
}

fn print(report: &Report, quiet: bool) {
    for finding in &report.findings {
        if !quiet || finding.severity == Severity::Error {
            println!("{finding}");
        }
    }
    if quiet {
        return;
    }
    if let Some(recovery) = &report.recovery {
        println!(
            "crashed: a recovery replays {} changes, up to journal block {} of {}",
            recovery.entries, recovery.tail, recovery.highest
        );
    }
    let usage = &report.usage;
    if report.super_block.is_some() {
        println!(
            "{} logical blocks in use ({} zero, {} compressed), {} data blocks, {} pages",
            usage.logical_blocks,
            usage.zero_blocks,
            usage.compressed_fragments,
            usage.data_blocks,
            usage.tree_pages
        );
    }
    if let Some(index) = &report.index {
        println!("{}", describe(index));
    }
    let errors = report.findings.iter();
    let errors = errors
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    match errors {
        0 => println!("sound"),
        1 => println!("1 error"),
        more => println!("{more} errors"),
    }
}

fn describe(index: &Index) -> String {
    let chapters = match index.oldest < index.newest {
        true => format!("chapters {} to {}", index.oldest, index.newest - 1),
        false => "no chapters".into(),
    };
    match (index.save, index.names) {
        (Some(slot), Some(names)) => format!("index: {chapters}, {names} names in save {slot}"),
        _ => format!("index: {chapters}, from which the next start rebuilds it"),
    }
}

fn as_json(report: &Report) -> Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "invariant": finding.invariant,
                "severity": match finding.severity {
                    Severity::Note => "note",
                    Severity::Warning => "warning",
                    Severity::Error => "error",
                },
                "place": finding.place.to_string(),
                "text": finding.text,
                "logical_blocks": finding.owners,
            })
        })
        .collect();
    let recovery = report.recovery.map(|recovery| {
        json!({
            "highest": recovery.highest,
            "tail": recovery.tail,
            "block_map_head": recovery.block_map_head,
            "slab_journal_head": recovery.slab_journal_head,
            "entries": recovery.entries,
            "pages": recovery.pages,
            "slab_updates": recovery.slab_updates,
            "slab_entries": recovery.slab_entries,
        })
    });
    let state = report
        .super_block
        .map(|super_block| format!("{:?}", super_block.state));
    json!({
        "sound": report.is_sound(),
        "state": state,
        "recovery": recovery,
        "usage": {
            "logical_blocks": report.usage.logical_blocks,
            "zero_blocks": report.usage.zero_blocks,
            "compressed_fragments": report.usage.compressed_fragments,
            "data_blocks": report.usage.data_blocks,
            "block_map_pages": report.usage.tree_pages,
        },
        "index": report.index.map(|index| json!({
            "save": index.save,
            "oldest": index.oldest,
            "newest": index.newest,
            "names": index.names,
        })),
        "findings": findings,
    })
}
