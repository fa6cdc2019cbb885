// SPDX-License-Identifier: GPL-2.0

//! The commands, on sparse files.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use tempfile::TempDir;
use vdo::format::Geometry;
use vdo::format::Page;
use vdo::format::State;
use vdo::format::SuperBlock;

/// The smallest volume, and a bit.
const BLOCKS: u64 = 720_313;

/// A sparse file of zeroes.
struct Volume {
    _folder: TempDir,
    path: PathBuf,
}

impl Volume {
    fn blank(blocks: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("volume");
        let file = File::create(&path).unwrap();
        file.set_len(blocks * 4096).unwrap();
        Self {
            _folder: folder,
            path,
        }
    }

    fn formatted() -> Self {
        let volume = Self::blank(BLOCKS);
        let output = volume.run(&["format", "--slab-bits", "13", "--logical-size", "1G"]);
        assert!(output.status.success(), "{}", said(&output));
        volume
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dmox"));
        command.arg("vdo").args(arguments).arg(&self.path);
        command.output().unwrap()
    }

    fn read(&self, block: u64) -> Page {
        let mut page = [0; 4096];
        let file = File::open(&self.path).unwrap();
        file.read_exact_at(&mut page, block * 4096).unwrap();
        page
    }

    fn write(&self, block: u64, page: &Page) {
        let file = File::options().write(true).open(&self.path).unwrap();
        file.write_all_at(page, block * 4096).unwrap();
    }

    fn super_block(&self) -> (u64, SuperBlock) {
        let at = Geometry::decode(&self.read(0)).unwrap().data_start;
        (at, SuperBlock::decode(&self.read(at)).unwrap())
    }

    fn set_state(&self, state: State) {
        let (at, super_block) = self.super_block();
        let mut page = [0; 4096];
        SuperBlock {
            state,
            ..super_block
        }
        .encode(&mut page);
        self.write(at, &page);
    }

    /// Puts the blocks of a folder of vectors where they belong.
    fn put(&self, folder: &str, blocks: &[(u64, String)]) {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testing/vectors/vdo");
        for (at, name) in blocks {
            let path = vectors.join(folder).join(name).with_extension("bin");
            let bytes = std::fs::read(path).unwrap();
            self.write(*at, &bytes.try_into().unwrap());
        }
    }
}

/// Everything that a command said.
fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{out}{errors}")
}

#[test]
fn a_formatted_volume_is_sound() {
    let volume = Volume::formatted();
    let (_, super_block) = volume.super_block();
    assert_eq!(super_block.state, State::New);
    assert_eq!(super_block.logical_blocks, 1 << 18);
    assert_eq!(super_block.physical_blocks, BLOCKS);
    let output = volume.run(&["check", "--deep"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).ends_with("sound\n"), "{}", said(&output));
}

#[test]
fn what_is_there_is_not_formatted() {
    let volume = Volume::formatted();
    let before = volume.read(0);
    let output = volume.run(&["format", "--slab-bits", "13"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("is not blank"), "{}", said(&output));
    assert_eq!(volume.read(0), before);
    let output = volume.run(&["format", "--slab-bits", "13", "--force"]);
    assert!(output.status.success());
    assert_ne!(volume.read(0), before);
    assert_eq!(volume.super_block().1.logical_blocks, 7776);
}

#[test]
fn sizes_that_do_not_fit() {
    let small = Volume::blank(720_212);
    let output = small.run(&["format", "--slab-bits", "13"]);
    let words = "is too small: at least 2949992448 bytes are needed";
    assert!(said(&output).contains(words), "{}", said(&output));
    let large = Volume::blank(1 << 27);
    let output = large.run(&["format", "--slab-bits", "13"]);
    assert!(said(&output).contains("--slab-bits"), "{}", said(&output));
    assert!(vdo::format::geometry::is_blank(&large.read(0)));
    for arguments in [
        &["format", "--slab-bits", "12"],
        &["format", "--index-memory", "0.3"],
        &["format", "--logical-size", "many"],
    ] {
        assert_eq!(large.run(arguments).status.code(), Some(2));
    }
}

#[test]
fn damage_is_named() {
    let volume = Volume::formatted();
    let mut page = volume.read(0);
    page[40] ^= 1;
    volume.write(0, &page);
    let output = volume.run(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    let words = "error [1] geometry block: checksum mismatch";
    assert!(said(&output).starts_with(words), "{}", said(&output));
    let output = volume.run(&["check", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["sound"], false);
    assert_eq!(report["findings"][0]["invariant"], 1);
}

/// A volume that crashed under mainline, of which the pages above its leaf pages are missing.
#[test]
fn a_crashed_volume_is_recovered_in_memory() {
    let volume = Volume::blank(BLOCKS);
    let mut blocks = vec![
        (0, "geometry".to_owned()),
        (679_128, "super".to_owned()),
        (687_155, "ref-blk0".to_owned()),
        (687_156, "ref-blk1".to_owned()),
        (720_249, "summary-zone0-blk0".to_owned()),
    ];
    blocks.extend((679_204..=679_208).map(|pbn| (pbn, format!("bm-{pbn}"))));
    let sequences = (2110..=2123).filter(|&sequence| sequence != 2118);
    blocks.extend(sequences.map(|sequence| (687_481 + sequence, format!("rj-seq{sequence}"))));
    let sequences = 673..=676_u64;
    blocks.extend(sequences.map(|s| (687_157 + s % 224, format!("sj-seq{s}"))));
    volume.put("recovery-case/before", &blocks);

    let output = volume.run(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    let words = "crashed: a recovery replays 1736 changes, up to journal block 2117 of 2123\n";
    assert!(said(&output).contains(words), "{}", said(&output));
}

#[test]
fn only_a_read_only_volume_is_rebuilt() {
    let volume = Volume::formatted();
    let output = volume.run(&["force-rebuild"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("is not read-only"),
        "{}",
        said(&output)
    );
    assert_eq!(volume.super_block().1.state, State::New);
    volume.set_state(State::ReadOnly);
    let before = volume.super_block().1;
    assert!(volume.run(&["force-rebuild"]).status.success());
    let after = volume.super_block().1;
    let state = State::ForceRebuild;
    assert_eq!(after, SuperBlock { state, ..before });
    assert!(volume.run(&["force-rebuild"]).status.success(), "again");
}

#[test]
fn dumps() {
    let volume = Volume::formatted();
    let output = volume.run(&["dump", "--json"]);
    let dump: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(dump["volume"]["physical_blocks"], BLOCKS);
    assert_eq!(dump["volume"]["state"], "New");
    assert_eq!(dump["slab_depot"]["slabs"], 1);
    let output = volume.run(&["dump"]);
    assert!(said(&output).contains("  logical_blocks: 262144\n"));
    let output = volume.run(&["dump", "--lbn", "5000"]);
    assert!(
        said(&output).contains("stored: nowhere"),
        "{}",
        said(&output)
    );
    assert!(!volume.run(&["dump", "--lbn", "262144"]).status.success());
    assert!(volume.run(&["dump", "--slab", "0"]).status.success());
    assert!(!volume.run(&["dump", "--slab", "1"]).status.success());
    assert!(volume.run(&["dump", "--slabs"]).status.success());
}

#[test]
fn what_is_no_volume() {
    let blank = Volume::blank(100);
    for command in ["dump", "force-rebuild"] {
        let output = blank.run(&[command]);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("no vdo volume"), "{}", said(&output));
    }
    let output = blank.run(&["check"]);
    assert!(
        said(&output).contains("there is no volume"),
        "{}",
        said(&output)
    );
    let missing = Path::new("/nonexistent");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dmox"));
    let output = command
        .args(["vdo", "check"])
        .arg(missing)
        .output()
        .unwrap();
    assert!(said(&output).contains("/nonexistent: No such file"));
}
