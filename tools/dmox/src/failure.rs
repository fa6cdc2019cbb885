// SPDX-License-Identifier: GPL-2.0

//! Why a command failed, in words for its user.

use std::fmt;
use std::io;
use std::path::Path;

/// The result of a part of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// One line for the user.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Something failed with a file or a device.
    pub(crate) fn at(path: &Path, what: impl fmt::Display) -> Self {
        Self(format!("{}: {what}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}
