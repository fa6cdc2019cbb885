// SPDX-License-Identifier: GPL-2.0

//! The devices as the core gets them: simulated disks, with a flaw if one is asked for.

use crate::flaw::Flaw;
use sim::flawed::Flaws;
use sim::flawed::Treatment;
use sim::FlawedDisk;
use sim::SimDisk;

/// What a device is to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The metadata device.
    Metadata,
    /// The destination.
    Destination,
    /// The source.
    Source,
}

/// A device in the hands of the core.
pub type Device = FlawedDisk<Broken>;

/// The rule that is broken, if one is, as far as it is a matter of this device.
#[derive(Clone)]
pub struct Broken {
    role: Role,
    flaw: Option<Flaw>,
}

impl Broken {
    /// Returns how a device with this role breaks the rule.
    pub fn new(role: Role, flaw: Option<Flaw>) -> Self {
        Self { role, flaw }
    }
}

impl Flaws for Broken {
    fn loses_read(&self, disk: &SimDisk) -> bool {
        (self.role, self.flaw) == (Role::Source, Some(Flaw::LostCompletion))
            && disk.world().with_rng(|rng| rng.chance(1, 8))
    }

    fn treat(&self, sector: u64, _: &[u8]) -> Treatment {
        match (self.role, self.flaw) {
            (Role::Destination, Some(Flaw::BitBeforeData)) => Treatment::Unawaited,
            (Role::Metadata, Some(Flaw::SuperblockFirst)) if sector == 0 => Treatment::Stable,
            _ => Treatment::Fair,
        }
    }

    fn drops_flushes(&self) -> bool {
        matches!(
            (self.role, self.flaw),
            (Role::Destination, Some(Flaw::NoFlushBeforeCommit))
                | (Role::Metadata, Some(Flaw::SuperblockFirst))
        )
    }
}
