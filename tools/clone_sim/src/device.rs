// SPDX-License-Identifier: GPL-2.0

//! The devices as the core gets them: simulated disks, with a flaw if one is asked for.

use crate::flaw::Flaw;
use crate::islands::Archipelago;
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
pub type Device = Archipelago<FlawedDisk<Broken>>;

/// The rule that is broken, if one is, as far as it is a matter of this device; and who must not
/// write.
#[derive(Clone)]
pub struct Broken {
    role: Role,
    flaw: Option<Flaw>,
    read_only: bool,
}

impl Broken {
    /// Returns how a device with this role breaks the rule; a table that is `read_only` may not
    /// write to it.
    pub fn new(role: Role, flaw: Option<Flaw>, read_only: bool) -> Self {
        Self {
            role,
            flaw,
            read_only,
        }
    }
}

impl Flaws for Broken {
    fn loses_read(&self, disk: &SimDisk) -> bool {
        (self.role, self.flaw) == (Role::Source, Some(Flaw::LostCompletion))
            && disk.world().with_rng(|rng| rng.chance(1, 8))
    }

    fn treat(&self, sector: u64, _: &[u8]) -> Treatment {
        assert!(
            !self.read_only,
            "a read-only table writes to its {:?}",
            self.role
        );
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
