// SPDX-License-Identifier: GPL-2.0

//! What can be wrong with what was read.

use core::fmt;

/// What is wrong with a structure of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is something else, or nothing.
    Magic {
        /// The structure.
        name: &'static str,
    },
    /// It has a version that nobody here knows.
    Version {
        /// The structure.
        name: &'static str,
        /// The version it has.
        found: u64,
    },
    /// It is of another index, or of another version of this one.
    Nonce {
        /// The structure.
        name: &'static str,
        /// The nonce it should have.
        expected: u64,
        /// The nonce it has.
        found: u64,
    },
    /// A field has an impossible value.
    Field {
        /// The name of the field.
        name: &'static str,
        /// Its value.
        found: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic { name } => write!(f, "no {name}"),
            Self::Version { name, found } => write!(f, "{name} of unknown version {found}"),
            Self::Nonce {
                name,
                expected,
                found,
            } => write!(f, "{name} of nonce {found:#x}, expected {expected:#x}"),
            Self::Field { name, found } => write!(f, "impossible {name} {found}"),
        }
    }
}

/// The kernel's `fmt!` asks for a trait of its own.
#[cfg(MODULE)]
impl kernel::fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns `Ok` if a field has an acceptable value.
pub(crate) fn check(accepted: bool, name: &'static str, found: u64) -> Result<(), Fault> {
    if accepted {
        Ok(())
    } else {
        Err(Fault::Field { name, found })
    }
}
