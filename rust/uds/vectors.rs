// SPDX-License-Identifier: GPL-2.0

//! Files of `tools/testing/vectors/uds`: what mainline wrote, and what must come out of it.

use std::fs;
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;

/// Returns a file, decompressed if its name ends in `.xz`.
pub(crate) fn file(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testing/vectors/uds");
    let bytes = fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    if !name.ends_with(".xz") {
        return bytes;
    }
    let mut out = Vec::new();
    lzma_rs::xz_decompress(&mut bytes.as_slice(), &mut out)
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    out
}

/// Returns a text file.
pub(crate) fn text(name: &str) -> String {
    String::from_utf8(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
